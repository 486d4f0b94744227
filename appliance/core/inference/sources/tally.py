"""The counters of one source, over all its runs."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from appliance.core.figures import percentile
from appliance.core.inference.sources.model import SourceEvent, SourceStatus
from appliance.core.inference.sources.reader import Progress, Reader
from appliance.errors import ApplianceError, DeadlineError

WINDOW = 5.0
"""Seconds over which frames a second are counted."""
YOUNG = 1.0
"""Seconds before which there is no rate."""
EVENTS = 20
BLIND = 3
"""Frames in a row that fail, after which the source is of no use."""
FRESH = 300.0
"""Seconds for which the newest trouble is shown."""


class Tally:
    """Counts what one source does."""

    def __init__(self) -> None:
        self.inferred = self.refused = self.late = self.failed = 0
        self.suppressed = self.events_total = self.kept = self.not_kept = 0
        self.events: deque[SourceEvent] = deque(maxlen=EVENTS)
        self._past = Progress()
        self._dropped = 0
        self._looked: deque[float] = deque(maxlen=256)
        self._times: deque[float] = deque(maxlen=100)
        self._failing = 0
        """Frames that failed since the last one that was looked at."""
        self.stuck: list[Reader] = []
        """Threads that were let go, and may hang in a driver."""
        self._trouble = ""
        self._troubled = 0.0

    def looked(self, seconds: float) -> None:
        """A frame was looked at, so long after it arrived."""
        self.inferred += 1
        self._failing = 0
        self._looked.append(time.monotonic())
        self._times.append(1000 * seconds)

    def not_in_time(self, error: ApplianceError) -> None:
        """A frame was refused for what is more urgent, or its time passed."""
        if isinstance(error, DeadlineError):
            self.late += 1
        else:
            self.refused += 1

    def trouble(self, error: ApplianceError) -> None:
        """A frame could not be looked at."""
        self.failed += 1
        self._failing += 1
        self.say(error)

    @property
    def blind(self) -> bool:
        """Frames come, and none can be looked at."""
        return self._failing >= BLIND

    def say(self, error: ApplianceError) -> None:
        """Show what went wrong."""
        self._trouble, self._troubled = str(error), time.monotonic()

    def take(self, reader: Reader) -> None:
        """Add what a reader did that is let go."""
        past, progress = self._past, reader.progress
        past.frames += progress.frames
        past.skipped += progress.skipped
        past.damaged += progress.damaged
        past.reconnects += progress.reconnects
        past.newest = progress.newest if progress.newest is not None else past.newest
        past.width, past.height = progress.width or past.width, progress.height or past.height
        past.problem = progress.problem or past.problem
        self._dropped += reader.mailbox.dropped

    def replace(self, event: SourceEvent) -> None:
        """An event knows more by now: its clip."""
        for index, other in enumerate(self.events):
            if other.event_id == event.event_id:
                self.events[index] = event

    def status(self, reader: Reader | None, now: float, **known: Any) -> SourceStatus:
        """The source's status.

        Args:
            reader: At work; None where none is.
            now: Monotonic.
            known: What the counters do not know.
        """
        past, progress = self._past, reader.progress if reader is not None else Progress()
        newest = progress.newest if progress.newest is not None else past.newest
        problem = progress.problem or past.problem
        told = self._trouble if now - self._troubled < FRESH else ""
        told = told or (str(problem) if problem is not None else "")
        return SourceStatus(
            fps_in=rate(progress.arrivals, now), fps_inferred=rate(self._looked, now) if reader is not None else None,
            frames=past.frames + progress.frames, inferred=self.inferred, skipped=past.skipped + progress.skipped,
            dropped=self._dropped + (reader.mailbox.dropped if reader is not None else 0), refused=self.refused,
            late=self.late, failed=self.failed, damaged=past.damaged + progress.damaged,
            reconnects=past.reconnects + progress.reconnects, frame_age_s=None if newest is None else round(now - newest, 1),
            width=progress.width or past.width, height=progress.height or past.height,
            latency_ms=round(percentile(self._times, 0.5), 1) if self._times else None, problem=told,
            events=tuple(self.events), events_total=self.events_total, suppressed=self.suppressed, kept=self.kept,
            not_kept=self.not_kept, **known,
        )  # fmt: skip


def rate(moments: deque[float], now: float) -> float | None:
    """So many a second over the last seconds; None where nothing is known yet."""
    held = list(moments)  # another thread appends
    if not held or now - held[0] < YOUNG:
        return None
    window = min(WINDOW, now - held[0])
    late = [moment for moment in held if now - moment <= window]
    full = len(held) == moments.maxlen and len(late) == len(held)
    return round(len(late) / (now - held[0] if full else window), 1)
