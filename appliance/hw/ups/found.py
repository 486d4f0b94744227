"""All kinds of UPS of this machine, put together from what the operator says of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from appliance.core.model import Device
from appliance.core.power.model import UpsDriver
from appliance.hw.gpio import MainsWiring
from appliance.hw.i2c import Buses
from appliance.hw.ups.ina219 import Monitor, MonitorDriver
from appliance.hw.ups.max170xx import GaugeDriver
from appliance.hw.ups.nut import NutDriver, NutServer
from appliance.hw.ups.pisugar import PiSugarDriver, PiSugarServer
from appliance.hw.ups.sysfs import SysfsDriver

LOCAL = NutServer(configured=False)
"""Tried where no server is named."""


class Wanted(msgspec.Struct, frozen=True):
    """What the operator says; without a word all kinds are looked for at their usual places."""

    i2c: tuple[int, ...] = (1,)
    """Buses to look at; none for not touching I2C. A Pi's header is 1; the others of a Pi 5 answer at every address."""
    gauge_cells: int = 1
    """In series on a fuel gauge: 1, or 2."""
    mains: MainsWiring | None = None
    """By which pin a board with a fuel gauge tells of mains; None where nobody said which board it is."""
    monitor: Monitor = Monitor()
    """Of a board with an INA219."""
    nut: tuple[NutServer, ...] = (LOCAL,)
    pisugar: PiSugarServer | None = PiSugarServer()
    """None for not asking for one."""


def drivers(wanted: Wanted, root: Path = Path("/")) -> tuple[UpsDriver, ...]:
    """A driver for each kind; nothing is opened yet.

    Args:
        wanted: What the operator says.
        root: Of the file system.
    """
    buses = Buses(root)
    found: list[UpsDriver] = [SysfsDriver(root)]
    if wanted.i2c:
        found.append(GaugeDriver(buses, wanted.i2c, wanted.gauge_cells, wanted.mains))
        found.append(MonitorDriver(buses, wanted.i2c, wanted.monitor))
    if wanted.pisugar is not None:
        found.append(PiSugarDriver(wanted.pisugar))
    if wanted.nut:
        found.append(NutDriver(wanted.nut, root))
    return tuple(found)


def detectors(wanted: Wanted, root: Path = Path("/")) -> tuple[Callable[[], Device], ...]:
    """The drivers' cheap looks, for the doctor and the list of devices; each blocks for some seconds at most."""
    return tuple(driver.detect for driver in drivers(wanted, root))
