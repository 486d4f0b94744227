"""The image: how large it is, how long it takes to build, and to start in QEMU without hardware help for virtual machines."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.rows import Figure

HERE = Path(__file__).resolve().parents[1]
CARD = 8 << 30
"""Bytes of the card."""


def run() -> list[Figure]:
    """One build from cached packages, one bundle of the same system, a first start and one after it. Needs root."""
    sys.path.insert(0, str(HERE / "firmware-image/tests"))
    from imagelab.build import Builder
    from imagelab.disk import Overlay
    from imagelab.guest import first_boot, prepare
    from imagelab.ssh import Login

    with tempfile.TemporaryDirectory(prefix="bench-image-") as scratch:
        home = Path(scratch)
        builder = Builder(home / "built")
        first = builder.build("1.0.0")
        again = builder.build("1.0.0")
        bundle = builder.bundle("1.1.0")
        login = Login(home / "login", "ada")
        disk = Overlay(first.image, home / "card", CARD)
        prepare(disk, first_boot(login))
        starts = {"first start": _start(disk, login), "start": _start(disk, login)}
        sizes = {
            "image, on the card before it grows": first.image.stat().st_size,
            "image, packed by zstd -3": _packed(first.image),
            "bundle of an update, quick compression": bundle.bundle.stat().st_size,
            "root, quick compression": (first.out / "root.squashfs").stat().st_size,
        }
    where = f"QEMU's TCG on {os.cpu_count()} processors, {platform.machine()}"
    rows = [Figure(f"{name}", round(size / 1e6, 1), "MB") for name, size in sizes.items()]
    rows += [Figure("build, packages cached", round(first.seconds, 1), "s")]
    rows += [Figure("build, nothing changed", round(again.seconds, 1), "s")]
    rows += [Figure("bundle of another version", round(bundle.seconds, 1), "s")]
    for name, found in starts.items():
        rows += [Figure(f"{name} to {what}", round(seconds, 1), "s", peer=where) for what, seconds in found.items()]
    return rows


def _start(disk: Any, login: Any) -> dict[str, float]:
    """Seconds from the switch to a login over SSH, to the console's first page, to all services; then off."""
    from imagelab.guest import READY, Guest
    from imagelab.machine import Machine

    login.forget()
    began = time.monotonic()
    with Machine(disk) as machine:
        guest = Guest(machine, login)
        login.wait(machine.port("ssh"), limit=900)
        found = {"a login": time.monotonic() - began}
        machine.screen.wait_for_text(READY, limit=900)
        found["the console"] = time.monotonic() - began
        guest.wait_up(900)
        found["all services"] = time.monotonic() - began
        machine.switch_off()
    return found


def _packed(image: Path) -> int:
    """Bytes of the image as somebody would download it, quickly packed."""
    packed = subprocess.Popen(["zstd", "-3", "-T0", "-c", str(image)], stdout=subprocess.PIPE)
    assert packed.stdout is not None
    size = 0
    while part := packed.stdout.read(1 << 20):
        size += len(part)
    if packed.wait():
        raise RuntimeError("zstd failed")
    return size
