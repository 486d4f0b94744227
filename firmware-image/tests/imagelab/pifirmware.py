"""The firmware of a Raspberry Pi 5 as far as the image's start depends on it, played from the image's own files.

It is what Raspberry Pi documents for autoboot.txt, config.txt, `tryboot` and PARTITION_WALK, not a copy of the firmware: that a
board reads these files in the same way only a board can show.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from imagelab.disk import Disk
from imagelab.run import run

BOOTABLE = {2: "boot-a", 3: "boot-b"}
"""Partitions with a kernel, by their numbers."""
UART = "/pl011@9000000"
"""The UART in the device tree of QEMU's `virt` machine."""
WORD = re.compile(rb"reboot: Restarting system with command '([^']*)'")


class NoBootError(AssertionError):
    """The firmware finds nothing that it could start."""


@dataclass(frozen=True)
class Choice:
    """What the firmware decided to start."""

    partition: int
    tryboot: bool
    kernel: Path
    initrd: Path | None
    cmdline: str
    config: dict[str, str]


def settings(text: str, conditions: set[str]) -> dict[str, str]:
    """The settings of a config.txt or autoboot.txt under the conditions that hold; later ones win."""
    found: dict[str, str] = {}
    holds = True
    for line in _lines(text):
        if line.startswith("["):
            holds = line.strip("[]") in conditions
        elif holds and "=" in line:
            key, _, value = line.partition("=")
            found[key.strip()] = value.strip()
        elif holds and line.startswith("initramfs "):
            found["initramfs"] = line.split()[1]
    return found


def _lines(text: str) -> Iterator[str]:
    for line in text.replace("\0", "").splitlines():
        stripped = line.strip()
        if stripped and not stripped.startswith("#"):
            yield stripped


def wanted(disk: Disk, tryboot: bool) -> int:
    """The partition that autoboot.txt names; without such a file the first one with a kernel."""
    try:
        text = disk.get_file("config", "autoboot.txt").decode("ascii", errors="replace")
    except FileNotFoundError:
        return 2
    found = settings(text, {"all", "tryboot"} if tryboot else {"all"})
    number = found.get("boot_partition", "2")
    return int(number) if number.isdigit() else 2


def choose(disk: Disk, tryboot: bool, home: Path) -> Choice:
    """What to start: the wanted partition, or the next one that can be loaded (PARTITION_WALK). Raises NoBootError."""
    first = wanted(disk, tryboot)
    problems = []
    for number in [first, *(each for each in BOOTABLE if each != first)]:
        if number not in BOOTABLE:
            problems.append(f"{number}: not bootable")
            continue
        try:
            return load(disk, number, tryboot, home)
        except (FileNotFoundError, AssertionError) as error:
            problems.append(f"{number}: {error}")
    raise NoBootError("; ".join(problems))


def load(disk: Disk, number: int, tryboot: bool, home: Path) -> Choice:
    """Read config.txt, the kernel and what it needs from a partition. Raises FileNotFoundError."""
    name = BOOTABLE[number]
    conditions = {"all", "pi5", f"boot_partition={number}"} | ({"tryboot"} if tryboot else set())
    config = settings(disk.get_file(name, "config.txt").decode(errors="replace"), conditions)
    prefix = config.get("os_prefix", "")

    def fetch(path: str) -> Path:
        target = home / f"firmware-{Path(path).name}"
        target.write_bytes(disk.get_file(name, prefix + path))
        return target

    kernel = fetch(config.get("kernel", "kernel_2712.img"))
    initrd = fetch(config["initramfs"]) if "initramfs" in config else None
    words = fetch(config.get("cmdline", "cmdline.txt")).read_text(errors="replace").split()
    return Choice(number, tryboot, kernel, initrd, " ".join(words), config)


def device_tree(bare: Path, choice: Choice, target: Path) -> Path:
    """The machine's device tree with what the firmware tells the kernel in it, as the Pi's does."""
    target.write_bytes(bare.read_bytes())
    node = "/chosen/bootloader"
    run("fdtput", "-p", "-t", "u", str(target), node, "partition", str(choice.partition))
    run("fdtput", "-t", "u", str(target), node, "tryboot", str(int(choice.tryboot)))
    run("fdtput", "-p", "-t", "s", str(target), "/aliases", "serial10", UART)  # ttyAMA10, as the Pi 5 names its first UART
    return target


def asked_to_try(said: bytes) -> bool:
    """Whether the kernel's last words asked for the other slot: `reboot "0 tryboot"`, which the Pi keeps in a register."""
    found = WORD.findall(said)
    return bool(found) and b"tryboot" in found[-1].split()
