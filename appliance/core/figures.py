"""Figures drawn from samples, and figures in words."""

from __future__ import annotations

import math
from collections.abc import Collection


def percentile(values: Collection[float], share: float) -> float:
    """The smallest of the values that at least `share` (0…1) of all do not exceed (nearest rank).

    Raises:
        ValueError: There is no value, or the share is outside 0…1.
    """
    if not values or not 0 <= share <= 1:
        raise ValueError(f"no percentile {share} of {len(values)} values")
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def counted(count: int, noun: str) -> str:
    """A number of things: "1 alert", "2 alerts"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
