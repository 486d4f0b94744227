"""Cameras of the kernel (V4L2): which there are. They are read by FFmpeg, see core.inference.sources.video."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from pathlib import Path

from appliance.core.model import Device, Health

QUERYCAP = 0x80685600
"""VIDIOC_QUERYCAP: _IOR('V', 0, struct v4l2_capability of 104 bytes) (linux/videodev2.h)."""
CAPABILITY = struct.Struct("16s32s32sIII12x")
CAPTURE, CAPTURE_MPLANE, DEVICE_CAPS = 0x1, 0x1000, 0x80000000
"""V4L2_CAP_VIDEO_CAPTURE, _VIDEO_CAPTURE_MPLANE, _DEVICE_CAPS."""
CODECS = ("bcm2835-codec", "rpi-hevc-dec", "rpivid")
"""Drivers of a Pi whose nodes capture, and are no cameras."""


class V4l2Cameras:
    """Looks for cameras.

    Args:
        root: Of the file system.
    """

    name = "cameras"

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._known: dict[Path, tuple[int, Device | None]] = {}
        """Node → since when it is there, and what it is: a camera is asked once, for some wake up at that."""

    def __call__(self) -> Device:
        """All of them as one kind of hardware, cheaply."""
        found = self.each()
        if not found:
            step = "plug in a USB camera; for a camera on the Pi's connector see docs/sources.md."
            return Device("camera", "Camera", Health.absent, "no camera among /dev/video*", step)
        good = [device for device in found if device.health is Health.healthy]
        if good:
            names = ", ".join(f"{device.name} ({device.reason})" for device in good)
            return Device("camera", good[0].name, Health.healthy, names)
        return found[0]

    def each(self) -> tuple[Device, ...]:
        """Every node that captures pictures; a node that cannot be asked says why."""
        nodes = sorted((self._root / "dev").glob("video*"), key=lambda node: (len(node.name), node.name))
        self._known = {node: known for node, known in self._known.items() if node in nodes}
        return tuple(device for node in nodes if (device := self._remembered(node)) is not None)

    def _remembered(self, node: Path) -> Device | None:
        try:
            since = node.lstat().st_ctime_ns
        except FileNotFoundError:  # it was unplugged a moment ago
            return None
        known = self._known.get(node)
        if known is None or known[0] != since or (known[1] is not None and known[1].health is not Health.healthy):
            known = self._known[node] = since, self._one(node)
        return known[1]

    def _one(self, node: Path) -> Device | None:
        label = self._label(node)
        shown = f"/dev/{node.name}"
        try:
            card, driver, flags = _capability(node)
        except PermissionError:
            step = "add this user to the group video, and log in again."
            return Device("camera", shown, Health.unhealthy, f"{label}: this user may not open it", step)
        except OSError as error:
            return Device("camera", shown, Health.unhealthy, f"{label}: {error.strerror}", "plug it in again.")
        if not flags & (CAPTURE | CAPTURE_MPLANE) or driver in CODECS or driver.startswith("rp1-cfe"):
            return None
        return Device("camera", shown, Health.healthy, card or label)

    def _label(self, node: Path) -> str:
        with contextlib.suppress(OSError):  # no name is no fault
            return (self._root / "sys/class/video4linux" / node.name / "name").read_text().strip()
        return node.name


def _capability(node: Path) -> tuple[str, str, int]:
    """(card, driver, what it can do) of a node. Raises OSError."""
    descriptor = os.open(node, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        answer = fcntl.ioctl(descriptor, QUERYCAP, bytes(CAPABILITY.size))
    finally:
        os.close(descriptor)
    driver, card, _, _, whole, own = CAPABILITY.unpack(answer)
    flags = own if whole & DEVICE_CAPS else whole
    return _text(card), _text(driver), flags


def _text(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode(errors="replace")
