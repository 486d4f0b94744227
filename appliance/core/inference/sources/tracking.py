"""Tracks: the same number for the same object from frame to frame, by ByteTrack (Zhang et al., ECCV 2022) of trackforge."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from appliance.core.model import Box

if TYPE_CHECKING:
    from trackforge import BYTETRACK

OVERLAP = 0.8
"""A box continues a track where 1 - IoU with its predicted place is at most this."""
SECOND = 0.5
"""The same for boxes of a low score."""
MOST = 300
"""Boxes of one frame that are followed, best first."""
GAPS = 5
"""Times between frames by whose middle one is known how fast they come."""
LABELS = 100
"""Labels that are followed at one time."""


@dataclass(frozen=True)
class Seen:
    """A track in a frame in which it was seen.

    Attributes:
        track_id: Unique within the tracker's life.
        box: Of this frame, pixels.
        since: When it was seen first, monotonic seconds.
    """

    track_id: int
    box: Box
    since: float


@dataclass
class _Life:
    track_id: int
    since: float
    last: float


class Tracker:
    """Follows the objects of one source, each label by itself.

    Args:
        score: Least score with which a track begins.
        seconds: How long an object may be unseen and still be the same.
        rate: Frames a second.
    """

    def __init__(self, score: float, seconds: float, rate: float) -> None:
        self._score = score
        self._seconds = seconds
        self._patience = max(1, math.ceil(seconds * rate))
        self._gaps: deque[float] = deque([1 / rate], maxlen=GAPS)
        """Seconds between the last frames."""
        self._before: float | None = None
        self._trackers: dict[str, BYTETRACK] = {}
        self._lives: dict[tuple[str, int], _Life] = {}
        self._seen: dict[str, float] = {}
        """Label → when one was seen last."""
        self._next = 1

    def update(self, boxes: Sequence[Box], now: float) -> tuple[Seen, ...]:
        """The tracks that are in this frame, oldest first; `now` is on the monotonic clock."""
        longest = max(self._seconds, 3 * median(self._gaps))
        if self._before is not None:
            self._gaps.append(now - self._before)
        self._before = now
        self._lives = {name: life for name, life in self._lives.items() if now - life.last <= longest}
        by_label: dict[str, list[Box]] = {}
        for box in sorted(filter(_sound, boxes), key=lambda box: -box.score)[:MOST]:
            by_label.setdefault(box.label, []).append(box)
        found = [seen for label in {*self._trackers, *by_label} for seen in self._follow(label, by_label.get(label, []), now)]
        self._forget(now)
        return tuple(sorted(found, key=lambda seen: seen.track_id))

    def _follow(self, label: str, boxes: list[Box], now: float) -> list[Seen]:
        tracker = self._trackers.get(label)
        if tracker is None:
            if len(self._trackers) >= LABELS:
                return []
            from trackforge import BYTETRACK

            tracker = self._trackers[label] = BYTETRACK(self._score, self._patience, OVERLAP, self._score, SECOND)
        given = [([box.x_min, box.y_min, box.x_max - box.x_min, box.y_max - box.y_min], box.score, 0) for box in boxes]
        found = [(inner, index) for inner, _, _, _, index in tracker.update(given) if index is not None]
        return [
            Seen(life.track_id, boxes[index], life.since) for inner, index in found for life in [self._life(label, inner, now)]
        ]

    def _life(self, label: str, inner: int, now: float) -> _Life:
        life = self._lives.get((label, inner))
        if life is None:
            life = self._lives[label, inner] = _Life(self._next, now, now)
            self._next += 1
        life.last = self._seen[label] = now
        return life

    def _forget(self, now: float) -> None:
        """Drop the trackers of labels that were not seen for long."""
        kept = max(60.0, 4 * self._seconds)
        self._seen = {label: at for label, at in self._seen.items() if now - at <= kept}
        kept = max(60.0, 4 * self._seconds)
        self._seen = {label: at for label, at in self._seen.items() if now - at <= kept}
        self._trackers = {label: tracker for label, tracker in self._trackers.items() if label in self._seen}


def _sound(box: Box) -> bool:
    numbers = (box.x_min, box.y_min, box.x_max, box.y_max, box.score)
    return all(map(math.isfinite, numbers)) and box.x_max > box.x_min and box.y_max > box.y_min
