"""What the node takes for the time; where its date knows no nanoseconds (busybox), whole seconds."""

from __future__ import annotations

from typing import Any

from appliance.core.fleet.facts.fact import Fact, Told


def parse(told: Told) -> dict[str, Any]:
    """Seconds since the epoch, and to what part of a second."""
    whole, _, nanos = told.line().partition(".")
    if nanos.isdigit() and len(nanos) == 9:
        return {"clock": int(whole) + int(nanos) / 1e9, "clock_step": 0.0}
    return {"clock": float(int(whole)) + 0.5, "clock_step": 0.5}


FACT = Fact("clock", parse, script="date +%s.%N")
