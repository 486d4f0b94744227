"""What a rule measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from appliance.core.state import LiveState


@dataclass(frozen=True)
class Reading:
    """What a rule measured of one subject. `value` None: the source tells nothing."""

    subject: str
    value: float | None
    message: str


Measure = Callable[[LiveState], list[Reading]]
