"""Tells of events: the snapshot is kept first, then the event goes out, then the clip grows and is kept."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import msgspec

from appliance.core.events import new_id
from appliance.core.inference.sources.clips import Clips, Recording, encode, jpeg
from appliance.core.inference.sources.definition import Definition
from appliance.core.inference.sources.frames import Frame
from appliance.core.inference.sources.model import SourceEvent
from appliance.core.inference.sources.rules import Hit
from appliance.core.inference.sources.shelf import Shelf
from appliance.core.inference.sources.tally import Tally
from appliance.errors import ApplianceError

log = logging.getLogger(__name__)

CLOSING = 3.0
"""Seconds for the clips that are under way when a source is stopped."""


class Teller:
    """Of one source.

    Args:
        source: Whose events.
        shelf: Keeps their pictures.
        publish: Tells of an event, durably; raises StoreError.
        tally: Counts.
    """

    def __init__(
        self, source: Definition, shelf: Shelf, publish: Callable[[SourceEvent], Awaitable[None]], tally: Tally
    ) -> None:
        self._source = source
        self._shelf = shelf
        self._publish = publish
        self._tally = tally
        self._clips = Clips(max((rule.clip / 2 for rule in source.rules), default=0.0))
        self._saving: set[asyncio.Task[None]] = set()

    async def note(self, frame: Frame) -> None:
        """Hold a frame for clips, where there are any."""
        if self._clips.wanted:
            await asyncio.to_thread(self._clips.add, frame)

    async def tell(self, hit: Hit, frame: Frame) -> None:
        """Keep what the rule wants kept, and tell."""
        rule, seen = hit.rule, hit.seen
        event = SourceEvent(
            event_id=new_id(), time=frame.wall, source=self._source.name, rule=rule.name, severity=rule.severity.value,
            zone=rule.zone, label=seen.box.label, track_id=seen.track_id, score=seen.box.score, seconds=round(hit.seconds, 2),
            box=seen.box,
        )  # fmt: skip
        if rule.snapshot:
            event = await self._with_snapshot(event, frame)
        if rule.clip:
            try:
                self._clips.begin(event, frame.taken, rule.clip, len(self._saving))
            except ApplianceError as error:
                event = self._not_kept(event, error)
        self._tally.events_total += 1
        self._tally.events.appendleft(event)
        try:
            await self._publish(event)
        except ApplianceError as error:
            log.error("source %s: an event was not stored: %s", self._source.name, error.message)
            self._tally.say(error)

    async def _with_snapshot(self, event: SourceEvent, frame: Frame) -> SourceEvent:
        try:
            body = await asyncio.to_thread(jpeg, frame.rgb)
            key = await self.keep(event.event_id, "jpg", body, (event.rule,))
        except ApplianceError as error:
            return self._not_kept(event, error)
        return msgspec.structs.replace(event, snapshot=key)

    async def keep(self, name: str, suffix: str, body: bytes, tags: tuple[str, ...] = ()) -> str:
        """Keep a picture of this source; returns its key. Raises ApplianceError."""
        key = await self._shelf.keep(f"{self._source.name}/{name}.{suffix}", body, self._source.name, tags)
        self._tally.kept += 1
        return key

    def _not_kept(self, event: SourceEvent, error: ApplianceError) -> SourceEvent:
        log.warning("source %s: a picture of an event is not kept: %s", self._source.name, error.message)
        self._tally.not_kept += 1
        self._tally.say(error)
        return msgspec.structs.replace(event, problem=error.message)

    async def go_on(self, now: float) -> None:
        """Keep the clips that are complete, beside the work; `now` is monotonic."""
        for recording in self._clips.over(now):
            self._save(recording)

    def _save(self, recording: Recording) -> None:
        task = asyncio.create_task(self._saved(recording), name=f"clip of {self._source.name}")
        self._saving.add(task)
        task.add_done_callback(self._saving.discard)

    async def _saved(self, recording: Recording) -> None:
        event = next((each for each in self._tally.events if each.event_id == recording.event.event_id), recording.event)
        try:
            body = await asyncio.to_thread(encode, recording.stills)
            key = await self.keep(event.event_id, "mp4", body, (event.rule,))
            event = msgspec.structs.replace(event, clip=key)
            await self._publish(event)
        except ApplianceError as error:
            event = self._not_kept(event, error)
        self._tally.replace(event)

    async def finish(self) -> None:
        """Keep the clips that are under way, as far as they go."""
        for recording in self._clips.all():
            self._save(recording)
        if self._saving:
            _, late = await asyncio.wait(self._saving, timeout=CLOSING)
            for task in late:
                task.cancel()
            if late:
                log.error("source %s: %d clips were not kept in time", self._source.name, len(late))
