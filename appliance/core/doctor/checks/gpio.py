"""The GPIO header, for the status LED and power boards."""

from __future__ import annotations

import importlib.util
import os

from appliance.core.doctor.model import Check, DoctorContext
from appliance.core.doctor.probe import in_thread
from appliance.core.figures import counted
from appliance.core.model import CheckResult

FACTORIES = ("lgpio", "RPi", "pigpio")
"""Modules through which gpiozero reaches pins; its own native one does not know the Pi 5."""


def look(context: DoctorContext) -> CheckResult:
    """Whether there is a chip that this user may open, and a library that can."""
    chips = context.paths("dev/gpiochip*")
    if not chips:
        return CHECK.absent(
            "no /dev/gpiochip*; " + ("the kernel shows no header" if context.is_pi else "this machine has no header"),
            ABSENT_FIX,
        )
    closed = [path.name for path in chips if not os.access(path, os.R_OK | os.W_OK)]
    if len(closed) == len(chips):
        return CHECK.failed(f"this user may not open /dev/{closed[0]}", "sudo usermod -aG gpio $USER, then log in again")
    if context.is_pi and not any(importlib.util.find_spec(name) for name in FACTORIES):
        return CHECK.warning(f"{counted(len(chips), 'chip')}, but no pin library in this environment", LIBRARY_FIX)
    return CHECK.ok(", ".join(f"/dev/{path.name}" for path in chips[:4] if path.name not in closed))


ABSENT_FIX = "run on a Raspberry Pi with its own kernel; without a header nothing else is needed"
LIBRARY_FIX = "sudo apt-get install python3-lgpio, remove .venv, then: make setup"
CHECK = Check("gpio", "GPIO header", in_thread(look))
