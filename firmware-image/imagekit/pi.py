"""What the boot partition of a Raspberry Pi 5 has beside kernel and initramfs."""

from __future__ import annotations

import shutil
from pathlib import Path

from imagekit.errors import BuildError
from imagekit.plan import FIRMWARE
from imagekit.shell import run

OVERLAYS = FIRMWARE / "files/overlays-arm64"
DTBS = "usr/lib/linux-image-*/broadcom/bcm2712*.dtb"
NEWER_BOARD = {"bcm2712-d-rpi-5-b.dtb": "bcm2712d0-rpi-5-b.dtb"}
"""Debian's name of a device tree, and the one that the firmware of boards with the later processor looks for."""


def device_trees(root: Path, tree: Path) -> None:
    """Copy the device trees of the kernel, and compile our overlays.

    Args:
        root: The system, with the kernel's package.
        tree: What becomes the boot partition.

    Raises:
        BuildError: The kernel has no device tree for this board, or an overlay cannot be compiled.
    """
    found = sorted(root.glob(DTBS))
    if not found:
        raise BuildError(
            "The kernel has no device tree for the Raspberry Pi 5.", "name a newer kernel in firmware-image/packages/arm64.txt."
        )
    for each in found:
        for name in {each.name, NEWER_BOARD.get(each.name, each.name)}:
            shutil.copyfile(each, tree / name)
    (tree / "overlays").mkdir(exist_ok=True)
    for source in sorted(OVERLAYS.glob("*.dtso")):
        run("dtc", "-q", "-@", "-I", "dts", "-O", "dtb", "-o", tree / "overlays" / f"{source.stem}.dtbo", source)
