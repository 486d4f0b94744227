"""Ticks of all cores since boot (proc_pid_stat's kin: proc(5), /proc/stat)."""

from __future__ import annotations

from typing import Any

from appliance.core.fleet.facts.fact import Fact, Told


def parse(told: Told) -> dict[str, Any]:
    """(busy, all) ticks; guests are in user time already, and waiting for a disk is no work."""
    name, *ticks = told.line().split()
    if name != "cpu" or len(ticks) < 4:
        raise ValueError(name)
    user, nice, system, idle, *rest = (int(tick) for tick in ticks[:8])
    waits, others = (rest[0], sum(rest[1:])) if rest else (0, 0)
    busy = user + nice + system + others
    return {"cpu_ticks": (busy, busy + idle + waits)}


FACT = Fact("cpu", parse, script='read -r line </proc/stat && printf "%s\\n" "$line"')
