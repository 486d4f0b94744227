"""The I2C bus on the header, where UPS boards sit."""

from __future__ import annotations

import os

from appliance.core.doctor.model import Check, DoctorContext
from appliance.core.doctor.probe import in_thread
from appliance.core.model import CheckResult

HEADER = "i2c-1"
"""The header's bus on every Raspberry Pi; others are the displays'."""


def look(context: DoctorContext) -> CheckResult:
    """Whether the bus has a device node that this user may open."""
    found = context.paths("dev/i2c-*")
    names = [path.name for path in found]
    if context.is_pi and HEADER not in names:
        others = f"; only {', '.join(names)} of the displays" if names else ""
        return CHECK.absent(f"no /dev/{HEADER}{others}", "sudo raspi-config nonint do_i2c 0 && sudo modprobe i2c-dev")
    if not found:
        return CHECK.absent(
            "no /dev/i2c-* here", "on a Raspberry Pi: sudo raspi-config nonint do_i2c 0; on a PC: sudo modprobe i2c-dev"
        )
    chosen = next((path for path in found if path.name == HEADER), found[0])
    if not os.access(chosen, os.R_OK | os.W_OK):
        return CHECK.failed(f"this user may not open /dev/{chosen.name}", "sudo usermod -aG i2c $USER, then log in again")
    return CHECK.ok(f"/dev/{chosen.name} can be opened; buses: {', '.join(names)}")


CHECK = Check("i2c", "I2C bus", in_thread(look))
