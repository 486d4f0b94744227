"""The checks on hardware, on machines made of files."""

from __future__ import annotations

import os

import pytest

from appliance.core.doctor.checks import gpio, hailo, i2c, microphone, ups
from appliance.core.model import CheckResult, Device
from appliance.hw.ups.nut import NutServer
from tests.support import free_port
from tests.unit.doctor_support import Machine

PI = "proc/device-tree/model"
PI_NAME = "Raspberry Pi 5 Model B Rev 1.0\0"


def forbid(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Make os.access say no for these files, as it would for a user outside of the group (root may open all)."""
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: os.path.basename(path) not in names and allowed(path, mode))


async def test_i2c_that_can_be_opened(machine: Machine) -> None:
    machine.file("dev/i2c-1")
    result = await i2c.CHECK.run(machine.context())
    assert (result.status, result.reason) == ("ok", "/dev/i2c-1 can be opened; buses: i2c-1")


async def test_the_displays_buses_are_not_the_header(machine: Machine) -> None:
    machine.file(PI, PI_NAME)
    machine.file("dev/i2c-13")
    result = await i2c.CHECK.run(machine.context())
    assert result.status == "absent"
    assert "only i2c-13 of the displays" in result.reason
    assert result.fix.startswith("sudo raspi-config nonint do_i2c 0")


async def test_i2c_closed_to_this_user(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.file("dev/i2c-1")
    forbid(monkeypatch, "i2c-1")
    result = await i2c.CHECK.run(machine.context())
    assert (result.status, result.fix) == ("failed", "sudo usermod -aG i2c $USER, then log in again")


async def test_gpio_that_can_be_opened(machine: Machine) -> None:
    machine.file("dev/gpiochip0")
    result = await gpio.CHECK.run(machine.context())
    assert (result.status, result.reason) == ("ok", "/dev/gpiochip0")


async def test_gpio_closed_to_this_user(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.file("dev/gpiochip0")
    forbid(monkeypatch, "gpiochip0")
    result = await gpio.CHECK.run(machine.context())
    assert result.status == "failed"
    assert "usermod -aG gpio" in result.fix


def plug_respeaker(machine: Machine) -> None:
    for name, text in {"idVendor": "2886\n", "idProduct": "0018\n", "busnum": "1\n", "devnum": "4\n"}.items():
        machine.file(f"sys/bus/usb/devices/1-1.2/{name}", text)


CAPTURE = "01-00: USB Audio : USB Audio : playback 1 : capture 1\n"


async def test_a_respeaker_that_records_and_tells_directions(machine: Machine) -> None:
    plug_respeaker(machine)
    machine.file("proc/asound/pcm", CAPTURE)
    machine.file("dev/bus/usb/001/004")
    result = await microphone.CHECK.run(machine.context())
    assert (result.status, result.reason) == ("ok", "ReSpeaker 4-Mic Array on USB 1-1.2; 1 capture devices")


async def test_a_respeaker_whose_registers_are_closed(machine: Machine) -> None:
    plug_respeaker(machine)
    machine.file("proc/asound/pcm", CAPTURE)
    result = await microphone.CHECK.run(machine.context())
    assert result.status == "warning"
    assert "/etc/udev/rules.d/60-respeaker.rules" in result.fix


async def test_a_respeaker_without_alsa(machine: Machine) -> None:
    plug_respeaker(machine)
    result = await microphone.CHECK.run(machine.context())
    assert result.status == "failed"
    assert "snd-usb-audio" in result.fix


async def test_another_microphone(machine: Machine) -> None:
    machine.file("proc/asound/pcm", "00-00: ALC256 Analog : ALC256 Analog : playback 1\n00-01: Webcam : Webcam : capture 1\n")
    result = await microphone.CHECK.run(machine.context())
    assert result.status == "warning"
    assert result.reason.startswith("Webcam, not a ReSpeaker")


async def test_only_a_loudspeaker_is_no_microphone(machine: Machine) -> None:
    machine.file("proc/asound/pcm", "00-00: HDMI : HDMI 0 : playback 1\n")
    assert (await microphone.CHECK.run(machine.context())).status == "absent"


async def test_a_battery_of_the_kernel(machine: Machine) -> None:
    machine.file("sys/class/power_supply/AC/type", "Mains\n")
    machine.file("sys/class/power_supply/BAT0/type", "Battery\n")
    machine.file("sys/class/power_supply/BAT0/capacity", "83\n")
    result = await ups.CHECK.run(machine.context())
    assert (result.status, result.reason) == ("ok", "BAT0: 83 % charged")


async def test_a_mouses_battery_is_no_ups(machine: Machine) -> None:
    machine.file("sys/class/power_supply/hid-mouse/type", "Battery\n")
    machine.file("sys/class/power_supply/hid-mouse/scope", "Device\n")
    assert (await ups.CHECK.run(machine.context())).status == "absent"


async def test_a_bus_that_answers_nothing_is_no_ups(machine: Machine) -> None:
    machine.file("dev/i2c-1")  # not a bus: every ioctl on it fails, as on an address where nobody is
    result = await ups.CHECK.run(machine.context())
    assert result.status == "absent"
    assert "unknown" in result.reason


NUT = {"etc/nut/nut.conf": "MODE=standalone\n", "etc/nut/ups.conf": "maxretry = 3\n[eaton]\n  driver = usbhid-ups\n"}


async def nut_on(machine: Machine, port: int) -> CheckResult:
    """What the check says where nobody named a server, and the one on this machine is at a port."""
    return await ups.CHECK.run(machine.context(upses=machine.upses(nut=(NutServer(port=port, configured=False),))))


async def test_nut_that_serves_nothing_here_is_not_missed(machine: Machine) -> None:
    machine.file("etc/nut/nut.conf", "# comment\nMODE=none\n")
    machine.file("etc/nut/ups.conf", "[eaton]\n")
    assert (await nut_on(machine, free_port())).status == "absent"


async def test_nut_that_is_configured_and_does_not_run(machine: Machine) -> None:
    for path, text in NUT.items():
        machine.file(path, text)
    result = await nut_on(machine, free_port())
    assert result.status == "failed"
    assert "Connection refused" in result.reason
    assert "systemctl restart" in result.fix


async def test_the_ups_that_answers_is_told_beside_one_that_does_not(machine: Machine) -> None:
    for path, text in NUT.items():
        machine.file(path, text)
    machine.file("sys/class/power_supply/BAT0/type", "Battery\n")
    result = await nut_on(machine, free_port())
    assert result.status == "warning"
    assert result.reason.startswith("upsd on 127.0.0.1:")
    assert result.reason.endswith("; BAT0 tells no charge")


async def test_a_driver_that_fails_hides_no_other(machine: Machine) -> None:
    def fails() -> Device:
        raise RuntimeError("no such thing")

    machine.file("sys/class/power_supply/BAT0/type", "Battery\n")
    result = await ups.CHECK.run(machine.context(upses=(fails, *machine.upses())))
    assert (result.status, result.reason) == ("warning", "a driver failed: RuntimeError: no such thing; BAT0 tells no charge")


def fit_hailo(machine: Machine, *, driver: str = "4.23.0", node: bool = True) -> None:
    machine.file("sys/bus/pci/devices/0001:01:00.0/vendor", "0x1e60\n")
    machine.file("sys/bus/pci/devices/0001:01:00.0/device", "0x2864\n")
    if driver:
        machine.file("sys/module/hailo_pci/version", f"{driver}\n")
    if node:
        machine.file("dev/hailo0")


async def check_hailo(machine: Machine, library: str = "4.23.0", firmware: str = "4.23.0", tool: str = "4.23.0") -> CheckResult:
    """Run the check against programs that print what the vendor's print."""
    python = machine.program("vendors-python", f"echo {library}" if library[0].isdigit() else f"echo '{library}' >&2; exit 1")
    identify = f"echo 'Identifying board'; echo 'Firmware Version: {firmware} (release,app,extended context switch buffer)'"
    machine.program(
        "hailortcli",
        f'if [ "$1" = --version ]; then echo "HailoRT-CLI version {tool}"; else {identify if firmware else "exit 1"}; fi',
    )
    return await hailo.CHECK.run(machine.context(system_python=str(python)))


async def test_a_hailo_whose_parts_agree(machine: Machine) -> None:
    fit_hailo(machine)
    result = await check_hailo(machine)
    assert (result.status, result.reason) == ("ok", "driver 4.23.0, firmware 4.23.0, tool 4.23.0, library 4.23.0")


async def test_a_hailo_whose_parts_differ(machine: Machine) -> None:
    fit_hailo(machine, driver="4.20.0")
    result = await check_hailo(machine)
    assert result.status == "failed"
    assert "driver 4.20.0, firmware 4.23.0" in result.reason
    assert result.fix == hailo.UPGRADE


async def test_a_library_that_cannot_be_loaded(machine: Machine) -> None:
    fit_hailo(machine)
    result = await check_hailo(machine, library="ModuleNotFoundError: No module named hailo_platform")
    assert result.status == "failed"
    assert "No module named hailo_platform" in result.reason


async def test_a_hailo_8_with_the_line_for_newer_cards(machine: Machine) -> None:
    fit_hailo(machine, driver="5.2.0")
    result = await check_hailo(machine, library="5.2.0", firmware="5.2.0", tool="5.2.0")
    assert result.status == "failed"
    assert "needs HailoRT 4.x" in result.reason


async def test_a_firmware_that_does_not_answer(machine: Machine) -> None:
    fit_hailo(machine)
    result = await check_hailo(machine, firmware="")
    assert result.status == "warning"
    assert "fuser" in result.fix


@pytest.mark.parametrize(("driver", "reason"), [("", "its driver is not loaded"), ("4.23.0", "made no /dev/hailo*")])
async def test_a_card_without_a_device_node(machine: Machine, driver: str, reason: str) -> None:
    fit_hailo(machine, driver=driver, node=False)
    result = await hailo.CHECK.run(machine.context())
    assert result.status == "failed"
    assert reason in result.reason
    assert "hailo-all" in result.fix
