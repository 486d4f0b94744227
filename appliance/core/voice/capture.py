"""What is said from one moment on, until it is known to be over. Time goes by in frames, and by no clock."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from enum import StrEnum

from appliance.core.voice.detect.endpoint import PAUSE_SECONDS, PRE_ROLL_SECONDS, Endpointer
from appliance.core.voice.detect.front import Heard
from appliance.core.voice.model import FRAME_SECONDS

AFTER = 0.25
"""Seconds of silence that are kept after it."""


class Says(StrEnum):
    """What became of what is being said."""

    start = "start"
    pause = "pause"
    """It may be over: worth recognising."""
    resume = "resume"
    end = "end"
    cut = "cut-off"
    """It is longer than an utterance may be."""
    nothing = "nothing"
    """Nobody spoke in time."""
    gone = "gone"
    """The microphone went away."""


class Capture:
    """Gathers one utterance.

    Args:
        ends: Makes what knows its end.
        limit: Seconds that speech is waited for.
    """

    def __init__(self, ends: Callable[[], Endpointer], limit: float) -> None:
        self._make, self._limit = ends, limit
        self._ends = ends()
        self._items: deque[Heard] = deque()
        self._events: asyncio.Queue[Says] = asyncio.Queue()
        self._since: float | None = None
        self._over = False
        self._began = False
        self.lost = 0
        self.tap: Callable[[bytes], None] | None = None
        """Given every frame's sound as it comes."""
        self.now = 0.0
        """Of the newest frame."""
        self.quiet = True
        """Whether the newest frames are no speech."""

    def feed(self, items: Iterable[Heard]) -> None:
        """Take frames, in order."""
        for item in items:
            self.now = item.time
            if self.tap is not None:
                self.tap(item.pcm)
            self._items.append(item)
            self.lost += item.lost
            if not self._over:
                self._look(item)

    def _look(self, item: Heard) -> None:
        if self._since is None:
            self._since = item.time
        event = self._ends.feed(item.speech, item.time)
        if event is None:
            self._wait(item)
            return
        said = Says(event.value)
        self._began = True
        self.quiet = said not in {Says.start, Says.resume}
        self._over = said in {Says.end, Says.cut}
        self._events.put_nowait(said)

    def _wait(self, item: Heard) -> None:
        if self._began:
            return
        while len(self._items) * FRAME_SECONDS > PRE_ROLL_SECONDS + 0.7:  # the beginning is dated back
            self._items.popleft()
        if self._since is not None and item.time - self._since > self._limit:
            self._over = True
            self._events.put_nowait(Says.nothing)

    def gone(self) -> None:
        """No more frames will come."""
        self._over = True
        self._events.put_nowait(Says.gone)

    async def next(self) -> Says:
        """What happens next."""
        return await self._events.get()

    @property
    def pending(self) -> bool:
        """Whether something has happened that nobody has asked for."""
        return not self._events.empty()

    @property
    def began(self) -> float | None:
        """When speech began (monotonic); None where it has not."""
        return self._ends.speech_began if self._began else None

    @property
    def ended(self) -> float | None:
        """When it last ended, as far as is known."""
        return self._ends.speech_ended if self._began else None

    def pcm(self) -> bytes:
        """The sound of it so far, with a little before and after."""
        first = (self.began or 0.0) - PRE_ROLL_SECONDS
        last = self.now if self.ended is None or not self.quiet else self.ended + AFTER
        return b"".join(item.pcm for item in self._items if first < item.time <= last + FRAME_SECONDS)

    def again(self) -> None:
        """What was said was nothing but the wake word: wait for what is to follow; nothing that came since is lost."""
        after = self.ended + PAUSE_SECONDS if self.ended is not None else self.now  # before that it still sounds like speech
        kept = [item for item in self._items if item.time > after]
        self._ends, self._items, self._events = self._make(), deque(), asyncio.Queue()
        self._since, self._over, self._began, self.quiet = None, False, False, True
        self.lost = 0
        self.feed(kept)
