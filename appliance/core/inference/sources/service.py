"""The sources as a service: keeps those at work that the operator wants, and shows how each is."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from appliance.core.events import Noted, new_id
from appliance.core.figures import counted
from appliance.core.inference.sources import preview
from appliance.core.inference.sources.book import SourceBook
from appliance.core.inference.sources.clips import jpeg
from appliance.core.inference.sources.definition import Definition
from appliance.core.inference.sources.model import SourceEvent, SourceState, SourceStatus
from appliance.core.inference.sources.runner import Runner, Tools
from appliance.core.inference.sources.tally import Tally
from appliance.core.model import Health, HealthReport
from appliance.core.state import LiveState, Section
from appliance.errors import ApplianceError, ConflictError, NotFoundError, SourceError, StoreError

log = logging.getLogger(__name__)

SHOW = 1.0
"""Seconds between two looks at every source."""
TRIM = 600.0
"""Seconds between two looks at what was kept."""
ENDING = 4.0
"""Seconds for a source to stop; its clip is kept in that time."""
AGAIN = 5.0
"""Seconds until a source is begun again that failed in a way that nobody had thought of."""


class SourceService:
    """Runs the sources (implements ports.Service).

    Args:
        book: Their definitions.
        tools: What each works with.
        state: Shown there (Section.sources).
    """

    name = "sources"
    summary = "Takes frames from files, folders, streams and cameras, and tells what is in them"
    depends: tuple[str, ...] = ("store",)

    def __init__(self, book: SourceBook, tools: Tools, state: LiveState) -> None:
        self.book = book
        self._tools = tools
        self._state = state
        self._wanted: dict[str, Definition] = {}
        self._runners: dict[str, Runner] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._tallies: dict[str, Tally] = {}
        self._turn = asyncio.Lock()
        self._painter: ThreadPoolExecutor | None = None
        self._problem: StoreError | None = None

    async def start(self) -> None:
        """Read the definitions, and begin; what runs already is ended first. Raises StoreError."""
        await self.stop()
        self._wanted = {source.name: source for source in await self.book.all()}
        self._painter = ThreadPoolExecutor(1, "source preview")  # one picture at a time, however many look
        for source in self._wanted.values():
            self._begin(source)
        self._show()

    async def run(self) -> None:
        """Show how the sources are, until cancelled."""
        loop, trimmed = asyncio.get_running_loop(), float("-inf")
        while True:
            self._show()
            if loop.time() - trimmed >= TRIM:
                trimmed = loop.time()
                await self._trim()
            await asyncio.sleep(SHOW)

    async def _trim(self) -> None:
        try:
            await self._tools.shelf.trim()
            self._problem = None
        except StoreError as error:
            log.error("what was kept of the sources is not looked after: %s", error.message)
            self._problem = error

    async def stop(self) -> None:
        """Stop all sources."""
        async with self._turn:
            await asyncio.gather(*(self._end(name) for name in list(self._tasks)))
            self._show()
        if self._painter is not None:
            self._painter.shutdown(wait=False, cancel_futures=True)
            self._painter = None

    async def health(self) -> HealthReport:
        """Degraded while a source that should run does not."""
        if self._problem is not None:
            return HealthReport(Health.degraded, self._problem.message, self._problem.next_step)
        ill = [status for status in self.statuses() if status.enabled and status.state is SourceState.retrying]
        if ill:
            names = ", ".join(status.name for status in ill[1:])
            more = f"; so do {names}" if len(ill) > 2 else f"; so does {names}" if names else ""
            return HealthReport(Health.degraded, f"{ill[0].name} gives no frames: {ill[0].reason}{more}", ill[0].next_step)
        running = [status for status in self.statuses() if status.enabled and status.state is SourceState.running]
        blind = [status for status in running if self._tallies[status.name].blind]
        if blind:
            more = f"; and {counted(len(blind) - 1, 'other')}" if blind[1:] else ""
            text = f"no frame of {blind[0].name} can be looked at: {blind[0].problem}{more}"
            return HealthReport(Health.degraded, text, "see `prime-spark doctor`, and its model: prime-spark model list")
        states = Counter(status.state.value for status in self.statuses())
        told = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
        return HealthReport(Health.healthy, told or "no source is set; add one with `prime-spark source add`")

    # -- what operators do ---------------------------------------------------------------------------------------------

    async def add(self, source: Definition, password: str = "") -> SourceStatus:
        """Keep a new source, and begin it. Raises ConflictError, StoreError."""
        async with self._turn:
            if source.name in self._wanted:
                raise ConflictError(f"There is a source {source.name} already.", "take another name, or remove that one.")
            if password:
                await self.book.set_password(source.name, password)
            try:
                await self.book.put(source, new=True)
            except ApplianceError:
                await self.book.set_password(source.name, "")
                raise
            return await self._apply(source)

    async def change(self, source: Definition, password: str | None = None) -> SourceStatus:
        """Keep a source as it is now, and begin it again so. Raises StoreError."""
        async with self._turn:
            if password is not None:
                await self.book.set_password(source.name, password)
            await self.book.put(source)
            return await self._apply(source)

    async def switch(self, name: str, *, enabled: bool) -> SourceStatus:
        """Start or stop a source, also for the next start of the appliance. Raises NotFoundError, StoreError."""
        async with self._turn:
            source = (await self.book.one(name)).model_copy(update={"enabled": enabled})
            task = self._tasks.get(name)
            if enabled and task is not None and not task.done() and self._wanted.get(name) == source:
                return self._runners[name].status(enabled=True)  # it runs: a file is not begun anew
            await self.book.put(source)
            return await self._apply(source)

    async def remove(self, name: str) -> None:
        """Stop and forget a source; what it kept stays for its time. Raises NotFoundError, StoreError."""
        async with self._turn:
            await self.book.remove(name)
            await self._end(name)
            for held in (self._wanted, self._runners, self._tallies):
                held.pop(name, None)
            self._show()

    async def snapshot(self, name: str) -> dict[str, Any]:
        """Keep the newest frame. Raises NotFoundError, SourceError where there is none, ApplianceError where it is not kept."""
        runner = self._runner(name)
        frame = runner.frame
        if frame is None:
            raise SourceError(f"{name} has given no frame since it was started.", f"see `prime-spark source show {name}`.")
        body = await asyncio.to_thread(jpeg, frame.rgb)
        key = await self._tools.shelf.keep(f"{name}/{new_id()}.jpg", body, name)
        runner.tally.kept += 1
        return {
            "key": key, "time": frame.wall, "age_s": self._age(frame.taken), "width": frame.width, "height": frame.height,
            "size": len(body),
        }  # fmt: skip

    async def preview(self, name: str, columns: int, rows: int, mode: str) -> dict[str, Any]:
        """The newest frame that was looked at, drawn for a terminal. Raises NotFoundError, SourceError where there is none."""
        runner = self._runner(name)
        seen = runner.view
        if seen is None or self._painter is None:
            raise SourceError(f"{name} has given no frame since it was started.", f"see `prime-spark source show {name}`.")
        drawn = await asyncio.get_running_loop().run_in_executor(self._painter, preview.draw, seen, columns, rows, mode)
        found = [f"{box.label} {box.score:.2f}" for box in seen.boxes]
        facts = {"time": seen.wall, "age_s": self._age(seen.taken), "width": seen.width, "height": seen.height}
        return {"source": name, **facts, "found": found, **drawn}

    def _age(self, taken: float) -> float:
        return round(max(0.0, asyncio.get_running_loop().time() - taken), 1)

    def _runner(self, name: str) -> Runner:
        if name not in self._runners:
            raise NotFoundError(f"There is no source {name!r}.", "list them with `prime-spark source list`.")
        return self._runners[name]

    # -- keeping them at work ------------------------------------------------------------------------------------------

    async def _apply(self, source: Definition) -> SourceStatus:
        await self._end(source.name)
        self._wanted[source.name] = source
        self._begin(source)
        self._show()
        return self._runners[source.name].status(enabled=source.enabled)

    def _begin(self, source: Definition) -> None:
        tally = self._tallies.setdefault(source.name, Tally())
        self._runners[source.name] = Runner(source, self._tools, tally)
        if source.enabled:
            work = self._supervised(source.name)
            self._tasks[source.name] = asyncio.create_task(work, name=f"source {source.name}")

    async def _supervised(self, name: str) -> None:
        while True:
            try:
                await self._runners[name].run()
            except Exception as error:
                log.exception("the source %s failed and is begun again", name)
                fault = SourceError(f"It failed in a way that was not foreseen: {type(error).__name__}.", "see the log.")
                self._tallies[name].say(fault)
                await asyncio.sleep(AGAIN)
            else:
                await self._done(name)
                return

    async def _done(self, name: str) -> None:
        """A file is at its end: the next start of the appliance does not read it again."""
        async with self._turn:
            source = self._wanted[name].model_copy(update={"enabled": False})
            try:
                await self.book.put(source)
            except ApplianceError as error:
                log.error("the source %s will be read again at the next start: %s", name, error.message)
                return
            self._wanted[name] = source
            self._show()

    async def _end(self, name: str) -> None:
        task = self._tasks.pop(name, None)
        if task is None:
            return
        task.cancel()
        _, late = await asyncio.wait([task], timeout=ENDING)
        if late:
            log.error("the source %s did not stop within %g s and is left alone", name, ENDING)

    def statuses(self) -> tuple[SourceStatus, ...]:
        """Every source, by name."""
        return tuple(
            self._runners[name].status(enabled=self._wanted[name].enabled)
            for name in sorted(self._wanted)
            if name in self._runners
        )

    def _show(self) -> None:
        self._state.put(Section.sources, self.statuses())


def publisher(publish: Callable[[Noted], Awaitable[None]]) -> Callable[[SourceEvent], Awaitable[None]]:
    """Tells of a source's event on the bus, in analytics.events; its clip, which comes later, is an event of its own.

    Args:
        publish: Of the bus; raises StoreError.
    """

    async def tell(event: SourceEvent) -> None:
        box = {name: round(getattr(event.box, name), 1) for name in ("x_min", "y_min", "x_max", "y_max")}
        attributes = {
            "event_id": event.event_id, "source": event.source, "rule": event.rule, "zone": event.zone, "label": event.label,
            "track_id": event.track_id, "score": round(event.score, 4), "seconds": event.seconds, "box": box,
            "snapshot": event.snapshot or None, "clip": event.clip or None, "problem": event.problem or None,
        }  # fmt: skip
        late = bool(event.clip)
        await publish(Noted(
            time=event.time, id=new_id() if late else event.event_id, event="source.clip" if late else "source.event",
            severity=event.severity, attributes=attributes,
        ))  # fmt: skip

    return tell


def told(statuses: tuple[SourceStatus, ...]) -> str:
    """In one line, for speech and headless mode."""
    running = sum(status.state is SourceState.running for status in statuses)
    return f"{running} of {counted(len(statuses), 'source')} running"
