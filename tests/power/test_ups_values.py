"""What registers mean, for all that a register can hold; and the pin that cannot be read."""

from __future__ import annotations

import math
from pathlib import Path

import gpiozero
import pytest
from gpiozero.pins.mock import MockFactory
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.core.power.model import Supply, UpsReading
from appliance.errors import AbsentError, DeviceError
from appliance.hw.gpio import MainsPin, MainsWiring
from appliance.hw.i2c import Buses
from appliance.hw.ups import ina219, max170xx, nut_words
from appliance.hw.ups.told import Doubts

STATUSES = (
    "OL", "OB", "LB", "HB", "RB", "CHRG", "DISCHRG", "BYPASS", "CAL", "OFF", "OVER", "TRIM", "BOOST", "FSD", "ALARM", "WAIT",
    "NOCOMM",
)  # fmt: skip
WORDS = st.integers(0, 0xFFFF)


def sane(seen: UpsReading) -> None:
    """What a reading may hold at all."""
    assert seen.percent is None or 0 <= seen.percent <= 100
    for value in (seen.voltage, seen.current, seen.power, seen.runtime, seen.temperature_c):
        assert value is None or math.isfinite(value)
    assert seen.voltage is None or seen.voltage > 0
    assert seen.runtime is None or seen.runtime >= 0
    assert seen.power is None or seen.power >= 0
    assert seen.charging is not True or seen.supply is not Supply.battery


@settings(deadline=None)
@given(st.sampled_from([0x0003, 0x0012]), WORDS, WORDS, st.none() | WORDS, st.sampled_from(Supply))
def test_whatever_a_gauge_holds_is_sane_or_an_error(
    version: int, vcell: int, soc: int, crate: int | None, supply: Supply
) -> None:
    try:
        seen = max170xx.told(max170xx.Registers(version, vcell, soc, crate), 1, supply)
    except DeviceError:
        assert vcell in {0, 0xFFFF} or soc == 0xFFFF
    else:
        sane(seen)
        if supply is not Supply.unknown:
            assert seen.supply is supply


@settings(deadline=None)
@given(WORDS, WORDS, WORDS, st.integers(0, 4), st.booleans())
def test_whatever_a_monitor_holds_is_sane_or_an_error(
    configuration: int, shunt: int, bus: int, cells: int, turned: bool
) -> None:
    found = ina219.Registers(configuration, shunt, bus)
    try:
        seen = ina219.told(found, ina219.Monitor(cells=cells, reversed=turned), 0.01)
    except DeviceError:
        assert not ina219.plausible(found) or bus >> 3 == 0
    else:
        sane(seen)


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(
            [
                "battery.charge", "battery.voltage", "battery.current", "battery.runtime", "battery.temperature",
                "ups.realpower", "ups.load", "ups.realpower.nominal", "ups.temperature",
            ]
        ),
        st.text(max_size=20) | st.floats().map(str) | st.integers().map(str),
    ),
    st.lists(st.sampled_from(STATUSES)),
)  # fmt: skip
def test_whatever_upsd_tells_is_sane_or_an_error(variables: dict[str, str], status: list[str]) -> None:
    try:
        seen = nut_words.told("sim", {**variables, "ups.status": " ".join(status)})
    except DeviceError:
        assert not status or {"WAIT", "NOCOMM"} & set(status)
    else:
        sane(seen)
        assert seen.supply is not Supply.mains or {"OL", "BYPASS"} & set(status)


@settings(deadline=None)
@given(st.text(), st.floats(-1e9, 0), st.floats(0, 1e9))
def test_a_number_is_within_its_bounds_or_a_doubt(text: str, least: float, most: float) -> None:
    doubts = Doubts()
    value = doubts.number("it", text, least, most)
    assert value is None or least <= value <= most
    assert (value is None and bool(text.strip())) == bool(doubts.all)


def test_percent_by_the_curve_rises_with_the_voltage() -> None:
    told = [ina219.percent_of(volts / 1000) for volts in range(2500, 4500, 5)]
    assert told == sorted(told)
    assert (told[0], told[-1], ina219.percent_of(3.77)) == (0.0, 100.0, 32.0)


class Chip:
    """Registers without a bus."""

    def __init__(self, registers: dict[int, int]) -> None:
        self._registers = registers

    def word(self, register: int) -> int:
        return self._registers[register]


def test_a_chip_without_a_rate_is_not_asked_for_it() -> None:
    found = max170xx.look(Chip({0x02: 0xC800, 0x04: 0x5580, 0x08: 0x0002}))  # type: ignore[arg-type]
    assert found.crate is None


@pytest.mark.parametrize(
    ("name", "others"),
    [
        ("bcm2835 (i2c@7e804000)", False),
        ("Synopsys DesignWare I2C adapter", False),
        ("SMBus I801 adapter at efa0", True),
        ("SMBus PIIX4 adapter port 0 at 0b00", True),
        ("i915 gmbus dpb", True),
        ("AMDGPU DM aux hw bus 0", True),
        ("", False),
    ],
)
async def test_nobody_looks_on_the_bus_of_memory_or_display(tmp_path: Path, name: str, others: bool) -> None:
    folder = tmp_path / "sys/class/i2c-dev/i2c-1"
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")
    assert Buses(tmp_path).bus(1).others is others
    assert Buses(tmp_path).bus(2).others is False
    plain, named = max170xx.GaugeDriver(Buses(tmp_path)), max170xx.GaugeDriver(Buses(tmp_path), mains=MainsWiring())
    assert (len(plain._likely()), len(named._likely())) == (0 if others else 1, 1)
    plain, named = (
        ina219.MonitorDriver(Buses(tmp_path)),
        ina219.MonitorDriver(Buses(tmp_path), board=ina219.Monitor(address=0x43)),
    )
    assert (len(plain._likely()), len(named._likely())) == (0 if others else 6, 1)


@pytest.fixture
def pins() -> MockFactory:
    """gpiozero's own stand-in for pins."""
    before, gpiozero.Device.pin_factory = gpiozero.Device.pin_factory, MockFactory()
    yield gpiozero.Device.pin_factory
    gpiozero.Device.pin_factory.reset()
    gpiozero.Device.pin_factory = before


@pytest.mark.parametrize("pull", ["up", "down", "none"])
@pytest.mark.parametrize("high", [True, False])
def test_the_level_and_not_the_pull_tells_mains(pins: MockFactory, pull: str, high: bool) -> None:
    pin = MainsPin(MainsWiring(6, high, pull))  # type: ignore[arg-type]
    pin.mains()  # takes it, and sets the pull
    for level in (True, False, True):
        pins.pin(6).drive_high() if level else pins.pin(6).drive_low()
        assert pin.mains() is (level is high)
    assert pins.pin(6).pull == {"up": "up", "down": "down", "none": "floating"}[pull]
    pin.close()
    pin.close()


def test_a_pin_that_is_in_use_or_not_there(pins: MockFactory) -> None:
    with gpiozero.LED(6), pytest.raises(AbsentError, match="Mains cannot be read from GPIO 6") as refused:
        MainsPin(MainsWiring()).mains()
    assert "power settings" in refused.value.next_step
    with pytest.raises(AbsentError, match="GPIO 99"):
        MainsPin(MainsWiring(99)).mains()
    pin = MainsPin(MainsWiring())
    pins.pin(6).drive_high()
    assert pin.mains() is True
    pin.close()


def test_a_machine_without_pins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpiozero.Device, "pin_factory", None)
    monkeypatch.setenv("GPIOZERO_PIN_FACTORY", "lgpio")
    with pytest.raises(AbsentError, match="Mains cannot be read from GPIO 6"):
        MainsPin(MainsWiring()).mains()


class FakeBus:
    """A lane without a bus behind it."""

    def __init__(self) -> None:
        self._bus = Buses().bus(1)
        self.number, self.lane, self.shown = 1, self._bus.lane, self._bus.shown

    async def look(self, _: int, ask: object) -> max170xx.Registers:
        return max170xx.Registers(0x0003, 0xC800, 0x5580, None)


async def test_a_gauge_whose_pin_is_lost_still_tells_its_charge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpiozero.Device, "pin_factory", None)
    monkeypatch.setenv("GPIOZERO_PIN_FACTORY", "lgpio")
    gauge = max170xx.Gauge(FakeBus(), mains=MainsPin(MainsWiring()))  # type: ignore[arg-type]
    seen = await gauge.read()
    assert (seen.percent, seen.supply) == (85.5, Supply.unknown)
    [doubt] = seen.doubts
    assert doubt.startswith("Mains cannot be read from GPIO 6")
    await gauge.close()
