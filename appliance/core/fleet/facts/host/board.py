"""What machine it is: by the device tree (ARM boards), OpenWRT's own file, or the firmware's tables (PCs)."""

from __future__ import annotations

from typing import Any

from appliance.core.fleet.facts.fact import Fact, NotToldError, Told

TREE, WRT, DMI = "/proc/device-tree/model", "/tmp/sysinfo/model", "/sys/class/dmi/id/"  # noqa: S108 a file of OpenWRT
NAMES = ("sys_vendor", "product_name", "board_vendor", "board_name")
NOBODY = frozenset({"", "to be filled by o.e.m.", "system manufacturer", "system product name", "default string", "none"})


def parse(told: Told) -> dict[str, Any]:
    r"""Its model; strings of a device tree end with a NUL, which is shown as an escape."""
    model = told.first(TREE, WRT).removesuffix("\\x00").strip()
    if model:
        return {"board": model}
    names = [name for name in (told.first(DMI + name) for name in NAMES) if name.lower() not in NOBODY]
    if not names:
        raise NotToldError("neither a device tree nor the firmware names it")
    return {"board": " ".join(dict.fromkeys(names[:2]))}


FACT = Fact("board", parse, files=(TREE, WRT, *(DMI + name for name in NAMES)))
