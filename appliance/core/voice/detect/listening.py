"""One model of a wake word at work: its score over time, and when that is a hit."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from appliance.core.voice.model import Hit, WakeStatus

STEP_SECONDS = 0.01
"""From one set of features to the next."""
REFRACTORY_SECONDS = 1.5
"""After a hit, another one is none for so long; and the score must have fallen to half the threshold in between."""
BEST_SECONDS = 10


class Listening:
    """Feeds a model, and tells when its word was said.

    Args:
        phrase: Its word, as phrases are compared.
        model: A pymicro_wakeword.MicroWakeWord: it averages its probabilities over the window that its manifest names.
        threshold: Average that is a hit.
        wall: The wall clock, seconds.
    """

    def __init__(self, phrase: str, model: Any, threshold: float, wall: Callable[[], float]) -> None:
        self.phrase = phrase
        self._model = model
        self._threshold = threshold
        self._wall = wall
        self._score = 0.0
        self._best: deque[float] = deque([0.0], maxlen=BEST_SECONDS)
        self._steps = 0
        self._rest = 0
        self._armed = True
        self._times = 0
        self._last = 0.0

    def feed(self, features: Any) -> Hit | None:
        """Take the features of 10 ms."""
        self._score = min(1.0, max(0.0, float(self._model.process_streaming_prob(features) or 0.0)))
        self._steps += 1
        if self._steps * STEP_SECONDS >= 1:
            self._steps = 0
            self._best.append(0.0)
        self._best[-1] = max(self._best[-1], self._score)
        return self._judge()

    def _judge(self) -> Hit | None:
        self._rest = max(0, self._rest - 1)
        if self._score < self._threshold / 2:
            self._armed = True
        if not self._armed or self._rest or self._score < self._threshold:
            return None
        self._armed = False
        self._rest = round(REFRACTORY_SECONDS / STEP_SECONDS)
        self._times += 1
        self._last = self._wall()
        return Hit(self.phrase, round(self._score, 4), self._model.id)

    def status(self) -> WakeStatus:
        """How it is now."""
        return WakeStatus(
            phrase=self.phrase,
            heard_by=self._model.id,
            score=round(self._score, 4),
            best=round(max(self._best), 4),
            threshold=self._threshold,
            times=self._times,
            last=self._last,
        )

    def reset(self) -> None:
        """Forget what was just heard; a word that is under way is not heard."""
        self._model.reset()
        self._score = 0.0
