"""A speaker (implements ports.Speaker)."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from appliance.core.voice.model import SpeakerStatus
from appliance.errors import AbsentError, DeviceError
from appliance.hw.sound.child import START, Child

log = logging.getLogger(__name__)

STALL = 2.0
"""Seconds without a sign of life, while it plays, after which the process counts as hung."""
CHUNK = 8192
"""Bytes of sound in a message."""


class PortAudioSpeaker:
    """Plays one sound after the other, by a process of its own that stays until `close`.

    Args:
        environ: Environment variables of that process.
        name: Part of the device's name; "auto" for the system's default.
        volume: 0 to 1.
    """

    def __init__(self, environ: Mapping[str, str], name: str, volume: float = 1.0) -> None:
        self._environ, self._name, self._volume = environ, name, volume
        self._child: Child | None = None
        self._lock = asyncio.Lock()
        self._numbers = itertools.count(1)
        self._newest = self._stopped = self._closed = 0
        self._device, self._available, self._playing, self._underruns = name, False, False, 0
        self._problem, self._next_step = "", ""

    @property
    def volume(self) -> float:
        """0 to 1; a change is heard about a second later in what plays already."""
        return self._volume

    @volume.setter
    def volume(self, value: float) -> None:
        self._volume = min(max(value, 0.0), 1.0)
        if self._child is not None:
            self._child.post(volume=self._volume)

    @property
    def pid(self) -> int | None:
        """The process, while it runs."""
        return self._child.pid if self._child is not None else None

    async def play(self, pcm: AsyncIterator[bytes], rate: int, on_sound: Callable[[], None] | None = None) -> float:
        """Play mono 16-bit sound as it comes, after what plays already; returns once it was heard, or was stopped.

        Args:
            pcm: The sound.
            rate: Its samples a second.
            on_sound: Called when the first of it is heard.

        Returns:
            Seconds that were heard.

        Raises:
            AbsentError: There is no such device, or no PortAudio.
            DeviceError: It went away, stalled, or refuses.
        """
        number = self._newest = next(self._numbers)
        async with self._lock:
            if number <= self._stopped:
                return 0.0
            self._playing = True
            try:
                heard = await self._play(number, pcm, rate, on_sound)
            except (AbsentError, DeviceError) as error:
                self._problem, self._next_step, self._available = error.message, error.next_step, False
                await self._let_go()
                raise
            except BaseException:
                await self._let_go()  # whoever waited for it is gone: so is the sound
                raise
            finally:
                self._playing = False
            self._problem = self._next_step = ""
            return heard

    def stop(self) -> None:
        """Be silent at once; what waits to be played is dropped too."""
        self._stopped = self._newest
        if self._child is not None:
            self._child.post(stop=self._stopped)

    def status(self) -> SpeakerStatus:
        """How it is now."""
        return SpeakerStatus(self._device, self._available, self._playing, self._underruns, self._problem, self._next_step)

    async def check(self) -> SpeakerStatus:
        """Look whether the device is there, without playing anything."""
        async with self._lock:
            try:
                await self._ready()
            except (AbsentError, DeviceError) as error:
                self._problem, self._next_step, self._available = error.message, error.next_step, False
            except BaseException:
                await self._let_go()  # else the next sound would take it for one that is ready
                raise
        return self.status()

    async def close(self) -> None:
        """Let go of the device; who plays, or is about to, is told."""
        self._closed += 1
        if self._child is not None:
            await self._child.close()

    # --- playing

    async def _play(self, number: int, pcm: AsyncIterator[bytes], rate: int, on_sound: Callable[[], None] | None) -> float:
        child = await self._begun(json.dumps({"op": "play", "number": number, "rate": rate}).encode())
        feeding = asyncio.create_task(self._feed(child, number, pcm), name="speaker-feed")
        timer: asyncio.TimerHandle | None = None
        try:
            while True:
                told = await self._next(child, feeding)
                if told["event"] == "sound" and on_sound is not None and number > self._stopped:
                    loop = asyncio.get_running_loop()
                    timer = loop.call_later(max(0.0, told["at"] - time.monotonic()), on_sound)
                elif told["event"] == "done" and told["number"] == number:
                    self._underruns += told["underruns"]
                    return float(told["heard"])
        finally:
            feeding.cancel()
            await asyncio.wait({feeding})
            if timer is not None and number <= self._stopped:
                timer.cancel()

    async def _next(self, child: Child, feeding: asyncio.Task[None]) -> dict[str, Any]:
        """What it says next. Where the sound itself cannot be had, that is raised instead."""
        hearing = asyncio.create_task(child.event(STALL), name="speaker-hear")
        try:
            await asyncio.wait({hearing, feeding}, return_when=asyncio.FIRST_COMPLETED)
            if feeding.done() and (error := feeding.exception()) is not None and not hearing.done():
                raise error
            return await hearing
        finally:
            hearing.cancel()

    async def _ready(self) -> Child:
        """The process, started where none runs, or the one that ran has ended."""
        if self._child is None or not self._child.alive:
            closed = self._closed
            child = await Child.start(self._environ, {"mode": "speaker", "name": self._name, "volume": self._volume})
            if closed != self._closed:
                await child.close()
                raise DeviceError("The speaker was closed while it was opened.", "the next sound opens it.")
            self._child = child
            told = await child.event(START)
            child.post(volume=self._volume, stop=self._stopped)
            self._device, self._available = told["name"], True
        return self._child

    async def _begun(self, order: bytes) -> Child:
        """The process, which has the order; another one where it had ended while there was nothing to play."""
        child = await self._ready()
        if not await self._sent(child, order):
            await self._let_go()
            child = await self._ready()
            await child.send(order)
        return child

    async def _let_go(self) -> None:
        if self._child is not None:
            await self._child.close()
            self._child = None

    async def _feed(self, child: Child, number: int, pcm: AsyncIterator[bytes]) -> None:
        odd = b""
        async for some in pcm:
            data = odd + some
            whole = len(data) & ~1
            odd = data[whole:]
            for at in range(0, whole, CHUNK):
                if not await self._sent(child, b"A" + data[at : min(at + CHUNK, whole)]):
                    return
        await self._sent(child, json.dumps({"op": "end", "number": number}).encode())

    @staticmethod
    async def _sent(child: Child, data: bytes) -> bool:
        """False where the process has ended: whoever hears it is told, and why."""
        try:
            await child.send(data)
        except DeviceError:
            return False
        return True
