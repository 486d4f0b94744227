"""What listens to a microphone in the background, and sound to speak."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np

from appliance.core.voice.model import Frame
from appliance.hw.sound.microphone import PortAudioMicrophone
from tests.support import wait_for


class Ears:
    """All frames of a microphone so far, and the error that ended them."""

    def __init__(self, microphone: PortAudioMicrophone) -> None:
        self.frames: list[Frame] = []
        self.error: Exception | None = None
        self._microphone = microphone

    @property
    def pcm(self) -> bytes:
        """The sound of all frames."""
        return b"".join(frame.pcm for frame in self.frames)

    async def run(self) -> None:
        """Listen until the microphone fails."""
        try:
            async for frame in self._microphone.frames():
                self.frames.append(frame)
        except Exception as error:  # noqa: BLE001 the test looks at it
            self.error = error


@asynccontextmanager
async def listening(microphone: PortAudioMicrophone, *, opened: bool = True) -> AsyncIterator[Ears]:
    """Listen until left; where `opened`, the first frame is there when this is entered."""
    ears = Ears(microphone)
    task = asyncio.create_task(ears.run())
    try:
        if opened:
            await wait_for(lambda: ears.frames or ears.error, message="the first frame")
            assert ears.error is None, ears.error
        yield ears
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await microphone.close()


def noise(seconds: float, rate: int = 16000) -> bytes:
    """Sound that is nowhere like itself."""
    return np.random.default_rng(7).integers(-20000, 20000, round(seconds * rate)).astype("<i2").tobytes()


def tone(seconds: float, rate: int = 16000, hertz: float = 440.0, loud: int = 12000) -> bytes:
    """One tone."""
    return (loud * np.sin(np.arange(round(seconds * rate)) * 2 * np.pi * hertz / rate)).astype("<i2").tobytes()


def sounded(pcm: bytes, rate: int = 16000, above: int = 200) -> float:
    """Seconds of samples that are louder than so much: gaps of a busy machine do not count."""
    return float(np.count_nonzero(np.abs(np.frombuffer(pcm, "<i2").astype(int)) > above)) / rate


def pitch(pcm: bytes, rate: int = 16000) -> float:
    """The strongest frequency, Hz."""
    values = np.frombuffer(pcm, "<i2").astype(float)
    return float(np.abs(np.fft.rfft(values)).argmax() * rate / len(values))
