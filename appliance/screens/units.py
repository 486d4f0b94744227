"""What a metric's numbers mean, by its name (contracts, section 2): its unit, and how a value of it is written."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from appliance.screens import format as f

FORMS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(\w+_)?[rt]x_rate|\w*byte_rate"), "B/s"),
    (re.compile(r"(\w+_)?(bytes|size|rss)|(memory|disk)_(total|used|free)"), "B"),
    (re.compile(r"\w+_(usage|percent|level)|cpu_per_core"), "%"),
    (re.compile(r"\w+_c|temperature"), "°C"),
    (re.compile(r"\w+_ms"), "ms"),
    (re.compile(r"\w+_(s|seconds)|uptime|age"), "s"),
    (re.compile(r"\w+_v|(\w+_)?voltage"), "V"),
    (re.compile(r"\w+_w|(\w+_)?power"), "W"),
)
"""The first that fits says the unit; no unit where none does."""
SCALED = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k"))


@dataclass(frozen=True)
class Unit:
    """The unit of an answer's values.

    Attributes:
        name: "%", "B", "B/s", … or "".
    """

    name: str

    @property
    def is_binary(self) -> bool:
        """Counted in KiB, MiB, …"""
        return self.name in {"B", "B/s"}

    def tick(self, value: float, step: float) -> str:
        """A value at an axis.

        Args:
            value: To be written.
            step: Between two of them: it says how many digits differ.
        """
        if self.is_binary:
            return f.size(value) + ("/s" if self.name == "B/s" else "")
        scale, prefix = next(
            ((limit, sign) for limit, sign in SCALED if step >= limit / 10 or abs(value) >= limit * 10), (1.0, "")
        )
        if prefix == "k":
            scale = 1e3
        digits = max(0, -math.floor(math.log10(step / scale) + 1e-9)) if step > 0 else 2
        if step > 0 and digits < 6 and abs(round(step / scale, digits) - step / scale) > 1e-9 * step / scale:
            digits += 1
        text = f"{value / scale:.{digits}f}{prefix}"
        return f"{text} {self.name}" if self.name else text

    def exact(self, value: float | None) -> str:
        """A value with five digits."""
        if value is None:
            return f.NONE
        if self.is_binary and abs(value) >= 1024:
            return f.size(value) + ("/s" if self.name == "B/s" else "")
        text = f"{value:.0f}" if abs(value) >= 1e6 or value == int(value) else f"{value:.5g}"
        return f"{text} {self.name}" if self.name else text


NO_UNIT = Unit("")


def unit_of(metric: str, aggregation: str) -> Unit:
    """The unit of what a question about a metric is answered with.

    Args:
        metric: Its name.
        aggregation: A count and a variance are no values of the metric.
    """
    if aggregation in {"count", "variance"}:
        return NO_UNIT
    return Unit(next((unit for pattern, unit in FORMS if pattern.fullmatch(metric)), ""))
