"""Fuel gauges and power monitors: the drivers unmodified, in a child that sees a bus whose registers are the data sheets'."""

from __future__ import annotations

import errno

import pytest

from appliance.core.power.model import Supply
from appliance.hw.gpio import MainsWiring
from appliance.hw.ups.ina219 import Monitor
from tests.power.umockdev import machine
from tests.support import wait_for

pytestmark = pytest.mark.umockdev

GAUGE, MONITOR = "max170xx@1-36", "ina219@1-43"
MAX17043 = {0x02: 3200 << 4, 0x04: 0x5580, 0x08: 0x0003, 0x0C: 0x971C}
"""3200 × 1.25 mV = 4 V in 12 bits, left-aligned; 85.5 %; as after power-on (data sheet, table 2)."""
MAX17048 = {0x02: 48640, 0x04: 0x2A80, 0x08: 0x0012, 0x16: 0xFFD0}
"""48640 × 78.125 µV = 3.8 V; 42.5 %; −48 × 0.208 %/h = −9.98 %/h."""
INA219 = {0x00: 0x399F, 0x01: 0xFCE0, 0x02: (975 << 3) | 0b10}
"""As after a reset; −800 × 10 µV = −8 mV, at 0.01 Ω −0.8 A; 975 × 4 mV = 3.9 V, conversion ready."""
WAVESHARE = {**INA219, 0x00: 0x0EEF, 0x05: 26868}
"""As Waveshare's own program leaves it."""


async def test_a_max17043_on_a_board_whose_pin_is_not_known() -> None:
    async with machine() as it:
        await it.chips(x36=MAX17043)
        assert await it.probe() == [GAUGE]
        seen = await it.read(GAUGE)
        assert (seen.voltage, seen.percent, seen.status) == (4.0, 85.5, "max17043")
        assert (seen.supply, seen.charging, seen.runtime) == (Supply.unknown, None, None)


async def test_a_max17048_tells_by_its_rate_what_feeds() -> None:
    async with machine() as it:
        await it.chips(x36=MAX17048)
        assert await it.probe() == [GAUGE]
        seen = await it.read(GAUGE)
        assert (seen.voltage, seen.percent, seen.supply, seen.charging) == (3.8, 42.5, Supply.battery, False)
        assert seen.runtime == pytest.approx(42.5 / (48 * 0.208) * 3600)
        await it.chips(x36={0x16: 0x0030})
        seen = await it.read(GAUGE)
        assert (seen.supply, seen.charging, seen.runtime) == (Supply.mains, True, None)
        await it.chips(x36={0x16: 0xFFFB})  # a percent an hour: its own drift
        seen = await it.read(GAUGE)
        assert (seen.supply, seen.charging, seen.runtime) == (Supply.unknown, None, None)


@pytest.mark.parametrize("high_is_mains", [True, False], ids=["X1200", "X728"])
async def test_mains_by_the_boards_pin(high_is_mains: bool) -> None:
    async with machine(mains=MainsWiring(6, high_is_mains)) as it:
        await it.chips(x36=MAX17043)
        assert await it.probe() == [GAUGE]
        for level in (True, False, True):
            await it.order(pin=[6, level])
            seen = await it.read(GAUGE)
            assert seen.supply is (Supply.mains if level is high_is_mains else Supply.battery)
            assert seen.charging is (None if level is high_is_mains else False)


async def test_a_named_board_may_have_a_gauge_of_any_version() -> None:
    async with machine(mains=MainsWiring()) as it:
        await it.chips(x36={**MAX17043, 0x08: 0x0000})
        assert await it.probe() == [GAUGE]
        await it.order(pin=[6, True])
        seen = await it.read(GAUGE)
        assert (seen.percent, seen.supply, seen.status) == (85.5, Supply.mains, "version 0x0000")
        assert "version 0x0000 on /dev/i2c-1" in (await it.order(detect=True))[1]["reason"]
        await it.chips(x36={0x08: 0xFFFF})
        assert "version 0xffff: another chip" in (await it.refused(GAUGE))[1]


async def test_where_the_gauge_is_silent_the_pin_still_tells_of_the_battery() -> None:
    """And of nothing else: a pin whose board is not there reads as mains, by its resistor."""
    async with machine(mains=MainsWiring()) as it:
        await it.chips(x36=MAX17043)
        await it.probe()
        await it.read(GAUGE)  # which takes the pin, and with it its resistor's level
        await it.chips(x36={0x02: 0xFFFF})
        await it.order(pin=[6, False])
        seen = await it.read(GAUGE)
        assert (seen.supply, seen.charging, seen.percent, seen.voltage) == (Supply.battery, False, None, None)
        assert "VCELL 0xffff" in seen.doubts[0]
        await it.order(pin=[6, True])
        assert (await it.refused(GAUGE))[0] == "DeviceError"
        await it.order(unplug=True)
        await it.order(pin=[6, False])
        assert (await it.read(GAUGE)).supply is Supply.battery


async def test_a_board_that_pulls_the_pin_down_for_mains_is_believed_without_its_gauge() -> None:
    async with machine(mains=MainsWiring(6, high_is_mains=False)) as it:
        await it.chips(x36=MAX17043)
        await it.probe()
        await it.read(GAUGE)
        await it.chips(x36={0x02: 0xFFFF})
        await it.order(pin=[6, False])
        assert (await it.read(GAUGE)).supply is Supply.mains
        await it.order(pin=[6, True])  # no board, or no mains: unknown
        assert (await it.refused(GAUGE))[0] == "DeviceError"


async def test_the_pin_knows_better_than_the_rate() -> None:
    async with machine(mains=MainsWiring()) as it:
        await it.chips(x36=MAX17048)
        await it.probe()
        await it.order(pin=[6, True])
        seen = await it.read(GAUGE)
        assert (seen.supply, seen.charging) == (Supply.mains, False)


async def test_two_cells_in_series() -> None:
    async with machine(gauge_cells=2) as it:
        await it.chips(x36=MAX17048)
        await it.probe()
        assert (await it.read(GAUGE)).voltage == 7.6


async def test_what_no_gauge_means_is_an_error_and_passes() -> None:
    async with machine() as it:
        await it.chips(x36=MAX17043)
        await it.probe()
        for registers, said in (
            ({0x02: 0x0000}, "no battery has: VCELL 0x0000"),
            ({0x02: 0xFFFF}, "no battery has: VCELL 0xffff"),
            ({0x04: 0xFFFF}, "SOC 0xffff"),
            ({0x08: 0xFFFF}, "version 0xffff: another chip"),
            ({0x08: 0x1600}, "another chip"),
        ):
            await it.chips(x36=registers)
            kind, message, step = await it.refused(GAUGE)
            assert kind == "DeviceError"
            assert said in message
            assert "dmesg" in step
            await it.chips(x36=MAX17043)
            assert (await it.read(GAUGE)).percent == 85.5


async def test_more_than_full_is_full_and_much_more_is_a_doubt() -> None:
    async with machine() as it:
        await it.chips(x36={**MAX17043, 0x04: 104 << 8})
        await it.probe()
        seen = await it.read(GAUGE)
        assert (seen.percent, seen.doubts) == (100.0, ())
        await it.chips(x36={0x04: 180 << 8})
        seen = await it.read(GAUGE)
        assert (seen.percent, seen.voltage, seen.doubts) == (None, 4.0, ("SOC is 180 %",))


async def test_other_chips_at_the_gauges_address_are_left_alone() -> None:
    async with machine() as it:
        for other in (0x0000, 0xFFFF, 0x1600, 0x4000):
            await it.chips(x36={**MAX17043, 0x08: other})
            assert await it.probe() == []
        assert await it.order(written=True) == []


async def test_faults_of_the_bus_pass() -> None:
    async with machine() as it:
        await it.chips(x36=MAX17043)
        await it.probe()
        for number, kind, said in (
            (errno.EREMOTEIO, "NobodyError", "Nobody answers at 0x36 on /dev/i2c-1."),
            (errno.ENXIO, "NobodyError", "Nobody answers"),
            (errno.EIO, "DeviceError", "0x36 on /dev/i2c-1: Input/output error."),
            (errno.ETIMEDOUT, "DeviceError", "Connection timed out"),
            (errno.EAGAIN, "DeviceError", "temporarily unavailable"),
            (errno.EBUSY, "DeviceError", "A driver of the kernel holds 0x36"),
        ):
            await it.order(fault={0x36: number})
            found, message, step = await it.refused(GAUGE)
            assert (found, said in message, bool(step)) == (kind, True, True), message
            await it.order(fault={})
            assert (await it.read(GAUGE)).percent == 85.5


async def test_a_bus_that_disappears_and_comes_back() -> None:
    async with machine() as it:
        await it.chips(x36=MAX17043)
        await it.probe()
        await it.order(unplug=True)
        kind, message, step = await it.refused(GAUGE)
        assert (kind, message) == ("AbsentError", "There is no /dev/i2c-1.")
        assert "raspi-config" in step
        assert await it.probe() == []
        await it.order(unplug=False)
        assert await it.probe() == [GAUGE]
        assert (await it.read(GAUGE)).voltage == 4.0


async def test_a_bus_that_hangs_holds_nobody_else_and_serves_again() -> None:
    async with machine() as it:
        await it.chips(x36=MAX17043, x43=INA219)
        await it.order(supply=["BAT0", {"type": "Battery", "capacity": "80"}])
        assert await it.probe() == ["sysfs:BAT0", GAUGE, MONITOR]
        await it.order(hang=True)
        assert (await it.refused(GAUGE))[:2] == ("DeviceStalledError", "/dev/i2c-1 does not answer within 1 s.")
        assert (await it.read("sysfs:BAT0")).percent == 80
        for name in (GAUGE, MONITOR):  # at once: no second thread hangs
            kind, message, _ = await it.refused(name)
            assert kind == "DeviceStalledError"
            assert message.startswith("/dev/i2c-1 hangs: an earlier look did not")
        assert [device["health"] for device in await it.order(detect=True)] == ["healthy", "absent", "absent"]
        await it.order(hang=False)

        async def serves() -> bool:
            return "error" not in await it.order(read=MONITOR)

        await wait_for(serves)
        assert (await it.read(MONITOR)).voltage == 3.9
        assert (await it.read(GAUGE)).percent == 85.5


async def test_a_board_that_is_configured_and_does_not_answer_is_there_and_says_so() -> None:
    async with machine(mains=MainsWiring(), monitor=Monitor(address=0x43)) as it:
        assert await it.probe() == [GAUGE, MONITOR]
        for name in (GAUGE, MONITOR):
            assert (await it.refused(name))[0] == "NobodyError"
        await it.order(unplug=True)
        assert await it.probe() == [GAUGE, MONITOR]
        for name in (GAUGE, MONITOR):  # missed, not gone: the operator says that it is there
            assert (await it.refused(name))[:2] == ("DeviceError", "There is no /dev/i2c-1.")


async def test_an_ina219_feeding_and_charging() -> None:
    async with machine(monitor=Monitor(cells=1)) as it:
        await it.chips(x43=WAVESHARE)
        assert await it.probe() == [MONITOR]
        seen = await it.read(MONITOR)
        assert (seen.supply, seen.charging, seen.voltage) == (Supply.battery, False, 3.9)
        assert seen.current == pytest.approx(-0.8)
        assert seen.power == pytest.approx(3.12)
        assert seen.percent == pytest.approx(63.75)  # between 3.87 V, 60 % and 3.95 V, 70 %
        await it.chips(x43={0x01: 1200})
        seen = await it.read(MONITOR)
        assert (seen.supply, seen.charging, seen.current, seen.power) == (Supply.mains, True, pytest.approx(1.2), None)
        assert await it.order(written=True) == []


async def test_within_the_dead_band_only_a_configured_board_means_mains() -> None:
    async with machine() as it:
        await it.chips(x43={**INA219, 0x01: 0xFFFE})  # −2 mA
        await it.probe()
        seen = await it.read(MONITOR)
        assert (seen.supply, seen.charging, seen.percent) == (Supply.unknown, False, None)
    async with machine(monitor=Monitor(cells=1)) as it:
        await it.chips(x43={**INA219, 0x01: 0xFFFE})
        await it.probe()
        assert (await it.read(MONITOR)).supply is Supply.mains


async def test_a_board_that_counts_the_other_way_with_another_shunt() -> None:
    async with machine(monitor=Monitor(address=0x40, cells=2, shunt_ohm=0.1, reversed=True)) as it:
        await it.chips(x40={**INA219, 0x01: 5000, 0x02: (1900 << 3) | 0b10})
        assert await it.probe() == ["ina219@1-40"]
        seen = await it.read("ina219@1-40")
        assert (seen.supply, seen.current, seen.voltage) == (Supply.battery, pytest.approx(-0.5), 7.6)


async def test_a_monitor_that_was_switched_off_measures_again() -> None:
    async with machine() as it:
        await it.chips(x43={**INA219, 0x00: 0x3998})
        assert await it.probe() == [MONITOR]
        assert await it.order(written=True) == []  # looking for it changes nothing
        assert "switched off" in (await it.refused(MONITOR))[1]
        assert await it.order(written=True) == [[0x43, 0x00, 0x399F]]
        assert (await it.read(MONITOR)).voltage == 3.9


async def test_what_no_monitor_means_is_an_error() -> None:
    async with machine() as it:
        await it.chips(x43=INA219)
        await it.probe()
        for registers, said in (
            ({0x02: 0x0002}, "bus 0x0002"),
            ({0x02: 0xFFFF, 0x01: 0xFFFF}, "bus 0xffff"),
            ({0x01: 0x7FFF, 0x00: 0x019F}, "shunt 0x7fff"),
        ):
            await it.chips(x43=registers)
            kind, message, _ = await it.refused(MONITOR)
            assert kind == "DeviceError"
            assert said in message
            await it.chips(x43=INA219)
            assert (await it.read(MONITOR)).voltage == 3.9


OTHERS = {
    "INA226 after power-on": {0x00: 0x4127, 0x01: 0x0000, 0x02: 0x0000},
    "INA3221": {0x00: 0x7127, 0x01: 0x0000, 0x02: 0x0000},
    "PCA9685, from MODE1 on": {0x00: 0x1104, 0x01: 0x04E2, 0x02: 0xE2E4},
    "all ones": {0x00: 0xFFFF, 0x01: 0xFFFF, 0x02: 0xFFFF},
    "all zeros": {0x00: 0x0000, 0x01: 0x0000, 0x02: 0x0000},
    "one that answers everything alike": {0x00: 0x0101, 0x01: 0x0101, 0x02: 0x0101},
}


async def test_other_chips_at_the_monitors_addresses_are_left_alone() -> None:
    async with machine() as it:
        for name, registers in OTHERS.items():
            await it.chips(x40=registers)
            assert await it.probe() == [], name
        assert await it.order(written=True) == []


async def test_several_at_once_are_detected() -> None:
    async with machine(mains=MainsWiring()) as it:
        await it.chips(x36=MAX17048, x43=WAVESHARE)
        found = {device["name"]: device["reason"] for device in await it.order(detect=True)}
        assert found["Fuel gauge"] == "max17048 on /dev/i2c-1; mains: GPIO 6, high on mains"
        assert found["ina219"] == "ina219 at 0x43 on /dev/i2c-1; its cells are not configured: no percent"
        assert await it.order(written=True) == []
