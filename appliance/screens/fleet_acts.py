"""What the keys of the pages of machines do: on the marked ones, or on the one under the cursor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from appliance.core.fleet.model import NodeStatus, Reach
from appliance.core.fleet.operations.model import OperationStatus
from appliance.screens import fleet_calls as calls
from appliance.screens.fleet_keys import ARGUMENTS, FIELDS, KINDS
from appliance.screens.flows import Flows
from appliance.screens.inference_acts import ask_for
from appliance.screens.page import Page
from appliance.screens.picking import Pick

if TYPE_CHECKING:
    from appliance.screens.fleet import Fleet

Back = Callable[[], Page]
"""Makes the page that Esc leads to."""
NOTHING: Mapping[str, Any] = MappingProxyType({})
NAMED = 3
"""Machines that are named in a title."""


class Machines(Protocol):
    """A page on which machines are chosen."""

    def chosen(self) -> list[str]:
        """Names of those that the next command is for."""

    def named(self, name: str) -> NodeStatus | None:
        """One of them."""

    def again(self) -> Back:
        """Makes the same page anew, as the reader looks at it."""


def several(names: Sequence[str]) -> str:
    """ "web1", "web1 and web2", "web1, web2 and 7 more"."""
    if len(names) <= 1:
        return "".join(names)
    if len(names) <= NAMED:
        return f"{', '.join(names[:-1])} and {names[-1]}"
    return f"{', '.join(names[: NAMED - 1])} and {len(names) - NAMED + 1} more"


class Work:
    """Operations and the like on the machines that are chosen on a page.

    Args:
        page: It.
        machines: The same page.
    """

    def __init__(self, page: Page, machines: Machines) -> None:
        self.page = page
        self.machines = machines

    @property
    def flows(self) -> Flows:
        """The session's."""
        return self.page.spark.flows

    def start(self, what: str) -> bool:
        """Start what a key stands for; False where it is none of these."""
        flow = {
            "run": self._run, "plan": self._any, "upgrade": self._upgrade, "reboot": self._reboot, "trust": self._trust,
            "change": self._change, "maintenance": self._maintenance, "refresh": self._refresh,
            "remove": self._remove, "service": self._service,
        }.get(what)  # fmt: skip
        if flow is None:
            return False
        names = self.machines.chosen()
        if names:
            self.flows.start(flow(names), what)
        return True

    async def plan(self, kind: str, names: Sequence[str], arguments: Mapping[str, Any] = NOTHING) -> None:
        """Look at the machines and show what would change there; y carries it out."""
        self.page.say(f"looking at {several(names)}")
        await self.look_at(await self.flows.invoke("fleet.plan", calls.planned(kind, names, arguments)))

    async def look_at(self, answer: Any) -> None:
        """To the page of an operation."""
        from appliance.screens.operations import Operations

        status = msgspec.convert(msgspec.to_builtins(answer), OperationStatus)
        await self.page.spark.open_page(Operations(self.page.console, status.operation_id, self.machines.again()))

    async def _run(self, names: list[str]) -> None:
        fields = ("command", "sudo", "canary", "soak", "parallel")
        title = f"Run a command on {several(names)}"
        answer = await ask_for(self.page, "fleet.run", title, fields, calls.on(names))
        if answer is not None:
            await self.look_at(answer)

    async def _any(self, names: list[str]) -> None:
        """One of the kinds of operations, picked from a list, its arguments asked for."""
        picked = await self.page.spark.push_screen_wait(Pick(f"What to do on {several(names)}", tuple(KINDS.items())))
        if not picked:
            return
        (kind,) = picked
        fields = ARGUMENTS.get(kind)
        if fields is None:
            await self.plan(kind, names)
            return
        given = await self.flows.ask(f"{kind} on {several(names)}", {name: dict(told) for name, told in fields.items()}, [])
        if given is not None:
            await self.plan(kind, names, given)

    async def _upgrade(self, names: list[str]) -> None:
        await self.plan("packages.upgrade", names)

    async def _reboot(self, names: list[str]) -> None:
        await self.plan("reboot", names)

    async def _service(self, names: list[str]) -> None:
        """Restart one of the services that the machines are expected to run, or that is typed."""
        known = sorted({each.name for name in names if (node := self.machines.named(name)) for each in node.expected})
        units = [(name, "expected") for name in known if ":" not in name]
        kind = {"unit": {"type": "string", "default": units[0][0] if units else "", "description": "such as nginx.service"}}
        given = await self.flows.ask(f"Restart a service on {several(names)}", kind, ["unit"])
        if given is not None:
            await self.plan("service.restart", names, given)

    async def _trust(self, names: list[str]) -> None:
        """Show the fingerprint, and how to compare it; only then take it."""
        node = self.machines.named(names[0])
        if node is None:
            return
        offered, entry = node.link.offered_key, node.node
        if not offered or offered == entry.host_key:
            text = (
                f"{entry.name}: {entry.host_key} is trusted"
                if entry.host_key
                else f"{entry.name} has shown no key yet: f reads again"
            )
            self.page.say(text)
            return
        text = (
            f"{entry.name} ({entry.host}, port {entry.port}) shows the host key {offered}. "
            "Compare it with what that machine says of itself, at its own screen or with its provider: "
            "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub. Only where both are the same it is that machine."
        )
        if node.link.reach is Reach.changed:
            text = (
                f"THIS IS NOT THE KEY THAT WAS TRUSTED ({entry.host_key}). Either the machine was set up anew, "
                f"or somebody is between here and there. {text}"
            )
        await self.flows.confirm("fleet.trust", f"Trust {entry.name}", text, "it is the same: trust it")
        await self.page.console.invoke("fleet.trust", calls.one(entry.name, fingerprint=offered), confirm=True)
        self.page.say(f"{entry.name} is trusted by this key from now on", "ok")

    async def _change(self, names: list[str]) -> None:
        node = self.machines.named(names[0])
        if node is None:
            return
        entry, present = node.node, msgspec.to_builtins(node.node)
        if entry.origin == "configuration":
            self.page.say(f"{entry.name} stands in the configuration file: change it there", "warn")
            return
        known = {name: value for name, value in present.items() if name in FIELDS}
        title = f"Change {entry.name}"
        if await ask_for(self.page, "fleet.change", title, FIELDS, {"name": entry.name}, present=known) is not None:
            self.page.say(f"{entry.name} is changed", "ok")

    async def _maintenance(self, names: list[str]) -> None:
        """Set aside those that are watched; where all are set aside, take them back."""
        nodes = [node for name in names if (node := self.machines.named(name)) is not None]
        aside = any(node.node.enabled for node in nodes)
        told = f"{several(names)}: {'set aside, nothing contacts it' if aside else 'taken back'}"
        await self.flows.do("fleet.maintenance", calls.on(names, on=aside), told)

    async def _refresh(self, names: list[str]) -> None:
        self.page.say(f"reading {several(names)} again")
        await self.flows.do("fleet.refresh", calls.on(names), f"{several(names)}: read again")

    async def _remove(self, names: list[str]) -> None:
        await self.flows.do("fleet.remove", {"name": names[0]}, f"{names[0]} is removed from the inventory")


class Acts:
    """Dialogs and invocations of the Fleet page.

    Args:
        page: It.
    """

    def __init__(self, page: Fleet) -> None:
        self._page = page
        self._work = Work(page, page)

    def do(self, what: str) -> None:
        """One of the page's own keys."""
        flows = self._page.spark.flows
        if what == "add":
            flows.start(self._add(), what)
        elif what == "operations":
            flows.start(self._operations(""), what)
        else:
            self._work.start(what)

    def open(self, table: str, key: str) -> None:
        """To the page of a machine, or of an operation."""
        flows = self._page.spark.flows
        if table == "operations":
            flows.start(self._operations(key), "operations")
        elif self._page.named(key) is not None:
            flows.start(self._node(key), "node")

    async def _node(self, name: str) -> None:
        from appliance.screens.node import Node

        await self._page.spark.open_page(Node(self._page.console, name, self._page.again()))

    async def _operations(self, operation_id: str) -> None:
        from appliance.screens.operations import Operations

        await self._page.spark.open_page(Operations(self._page.console, operation_id, self._page.again()))

    async def _add(self) -> None:
        added = await ask_for(self._page, "fleet.add", "Add a machine", ("name", *FIELDS))
        if added is not None:
            name = msgspec.to_builtins(added).get("name", "")
            self._page.choose(name)
            self._page.say(f"{name} is added; as soon as it answers, y shows its host key to compare", "ok")
