"""Devices as Overview shows them: by the doctor's rules, and nothing is said to be well that nobody uses."""

from __future__ import annotations

import os

import pytest

from appliance.core.doctor.checks import gpio, hailo, i2c, microphone, ups
from appliance.core.doctor.devices import HEALTH, detectors
from appliance.core.model import Device, Health
from appliance.core.soundserver import sound_server
from tests.unit.doctor_support import Machine


def found(machine: Machine) -> dict[str, Device]:
    return {device.kind: device for device in (detector() for detector in detectors(machine.root, machine.upses()))}


def test_a_bare_machine_has_nothing_and_says_what_to_do(machine: Machine) -> None:
    devices = found(machine)
    assert set(devices) == {"accelerator", "microphone", "ups", "i2c", "gpio", "keyboard"}
    for device in devices.values():
        assert device.health is Health.absent, device
        assert device.reason
        assert device.next_step


MACHINES: list[dict[str, str]] = [
    {},
    {"sys/class/power_supply/hid-mouse/type": "Battery\n", "sys/class/power_supply/hid-mouse/scope": "Device\n"},
    {"sys/class/power_supply/BAT0/type": "Battery\n", "sys/class/power_supply/BAT0/capacity": "83\n"},
    {"proc/asound/pcm": "00-01: Webcam : Webcam : capture 1\n", "dev/i2c-1": "", "dev/gpiochip0": ""},
    {"sys/bus/usb/devices/1-1/idVendor": "2886\n", "sys/bus/usb/devices/1-1/idProduct": "0018\n"},
    {"proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0", "dev/i2c-13": ""},
]


@pytest.mark.parametrize("files", MACHINES)
async def test_the_doctor_and_the_device_list_say_the_same(machine: Machine, files: dict[str, str]) -> None:
    for path, text in files.items():
        machine.file(path, text)
    devices = found(machine)
    for kind, check in {"microphone": microphone, "ups": ups, "i2c": i2c, "gpio": gpio, "accelerator": hailo}.items():
        result = await check.CHECK.run(machine.context())
        assert (devices[kind].health, devices[kind].reason) == (HEALTH[result.status], result.reason)


def test_a_microphone_behind_a_sound_server_is_not_said_to_be_missing(machine: Machine) -> None:
    socket = machine.file("run/sound/pulse")
    there, gone, none = (
        next(each for each in (look() for look in detectors(machine.root, environ=environ)) if each.kind == "microphone")
        for environ in ({"PULSE_SERVER": f"unix:{socket}"}, {"PULSE_SERVER": "unix:/nowhere/pulse"}, {})
    )
    assert (there.health, "may offer one" in there.reason) == (Health.healthy, True)
    assert (gone.health, "nothing is there" in gone.reason) == (Health.unhealthy, True)
    assert none.health is Health.absent


def test_a_directory_that_may_not_be_entered_holds_no_sound_server(machine: Machine) -> None:
    sockets = machine.file("run/user/7/pulse/native").parent
    environ = {"XDG_RUNTIME_DIR": "/run/user/7"}
    assert sound_server(environ, machine.root)[0].endswith("pulse/native")
    child = os.fork()
    if child == 0:  # as a user who may not look there
        try:
            sockets.chmod(0)
            if os.geteuid() == 0:
                os.setuid(65534)
            os._exit(0 if sound_server(environ, machine.root) == ("", "") else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    sockets.chmod(0o700)


def test_a_mouses_battery_is_no_ups(machine: Machine) -> None:
    machine.file("sys/class/power_supply/hidpp_battery_0/type", "Battery")
    machine.file("sys/class/power_supply/hidpp_battery_0/scope", "Device")
    assert found(machine)["ups"].health is Health.absent
    machine.file("sys/class/power_supply/BAT0/type", "Battery")
    assert found(machine)["ups"].health is Health.healthy


def test_a_hailo_with_its_device_node_is_there(machine: Machine) -> None:
    machine.file("dev/hailo0")
    device = found(machine)["accelerator"]
    assert (device.name, device.health, device.reason) == ("hailo0", Health.healthy, "/dev/hailo0 is there")


KEYS = "KEY=1000000000007 ff9f207ac14057ff febeffdfffefffff fffffffffffffffe"


@pytest.mark.parametrize(
    ("bits", "health"),
    [
        (f"B: EV=120013\nB: {KEYS}", Health.healthy),
        (f"B: EV=100013\nB: {KEYS}", Health.healthy),  # no lights of its own
        ("B: EV=120013\nB: KEY=10000 7 ff9f207a c14057ff febeffdf ffefffff ffffffff fffffffe", Health.healthy),  # 32 bits
        ("B: EV=3\nB: KEY=10000000000000 0", Health.absent),  # a power button
        ("B: EV=17\nB: KEY=70000 0 0 0 0", Health.absent),  # a mouse
        ("B: EV=21\nB: SW=1", Health.absent),  # a lid
    ],
)
def test_what_has_letters_is_a_keyboard(machine: Machine, bits: str, health: Health) -> None:
    machine.file("proc/bus/input/devices", f'I: Bus=0003\nN: Name="Keychron"\nH: Handlers=sysrq kbd event3\n{bits}\n\n')
    device = found(machine)["keyboard"]
    assert device.health is health
    assert (device.name == "Keychron") == (health is Health.healthy)
