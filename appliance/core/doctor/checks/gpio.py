"""The GPIO header, for the status LED and power boards."""

from __future__ import annotations

import os

from appliance.core.doctor.model import Check, DoctorContext
from appliance.core.doctor.probe import in_thread
from appliance.core.model import CheckResult


def look(context: DoctorContext) -> CheckResult:
    """Whether there is a chip that this user may open."""
    chips = context.paths("dev/gpiochip*")
    if not chips:
        return CHECK.absent(
            "no /dev/gpiochip*; " + ("the kernel shows no header" if context.is_pi else "this machine has no header"),
            ABSENT_FIX,
        )
    closed = [path.name for path in chips if not os.access(path, os.R_OK | os.W_OK)]
    if len(closed) == len(chips):
        return CHECK.failed(f"this user may not open /dev/{closed[0]}", "sudo usermod -aG gpio $USER, then log in again")
    return CHECK.ok(", ".join(f"/dev/{path.name}" for path in chips[:4] if path.name not in closed))


ABSENT_FIX = "run on a Raspberry Pi, whose kernel has its pins (lsmod | grep pinctrl); without a header nothing else is needed"
CHECK = Check("gpio", "GPIO header", in_thread(look))
