"""Load, and time since boot."""

from __future__ import annotations

from typing import Any

from appliance.core.fleet.facts.fact import Fact, NotToldError, Told

LOAD, UPTIME, BOOT = "/proc/loadavg", "/proc/uptime", "/proc/sys/kernel/random/boot_id"


def parse(told: Told) -> dict[str, Any]:
    """Averages, seconds since boot, and an id that is another one after each boot."""
    one, five, fifteen = (float(text) for text in told.first(LOAD).split()[:3])
    if not told.first(UPTIME):
        raise NotToldError("there is no /proc/uptime")
    uptime = float(told.first(UPTIME).split()[0])
    return {"load_1m": one, "load_5m": five, "load_15m": fifteen, "uptime": uptime, "boot": told.first(BOOT)}


FACT = Fact("load", parse, files=(LOAD, UPTIME, BOOT))
