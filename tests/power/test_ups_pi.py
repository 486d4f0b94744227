"""What a Raspberry Pi tells of its supply: parsers against what its commands print, and the commands as a machine has them."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from appliance.hw import pipower, thermal
from appliance.hw.pipower import PiProbe, bootloader_of, rails_of, throttled_of, wakes

PMIC = """   3V7_WL_SW_A current(0)=0.09466522A
   3V3_SYS_A current(1)=0.08197812A
   1V8_SYS_A current(2)=0.15029320A
  DDR_VDD2_A current(3)=0.00390372A
  DDR_VDDQ_A current(4)=0.00000000A
   1V1_SYS_A current(5)=0.20299340A
    0V8_SW_A current(6)=0.30546610A
  VDD_CORE_A current(7)=1.11625000A
   3V3_DAC_A current(17)=0.00000000A
   3V3_ADC_A current(18)=0.00018315A
   0V8_AON_A current(16)=0.00274725A
      HDMI_A current(22)=0.01660560A
 3V7_WL_SW_V volt(8)=3.62925200V
   3V3_SYS_V volt(9)=3.31652900V
   1V8_SYS_V volt(10)=1.79877700V
  DDR_VDD2_V volt(11)=1.10146400V
  DDR_VDDQ_V volt(12)=0.60622650V
   1V1_SYS_V volt(13)=1.10402800V
    0V8_SW_V volt(14)=0.79853400V
  VDD_CORE_V volt(15)=0.74944980V
   3V3_DAC_V volt(20)=3.31043600V
   3V3_ADC_V volt(21)=3.31684600V
   0V8_AON_V volt(19)=0.79794790V
      HDMI_V volt(23)=5.10138000V
     EXT5V_V volt(24)=5.08530000V
      BATT_V volt(25)=0.00000000V
"""
"""vcgencmd pmic_read_adc on a Raspberry Pi 5."""
NO_PMIC = 'error=1 error_msg="Command not registered"\n'
EEPROM = "[all]\nBOOT_UART=0\nWAKE_ON_GPIO=1\nPOWER_OFF_ON_HALT=0\nBOOT_ORDER=0xf41\n"


@pytest.mark.parametrize(
    ("text", "bits"),
    [
        ("throttled=0x0\n", 0),
        ("throttled=0x50005\n", 0x50005),
        ("throttled=0xE0008\n", 0xE0008),
        ("", None),
        (NO_PMIC, None),
        ("throttled=0x\n", None),
        ("throttled=0x123456789\n", None),
        ("VCHI initialization failed\n", None),
    ],
)
def test_throttled(text: str, bits: int | None) -> None:
    assert throttled_of(text) == bits


def test_flags_of_now_and_of_before() -> None:
    assert thermal.flags(0x50005) == ("under-voltage", "throttled")
    assert thermal.flags(0x50005, 16) == ("under-voltage", "throttled")
    assert thermal.flags(0xA0000) == ()
    assert thermal.flags(0xA0000, 16) == ("frequency capped", "soft temperature limit")
    assert thermal.flags(0xF) == tuple(thermal.FLAGS.values())


def test_rails() -> None:
    watts, volts = rails_of(PMIC)
    assert volts == 5.0853
    assert len(watts) == 12
    assert watts["VDD_CORE"] == pytest.approx(1.11625 * 0.7494498)
    assert watts["DDR_VDDQ"] == 0.0
    assert sum(watts.values()) == pytest.approx(2.2822, abs=0.0001)
    assert "EXT5V" not in watts


@pytest.mark.parametrize("text", ["", NO_PMIC, "EXT5V_V volt(24)=V\n", "EXT5V_V volt(24)=0.00000000V\n", PMIC[:30]])
def test_rails_of_a_pi_that_tells_none(text: str) -> None:
    assert rails_of(text) == ({}, None)


@pytest.mark.parametrize(
    ("text", "settings", "starts"),
    [
        (EEPROM, ("0", "1"), True),
        ("[all]\nPOWER_OFF_ON_HALT=1\nWAKE_ON_GPIO=0\n", ("1", "0"), False),
        ("[all]\nPOWER_OFF_ON_HALT=1\n", ("1", "1"), False),
        ("BOOT_ORDER=0xf461\n", ("0", "1"), True),  # what the boot loader does by default
        ("[all]\nPOWER_OFF_ON_HALT=0\n[gpio8=1]\nPOWER_OFF_ON_HALT=1\n", ("0", "1"), True),
        ("[pi4]\nWAKE_ON_GPIO=0\n[all]\nBOOT_UART=1\n", ("0", "1"), True),
        ("[all]\nPOWER_OFF_ON_HALT=0\nPOWER_OFF_ON_HALT = 1 \n", ("1", "1"), False),
    ],
)
def test_the_boot_loaders_settings(text: str, settings: tuple[str, str], starts: bool) -> None:
    found = bootloader_of(text)
    assert found is not None
    assert (found["POWER_OFF_ON_HALT"], found["WAKE_ON_GPIO"]) == settings
    assert wakes(found) is starts


@pytest.mark.parametrize("text", ["", "vcgencmd: command not found\n", NO_PMIC])
def test_what_is_no_configuration(text: str) -> None:
    assert bootloader_of(text) is None


def pi(directory: Path, **answers: str) -> PiProbe:
    """A machine with these commands, and a sysfs below the directory."""
    folder = directory / "bin"
    folder.mkdir()
    for name, script in answers.items():
        program = folder / name.replace("_", "-")
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    return PiProbe(directory / "sys", str(folder))


VCGENCMD = f"""case "$1" in
get_throttled) echo throttled=0x50001 ;;
pmic_read_adc) cat <<'END'
{PMIC}END
;;
bootloader_config) cat <<'END'
{EEPROM}END
;;
esac"""


async def test_a_raspberry_pi_5(tmp_path: Path) -> None:
    probe = pi(tmp_path, vcgencmd=VCGENCMD)
    for _ in range(2):
        told = await probe.read()
        assert (told.flags, told.flags_since_boot) == (("under-voltage",), ("under-voltage", "throttled"))
        assert (told.input_volts, told.halt_wakes, len(told.rails), told.reason) == (5.0853, True, 12, "")


async def test_a_raspberry_pi_4(tmp_path: Path) -> None:
    script = f"[ $1 = get_throttled ] && echo throttled=0x0 || echo '{NO_PMIC.strip()}'"
    told = await pi(tmp_path, vcgencmd=script, rpi_eeprom_config="echo '[all]'; echo POWER_OFF_ON_HALT=1").read()
    assert (told.flags, told.flags_since_boot, told.halt_wakes) == ((), (), False)
    assert (told.rails, told.input_volts) == ({}, None)
    assert told.reason.startswith("no readings of the power controller")


async def test_the_kernel_alone(tmp_path: Path) -> None:
    probe = pi(tmp_path)
    firmware = tmp_path / "sys/devices/platform/soc/soc:firmware/get_throttled"
    firmware.parent.mkdir(parents=True)
    firmware.write_text("50005\n")
    told = await probe.read()
    assert (told.flags, told.flags_since_boot) == (("under-voltage", "throttled"), ("under-voltage", "throttled"))
    firmware.write_text("0\n")
    told = await probe.read()
    assert (told.flags, told.flags_since_boot, told.halt_wakes) == ((), None, None)
    assert "what was since the start is not known" in told.reason


async def test_a_pi_without_a_boot_loader_is_not_asked_for_ever(tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    probe = pi(tmp_path, vcgencmd="echo throttled=0x0", rpi_eeprom_config=f"echo once >>{asked}; exit 1")
    for _ in range(6):
        assert (await probe.read()).halt_wakes is None
    assert asked.read_text().split() == ["once"] * pipower.TRIES


@pytest.mark.parametrize(("alarm", "flags"), [("1", ("under-voltage",)), ("0", ())])
async def test_a_kernel_without_that_file(tmp_path: Path, alarm: str, flags: tuple[str, ...]) -> None:
    probe = pi(tmp_path)
    for number, name in enumerate(("cpu_thermal", "rpi_volt")):
        sensor = tmp_path / f"sys/class/hwmon/hwmon{number}"
        sensor.mkdir(parents=True)
        (sensor / "name").write_text(f"{name}\n")
    (sensor / "in0_lcrit_alarm").write_text(f"{alarm}\n")
    told = await probe.read()
    assert (told.flags, told.flags_since_boot) == (flags, None)
    assert "only under-voltage is known" in told.reason


async def test_another_machine_tells_nothing_and_says_why(tmp_path: Path) -> None:
    told = await pi(tmp_path).read()
    assert (told.flags, told.flags_since_boot, told.rails, told.input_volts, told.halt_wakes) == (None, None, {}, None, None)
    assert told.reason == (
        "no firmware of a Raspberry Pi answers (vcgencmd, sysfs); no readings of the power controller (only a Raspberry Pi 5 "
        "has them); no boot loader configuration"
    )


async def test_a_command_that_fails_or_hangs_is_killed_and_tells_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipower, "LIMIT", 0.3)
    pids = tmp_path / "pids"
    probe = pi(tmp_path, vcgencmd=f"echo $$ >>{pids}; echo throttled=0x1; exec /bin/sleep 60", rpi_eeprom_config="exit 3")
    told = await asyncio.wait_for(probe.read(), 30)
    assert (told.flags, told.halt_wakes) == (None, None)
    for pid in pids.read_text().split():
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)
