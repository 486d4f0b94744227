"""Time zone."""

from __future__ import annotations

from typing import Any

from appliance.core.fleet.facts.fact import Fact, NotToldError, Told

NAMED, WRT = "/etc/timezone", "/etc/TZ"


def parse(told: Told) -> dict[str, Any]:
    """Its name; as a rule of POSIX where it has no name (OpenWRT)."""
    link = told.text.strip()
    zone = told.first(NAMED) or link.partition("zoneinfo/")[2] or told.first(WRT)
    if not zone:
        raise NotToldError("none is set; UTC is likely")
    return {"timezone": zone}


FACT = Fact("timezone", parse, files=(NAMED, WRT), script=f"[ -s {NAMED} ] || readlink /etc/localtime")
