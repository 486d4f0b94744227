"""The voice with a microphone and a speaker in memory, faster than real time; what listens is real."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from appliance.core.model import Device, Health, Severity
from appliance.core.observe.observer import Observer
from appliance.core.state import LiveState, Section
from appliance.core.voice.ground import Cards, Ground
from appliance.core.voice.model import (
    FRAME,
    FRAME_SECONDS,
    WIDTH,
    Frame,
    MicrophoneStatus,
    SoundDevice,
    SpeakerStatus,
    Stage,
    VoiceStatus,
)
from appliance.core.voice.service import VoiceService
from appliance.errors import ApplianceError, DeviceError
from tests.support import wait_for
from tests.voice.detect.speech import pcm, said, silence

SPEED = 4.0
"""Times faster than real time that the rig's clock and its sound go."""
BYTES = FRAME * WIDTH


class FastClock:
    """Both clocks, going faster (ports.Clock)."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def monotonic(self) -> float:
        return self._began + (time.monotonic() - self._began) * SPEED

    def wall(self) -> float:
        return 1_800_000_000.0 + self.monotonic() - self._began


class FedMicrophone:
    """Gives frames of what it is fed, and silence in between (ports.Microphone)."""

    def __init__(self, clock: FastClock) -> None:
        self._clock = clock
        self._fed: deque[bytes] = deque()
        self._gone: ApplianceError | None = None
        self._opened = 0
        self._open = False
        self.muted = False
        self.here = True

    async def frames(self) -> AsyncIterator[Frame]:
        if not self.here:
            raise DeviceError("the test's microphone is not plugged in.", "plug it in.")
        self._opened, self._open = self._opened + 1, True
        at = self._clock.monotonic()
        try:
            while self.here:
                at += FRAME_SECONDS
                if (ahead := (at - self._clock.monotonic()) / SPEED) > 0:
                    await asyncio.sleep(ahead)
                sound = self._fed.popleft() if self._fed else bytes(BYTES)
                yield Frame(bytes(BYTES) if self.muted else sound, at)
            raise DeviceError("the test's microphone went away.", "plug it in again.")
        finally:
            self._open = False

    def status(self) -> MicrophoneStatus:
        return MicrophoneStatus("test microphone", open=self._open, muted=self.muted, reopened=max(0, self._opened - 1))

    def feed(self, sound: bytes) -> None:
        """Have it hear something, once it has heard what it was fed before."""
        padded = sound + bytes(-len(sound) % BYTES)
        self._fed.extend(padded[start : start + BYTES] for start in range(0, len(padded), BYTES))

    @property
    def done(self) -> bool:
        """Whether it has heard all."""
        return not self._fed


class KeptSpeaker:
    """Takes sound as fast as the rig's clock goes, and keeps it (ports.Speaker)."""

    def __init__(self) -> None:
        self.volume = 1.0
        self.pcm: list[bytes] = []
        self.problem: ApplianceError | None = None
        self.playing = False
        self.stopped = 0
        self._stop = asyncio.Event()

    async def play(self, pcm: AsyncIterator[bytes], rate: int, on_sound: Callable[[], None] | None = None) -> float:
        if self.problem is not None:
            raise self.problem
        self._stop.clear()
        self.playing, seconds = True, 0.0
        try:
            async for part in pcm:
                if on_sound is not None and not seconds:
                    on_sound()
                self.pcm.append(part)
                took = len(part) / WIDTH / rate
                seconds += took
                if await self._stops(took / SPEED):
                    break
        finally:
            self.playing = False
        return seconds

    async def _stops(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                return await self._stop.wait()
        except TimeoutError:
            return False

    def stop(self) -> None:
        self.stopped += self.playing
        self._stop.set()

    def status(self) -> SpeakerStatus:
        told = self.problem
        return SpeakerStatus("test speaker", told is None, self.playing, problem=told.message if told else "",
                             next_step=told.next_step if told else "")  # fmt: skip


class RigCards:
    """One microphone and one speaker (ground.Cards)."""

    def __init__(self, microphone: FedMicrophone, speaker: KeptSpeaker) -> None:
        self.mic, self.out = microphone, speaker
        self.there = True

    def detect(self) -> Device:
        if self.there:
            return Device("microphone", "test microphone", Health.healthy, "it is there")
        return Device("microphone", "Microphone", Health.absent, "no capture device", "plug one in")

    async def devices(self) -> tuple[SoundDevice, ...]:
        return (SoundDevice(0, "test microphone", 1, 0, 16000.0),)

    def microphone(self, name: str, rate: int) -> FedMicrophone:
        return self.mic

    def speaker(self, name: str, volume: float) -> KeptSpeaker:
        self.out.volume = volume
        return self.out

    async def close(self) -> None:
        self.out.stop()


class Rig:
    """A running voice, and what it told."""

    def __init__(self, service: VoiceService, cards: RigCards, state: LiveState) -> None:
        self.service, self.cards, self.state = service, cards, state
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.heard: list[Stage] = []

    @property
    def status(self) -> VoiceStatus:
        return self.service.status()

    @property
    def stage(self) -> Stage:
        return self.status.stage

    def seen(self) -> None:
        """Keep what stages there were."""
        if not self.heard or self.heard[-1] is not self.stage:
            self.heard.append(self.stage)

    def say(self, *texts: str, voice: str = "slt", gap: float = 0.7, after: float = 0.0) -> None:
        """Have the microphone hear texts, with silence of `gap` seconds between them."""
        waves = [silence(0.4)]
        for text in texts:
            waves += [said(text, voice) * 0.6, silence(gap)]
        self.cards.mic.feed(pcm(*waves, silence(after)))

    async def utterances(self, count: int, timeout: float = 20.0) -> Any:
        """The newest ones, newest first, once there are so many."""
        await wait_for(lambda: len(self.status.utterances) >= count, timeout, f"{count} utterances; {self.status}")
        return self.status.utterances

    async def at(self, stage: Stage, timeout: float = 10.0) -> None:
        await wait_for(lambda: self.stage is stage, timeout, f"{stage.value}; it is {self.status}")


Note = Callable[[str, Severity, dict[str, Any]], Awaitable[None]]


@asynccontextmanager
async def voice(settings: Any, folder: Path, parts: dict[str, Any]) -> AsyncIterator[Rig]:
    """A running voice.

    Args:
        settings: VoiceSettings.
        folder: Of its own.
        parts: Of Ground: local, engines, dialogue, and whatever is to be other than usual.
    """
    clock = FastClock()
    state = LiveState(clock)
    cards = RigCards(FedMicrophone(clock), KeptSpeaker())
    kept: list[tuple[str, str]] = []

    async def note(event: str, severity: Severity, attributes: dict[str, Any]) -> None:
        rig.events.append((event, attributes))

    async def keep(key: str, value: str) -> None:
        kept.append((key, value))

    given: dict[str, Any] = {
        "array": None, "server": None, "ledger": None, "memory": None, "observer": Observer(),
        "cards": lambda: _as_cards(cards), "note": note, "keep": keep, "muted": folder / "muted",
    } | parts  # fmt: skip
    service = VoiceService(Ground(settings=settings, clock=clock, state=state, now=clock.monotonic, **given))
    rig = Rig(service, cards, state)
    rig.state.watch([Section.voice], lambda _: rig.seen(), 0.0)
    await service.start()
    run = asyncio.create_task(service.run())
    try:
        yield rig
    finally:
        run.cancel()
        await asyncio.wait({run})
        await service.stop()
        if not run.cancelled():
            run.result()


def _as_cards(cards: RigCards) -> Cards:
    return cards
