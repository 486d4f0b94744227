"""How many processes there are."""

from __future__ import annotations

from typing import Any

from appliance.core.fleet.facts.fact import Fact, NotToldError, Told


def parse(told: Told) -> dict[str, Any]:
    """Their number; one alone is a pattern that nothing fitted."""
    count = int(told.line())
    if count < 2:
        raise NotToldError("its processes are hidden from this user")
    return {"processes": count}


FACT = Fact("processes", parse, script='set -- /proc/[0-9]*; echo "$#"')
