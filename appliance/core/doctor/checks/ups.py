"""A UPS, by any of three ways: the kernel's power supplies, Network UPS Tools, a gauge on the I2C bus."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import socket

from appliance.core.doctor.model import Check, DoctorContext
from appliance.core.doctor.probe import in_thread
from appliance.core.model import CheckResult

LIMIT = 1.0
"""Seconds to connect, and to be answered."""
I2C_SLAVE = 0x0703
"""ioctl that addresses a device (linux/i2c-dev.h)."""
GAUGES = {0x36: "MAX17043 fuel gauge", **dict.fromkeys(range(0x40, 0x46), "INA219 power monitor")}
FIX = "connect a UPS board to the header or by USB; for a USB one: sudo apt-get install nut"


def look(context: DoctorContext) -> CheckResult:
    """The first way that answers; a way that is configured and does not is a failure. Blocks for 2 s at most."""
    configured = nut_names(context)
    return ask_nut(context, configured) if configured else ask_kernel(context)


def ask_kernel(context: DoctorContext) -> CheckResult:
    """Ask the kernel's power supplies (not those of a mouse or keyboard), then the bus."""
    for supply in context.paths("sys/class/power_supply/*"):
        relative = f"sys/class/power_supply/{supply.name}"
        if context.text(f"{relative}/type") in {"Battery", "UPS"} and context.text(f"{relative}/scope") != "Device":
            charge = context.text(f"{relative}/capacity")
            return CHECK.ok(f"{supply.name}: {charge} % charged" if charge else f"{supply.name} tells no charge")
    if gauge := i2c_gauge(context):
        return CHECK.ok(f"{gauge} answers on I2C")
    return CHECK.absent("none in /sys/class/power_supply, in NUT's configuration or on I2C; on mains or not is unknown", FIX)


def i2c_gauge(context: DoctorContext) -> str:
    """What answers on the header's bus at an address of a known gauge, or nothing."""
    try:
        bus = os.open(context.root / "dev/i2c-1", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        for address, name in GAUGES.items():
            with contextlib.suppress(OSError):  # nobody there, or a driver of the kernel holds it
                fcntl.ioctl(bus, I2C_SLAVE, address)
                if os.read(bus, 1):
                    return f"something at 0x{address:02x}, likely a {name},"
    finally:
        os.close(bus)
    return ""


def nut_names(context: DoctorContext) -> list[str]:
    """The UPSes that NUT is configured for, unless its mode is none."""
    mode = re.search(r"^\s*MODE\s*=\s*\"?(\w+)", context.text("etc/nut/nut.conf"), re.MULTILINE)
    if mode is None or mode[1].lower() == "none":
        return []
    return re.findall(r"^\s*\[([^\]]+)\]", context.text("etc/nut/ups.conf"), re.MULTILINE)


def ask_nut(context: DoctorContext, names: list[str]) -> CheckResult:
    """Ask NUT's daemon how the first UPS is; blocks for 2 s at most."""
    restart = "sudo systemctl restart nut-driver-enumerator nut-server; then: upsc " + names[0]
    host, port = context.nut
    try:
        with socket.create_connection((host, port), timeout=LIMIT) as connection, connection.makefile("rwb") as stream:
            connection.settimeout(LIMIT)
            stream.write(f"GET VAR {names[0]} ups.status\n".encode())
            stream.flush()
            answer = stream.readline(1000).decode(errors="replace").strip()
    except TimeoutError:
        return CHECK.failed(f"NUT is configured for {names[0]}; upsd on {host}:{port} does not answer", restart)
    except OSError as error:
        return CHECK.failed(
            f"NUT is configured for {names[0]}; upsd on {host}:{port}: {os.strerror(error.errno or 0)}", restart
        )
    if not answer.startswith("VAR "):
        return CHECK.failed(f"NUT says of {names[0]}: {answer or 'nothing'}", restart)
    return CHECK.ok(f"NUT: {names[0]} is {answer.split(maxsplit=3)[3].strip(chr(34))}")


CHECK = Check("ups", "UPS", in_thread(look))
