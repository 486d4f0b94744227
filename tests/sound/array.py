"""A ReSpeaker array behind pyusb: descriptors and control transfers as the device's documents have them, and its faults."""

from __future__ import annotations

import errno
import math
import struct
from array import array
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import usb.backend
import usb.core

FLOATS = {(18, 19), (18, 26), (18, 30), (19, 1), (19, 2), (19, 3), (19, 4), (19, 9), (19, 10), (19, 12), (19, 13), (19, 15),
          (19, 16), (19, 17), (19, 35), (19, 36), (19, 37), (19, 38), (19, 39)}  # fmt: skip
"""Of the maker's table: which (id, offset) hold floats."""


class ArrayBackend(usb.backend.IBackend):  # type: ignore[misc]
    """One array on a bus of its own.

    Args:
        channels: Of its firmware.
    """

    def __init__(self, channels: int = 6) -> None:
        self.channels = channels
        self.plugged = True
        self.fault = 0
        """errno of every transfer; 0 for none."""
        self.registers: dict[tuple[int, int], float] = {(21, 0): 271, (19, 32): 1, (19, 3): 31.5}
        self.lights: list[tuple[int, bytes]] = []
        self.opened = 0

    def enumerate_devices(self) -> Iterator[object]:
        yield from ([self] if self.plugged else [])

    def get_device_descriptor(self, dev: object) -> Any:
        return SimpleNamespace(
            bLength=18, bDescriptorType=1, bcdUSB=0x200, bDeviceClass=0xEF, bDeviceSubClass=2, bDeviceProtocol=1,
            bMaxPacketSize0=64, idVendor=0x2886, idProduct=0x0018, bcdDevice=0x200, iManufacturer=1, iProduct=2,
            iSerialNumber=3, bNumConfigurations=1, address=4, bus=1, port_number=1, port_numbers=(1,), speed=3,
        )  # fmt: skip

    def get_configuration_descriptor(self, dev: object, config: int) -> Any:
        if config:
            raise IndexError(config)
        return SimpleNamespace(
            bLength=9, bDescriptorType=2, wTotalLength=0, bNumInterfaces=2, bConfigurationValue=1, iConfiguration=0,
            bmAttributes=0x80, bMaxPower=250, extra_descriptors=[],
        )  # fmt: skip

    def get_interface_descriptor(self, dev: object, intf: int, alt: int, config: int) -> Any:
        """Playback (2 channels, an endpoint away from us) and capture, each with the format of its sound."""
        if intf > 1 or alt > 0:
            raise IndexError(intf)
        channels = (2, self.channels)[intf]
        form = [7, 0x24, 1, 1, 1, 1, 0, 11, 0x24, 2, 1, channels, 2, 16, 1, 0x80, 0x3E, 0]
        return SimpleNamespace(
            bLength=9, bDescriptorType=4, bInterfaceNumber=intf, bAlternateSetting=alt, bNumEndpoints=1, bInterfaceClass=1,
            bInterfaceSubClass=2, bInterfaceProtocol=0, iInterface=0, extra_descriptors=form,
        )  # fmt: skip

    def get_endpoint_descriptor(self, dev: object, ep: int, intf: int, alt: int, config: int) -> Any:
        return SimpleNamespace(
            bLength=9, bDescriptorType=5, bEndpointAddress=(0x01, 0x81)[intf], bmAttributes=5, wMaxPacketSize=192, bInterval=4,
            bRefresh=0, bSynchAddress=0, extra_descriptors=[],
        )  # fmt: skip

    def open_device(self, dev: object) -> object:
        if self.fault == errno.EACCES:
            raise usb.core.USBError("Access denied (insufficient permissions)", -3, errno.EACCES)
        self.opened += 1
        return self

    def close_device(self, dev_handle: object) -> None:
        self.opened -= 1

    def ctrl_transfer(
        self, dev_handle: object, kind: int, request: int, value: int, index: int, data: Any, timeout: int
    ) -> int:
        """As the firmware answers."""
        code = self.fault if self.plugged else errno.ENODEV
        if code:
            raise usb.core.USBError("No such device" if code == errno.ENODEV else "it failed", -4, code)
        if (kind, index) == (0x40, 0x1C):
            self.lights.append((value, bytes(data)))
            return len(data)
        if kind == 0x40:
            return self._write(index, bytes(data))
        answer = bytes([3]) if index == 0 else self._read(index, value)
        data[: len(answer)] = array("B", answer)
        return len(answer)

    def _write(self, ident: int, data: bytes) -> int:
        offset, _, whole = struct.unpack("<iii", data)
        if bool(whole) == ((ident, offset) in FLOATS):
            raise usb.core.USBError("Pipe error", -9, errno.EPIPE)
        self.registers[ident, offset] = struct.unpack("<iii" if whole else "<ifi", data)[1]
        return len(data)

    def _read(self, ident: int, value: int) -> bytes:
        offset = value & 0x3F
        if not value & 0x80 or bool(value & 0x40) == ((ident, offset) in FLOATS):
            raise usb.core.USBError("Pipe error", -9, errno.EPIPE)
        held = self.registers.get((ident, offset), 0)
        if (ident, offset) not in FLOATS:
            return struct.pack("<ii", int(held), 0)
        fraction, exponent = math.frexp(held)
        return struct.pack("<ii", round(fraction * 2**30), exponent - 30)
