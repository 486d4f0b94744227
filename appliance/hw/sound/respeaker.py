"""What a ReSpeaker USB 4-Mic Array offers beside its sound, by vendor requests over USB (implements ports.MicrophoneArray)."""

from __future__ import annotations

import errno
import os
import struct
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from appliance.core.model import Device, Health
from appliance.core.voice.model import ArrayStatus
from appliance.errors import AbsentError, DeviceError, DeviceStalledError, InvalidArgumentsError
from appliance.hw.sound.respeaker_parameters import PARAMETERS, Parameter

VENDOR, PRODUCT = 0x2886, 0x0018
MODEL = "ReSpeaker USB 4-Mic Array"
OUT, IN = 0x40, 0xC0
"""bmRequestType: vendor, to the device and from it."""
READ, WHOLE = 0x80, 0x40
"""Bits of wValue: read; of an integer."""
RING = 0x1C
"""wIndex of the ring of lights."""
TIMEOUT = 500
"""Milliseconds of one transfer."""
RULE = 'SUBSYSTEM=="usb", ATTR{idVendor}=="2886", ATTR{idProduct}=="0018", MODE="0660", GROUP="audio"'
RULE_FIX = (
    f"echo '{RULE}' | sudo tee /etc/udev/rules.d/60-respeaker.rules && sudo udevadm control --reload && sudo udevadm trigger"
)
"""As the doctor has it."""
PLUG = "plug the ReSpeaker array into a USB port of the board itself."
LIGHTS: dict[str, tuple[int, bytes]] = {
    "off": (1, bytes(4)),
    "listening": (2, bytes(1)),
    "speaking": (3, bytes(1)),
    "thinking": (4, bytes(1)),
    "muted": (1, bytes([0x30, 0, 0, 0])),
    "trouble": (1, bytes([0x30, 0x10, 0, 0])),
}
"""Command (wValue) and data by pattern: 1 is one colour (red, green, blue), 2 to 4 are patterns of the firmware's own."""


class ReSpeaker:
    """The first array on the bus; found anew after it was unplugged. May be used from several threads.

    Args:
        root: Where /dev and /sys are looked for by `detect`.
        backend: Of pyusb; None for libusb.
    """

    def __init__(self, root: Path = Path("/"), backend: Any = None) -> None:
        self._root, self._backend = root, backend
        self._device: Any = None
        self._lock = threading.Lock()

    def detect(self) -> Device:
        """Say whether it is there, and why not, from /sys alone."""
        place = next(
            (path.parent for path in self._root.glob("sys/bus/usb/devices/*/idProduct") if _is_array(path.parent)), None
        )
        if place is None:
            return Device("microphone-array", MODEL, Health.absent, "no ReSpeaker array on USB", PLUG)
        numbers = [_text(place / name) for name in ("busnum", "devnum")]
        node = self._root / "dev/bus/usb" / "/".join(f"{int(number or 0):03d}" for number in numbers)
        if not os.access(node, os.R_OK | os.W_OK):
            reason = "its direction and its lights may not be used by this user"
            return Device("microphone-array", MODEL, Health.degraded, reason, RULE_FIX)
        return Device("microphone-array", MODEL, Health.healthy, f"on USB {place.name}")

    def status(self) -> ArrayStatus:
        """Direction, voice activity, all parameters. Raises DeviceError, AbsentError."""
        with self._lock:
            values = {name: self._read(name, parameter) for name, parameter in PARAMETERS.items()}
            firmware = self._firmware()
        return ArrayStatus(MODEL, firmware, int(values["DOAANGLE"]), bool(values["VOICEACTIVITY"]), values)

    def direction(self) -> int:
        """Degrees, 0 to 359. Raises DeviceError, AbsentError."""
        return int(self.get("DOAANGLE"))

    def voice(self) -> bool:
        """Its own voice activity. Raises DeviceError, AbsentError."""
        return bool(self.get("VOICEACTIVITY"))

    def get(self, name: str) -> float:
        """A parameter. Raises InvalidArgumentsError, DeviceError, AbsentError."""
        parameter = _known(name)
        with self._lock:
            return self._read(name, parameter)

    def set(self, name: str, value: float) -> float:
        """Set a parameter; returns it as it was read back. Raises InvalidArgumentsError, DeviceError, AbsentError."""
        parameter = _known(name)
        _check(name, parameter, value)
        kind, number = ("<iii", int(value)) if parameter.whole else ("<ifi", float(value))
        with self._lock:
            self._transfer(name, OUT, 0, parameter.ident, struct.pack(kind, parameter.offset, number, int(parameter.whole)))
            return self._read(name, parameter)

    def lights(self, pattern: str) -> None:
        """Show a pattern. Raises InvalidArgumentsError, DeviceError, AbsentError."""
        if pattern not in LIGHTS:
            raise InvalidArgumentsError(f'There is no pattern "{pattern}".', f"choose one of: {', '.join(LIGHTS)}.")
        command, data = LIGHTS[pattern]
        with self._lock:
            self._transfer("the lights", OUT, command, RING, data)

    def close(self) -> None:
        """Let go of it."""
        with self._lock:
            self._forget()

    # --- transfers, under the lock

    def _read(self, name: str, parameter: Parameter) -> float:
        value = READ | parameter.offset | (WHOLE if parameter.whole else 0)
        data = bytes(self._transfer(name, IN, value, parameter.ident, 8))
        if len(data) != 8:
            raise DeviceError(f"The ReSpeaker answered {len(data)} of 8 bytes for {name}.", "plug it in again.")
        mantissa, exponent = struct.unpack("<ii", data)
        if parameter.whole:
            return int(mantissa)
        try:
            return float(mantissa * 2.0**exponent)
        except OverflowError as error:
            raise DeviceError(f"The ReSpeaker answered no number for {name}.", "plug it in again.") from error

    def _firmware(self) -> str:
        """Its version; the number of channels that it records."""
        import usb.core

        version = bytes(self._transfer("the version", IN, READ, 0, 1))
        try:
            channels = _channels(self._found())
        except usb.core.USBError as error:
            raise self._failed("its descriptors", error) from error
        return (str(version[0]) if version else "") + (f", {channels} channels" if channels else "")

    def _transfer(self, what: str, kind: int, value: int, index: int, data: bytes | int) -> Sequence[int]:
        import usb.core

        device = self._found()
        try:
            answer = device.ctrl_transfer(kind, 0, value, index, data, TIMEOUT)
        except usb.core.USBError as error:
            raise self._failed(what, error) from error
        if isinstance(data, bytes) and answer != len(data):
            raise DeviceError(f"The ReSpeaker took {answer} of the bytes for {what}.", "plug it in again.")
        return answer if kind == IN else ()

    def _found(self) -> Any:
        if self._device is None:
            import usb.core

            try:
                self._device = usb.core.find(idVendor=VENDOR, idProduct=PRODUCT, backend=self._backend)
            except usb.core.NoBackendError as error:
                raise AbsentError("The USB library is not installed.", "sudo apt-get install libusb-1.0-0") from error
            except usb.core.USBError as error:
                raise self._failed("looking for it", error) from error
            if self._device is None:
                raise AbsentError("There is no ReSpeaker array on USB.", PLUG)
        return self._device

    def _failed(self, what: str, error: Any) -> DeviceError:
        """An error of libusb as one of ours; whatever it was, the device is looked for anew next time."""
        self._forget()
        code = error.errno
        if code in (errno.EACCES, errno.EPERM):
            return DeviceError("This user may not use the ReSpeaker over USB.", RULE_FIX)
        if code in (errno.ENODEV, errno.ENOENT, errno.ESHUTDOWN):
            return DeviceError("The ReSpeaker was unplugged.", "plug it in again; it is found by itself.")
        if code == errno.ETIMEDOUT:
            return DeviceStalledError(f"The ReSpeaker did not answer ({what}).", "plug it in again; it is found by itself.")
        if code == errno.EPIPE:
            return DeviceError(f"The ReSpeaker does not know the request for {what}.", "update its firmware to 3.0.0 or newer.")
        return DeviceError(f"The ReSpeaker failed ({what}): {error.strerror or error}.", "plug it in again.")

    def _forget(self) -> None:
        device, self._device = self._device, None
        if device is not None:
            import usb.util

            usb.util.dispose_resources(device)


def _known(name: str) -> Parameter:
    if name not in PARAMETERS:
        raise InvalidArgumentsError(f'The ReSpeaker has no parameter "{name}".', f"choose one of: {', '.join(PARAMETERS)}.")
    return PARAMETERS[name]


def _check(name: str, parameter: Parameter, value: float) -> None:
    if not parameter.writable:
        raise InvalidArgumentsError(f"{name} can only be read.", "set another one.")
    if not parameter.least <= value <= parameter.most:  # nor is "not a number" in any range
        raise InvalidArgumentsError(f"{name} is {value:g}.", f"give {parameter.least:g} to {parameter.most:g}.")
    if parameter.whole and value != int(value):
        raise InvalidArgumentsError(f"{name} is {value:g}.", "give a whole number.")


def _channels(device: Any) -> int:
    """That it records: of the format (USB audio class 1.0) of an interface with an endpoint towards us; 0 if unknown."""
    most = 0
    for interface in (each for configuration in device for each in configuration):
        if (interface.bInterfaceClass, interface.bInterfaceSubClass) != (1, 2):
            continue
        if any(endpoint.bEndpointAddress & 0x80 for endpoint in interface):
            most = max(most, _format_channels(bytes(interface.extra_descriptors)))
    return most


def _format_channels(data: bytes) -> int:
    while len(data) >= 5 and data[0] >= 2:
        if data[1:4] == b"\x24\x02\x01":
            return data[4]
        data = data[data[0] :]
    return 0


def _is_array(place: Path) -> bool:
    return (_text(place / "idVendor"), _text(place / "idProduct")) == (f"{VENDOR:04x}", f"{PRODUCT:04x}")


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
