"""The settings: whether the next start will take them."""

from __future__ import annotations

from appliance.core.doctor.model import Check, DoctorContext
from appliance.core.model import CheckResult


async def look(context: DoctorContext) -> CheckResult:
    """What loading them said; the other checks look at the defaults where they are wrong."""
    fault = context.config_error
    if fault is None:
        return CHECK.ok("the configuration file and the environment are valid")
    return CHECK.failed(f"{fault.message} The other checks look at the defaults.", fault.next_step)


CHECK = Check("config", "Settings", look)
