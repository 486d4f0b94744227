"""The power service on a real store, with stand-ins for what it must not touch: this machine, its services, other machines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from appliance.core.audit import AuditLog
from appliance.core.bus import Bus
from appliance.core.clock import SystemClock
from appliance.core.inference.sources.model import Kind, SourceState, SourceStatus
from appliance.core.jobs import Jobs
from appliance.core.outbox import Outbox
from appliance.core.power.book import PowerBook
from appliance.core.power.hands import Tools
from appliance.core.power.model import Phase, PowerStatus, Supply, Ups, UpsReading
from appliance.core.power.policy import Limits
from appliance.core.power.service import Ground, PowerService, Wanted
from appliance.core.power.teller import Teller
from appliance.core.state import LiveState
from appliance.core.store import Store
from appliance.errors import ApplianceError, ConflictError, NotFoundError
from tests.support import wait_for

QUICK = Limits(
    battery_after=0.1, mains_after=0.6, level_after=0.2, unknown_after=0.3, lost_after=1.0, grace=0.8, low_runtime=0,
    critical_runtime=0,
)  # fmt: skip
"""The policy with its times shortened."""

PLAN = """
margin_seconds = 0
[[stages]]
name = "shed"
phase = "low"
limit_seconds = 5
steps = [{ do = "shed-inference", keep = ["door"] }, { do = "drain-outbox" }]
[[stages]]
name = "services"
phase = "critical"
limit_seconds = 5
steps = [{ do = "stop-services", names = ["inference", "sources"] }]
[[stages]]
name = "nodes"
phase = "critical"
limit_seconds = 5
steps = [{ do = "power-down", node = "agent" }]
[[stages]]
name = "halt"
phase = "shutdown"
limit_seconds = 5
steps = [{ do = "halt" }]
"""


class Log(list[str]):
    """What was done to the stand-ins, in order."""


class StandInHost:
    """Records that this machine was to be halted (ports.Host)."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.lacking = ""

    async def missing(self) -> str:
        return self.lacking

    async def halt(self) -> str:
        self._log.append("halt")
        return "recorded"


class StandInServices:
    """Services by name (hands.Services)."""

    def __init__(self, log: Log, *names: str) -> None:
        self._log, self._names = log, names
        self.stopped: set[str] = set()
        self.slow = 0.0
        self.failing: set[str] = set()

    def names(self) -> Sequence[str]:
        return self._names

    def running(self) -> Sequence[str]:
        return tuple(name for name in self._names if name not in self.stopped)

    async def halt(self, name: str) -> object:
        if name in self.failing:
            raise ConflictError(f"{name} did not stop.", "see the log.")
        self._log.append(f"stop {name}")
        self.stopped.add(name)
        await asyncio.sleep(self.slow)
        return None

    async def restart(self, name: str) -> object:
        self._log.append(f"start {name}")
        self.stopped.discard(name)
        return None


class Ran:
    exit_status, stdout, stderr = 0, b"", b""


class StandInShell:
    """Machines by name (ports.RemoteShell)."""

    def __init__(self, log: Log, *names: str) -> None:
        self._log, self.names = log, names
        self.error: ApplianceError | None = None

    def nodes(self) -> Sequence[str]:
        return self.names

    async def run(self, node: str, command: Sequence[str], *, stdin: bytes = b"", limit: float = 30.0) -> Ran:
        if node not in self.names:
            raise NotFoundError(f"no {node}", "")
        self._log.append(f"{node}: {' '.join(command)}")
        if self.error is not None:
            raise self.error
        return Ran()


class StandInSources:
    """Sources by name (hands.Sources)."""

    def __init__(self, log: Log, *names: str) -> None:
        self._log = log
        self.enabled = dict.fromkeys(names, True)

    def statuses(self) -> tuple[SourceStatus, ...]:
        return tuple(
            SourceStatus(
                name=name, kind=Kind.stream, address="rtsp://127.0.0.1/", enabled=on, rate=1.0,
                state=SourceState.running, since=0.0,
            )
            for name, on in self.enabled.items()
        )  # fmt: skip

    async def switch(self, name: str, *, enabled: bool) -> SourceStatus:
        self._log.append(f"{'start' if enabled else 'stop'} source {name}")
        self.enabled[name] = enabled
        return self.statuses()[0]


class FakeUps:
    """A UPS that says what the test says (model.Ups)."""

    kind, simulated, interval = "fake", False, 0.05

    def __init__(self, name: str = "fake:one", **values: Any) -> None:
        self.name = name
        self.values: dict[str, Any] = {"supply": Supply.mains, "percent": 90.0, **values}
        self.error: Exception | None = None
        self.hangs = False
        self.closed = 0

    async def read(self) -> UpsReading:
        if self.hangs:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error
        return UpsReading(time=0.0, monotonic=0.0, **self.values)

    async def close(self) -> None:
        self.closed += 1


class FakeDriver:
    """Finds what the test says (model.UpsDriver)."""

    kind = "fake"

    def __init__(self, *found: Ups) -> None:
        self.found = list(found)

    async def probe(self) -> Sequence[Ups]:
        return self.found

    def detect(self) -> Any:
        raise NotImplementedError


class Rig:
    """One appliance's power, and what was done to its stand-ins."""

    def __init__(self, directory: Path, drivers: Callable[[], Sequence[Any]], limits: Limits = QUICK, **wanted: Any) -> None:
        self.clock, self.log = SystemClock(), Log()
        self.directory = directory
        self.store = Store(directory / "state.sqlite")
        self.state = LiveState(self.clock)
        self.outbox = Outbox(self.store, "control-pc")
        self.bus = Bus(self.outbox)
        self.audit = AuditLog(self.store, b"key", self.clock)
        self.jobs = Jobs(self.store, self.state, self.clock)
        self.host, self.services = StandInHost(self.log), StandInServices(self.log, "inference", "sources", "power", "store")
        self.shell, self.sources = StandInShell(self.log, "agent"), StandInSources(self.log, "door", "yard")
        self.waiting = 0
        self.book = PowerBook(self.store, self.clock)
        tools = Tools(self.sources, self._waiting, self._flush, self.shell, self.host)
        tools.services = self.services
        self.ground = Ground(
            wanted=replace(Wanted(limits=limits, probe_seconds=5.0, metrics_seconds=0.1), **wanted), drivers=drivers,
            book=self.book, teller=Teller(self.book, self.bus.publish, self.audit), tools=tools, publish=self.bus.publish,
            jobs=self.jobs, state=self.state, clock=self.clock,
        )  # fmt: skip
        self.service = PowerService(self.ground)
        self._task: asyncio.Task[None] | None = None

    async def _waiting(self) -> int:
        return self.waiting

    async def _flush(self) -> None:
        self.log.append("flush")

    async def start(self, plan: str | None = PLAN) -> None:
        await asyncio.to_thread(self.store.open)
        await self.outbox.load()
        await self.jobs.load()
        if plan is not None and not await self.book.plans():
            await self.book.keep_plan("ada", plan)
        await self.service.start()
        self._task = asyncio.create_task(self.service.run())

    async def end(self) -> None:
        """End it as the supervisor does."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            if not self._task.cancelled() and (error := self._task.exception()) is not None:
                raise error
        await self.service.stop()
        await self.jobs.stop(2.0)
        await asyncio.to_thread(self.store.close)

    @property
    def now(self) -> PowerStatus:
        return self.service.status()

    async def phase(self, phase: Phase, timeout: float = 20.0) -> None:
        await wait_for(lambda: self.now.phase is phase, timeout, f"phase {phase}, not {self.now.phase}: {self.now.reason}")

    async def events(self) -> list[Any]:
        """All that is in the audit, oldest first."""
        await self.ground.teller.flush()
        return [row for row in reversed(await self.audit.entries(1000)) if row.action.startswith("power.")]


@asynccontextmanager
async def running(
    directory: Path, *upses: FakeUps, plan: str | None = PLAN, limits: Limits = QUICK, **wanted: Any
) -> AsyncIterator[Rig]:
    """A running service with made-up UPSes."""
    rig = Rig(directory, lambda: [FakeDriver(*upses)], limits, **wanted)
    await rig.start(plan)
    try:
        yield rig
    finally:
        await rig.end()
