"""Wake words that no model knows: the beginning of whatever is said is given to the speech recognition.

It costs much, so it is asked only after silence, and never for more than a share of the time.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from appliance.core.voice.detect.endpoint import PRE_ROLL_SECONDS, EndEvent, Endpointer, Noise
from appliance.core.voice.detect.front import Heard
from appliance.core.voice.model import FRAME_SECONDS, Hit, WakeStatus
from appliance.errors import ApplianceError

log = logging.getLogger(__name__)

SILENCE_MS = 300
"""Of silence before speech in which a wake word is looked for."""
ENOUGH = 1.3
"""Seconds from the beginning of speech within which a wake word is said."""
REST = 7.0
"""It rests so many times as long as it took: 12 % of one core at most."""
REST_SPEAKING = 3.0
"""Likewise while the appliance speaks."""
SLIDE = 1.6
"""Seconds of sound that are looked at while the appliance itself may be heard."""
DARING = 0.5
"""Lowest score that wakes, at a sensitivity of 0.5."""
DEAF = 0.15
"""So much higher must it be while the appliance speaks."""
LOADED = 0.5
"""Seconds that a look counts for at most."""
BEST_OF = 10.0
"""Seconds for which a score is shown."""
LONGEST = 5.0
"""Seconds that one look may take."""
Found = Callable[[Hit, float], None]
Look = Callable[[bytes, tuple[str, ...]], Coroutine[Any, Any, tuple[Hit, ...]]]


class Spotting:
    """Looks for wake words in what is heard.

    Args:
        phrases: Those to look for.
        look: Gives sound to the recognition.
        sensitivity: 0 to 1; higher hears more.
        found: Called with the hit, and when what it is in began (monotonic).
        wall: The wall clock.
        now: The monotonic clock.
        noise: What is known of the room.
    """

    def __init__(
        self,
        phrases: tuple[str, ...],
        look: Look,
        sensitivity: float,
        found: Found,
        wall: Callable[[], float],
        now: Callable[[], float] = time.monotonic,
        noise: Noise | None = None,
    ) -> None:
        self._phrases, self._look, self._found, self._wall, self._now = phrases, look, found, wall, now
        self.threshold = min(0.95, max(0.05, DARING + (0.5 - sensitivity) * 0.6))
        self._ends = Endpointer(SILENCE_MS, 3600.0, noise)
        self._began: float | None = None
        self._looked = 0
        self._wanted: tuple[float, float] | None = None
        self._task: asyncio.Task[None] | None = None
        self._free = 0.0
        self._speaking = False
        self._slid = 0.0
        self._seen: dict[str, list[tuple[float, float]]] = {}
        """Time (monotonic) and score of each look of the last seconds, by phrase."""
        self._times: dict[str, tuple[int, float]] = {}
        self.problem = ""
        self.looks = 0
        """Since the start."""
        self.took = 0.0
        """Seconds of all of them."""

    def feed(self, items: Sequence[Heard], ring: Sequence[Heard], *, speaking: bool) -> None:
        """Take frames that were looked at; `ring` has them and those before."""
        self._speaking = speaking
        for item in items:
            event = self._ends.feed(item.speech, item.time)
            if event is EndEvent.start:
                self._began, self._looked = self._ends.speech_began, 0
            elif event in {EndEvent.end, EndEvent.cut_off}:
                self._began = None
            self._want(event, item.time)
        if self._wanted is not None and self._task is None and self._now() >= self._free:
            self._start(ring)

    def _want(self, event: EndEvent | None, now: float) -> None:
        if self._began is None:
            return
        long = now - self._began >= ENOUGH
        if (event is EndEvent.pause and self._looked == 0) or (long and self._looked < 2):
            self._looked = 2 if long else 1
            self._wanted = (self._began, now)
        elif self._speaking and long and now - self._slid >= SLIDE / 2:
            self._slid = now
            self._wanted = (now - SLIDE, now)

    def _start(self, ring: Sequence[Heard]) -> None:
        began, until = self._wanted or (0.0, 0.0)
        self._wanted = None
        first = began - PRE_ROLL_SECONDS
        part = [item for item in ring if first < item.time <= until + FRAME_SECONDS]
        if part and part[0].time - began < ENOUGH:  # else its beginning is gone from the ring
            pcm = b"".join(item.pcm for item in part)
            self._task = asyncio.create_task(self._run(pcm, began), name="voice spots")

    async def _run(self, pcm: bytes, began: float) -> None:
        start = self._now()
        try:
            async with asyncio.timeout(LONGEST):
                hits = await self._look(pcm, self._phrases)
            self.problem = ""
            self._judge(hits, began)
        except (ApplianceError, TimeoutError) as error:
            told = error.message if isinstance(error, ApplianceError) else "the speech recognition takes too long"
            if told != self.problem:
                log.warning("wake words are not looked for: %s", told)
            self.problem = told
        finally:
            took = min(self._now() - start, LOADED)  # the first look may have loaded the model
            self.looks += 1
            self.took += took
            self._free = self._now() + took * (REST_SPEAKING if self._speaking else REST)
            self._task = None

    def _judge(self, hits: tuple[Hit, ...], began: float) -> None:
        for hit in hits:
            self._seen[hit.phrase] = [*self._fresh(hit.phrase), (self._now(), hit.score)]
        least = self.threshold + (DEAF if self._speaking else 0.0)
        if hits and hits[0].score >= least:
            times, _ = self._times.get(hits[0].phrase, (0, 0.0))
            self._times[hits[0].phrase] = (times + 1, self._wall())
            self._found(hits[0], began)

    def statuses(self) -> tuple[WakeStatus, ...]:
        """Of each phrase."""
        return tuple(map(self._status, self._phrases))

    def _status(self, phrase: str) -> WakeStatus:
        scores = [score for _, score in self._fresh(phrase)]
        newest, best = (scores[-1], max(scores)) if scores else (None, None)
        times, last = self._times.get(phrase, (0, 0.0))
        return WakeStatus(phrase, "speech recognition", newest, best, self.threshold, times, last, self.problem)

    def _fresh(self, phrase: str) -> list[tuple[float, float]]:
        return [each for each in self._seen.get(phrase, ()) if self._now() - each[0] < BEST_OF]

    def reset(self) -> None:
        """Forget what is being said: it belongs to an utterance now."""
        self._began = self._wanted = None
        self._ends.reset()

    async def close(self) -> None:
        """End what is under way."""
        if (task := self._task) is not None:
            task.cancel()
            await asyncio.wait({task})
