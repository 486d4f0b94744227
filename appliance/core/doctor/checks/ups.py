"""UPSes, by the cheap looks of the drivers that read them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from appliance.core.doctor.model import Check, DoctorContext
from appliance.core.doctor.probe import in_thread
from appliance.core.model import CheckResult, Device, Health

log = logging.getLogger(__name__)

FIX = "connect a UPS board to the header or a UPS by USB (sudo apt-get install nut), and say which in the power settings"


def look(context: DoctorContext) -> CheckResult:
    """Ask all drivers side by side. Blocks for as long as the slowest, some seconds where something hangs."""
    if not context.upses:
        return CHECK.absent("no driver looked; on mains or not is unknown", FIX)
    with ThreadPoolExecutor(len(context.upses), thread_name_prefix="doctor-ups") as threads:
        found = [device for device in threads.map(ask, context.upses) if device.health is not Health.absent]
    ill = [device for device in found if device.health is not Health.healthy]
    well = [device.reason for device in found if device.health is Health.healthy]
    reason = "; ".join([device.reason for device in ill] + well)
    if not found:
        return CHECK.absent("none in /sys/class/power_supply, on I2C, behind NUT or PiSugar; on mains or not is unknown", FIX)
    if not ill:
        return CHECK.ok(reason)
    return CHECK.warning(reason, ill[0].next_step) if well else CHECK.failed(reason, ill[0].next_step)


def ask(detect: Callable[[], Device]) -> Device:
    """What a driver says; one that fails is no reason not to hear the others."""
    try:
        return detect()
    except Exception as error:
        log.exception("a driver failed while it looked for a UPS")
        step = "run again with LOG_LEVEL=DEBUG and report what it says"
        return Device("ups", "UPS", Health.unhealthy, f"a driver failed: {type(error).__name__}: {error}", step)


CHECK = Check("ups", "UPS", in_thread(look), timeout=10.0)
