"""Settings of the power: which UPS, its limits, what feeds this machine."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from appliance import settingforms as forms
from appliance.settinggroups import Group, Percent, Port, env


class NutAccess(Group):
    """One server of Network UPS Tools, such as [ups.nut.rack]. Its password is the secret ups.nut.NAME."""

    host: Annotated[str, Field(min_length=1), AfterValidator(forms.host)] = "127.0.0.1"
    """Name or address."""
    port: Annotated[Port, Field(ge=1)] = 3493
    """TCP port of its upsd."""
    upses: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")], ...] = ()
    """Those to read; empty for all that it has."""
    username: str = ""
    """User of its upsd.users; with one the appliance logs in, and the server's own upsmon waits for it. Empty only asks."""


class UpsSettings(Group):
    """Where UPSes are looked for: power boards on the header, PiSugar's server, Network UPS Tools; the kernel's always."""

    i2c: tuple[Annotated[int, Field(ge=0, le=31)], ...] = (1,)
    """Buses to look at; empty to leave I2C alone. The header of a Pi is 1."""
    gauge_cells: Literal[1, 2] = 1
    """Cells in series on a fuel gauge (MAX17040 and its like)."""
    mains_pin: Annotated[int, Field(ge=0, le=27)] | None = None
    """BCM number of the pin by which the board tells of mains, such as 6 on Geekworm's X1200 and X728."""
    mains_high: bool = True
    """High means mains, as on the X1200; no: low does, as on the X728."""
    mains_pull: Literal["up", "down", "none"] = "up"
    """The Pi's own resistor at that pin."""
    monitor_address: Annotated[int, Field(ge=0, le=0x7F)] = 0
    """Of an INA219, such as 67 (0x43); 0 looks at 0x40 to 0x45."""
    monitor_cells: Annotated[int, Field(ge=0, le=8)] = 0
    """Cells in series behind it; 0 where it is not known, and then it tells no percent."""
    monitor_shunt_ohm: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Its shunt, Ω; 0 for what is usual at its address."""
    monitor_reversed: bool = False
    """The board counts the current out of the battery as positive."""
    pisugar: bool = True
    """Ask PiSugar's server, where one runs."""
    nut: dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,30}$")], NutAccess] = Field({})
    """Servers of Network UPS Tools by name; empty tries the one on this machine."""


class PowerSettings(Group):
    """Mains, battery and what happens when the power goes."""

    enabled: bool = True
    """Off: no UPS is looked for, and on mains or not stays unknown."""
    mode: Literal["auto", "on-grid", "off-grid"] = Field("auto", json_schema_extra=env("POWER_MODE"))
    """auto: as the UPS says; on-grid: as if there were always mains; off-grid: as if there were never."""
    feeds: tuple[Annotated[str, Field(min_length=1, max_length=100)], ...] = ()
    """Names of the UPSes that feed this machine, such as "nut:rack"; empty for the only one, or the worst of several."""
    low_percent: Percent = Field(20.0, json_schema_extra=env("BATTERY_LOW_THRESHOLD"))
    """Below it the battery is low: edge-only, and load is shed."""
    critical_percent: Percent = Field(10.0, json_schema_extra=env("BATTERY_CRITICAL_THRESHOLD"))
    """Below it, for the grace time, the machine is shut down."""
    hysteresis_percent: Annotated[float, Field(ge=0.5, le=20)] = 3.0
    """So far above its limit the charge must be before low or critical is left on battery."""
    low_minutes: Annotated[float, Field(ge=0, le=600)] = 5.0
    """Low also where the UPS itself says that less is left; 0 to take no notice."""
    critical_minutes: Annotated[float, Field(ge=0, le=600)] = 2.0
    """Critical also where the UPS itself says that less is left; 0 to take no notice."""
    longest_minutes: Annotated[float, Field(ge=0, le=10_080)] = 0.0
    """Critical after so long on battery, whatever the charge; 0 for no such limit."""
    battery_seconds: Annotated[float, Field(ge=0.1, le=60)] = 0.3
    """So long the UPS must say that it feeds from its battery."""
    mains_seconds: Annotated[float, Field(ge=1, le=3600)] = 10.0
    """So long mains must be back before things go on as before."""
    level_seconds: Annotated[float, Field(ge=1, le=600)] = 5.0
    """So long the charge must be beyond a limit."""
    unknown_seconds: Annotated[float, Field(ge=0.5, le=600)] = 2.0
    """A UPS on mains that does not answer for so long is unknown."""
    lost_seconds: Annotated[float, Field(ge=1, le=3600)] = 30.0
    """A UPS that stops answering on battery is waited for so long; then the phase is unknown."""
    grace_seconds: Annotated[float, Field(ge=5, le=3600)] = 60.0
    """Between critical and the shutdown."""
    probe_seconds: Annotated[float, Field(ge=5, le=3600)] = 30.0
    """Seconds between two searches for UPSes."""
    metrics_seconds: Annotated[float, Field(ge=1, le=3600)] = 10.0
    """Seconds between two readings of a UPS that are kept."""

    @model_validator(mode="after")
    def _limits(self) -> PowerSettings:
        if self.critical_percent >= self.low_percent:
            raise forms.SettingError(
                f"critical_percent ({self.critical_percent:g}) is not below low_percent ({self.low_percent:g})",
                "set BATTERY_CRITICAL_THRESHOLD below BATTERY_LOW_THRESHOLD, such as 10 and 20.",
            )
        return self
