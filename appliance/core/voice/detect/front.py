"""All that listens while nobody speaks, in one call a frame."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import msgspec

from appliance.core.voice.detect.activity import VoiceActivity
from appliance.core.voice.detect.conditioning import Conditioner
from appliance.core.voice.detect.wake import WakeModels
from appliance.core.voice.model import RATE, Frame, Hit, SoundLevel, WakeStatus

GAP_SAMPLES = RATE // 10
"""Lost samples after which nothing goes on from what was before."""
ASLEEP_SECONDS = 1.0
"""After so much digital silence (muted, unplugged) the models rest until there is sound."""


class Heard(msgspec.Struct, frozen=True):
    """A frame, and what is in it."""

    pcm: bytes
    """Its samples, without the offset."""
    time: float
    """As in Frame."""
    lost: int
    speech: float
    """Probability of speech."""
    hits: tuple[Hit, ...] = ()
    """Wake words that were just heard, highest score first."""


class Front:
    """Conditioning, voice activity and wake models, for one microphone.

    Its methods block for about a quarter of a millisecond a frame: call them in a thread, several frames at a time if you like,
    never from two threads at once. Making it loads the models: tenths of a second.

    Args:
        phrases: Wake words.
        paths: Manifests of the operator's own models.
        sensitivity: 0 to 1, of the wake models.
        wall: The wall clock, seconds.

    Raises:
        AbsentError: The voice activity detection cannot be loaded.
    """

    def __init__(
        self, phrases: Iterable[str], paths: Iterable[str] = (), sensitivity: float = 0.5, wall: Callable[[], float] = time.time
    ) -> None:
        self._activity = VoiceActivity()
        self._conditioner = Conditioner(wall)
        self._wake = WakeModels(phrases, paths, sensitivity, wall)
        self._speech = 0.0

    @property
    def uncovered(self) -> tuple[str, ...]:
        """Phrases that no model hears: the speech recognition is to listen for them."""
        return self._wake.uncovered

    def hear(self, frame: Frame) -> Heard:
        """Take a frame. Raises ValueError where it is none."""
        if frame.lost >= GAP_SAMPLES:
            self.reset()
        pcm = self._conditioner.feed(frame.pcm)
        if self._conditioner.silent_seconds > ASLEEP_SECONDS:
            self._speech = 0.0
            return Heard(pcm, frame.time, frame.lost, 0.0)
        self._speech = self._activity.probability(pcm)
        return Heard(pcm, frame.time, frame.lost, self._speech, self._wake.feed(pcm))

    def hear_all(self, frames: Iterable[Frame]) -> list[Heard]:
        """Take several, in their order."""
        return [self.hear(frame) for frame in frames]

    def level(self, direction: int | None = None) -> SoundLevel:
        """Measure the last moment, for meters; only when somebody looks."""
        return self._conditioner.level(self._speech, direction)

    def statuses(self) -> tuple[WakeStatus, ...]:
        """Of the wake models."""
        return self._wake.statuses()

    def reset(self) -> None:
        """Forget the utterance that was under way: between utterances, and after a gap."""
        self._activity.reset()
        self._wake.reset()
