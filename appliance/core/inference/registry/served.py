"""How one version serves: errors and times of its newest requests, and whether two versions found the same."""

from __future__ import annotations

from collections import deque

from appliance.core.figures import percentile
from appliance.core.findings import Box
from appliance.core.inference.model import Findings
from appliance.core.inference.status import Served

RECENT = 1000
ALIKE = 0.9
SAME = 0.5
"""Intersection over union from which on two boxes are the same."""


class ServedFigures:
    """Counts one version's requests."""

    def __init__(self) -> None:
        self.requests = 0
        self.errors = 0
        self._good: deque[bool] = deque(maxlen=RECENT)
        self._times: deque[float] = deque(maxlen=RECENT)
        self._told = Served()

    def add(self, milliseconds: float, *, good: bool) -> None:
        """One request that ended; the time of one that failed is not counted."""
        self.requests += 1
        self.errors += not good
        self._good.append(good)
        if good:
            self._times.append(milliseconds)

    def rate(self, newest: int = RECENT) -> float | None:
        """Share of the newest requests that failed; None before the first."""
        shown = list(self._good)[-newest:]
        return shown.count(False) / len(shown) if shown else None

    def status(self) -> Served:
        """As it is now; worked out once for each change."""
        if self._told.requests != self.requests:
            self._told = Served(
                requests=self.requests, errors=self.errors, error_rate=self.rate(),
                p50_ms=percentile(self._times, 0.5) if self._times else None,
                p95_ms=percentile(self._times, 0.95) if self._times else None,
            )  # fmt: skip
        return self._told


def agree(one: Findings, other: Findings) -> bool:
    """Whether two models found the same.

    Each box has a partner of its label at its place; the best class is the same; of stretches and masks the labels are. Vectors
    of length 1 are the same where the cosine of their angle is above 0.9.
    """
    if one.embedding and len(one.embedding) == len(other.embedding):
        return sum(a * b for a, b in zip(one.embedding, other.embedding, strict=True)) > ALIKE
    if one.classes and other.classes:
        return one.classes[0].label == other.classes[0].label
    stretches = sorted(each.label for each in one.segments) == sorted(each.label for each in other.segments)
    shapes = sorted(each.label for each in one.masks) == sorted(each.label for each in other.masks)
    return (
        stretches
        and shapes
        and not one.embedding
        and not other.embedding
        and not one.classes
        and not other.classes
        and _paired(list(one.boxes), list(other.boxes))
    )


def _paired(boxes: list[Box], others: list[Box]) -> bool:
    if len(boxes) != len(others):
        return False
    for box in boxes:
        near = [each for each in others if each.label == box.label and overlap(box, each) >= SAME]
        if not near:
            return False
        others.remove(max(near, key=lambda each: overlap(box, each)))
    return True


def overlap(one: Box, other: Box) -> float:
    """Intersection over union, 0…1."""
    wide = min(one.x_max, other.x_max) - max(one.x_min, other.x_min)
    tall = min(one.y_max, other.y_max) - max(one.y_min, other.y_min)
    shared = max(0.0, wide) * max(0.0, tall)
    area = sum((each.x_max - each.x_min) * (each.y_max - each.y_min) for each in (one, other)) - shared
    return shared / area if area > 0 else 0.0
