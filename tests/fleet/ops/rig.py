"""Operations on nodes that are folders, with a kind of its own that sets a value in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

from appliance.core.actions import Params
from appliance.core.clock import SystemClock
from appliance.core.fleet.model import FleetShell, Inventory, Node
from appliance.core.fleet.operations import kinds
from appliance.core.fleet.operations.host import Host
from appliance.core.fleet.operations.kind import Kind, Look, change
from appliance.core.fleet.operations.locks import NodeLocks
from appliance.core.fleet.operations.model import OperationStatus, Stage
from appliance.core.fleet.operations.operation import Ground, Way
from appliance.core.fleet.operations.record import Book
from appliance.core.fleet.operations.service import OperationsService
from appliance.core.model import Severity
from appliance.core.ports import Clock
from appliance.core.state import LiveState
from appliance.core.store import Store
from tests.fleet.ops.local import Fleet

QUICK = Way(canary=1, soak=0.0, parallel=2, limit=20.0)


class Value(Params):
    """What is written."""

    value: str = Field(max_length=100)


class SetValue(Kind):
    """Writes a value into the file `value`; where a file `bad` lies it fails, where `hang` lies it hangs."""

    name = "rig.set"
    summary = "Set a value"
    params = Value
    limit = 20.0

    def words(self, args: Any) -> str:
        return f"set {args.value}"

    async def look(self, host: Host, args: Any) -> Look:
        before = (await host.read("cat value 2>/dev/null || echo none")).strip()
        return Look(found={"value": before}, diff=change(before, args.value), undo={})

    async def apply(self, host: Host, args: Any, look: Look) -> str:
        await host.do(
            'echo "do $(basename "$NODE")" >>../journal; printf "%s\n" "$1" >value; while [ -e hang ]; do sleep 0.02; done; '
            'echo "set to $1"; [ ! -e bad ]',
            args.value,
        )
        return ""

    async def check(self, host: Host, args: Any, look: Look) -> str:
        return "it is ill" if (await host.sh("[ -e ill ]")).exit_status == 0 else ""

    async def undo(self, host: Host, args: Any, look: Look) -> None:
        await host.do(
            'echo "undo $(basename "$NODE")" >>../journal; [ ! -e stuck ] || exit 3; '
            'if [ "$1" = none ]; then rm -f value; else printf "%s\n" "$1" >value; fi',
            look.found["value"],
        )


def known(monkeypatch: pytest.MonkeyPatch | None = None) -> None:
    """Let the kind of these tests be found."""
    find, mine = kinds.find, SetValue()

    def found(name: str) -> Kind:
        return mine if name == mine.name else find(name)

    if monkeypatch is not None:
        monkeypatch.setattr(kinds, "find", found)
    else:
        kinds.find = found


class Rig:
    """A service of operations over a store.

    Args:
        directory: Of the store.
        shell: Reaches the nodes.
        inventory: Knows them.
        clock: For times.
    """

    def __init__(self, directory: Path, shell: FleetShell, inventory: Inventory, clock: Clock | None = None) -> None:
        self.clock = clock or SystemClock()
        self.store = Store(directory / "store.db")
        self.state = LiveState(self.clock)
        self.events: list[dict[str, Any]] = []
        self.own: set[str] = set()
        self.power = ""
        self.broken_login = ""
        self.locks = NodeLocks()
        self.ground = Ground(
            shell,
            inventory,
            Book(self.store),
            self.locks,
            self.clock,
            self._tell,
            lambda _: self.power,
            None,
            self._own,
        )
        self.service = OperationsService(self.ground, self.state)

    async def _own(self, name: str) -> bool:
        return name in self.own

    async def _tell(self, event: str, severity: Severity, facts: dict[str, Any]) -> None:
        self.events.append({"event": event, "severity": severity, **facts})

    async def start(self) -> None:
        self.store.open()
        await self.service.start()

    async def stop(self) -> None:
        await self.service.stop()
        self.store.close()

    async def done(self, kind: str, nodes: list[str], way: Way = QUICK, **arguments: Any) -> OperationStatus:
        """Plan, apply, and wait for the end."""
        planned = await self.service.plan(kind, arguments, nodes, way, "alice")
        assert planned.stage is Stage.planned, planned
        await self.service.apply(planned.operation_id, "alice")
        return await self.service.wait(planned.operation_id)


def states(status: OperationStatus) -> dict[str, str]:
    """Node → state."""
    return {run.node: run.state.value for run in status.runs}


def folders(root: Path, *names: str) -> Fleet:
    """Nodes of these names."""
    return Fleet(root, [Node(name=name, host="127.0.0.1") for name in names])
