"""Limits of a container that is a node itself: what the machine around it has is not its own (kernel's cgroup-v2, memory)."""

from __future__ import annotations

from typing import Any

from appliance.core.fleet.facts.fact import Fact, Told

V2, V1 = "/sys/fs/cgroup/", "/sys/fs/cgroup/memory/memory."
LIMITS = (V2 + "memory.max", V1 + "limit_in_bytes")
USED = (V2 + "memory.current", V1 + "usage_in_bytes")
STAT = (V2 + "memory.stat", V1[:-1] + ".stat")
NONE = 1 << 60
"""Version 1 says "no limit" as a number of about 2^63."""


def parse(told: Told) -> dict[str, Any]:
    """Its limit and use of memory, its ticks and its share of cores; empty where it has no limits."""
    files: dict[str, list[str]] = {}
    for line in told.lines():
        path, _, rest = line.partition(":")
        files.setdefault(path, []).append(rest)
    return {**_memory(Told(files=files)), **_cpu(Told(files=files))}


def _memory(told: Told) -> dict[str, Any]:
    for limit_file, used_file, stat_file in zip(LIMITS, USED, STAT, strict=True):
        limit, used = told.number(limit_file), told.number(used_file)
        if limit and limit < NONE and used is not None:
            stat = dict(line.split(" ", 1) for line in told.files.get(stat_file, []) if " " in line)
            given = int(stat.get("total_inactive_file", stat.get("inactive_file", "0")))
            return {"limit": limit, "limit_used": max(0, used - given)}
    return {}


def _cpu(told: Told) -> dict[str, Any]:
    quota, _, period = told.first(V2 + "cpu.max").partition(" ")
    if not quota.isdigit() or not period.isdigit():
        return {}
    used = next((line.split()[1] for line in told.files.get(V2 + "cpu.stat", []) if line.startswith("usage_usec ")), "")
    return {"quota_cores": int(quota) / int(period), "quota_used": int(used)} if used.isdigit() else {}


FACT = Fact(
    "container", parse,
    script=(
        f"if [ -e {LIMITS[0]} ]; then grep -s . {LIMITS[0]} {USED[0]} {STAT[0]} {V2}cpu.max {V2}cpu.stat\n"
        f"elif [ -e {LIMITS[1]} ]; then read -r limit <{LIMITS[1]}\n"
        f'[ "${{#limit}}" -lt 19 ] && grep -s . {LIMITS[1]} {USED[1]} {STAT[1]}; fi'
    ),
)  # fmt: skip
