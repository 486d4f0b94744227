"""Counts and spans in one hand, for whoever works."""

from __future__ import annotations

from appliance.core.observe.meter import Meter
from appliance.core.observe.spans import Spans


class Observer:
    """What the fronts, the dispatcher and the domains tell of their work."""

    def __init__(self) -> None:
        self.meter = Meter()
        self.spans = Spans()
