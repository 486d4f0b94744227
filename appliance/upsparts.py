"""From the settings to the drivers of UPSes: for the power service, the doctor and the list of devices."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from appliance.errors import StoreError
from appliance.hw.gpio import MainsWiring
from appliance.hw.ups import found
from appliance.hw.ups.ina219 import Monitor
from appliance.hw.ups.nut import NutServer
from appliance.hw.ups.pisugar import PiSugarServer

if TYPE_CHECKING:
    from appliance.core.model import Device
    from appliance.core.power.model import UpsDriver
    from appliance.core.secrets import Secrets
    from appliance.settingpower import NutAccess, UpsSettings
    from appliance.settings import Settings

log = logging.getLogger(__name__)


def drivers(settings: Settings, secrets: Secrets) -> tuple[UpsDriver, ...]:
    """All kinds of UPS, as the settings have them; none where the power is not looked after."""
    if not settings.power.enabled:
        return ()
    return found.drivers(wanted(settings.ups, lambda name: secrets.text(f"ups.nut.{name}")))


def looks(settings: Settings) -> tuple[Callable[[], Device], ...]:
    """The drivers' cheap looks, which need no password."""
    return found.detectors(wanted(settings.ups, lambda _: "")) if settings.power.enabled else ()


def wanted(settings: UpsSettings, password: Callable[[str], str]) -> found.Wanted:
    """What the operator says, in the drivers' words.

    Args:
        settings: Of the group ups.
        password: Of a server of NUT, by its name in the settings.
    """
    servers = tuple(
        NutServer(access.host, access.port, access.upses, *_login(name, access, password))
        for name, access in settings.nut.items()
    )
    pin = settings.mains_pin
    return found.Wanted(
        i2c=settings.i2c,
        gauge_cells=settings.gauge_cells,
        mains=None if pin is None else MainsWiring(pin, settings.mains_high, settings.mains_pull),
        monitor=Monitor(
            settings.monitor_address, settings.monitor_cells, settings.monitor_shunt_ohm, reversed=settings.monitor_reversed
        ),
        nut=servers or (found.LOCAL,),
        pisugar=PiSugarServer() if settings.pisugar else None,
    )


def _login(name: str, access: NutAccess, password: Callable[[str], str]) -> tuple[str, str]:
    """User and password; neither where the password cannot be read: asking needs no login, and no UPS is given up for it."""
    if not access.username:
        return "", ""
    try:
        return access.username, password(name)
    except StoreError as error:
        log.error("the server %s of NUT is asked without logging in: %s", name, error)
        return "", ""
