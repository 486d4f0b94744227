"""Memory and swap of the machine (proc(5), /proc/meminfo)."""

from __future__ import annotations

from typing import Any

from appliance.core.fleet.facts.fact import Fact, Told

PATH = "/proc/meminfo"


def parse(told: Told) -> dict[str, Any]:
    """Percent that programs could not have, and bytes in all; kernels before 3.14 do not say what is available."""
    sizes: dict[str, int] = {}
    for line in told.files[PATH]:
        name, _, rest = line.partition(":")
        if name in {"MemTotal", "MemFree", "MemAvailable", "Buffers", "Cached", "SwapTotal", "SwapFree"}:
            sizes[name] = 1024 * int(rest.split()[0])
    total = sizes["MemTotal"]
    free = sizes.get("MemAvailable", sizes["MemFree"] + sizes.get("Buffers", 0) + sizes.get("Cached", 0))
    swap = sizes.get("SwapTotal", 0)
    return {
        "memory": _percent(total - free, total), "memory_total": total,
        "swap": _percent(swap - sizes.get("SwapFree", 0), swap) if swap else None,
    }  # fmt: skip


def _percent(part: int, whole: int) -> float:
    return round(min(100.0, max(0.0, 100.0 * part / whole)), 1)


FACT = Fact("memory", parse, files=(PATH,))
