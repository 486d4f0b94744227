"""The processor, and how many cores are on."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from appliance.core.fleet.facts.fact import Fact, Told

ONLINE = "/sys/devices/system/cpu/online"
ARM = MappingProxyType({
    "0xb76": "ARM1176", "0xc07": "Cortex-A7", "0xc08": "Cortex-A8", "0xc09": "Cortex-A9", "0xd03": "Cortex-A53",
    "0xd04": "Cortex-A35", "0xd05": "Cortex-A55", "0xd07": "Cortex-A57", "0xd08": "Cortex-A72", "0xd09": "Cortex-A73",
    "0xd0a": "Cortex-A75", "0xd0b": "Cortex-A76", "0xd0c": "Neoverse-N1", "0xd40": "Neoverse-V1", "0xd41": "Cortex-A78",
    "0xd49": "Neoverse-N2", "0xd4f": "Neoverse-V2",
})  # fmt: skip
"""Part numbers of ARM's own cores (implementer 0x41), as its reference manuals and the kernel's cputype.h have them."""
NAMES = ("model name", "cpu model", "cpu", "uarch", "Processor")
"""x86 and old ARM, MIPS, POWER, RISC-V."""


def parse(told: Told) -> dict[str, Any]:
    """Its model, and the count."""
    values: dict[str, str] = {}
    for line in told.lines():
        name, _, value = line.partition(":")
        values.setdefault(name.strip(), value.strip())
    model = next((values[name] for name in NAMES if values.get(name)), None)
    if model is None and values.get("CPU implementer") == "0x41":
        model = ARM.get(values.get("CPU part", ""))
    return {"cpu_model": model, "cores": _count(told.first(ONLINE))}


def _count(ranges: str) -> int | None:
    """Of "0-3,6": five."""
    if not ranges:
        return None
    ends = [[int(end) for end in part.split("-")] for part in ranges.split(",")]
    return sum(each[-1] - each[0] + 1 for each in ends)


FACT = Fact(
    "cpu_model", parse, files=(ONLINE,),
    script=(
        'while read -r line && [ -n "$line" ]; do case $line in flags*|Features*|bugs*) ;; *) printf "%s\\n" "$line";; esac\n'
        "done </proc/cpuinfo"
    ),
)  # fmt: skip
