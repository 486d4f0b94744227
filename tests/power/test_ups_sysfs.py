"""The kernel's power supplies, through umockdev: attributes that change and go away under an unmodified reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from appliance.core.model import Health
from appliance.core.power.model import Supply
from appliance.errors import AbsentError, DeviceError
from appliance.hw.ups import sysfs
from appliance.hw.ups.sysfs import SysfsDriver, told
from tests.power.umockdev import machine

LAPTOP = {
    "type": "Battery", "present": "1", "status": "Discharging", "capacity": "83", "voltage_now": "12080000",
    "current_now": "1000000", "power_now": "12080000", "temp": "314", "time_to_empty_now": "5400", "capacity_level": "Normal",
}  # fmt: skip


@pytest.mark.umockdev
async def test_a_battery_and_what_feeds_it() -> None:
    async with machine(i2c=()) as it:
        await it.order(supply=["AC", {"type": "Mains", "online": "0"}])
        await it.order(supply=["BAT0", LAPTOP])
        await it.order(supply=["hidpp_battery_0", {"type": "Battery", "scope": "Device", "capacity": "5"}])
        await it.order(supply=["ucsi-source-psy-1", {"type": "USB", "online": "0"}])
        assert await it.probe() == ["sysfs:BAT0"]
        seen = await it.read("sysfs:BAT0")
        assert (seen.supply, seen.charging, seen.percent, seen.voltage) == (Supply.battery, False, 83.0, pytest.approx(12.08))
        assert (seen.current, seen.power, seen.runtime) == (-1.0, pytest.approx(12.08), 5400.0)
        assert (seen.temperature_c, seen.low, seen.status) == (pytest.approx(31.4), False, "Discharging")
        changed = {("AC", "online"): "1", ("BAT0", "status"): "Charging", ("BAT0", "capacity"): "84"}
        for (name, attribute), value in (changed | {("BAT0", "current_now"): "-800000"}).items():
            await it.order(attribute=[name, attribute, value])
        seen = await it.read("sysfs:BAT0")
        assert (seen.supply, seen.charging, seen.percent, seen.current) == (Supply.mains, True, 84.0, 0.8)
        assert (seen.power, seen.runtime) == (None, None)
        await it.order(remove="BAT0")
        kind, message, step = await it.refused("sysfs:BAT0")
        assert (kind, message) == ("AbsentError", "The kernel has no supply BAT0 any more.")
        assert step
        assert await it.probe() == []
        await it.order(supply=["BAT0", {**LAPTOP, "capacity": "12", "capacity_level": "Critical"}])
        assert await it.probe() == ["sysfs:BAT0"]
        seen = await it.read("sysfs:BAT0")
        assert (seen.percent, seen.low) == (12.0, True)


@pytest.mark.parametrize(
    ("values", "outside", "supply"),
    [
        ({"status": "Discharging"}, Supply.unknown, Supply.battery),
        ({"status": "Discharging"}, Supply.mains, Supply.mains),  # a charger that is too weak
        ({"status": "Charging"}, Supply.unknown, Supply.mains),
        ({"status": "Charging"}, Supply.battery, Supply.mains),  # what charges is fed
        ({"status": "Full"}, Supply.unknown, Supply.mains),
        ({"status": "Full"}, Supply.battery, Supply.battery),
        ({"status": "Not charging"}, Supply.unknown, Supply.mains),
        ({"status": "Unknown"}, Supply.unknown, Supply.unknown),
        ({"type": "UPS", "online": "0", "status": "Full"}, Supply.mains, Supply.battery),
        ({"type": "UPS", "online": "1", "status": "Unknown"}, Supply.unknown, Supply.mains),
    ],
)
def test_who_feeds(values: dict[str, str], outside: Supply, supply: Supply) -> None:
    assert told({"type": "Battery", "capacity": "50", **values}, outside).supply is supply


@pytest.mark.parametrize(
    ("values", "field", "doubt"),
    [
        ({"capacity": "101"}, "percent", "capacity is 101"),
        ({"capacity": "-1"}, "percent", "capacity is -1"),
        ({"capacity": "??"}, "percent", "capacity is ??"),
        ({"voltage_now": "0"}, "voltage", "voltage_now is 0"),
        ({"temp": "99999"}, "temperature_c", "temp is 99999"),
        ({"time_to_empty_now": "-3"}, "runtime", "time_to_empty_now is -3"),
        ({"current_now": "nan"}, "current", "current_now is nan"),
    ],
)
def test_nonsense_is_a_doubt(values: dict[str, str], field: str, doubt: str) -> None:
    seen = told({**LAPTOP, **values}, Supply.battery)
    assert getattr(seen, field) is None
    assert seen.doubts == (doubt,)


def test_charge_from_energy_where_there_is_no_capacity() -> None:
    values = {"type": "Battery", "status": "Discharging", "energy_now": "30000000", "energy_full": "40000000"}
    assert told(values, Supply.unknown).percent == 75.0
    values = {"type": "Battery", "status": "Full", "charge_now": "41", "charge_full": "40"}
    assert told(values, Supply.unknown).percent == 100.0


def test_a_battery_that_is_taken_out_and_one_that_says_nothing() -> None:
    with pytest.raises(AbsentError, match="not in its place"):
        told({**LAPTOP, "present": "0"}, Supply.battery)
    with pytest.raises(DeviceError, match="neither its charge"):
        told({"type": "Battery", "status": "Unknown"}, Supply.unknown)


def supply(root: Path, name: str, **values: str) -> Path:
    folder = root / sysfs.FOLDER / name
    folder.mkdir(parents=True)
    for key, value in values.items():
        (folder / key).write_text(f"{value}\n")
    return folder


def failing(monkeypatch: pytest.MonkeyPatch, number: int, *endings: str) -> None:
    """Reading files that end so fails as the kernel lets it."""
    plain = Path.read_text

    def read_text(path: Path, *args: Any, **kwargs: Any) -> str:
        if str(path).endswith(endings):
            raise OSError(number, "as the test wants")
        return plain(path, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", read_text)


@pytest.mark.parametrize("number", sorted(sysfs.SILENT))
async def test_an_attribute_that_has_no_value_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    supply(tmp_path, "BAT0", **LAPTOP)
    [ups] = await SysfsDriver(tmp_path).probe()
    failing(monkeypatch, number, "voltage_now")
    seen = await ups.read()
    assert (seen.voltage, seen.percent, seen.doubts) == (None, 83.0, ())


async def test_a_driver_of_the_kernel_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    supply(tmp_path, "BAT0", **LAPTOP)
    supply(tmp_path, "AC", type="Mains", online="1")
    [ups] = await SysfsDriver(tmp_path).probe()
    with monkeypatch.context() as patch:
        failing(patch, 5, "BAT0/capacity")
        with pytest.raises(DeviceError, match="BAT0: as the test wants"):
            await ups.read()
    with monkeypatch.context() as patch:
        failing(patch, 5, "AC/online")  # another's fault is not the battery's
        assert (await ups.read()).supply is Supply.battery
    with monkeypatch.context() as patch:
        failing(patch, 19, "BAT0/status")
        with pytest.raises(AbsentError, match="no supply BAT0 any more"):
            await ups.read()
    assert (await ups.read()).supply is Supply.mains


async def test_an_empty_bay_is_no_ups(tmp_path: Path) -> None:
    supply(tmp_path, "BAT0", **LAPTOP)
    supply(tmp_path, "BAT1", type="Battery", present="0")
    [ups] = await SysfsDriver(tmp_path).probe()
    assert ups.name == "sysfs:BAT0"


async def test_no_supply_at_all(tmp_path: Path) -> None:
    assert await SysfsDriver(tmp_path).probe() == []
    assert SysfsDriver(tmp_path).detect().health is Health.absent
