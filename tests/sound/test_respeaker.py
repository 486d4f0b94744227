"""The driver of the ReSpeaker's own functions, over pyusb with a bus of the test's."""

from __future__ import annotations

import errno
import math
from pathlib import Path

import pytest
import usb.core

from appliance.core.doctor.checks import microphone as check
from appliance.core.model import Health
from appliance.errors import AbsentError, DeviceError, DeviceStalledError, InvalidArgumentsError
from appliance.hw.sound import respeaker
from appliance.hw.sound.respeaker import ReSpeaker
from appliance.hw.sound.respeaker_parameters import PARAMETERS
from tests.sound.array import FLOATS, ArrayBackend


@pytest.fixture
def bus() -> ArrayBackend:
    """A bus with an array of 6 channels."""
    return ArrayBackend()


@pytest.fixture
def array(bus: ArrayBackend) -> ReSpeaker:
    """The driver on it."""
    return ReSpeaker(backend=bus)


def test_the_status_has_everything(array: ReSpeaker) -> None:
    status = array.status()
    assert (status.direction, status.voice, status.firmware) == (271, True, "3, 6 channels")
    assert status.parameters["AGCGAIN"] == pytest.approx(31.5)
    assert set(status.parameters) == set(PARAMETERS)


def test_the_firmware_of_one_channel_is_told(bus: ArrayBackend, array: ReSpeaker) -> None:
    bus.channels = 1
    assert array.status().firmware == "3, 1 channels"


def test_which_parameters_are_floats_is_as_documented() -> None:
    assert {(each.ident, each.offset) for each in PARAMETERS.values() if not each.whole} == FLOATS


@pytest.mark.parametrize(("name", "value"), [("AGCONOFF", 1), ("HPFONOFF", 3), ("AGCMAXGAIN", 31.6), ("AECSILENCELEVEL", 1e-8)])
def test_a_parameter_is_set_and_read_back(bus: ArrayBackend, array: ReSpeaker, name: str, value: float) -> None:
    assert array.set(name, value) == pytest.approx(value, rel=1e-6)
    assert bus.registers[PARAMETERS[name].ident, PARAMETERS[name].offset] == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("DOAANGLE", 3, "can only be read"),
        ("AGCMAXGAIN", 1001, "give 1 to 1000"),
        ("AGCMAXGAIN", math.nan, "give 1 to 1000"),
        ("HPFONOFF", 1.5, "whole number"),
        ("AGCON", 1, "choose one of"),
    ],
    ids=["read-only", "too much", "no number", "a fraction", "unknown"],
)
def test_what_may_not_be_set_is_refused_and_not_sent(
    bus: ArrayBackend, array: ReSpeaker, name: str, value: float, told: str
) -> None:
    before = dict(bus.registers)
    with pytest.raises(InvalidArgumentsError) as error:
        array.set(name, value)
    assert told in str(error.value)
    assert bus.registers == before


@pytest.mark.parametrize("pattern", sorted(respeaker.LIGHTS))
def test_a_pattern_of_the_lights_is_sent(bus: ArrayBackend, array: ReSpeaker, pattern: str) -> None:
    array.lights(pattern)
    assert bus.lights == [respeaker.LIGHTS[pattern]]


def test_an_unknown_pattern_is_refused(array: ReSpeaker) -> None:
    with pytest.raises(InvalidArgumentsError, match="rainbow"):
        array.lights("rainbow")


@pytest.mark.parametrize(
    ("fault", "kind", "told"),
    [
        (errno.EACCES, DeviceError, "60-respeaker.rules"),
        (errno.ETIMEDOUT, DeviceStalledError, "did not answer"),
        (errno.EPIPE, DeviceError, "does not know the request"),
        (errno.EIO, DeviceError, "failed"),
    ],
    ids=["permission", "timeout", "stall", "other"],
)
def test_a_fault_is_told_and_over_when_it_is_over(
    bus: ArrayBackend, array: ReSpeaker, fault: int, kind: type[Exception], told: str
) -> None:
    bus.fault = fault
    with pytest.raises(kind) as error:
        array.direction()
    assert told in str(error.value)
    bus.fault = 0
    assert array.direction() == 271


def test_an_array_that_is_unplugged_is_told_and_found_again(bus: ArrayBackend, array: ReSpeaker) -> None:
    assert array.voice()
    bus.plugged = False
    with pytest.raises(DeviceError, match="was unplugged"):
        array.status()
    with pytest.raises(AbsentError, match="no ReSpeaker"):
        array.direction()
    bus.plugged = True
    assert array.direction() == 271
    array.close()
    assert bus.opened == 0


def test_an_array_that_is_unplugged_while_its_descriptors_are_read_is_told(
    bus: ArrayBackend, array: ReSpeaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*given: object) -> None:
        raise usb.core.USBError("No such device", -4, errno.ENODEV)

    monkeypatch.setattr(bus, "get_configuration_descriptor", gone)
    with pytest.raises(DeviceError, match="was unplugged"):
        array.status()


def test_without_the_usb_library_it_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("libusb1", "libusb0", "openusb"):
        monkeypatch.setattr(f"usb.backend.{name}.get_backend", lambda *args, **kwargs: None)
    with pytest.raises(AbsentError, match="libusb"):
        ReSpeaker().direction()


def test_it_is_detected_with_or_without_the_right_to_use_it(tmp_path: Path) -> None:
    array = ReSpeaker(tmp_path)
    assert array.detect().health is Health.absent
    place = tmp_path / "sys/bus/usb/devices/1-1"
    place.mkdir(parents=True)
    for name, text in {"idVendor": "2886", "idProduct": "0018", "busnum": "1", "devnum": "4"}.items():
        (place / name).write_text(text + "\n")
    assert (array.detect().health, array.detect().next_step) == (Health.degraded, check.RULE_FIX)
    node = tmp_path / "dev/bus/usb/001/004"
    node.parent.mkdir(parents=True)
    node.touch()
    assert array.detect().health is Health.healthy
