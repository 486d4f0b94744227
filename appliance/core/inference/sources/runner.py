"""One source at work: its frames go to the model, what is found is followed, rules say what is told.

One frame is under way at a time, so a source asks for no more than the devices can do.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import tzinfo

from appliance.core.inference.model import Inferer, Priority
from appliance.core.inference.sources import preview, schedule
from appliance.core.inference.sources.definition import Definition
from appliance.core.inference.sources.frames import Feed, Frame, Mailbox
from appliance.core.inference.sources.model import Kind, SourceEvent, SourceState, SourceStatus, Track
from appliance.core.inference.sources.reader import Manner, Patience, Reader
from appliance.core.inference.sources.rules import Hit, Rules
from appliance.core.inference.sources.shelf import Shelf
from appliance.core.inference.sources.tally import Tally
from appliance.core.inference.sources.teller import Teller
from appliance.core.inference.sources.tracking import Tracker
from appliance.core.model import Box, InferenceResult
from appliance.core.ports import Clock
from appliance.errors import AbsentError, ApplianceError, DeadlineError, ImageError, QueueFullError, SourceError

log = logging.getLogger(__name__)

TURN = 0.5
"""Seconds between two looks at schedule and reader while no frame comes."""
STALE = 2.0
"""Seconds after which nobody wants a live frame's result; and for which a file's frame is offered again."""
STUCK = 2
"""Threads that may hang in a driver before no further one is begun."""
GIVEN_UP = 5.0
"""Seconds beyond its timeout after which a driver is held to hang."""


@dataclass(frozen=True)
class Tools:
    """What every source works with.

    Attributes:
        inferer: Runs models.
        open_feed: Opens a source; blocks; raises SourceError. It is given the event that says stop.
        shelf: Keeps pictures.
        publish: Tells of an event, durably; raises StoreError.
        clock: Both clocks.
        patience: Between two tries.
        where: The time zone of schedules; None for the machine's own.
    """

    inferer: Inferer
    open_feed: Callable[[Definition, threading.Event], Feed]
    shelf: Shelf
    publish: Callable[[SourceEvent], Awaitable[None]]
    clock: Clock
    patience: Patience = field(default_factory=Patience)
    where: tzinfo | None = None


class Runner:
    """Works one source.

    Args:
        source: What it is.
        tools: What it works with.
        tally: Its counters, which outlive it.
    """

    def __init__(self, source: Definition, tools: Tools, tally: Tally) -> None:
        self.source = source
        self.tally = tally
        self.view: preview.View | None = None
        self.frame: Frame | None = None
        """The newest that was looked at."""
        self._tools = tools
        self._spans = schedule.parse(source.schedule)
        self._tracker = Tracker(source.track_score, source.track_seconds, source.rate)
        self._rules = Rules(source.zones, source.rules, 1 / source.rate)
        self._teller = Teller(source, tools.shelf, tools.publish, tally)
        self._reader: Reader | None = None
        self._hung = False
        """The last reader hung, and none has given a frame since."""
        self._tracks: tuple[Track, ...] = ()
        self._state = SourceState.opening if source.enabled else SourceState.stopped
        self._since = tools.clock.wall()
        self._fault: SourceError | None = None

    async def run(self) -> None:
        """Work until cancelled, or until a file is at its end."""
        try:
            while True:
                if not self._in_time():
                    self._tracks = ()
                    self._be(SourceState.paused)
                    await asyncio.sleep(TURN)
                elif self._hang():
                    await asyncio.sleep(TURN)
                elif await self._read():
                    return
                else:
                    await asyncio.sleep(TURN)
        finally:
            await self._teller.finish()
            self._tracks = ()
            if self._state is not SourceState.ended:
                self._be(SourceState.stopped)

    def _in_time(self) -> bool:
        return not self._spans or schedule.holds(self._spans, schedule.local(self._tools.clock.wall(), self._tools.where))

    def _hang(self) -> bool:
        """Whether so many threads hang in the driver that another one would only hang too."""
        self.tally.stuck = [reader for reader in self.tally.stuck if reader.alive]
        if len(self.tally.stuck) < STUCK:
            return False
        self._fault = self._mute()
        self._be(SourceState.retrying)
        return True

    def _mute(self) -> SourceError:
        step = "plug the camera in again, or restart its server." if self.source.kind.live else "look whether its disk answers."
        return SourceError(f"{self.source.address} does not answer.", step)

    async def _read(self) -> bool:
        """Open and read; returns whether it is over for good."""
        reader = self._begin()
        try:
            while not reader.mailbox.over and self._in_time():
                frame = await reader.mailbox.take(TURN)
                if not reader.mailbox.over and reader.progress.state is not SourceState.ended:  # its last frame may be here
                    self._be(self._shown(reader))
                if frame is not None:
                    await self._look_at(frame)
                    await self._teller.go_on(frame.taken)
                elif self._silent(reader):
                    log.error("source %s: its driver hangs and is left alone", self.source.name)
                    reader.progress.error, reader.progress.state, self._hung = self._mute(), SourceState.retrying, True
                    return False
            return reader.mailbox.over and reader.progress.state is SourceState.ended
        finally:
            self._fault = reader.progress.error
            self._be(reader.progress.state)
            reader.stop()
            self.tally.take(reader)
            self._reader = None
            self.tally.stuck.append(reader)

    def _shown(self, reader: Reader) -> SourceState:
        """After one that hung, the next is not believed before it gives a frame."""
        self._hung = self._hung and not reader.progress.frames
        return SourceState.retrying if self._hung else reader.progress.state

    def _begin(self) -> Reader:
        source = self.source
        mailbox = Mailbox(asyncio.get_running_loop(), waits=source.drop == "wait")
        video = source.kind is Kind.video
        manner = Manner(
            rate=source.rate, real_time=video and source.drop == "latest", repeat=source.repeat,
            finite=source.kind in {Kind.video, Kind.picture}, every=source.kind in {Kind.folder, Kind.picture},
        )  # fmt: skip
        tools = self._tools
        reader = Reader(source.name, lambda stop: tools.open_feed(source, stop), mailbox, manner, tools.clock, tools.patience)
        self._reader = reader
        self._tracker = Tracker(source.track_score, source.track_seconds, source.rate)
        self._rules.begin_anew()
        self._be(self._shown(reader))
        reader.start()
        return reader

    def _silent(self, reader: Reader) -> bool:
        """Whether the thread has not come back from its driver for longer than any wait in it may last."""
        beat = reader.beat
        if reader.progress.state is SourceState.retrying or beat is None:
            return False
        return time.monotonic() - beat > 2 * self.source.timeout + GIVEN_UP

    async def _look_at(self, frame: Frame) -> None:
        result = await self._infer(frame)
        if result is None:
            return
        self.tally.looked(time.monotonic() - frame.taken)
        self._tracks, hits, self.view = await asyncio.to_thread(self._follow, frame, found(result))
        self.tally.suppressed += self._rules.take_suppressed()
        self.frame = frame
        await self._teller.note(frame)
        for hit in hits:
            await self._teller.tell(hit, frame)

    def _follow(self, frame: Frame, boxes: Sequence[Box]) -> tuple[tuple[Track, ...], list[Hit], preview.View]:
        """What is followed in a frame, which rules it makes true, and how it is shown; some 20 ms where there is a crowd."""
        seen = self._tracker.update(boxes, frame.taken)
        where = self._rules.zones_of(seen, frame.width, frame.height)
        tracks = tuple(
            Track(each.track_id, each.box.label, each.box.score, each.box, frame.taken - each.since, where[each.track_id])
            for each in seen
        )
        hits = self._rules.update(seen, where, frame.taken)
        return tracks, hits, preview.view(frame, boxes, tracks, self.source.zones)

    async def _infer(self, frame: Frame) -> InferenceResult | None:
        """The model's word on a frame; None where there is none, which is counted."""
        while True:
            try:
                return await self._ask(frame)
            except (QueueFullError, DeadlineError) as error:
                self.tally.not_in_time(error)
                if self.source.drop == "latest":
                    return None
                await asyncio.sleep(TURN)
            except ImageError as error:
                self.tally.trouble(error)
                return None
            except AbsentError as error:  # it may be there again in a moment
                self.tally.trouble(error)
                await asyncio.sleep(TURN)
                if self.source.drop == "latest":
                    return None
            except ApplianceError as error:
                self.tally.trouble(error)
                if self.source.drop == "wait":
                    await asyncio.sleep(TURN)
                return None

    async def _ask(self, frame: Frame) -> InferenceResult:
        latest = self.source.drop == "latest"
        result: InferenceResult = await self._tools.inferer.infer_sample(
            frame, source=frame.source, model=self.source.model, priority=Priority.low,
            deadline=self._tools.clock.monotonic() + STALE if latest else None, keep=self.source.keep_results,
        )  # fmt: skip
        return result

    def _be(self, state: SourceState) -> None:
        if state is not self._state:
            self._state, self._since = state, self._tools.clock.wall()

    def status(self, *, enabled: bool) -> SourceStatus:
        """How it is now."""
        source, reader, now = self.source, self._reader, time.monotonic()
        progress = reader.progress if reader is not None else None
        error = (progress.error if progress is not None else None) or self._fault
        retrying = self._state is SourceState.retrying
        reason, step = self._said(error)
        return self.tally.status(
            reader, now, name=source.name, kind=source.kind, address=source.address, enabled=enabled, state=self._state,
            reason=reason, next_step=step, since=self._since, model=source.model, rate=source.rate, schedule=source.schedule,
            next_try=self._tools.clock.wall() + max(0.0, progress.next_try - now) if retrying and progress is not None else 0.0,
            tracks=self._tracks[:64], zones=tuple(zone.name for zone in source.zones),
            rules=tuple(rule.name for rule in source.rules),
        )  # fmt: skip

    def _said(self, error: SourceError | None) -> tuple[str, str]:
        if self._state is SourceState.paused:
            begin = schedule.next_begin(self._spans, schedule.local(self._tools.clock.wall(), self._tools.where))
            when = f"; it begins again on {begin:%a at %H:%M}" if begin is not None else ""
            return f"outside its schedule ({self.source.schedule}){when}", ""
        if self._state in {SourceState.running, SourceState.stopped} or error is None:
            return "", ""
        return error.message, error.next_step


def found(result: InferenceResult) -> tuple[Box, ...]:
    """What a result has of objects; a classification's best label fills the whole frame."""
    if result.boxes or not result.classes:
        return result.boxes
    best = result.classes[0]
    return (Box(best.label, best.score, 0.0, 0.0, float(result.width), float(result.height)),)
