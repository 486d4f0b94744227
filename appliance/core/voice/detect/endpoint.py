"""When speech begins, pauses and ends: from the probability of speech and the time alone."""

from __future__ import annotations

from collections import deque
from enum import StrEnum

from appliance.core.voice.model import FRAME_SECONDS

START = 0.5
"""Probability at which speech begins, in quiet."""
RELEASE = 0.15
"""So much lower may it fall while speech goes on."""
HIGHEST = 0.8
"""The threshold goes no higher, however noisy it is."""
ABOVE_NOISE = 0.35
"""So much above what the noise alone reaches is speech."""
NOISE_FRAMES = 64
"""About two seconds without speech: their median is the noise."""
NOISE_LEAST = 31
"""Fewer frames (1 s) tell nothing of the noise."""
ONSET_SECONDS = 0.064
"""Speech that is shorter is none: a click, a knock."""
PAUSE_SECONDS = 0.16
TAIL_SECONDS = 0.08
"""So much longer than the sound does the probability stay up: the mean over six voices, from 5 dB over noise to none."""
PRE_ROLL_SECONDS = 0.3
"""Sound before `speech_began` to take along: an s or an h at the beginning raises the probability late, up to 0.2 s."""
GAP_SECONDS = 0.25
"""Between two frames; what came before such a gap does not make a beginning with what comes after."""
ROUNDING = 1e-6


class EndEvent(StrEnum):
    """What has just become sure."""

    start = "start"
    pause = "pause"
    """Silence of PAUSE_SECONDS: what was said may be whole. `resume` or `end` follows."""
    resume = "resume"
    end = "end"
    cut_off = "cut-off"
    """It reached the longest time; speech may go on."""


class Noise:
    """What the room is like while nobody speaks; several endpointers may share one, so that each new one knows it."""

    def __init__(self) -> None:
        self._seen: deque[float] = deque(maxlen=NOISE_FRAMES)

    def learn(self, probability: float) -> None:
        """Take in a frame that is no speech."""
        self._seen.append(probability)

    @property
    def threshold(self) -> float:
        """Probability that is speech: START, or more where the noise comes near it."""
        usual = sorted(self._seen)[len(self._seen) // 2] if len(self._seen) >= NOISE_LEAST else 0.0
        return min(HIGHEST, max(START, usual + ABOVE_NOISE))


class Endpointer:
    """Finds utterances, one after the other: start, (pause, resume)*, [pause], end or cut_off; then the next may start.

    The same frames give the same events: it looks at no clock.

    Args:
        end_silence_ms: Silence that ends an utterance.
        longest_seconds: Longest utterance; a longer one is cut off.
        noise: What is known of the room; None for nothing yet.
    """

    def __init__(self, end_silence_ms: int, longest_seconds: float, noise: Noise | None = None) -> None:
        self._end_silence = end_silence_ms / 1000
        self._longest = longest_seconds
        self._noise = noise or Noise()
        self.reset()

    def reset(self) -> None:
        """Drop an utterance under way; what is known of the noise stays."""
        self.speech_began = 0.0
        """When the sound of the newest utterance began (monotonic clock, seconds)."""
        self._voice = 0.0
        self._time: float | None = None
        self._since: float | None = None
        self._speaking = self._paused = False

    @property
    def speaking(self) -> bool:
        """Whether an utterance is under way, pauses included."""
        return self._speaking

    @property
    def speech_ended(self) -> float:
        """When the newest utterance's last sound so far ended (monotonic clock, seconds)."""
        return max(self.speech_began, self._voice - TAIL_SECONDS)

    @property
    def threshold(self) -> float:
        """Probability that is speech now: higher where the noise alone comes near it."""
        return self._noise.threshold

    def feed(self, probability: float, time: float) -> EndEvent | None:
        """Take a frame.

        Args:
            probability: Of speech, 0 to 1.
            time: When its last sample was taken (monotonic clock, seconds); never less than before.

        Returns:
            What became sure with it; at most one thing.
        """
        gap = self._time is not None and time - self._time > GAP_SECONDS
        self._time = time
        self._onset(probability, time, gap)
        return self._during(probability, time) if self._speaking else self._before(probability, time)

    def _onset(self, probability: float, time: float, gap: bool) -> None:
        """Since when it has been over the threshold without a break."""
        if probability < self.threshold:
            self._since = None
        elif self._since is None or gap:
            self._since = time - FRAME_SECONDS

    def _lasting(self, time: float) -> bool:
        return self._since is not None and time - self._since >= ONSET_SECONDS - ROUNDING

    def _before(self, probability: float, time: float) -> EndEvent | None:
        if self._since is None:
            self._noise.learn(probability)
        if not self._lasting(time):
            return None
        self.speech_began = self._since or 0.0
        self._voice = time
        self._speaking, self._paused = True, False
        return EndEvent.start

    def _during(self, probability: float, time: float) -> EndEvent | None:
        resumed = self._paused and self._lasting(time)
        if resumed or (not self._paused and probability >= self.threshold - RELEASE):
            self._voice, self._paused = time, False
        silence = time - self.speech_ended
        if time - self.speech_began >= self._longest - ROUNDING:
            return self._ended(EndEvent.cut_off)
        if resumed:
            return EndEvent.resume
        if self._since is None and silence >= self._end_silence - ROUNDING:
            return self._ended(EndEvent.end)
        if not self._paused and silence >= PAUSE_SECONDS - ROUNDING:
            self._paused = True
            return EndEvent.pause
        return None

    def _ended(self, event: EndEvent) -> EndEvent:
        self._speaking = self._paused = False
        self._since = None
        return event
