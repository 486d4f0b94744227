"""Sound at the microphone's port, as fast as it is listened to: hours of it in minutes, through the code that listens.

The clock of it goes by the sound. While something is recognised the sound waits, and the clock goes on as the real one does:
rests that are as long as a recognition took are as long here.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any

import numpy as np

from appliance.core.voice.local.recognizer import LocalSpeechToText
from appliance.core.voice.model import FRAME, FRAME_SECONDS, RATE, Frame, Hit, MicrophoneStatus, Sentences, Transcript
from benchmarks.voice_voices import Sound


class Pace:
    """The clock, and what the sound waits for."""

    def __init__(self) -> None:
        self.sound = 1000.0
        """Monotonic, of the newest frame."""
        self.worked = 0.0
        """Seconds that the recognition has taken in all."""
        self._since = time.perf_counter()
        self._busy = 0
        self._free = asyncio.Event()
        self._free.set()

    def now(self) -> float:
        """The monotonic clock."""
        return self.sound + time.perf_counter() - self._since

    def tick(self, seconds: float) -> None:
        """So much sound was heard."""
        self.sound += seconds
        self._since = time.perf_counter()

    async def __aenter__(self) -> None:
        self._busy += 1
        self._free.clear()
        self._began = time.perf_counter()

    async def __aexit__(self, *_: object) -> None:
        self._busy -= 1
        if not self._busy:
            self.worked += time.perf_counter() - self._began
            self._free.set()

    async def ready(self) -> None:
        """Wait until nothing is recognised."""
        await asyncio.sleep(0)
        await self._free.wait()


class Recognizer(LocalSpeechToText):
    """That of this machine; the sound waits for it."""

    pace: Pace

    async def transcribe(self, pcm: bytes, sentences: Sentences) -> Transcript:
        """As it is."""
        async with self.pace:
            return await super().transcribe(pcm, sentences)

    async def spot(self, pcm: bytes, phrases: tuple[str, ...]) -> tuple[Hit, ...]:
        """As it is."""
        async with self.pace:
            return await super().spot(pcm, phrases)


class Tape:
    """A ports.Microphone that plays what it is given, and then gives silence until it is given more or `end` is called.

    Args:
        pace: Its clock.
        holds: Whether it is to wait now.
    """

    muted = False

    def __init__(self, pace: Pace, holds: Callable[[], bool] = lambda: False) -> None:
        self._pace = pace
        self.holds = holds
        self._sounds: deque[Iterator[bytes]] = deque()
        self._over = False

    def add(self, sounds: Iterable[Sound]) -> None:
        """Play these after what it has; they are made when it is their turn."""
        self._sounds.append(framed(sounds))

    def end(self) -> None:
        """Nothing more comes."""
        self._over = True

    @property
    def left(self) -> bool:
        """Whether there is something that was not played."""
        return bool(self._sounds)

    async def frames(self) -> AsyncIterator[Frame]:
        """Every frame of it."""
        while self._sounds or not self._over:
            await self._pace.ready()
            while self.holds():
                await asyncio.sleep(0.001)
            self._pace.tick(FRAME_SECONDS)
            yield Frame(self._next(), self._pace.sound)

    def _next(self) -> bytes:
        while self._sounds:
            if (pcm := next(self._sounds[0], None)) is not None:
                return pcm
            self._sounds.popleft()
        return bytes(2 * FRAME)

    def status(self) -> MicrophoneStatus:
        """It is always well."""
        return MicrophoneStatus("tape", open=True)


def framed(sounds: Iterable[Sound]) -> Iterator[bytes]:
    """Sounds in frames, without a gap; the last is filled up with silence."""
    rest: np.ndarray[Any, np.dtype[np.int16]] = np.zeros(0, np.int16)
    for sound in sounds:
        rest = np.concatenate([rest, sound])
        whole = len(rest) // FRAME * FRAME
        for at in range(0, whole, FRAME):
            yield rest[at : at + FRAME].tobytes()
        rest = rest[whole:]
    if len(rest):
        yield np.concatenate([rest, np.zeros(FRAME - len(rest), np.int16)]).tobytes()


def silence(seconds: float) -> Sound:
    """So much of nothing."""
    return np.zeros(int(seconds * RATE), np.int16)
