"""What sources say, as numbers, or why not."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

from appliance.core.power.model import UpsReading
from appliance.errors import AbsentError, DeviceError


class Doubts:
    """Collects what cannot be true."""

    def __init__(self) -> None:
        self.all: list[str] = []

    def number(self, name: str, text: str | None, least: float, most: float, scale: float = 1.0) -> float | None:
        """A number within its bounds, both included; None where there is none, noting why.

        Args:
            name: As the source calls it.
            text: As the source says it; None or empty is no value, and no doubt.
            least: Bound, after scaling.
            most: Bound, after scaling.
            scale: Factor from the source's unit.
        """
        if text is None or not text.strip():
            return None
        try:
            value = round(float(text) * scale, 6)
        except ValueError:
            value = math.nan
        if math.isfinite(value) and least <= value <= most:
            return value
        self.all.append(f"{name} is {text.strip()[:40]}")
        return None


def reading(**values: Any) -> UpsReading:
    """A reading of this moment."""
    return UpsReading(time=time.time(), monotonic=time.monotonic(), **values)


@contextlib.contextmanager
def missed(configured: bool) -> Iterator[None]:
    """Within it: what the operator says is there, and is not, fails (DeviceError); what was only found may go (AbsentError)."""
    try:
        yield
    except AbsentError as error:
        if not configured:
            raise
        raise DeviceError(error.message, error.next_step) from error


def named(count: int, what: Callable[[int], str]) -> str:
    """The first few of many, in words."""
    shown = ", ".join(what(index) for index in range(min(count, 4)))
    return shown + (f" and {count - 4} more" if count > 4 else "")
