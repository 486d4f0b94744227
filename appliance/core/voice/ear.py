"""The listening loop: frames of the microphone go through what listens, to whoever waits for them."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from appliance.core.ports import Microphone
from appliance.core.voice.capture import Capture
from appliance.core.voice.detect.endpoint import Endpointer
from appliance.core.voice.detect.front import Front, Heard
from appliance.core.voice.model import FRAME_SECONDS, Frame, Hit, SoundLevel, Stage, WakeStatus
from appliance.core.voice.spotting import Spotting
from appliance.core.voice.words import normal
from appliance.errors import DeviceError

log = logging.getLogger(__name__)

BATCH = 3
"""Frames that are looked at together while nobody is served."""
RING_SECONDS = 4.0
"""Sound that is kept: what is said in one breath with the wake word."""
PHRASE_SECONDS = 1.4
"""A wake word that a model heard began so long ago at most."""
DEAF_SECONDS = 1.0
"""After a wake word another one counts for nothing."""
LEVELS = 0.125
"""Seconds between two levels while somebody watches."""
LOOK = 2.0
"""Likewise while nobody does: silence and clipping are told all the same."""
RECORD_SECONDS = 30.0
"""Longest test recording."""


class Wakes(Protocol):
    """Who is told of a wake word."""

    def __call__(self, hit: Hit, since: float) -> None:
        """It was heard; what it is in began at `since` (monotonic)."""


@dataclass(frozen=True)
class Around:
    """What the ear knows of the rest.

    Attributes:
        stage: What the voice does now.
        saying: What the appliance says now: it shall not wake itself.
        wakes: Told of wake words.
        levels: Told of levels.
        watched: Whether somebody looks at them.
        begun: Called when the first sound has come.
        barge_in: A wake word counts while it speaks.
        models: Wake models count.
    """

    stage: Callable[[], Stage]
    saying: Callable[[], str]
    wakes: Wakes
    levels: Callable[[SoundLevel], None]
    watched: Callable[[], bool]
    begun: Callable[[], None] = lambda: None
    barge_in: bool = True
    models: bool = True


class Ear:
    """Listens to one microphone.

    Args:
        front: What listens; loaded already.
        spotting: Wake words by speech recognition; None where a model knows all of them.
        ends: Makes what knows where an utterance ends.
        around: The rest.
    """

    def __init__(self, front: Front, spotting: Spotting | None, ends: Callable[[], Endpointer], around: Around) -> None:
        self._front, self.spotting, self._ends, self._around = front, spotting, ends, around
        self._ring: deque[Heard] = deque(maxlen=round(RING_SECONDS / FRAME_SECONDS))
        self._capture: Capture | None = None
        self._recording: tuple[list[bytes], int, asyncio.Future[bytes]] | None = None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="voice-ear")
        self._looked = 0.0
        self._woken = float("-inf")
        self.direction: int | None = None
        """Degrees, as the array told last."""
        self.frames = 0
        """Since it was made."""
        self.time = 0.0
        """Monotonic, of the newest frame."""

    async def listen(self, microphone: Microphone) -> None:
        """Until it is cancelled. Raises AbsentError, DeviceError."""
        frames = microphone.frames()
        batch: list[Frame] = []
        try:
            async for frame in frames:
                batch.append(frame)
                if len(batch) >= (BATCH if self._capture is None else 1):
                    await self._take(batch)
                    batch = []
        finally:
            if self._capture is not None:
                self._capture.gone()
            self._drop_recording()
            await _end(frames)

    async def _take(self, batch: list[Frame]) -> None:
        loop = asyncio.get_running_loop()
        heard = await loop.run_in_executor(self._pool, self._front.hear_all, batch)
        if not self.frames:
            self._around.begun()
        self.frames += len(heard)
        self.time = heard[-1].time
        self._ring.extend(heard)
        if self._capture is not None:
            self._capture.feed(heard)
        self._record(heard)
        self._wake(heard)
        interval = LEVELS if self._around.watched() else LOOK
        if self.time - self._looked >= interval - FRAME_SECONDS / 2:
            self._looked = self.time
            self._around.levels(await loop.run_in_executor(self._pool, self._front.level, self.direction))

    def _wake(self, heard: list[Heard]) -> None:
        """Look for wake words, where one would count."""
        stage = self._around.stage()
        speaking = stage is Stage.speaking
        if not (stage is Stage.idle or (speaking and self._around.barge_in)):
            if self.spotting is not None:
                self.spotting.reset()
            return
        if self.spotting is not None:
            self.spotting.feed(heard, self._ring, speaking=speaking)
        for each in heard if self._around.models else ():
            if each.hits:
                self.woken(each.hits[0], each.time - PHRASE_SECONDS)

    def woken(self, hit: Hit, since: float) -> None:
        """Somebody heard a wake word: pass it on, if it can be one."""
        stage = self._around.stage()
        if stage is not Stage.idle and not (stage is Stage.speaking and self._around.barge_in):
            return
        if self.time - self._woken < DEAF_SECONDS or hit.phrase in normal(self._around.saying()):
            return
        self._woken = self.time
        if self.spotting is not None:
            self.spotting.reset()
        self._around.wakes(hit, since)

    def capture(self, limit: float, since: float | None = None) -> Capture:
        """Gather what is said from now on, or from `since` on as far as it is still known; ends the gathering before.

        Args:
            limit: Seconds that speech is waited for.
            since: Monotonic.
        """
        made = Capture(self._ends, limit)
        if since is not None:
            made.feed([each for each in self._ring if each.time > since])
        self._capture = made
        return made

    def release(self, capture: Capture) -> None:
        """No more of it is wanted."""
        if self._capture is capture:
            self._capture = None

    async def record(self, seconds: float) -> bytes:
        """Sound of the next seconds, up to RECORD_SECONDS. Raises DeviceError."""
        self._drop_recording()
        wanted = round(min(seconds, RECORD_SECONDS) / FRAME_SECONDS)
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._recording = ([], max(1, wanted), future)
        return await future

    def _record(self, heard: list[Heard]) -> None:
        if self._recording is None:
            return
        parts, wanted, future = self._recording
        parts += [each.pcm for each in heard]
        if len(parts) >= wanted:
            self._recording = None
            if not future.done():
                future.set_result(b"".join(parts[:wanted]))

    def _drop_recording(self) -> None:
        if self._recording is not None:
            _, _, future = self._recording
            self._recording = None
            if not future.done():
                future.set_exception(DeviceError("The microphone went away, or another recording was begun.", "try again."))

    def statuses(self) -> tuple[WakeStatus, ...]:
        """Of all wake words."""
        return (*self._front.statuses(), *(self.spotting.statuses() if self.spotting is not None else ()))

    async def close(self) -> None:
        """End it."""
        if self.spotting is not None:
            await self.spotting.close()
        self._pool.shutdown(wait=False, cancel_futures=True)


async def _end(frames: AsyncIterator[Frame]) -> None:
    """Close a generator, where it is one."""
    close = getattr(frames, "aclose", None)
    if close is not None:
        await close()
