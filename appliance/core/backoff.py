"""How long to wait before something that failed is tried again."""

from __future__ import annotations

import random

DOUBLINGS = 64
"""After so many the bound is reached by far, and no power gets too great for a number."""


def backoff(failures: int, first: float, longest: float) -> float:
    """Seconds to wait after the nth failure in a row: doubling, with jitter so that many do not come back at once.

    Args:
        failures: In a row, the first one is 1.
        first: Most seconds after the first one.
        longest: Most seconds ever.

    Returns:
        Between a half and the whole of what was reached ("equal jitter").
    """
    reached = min(longest, first * 2.0 ** min(max(failures, 1) - 1, DOUBLINGS))
    return reached * random.uniform(0.5, 1.0)  # noqa: S311 it spreads tries, and guards nothing
