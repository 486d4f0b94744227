"""The partitions of the image: numbers, sizes, names. Both processors have the same."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

MIB = 1024 * 1024
SECTOR = 512
FIRST = 4 * MIB
"""Where the first partition begins: whole erase blocks of common SD cards."""
TAIL = 1 * MIB
"""Room behind the last partition for the second copy of the table."""

CONFIG_LABEL = "PRIMESPARK"
"""Volume label of p1: people look for it on their computers."""

_SPACE = uuid.UUID("7e3e0f5c-53f6-4c7f-9c37-1f0b0b8d2c11")

ESP = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
BASIC = "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7"
LINUX = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
ROOTS = {"amd64": "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709", "arm64": "B921B045-1DF0-41C3-AF44-4C6F280D3FAE"}
NO_AUTO = "GUID:63"
"""systemd must not mount it by its type: the boot manager chooses."""

SYSTEM_MIB = 1536
"""Of each system partition."""
BOOT_MIB = 192
CONFIG_MIB = 64
DATA_MIB = 256
"""In the image; it grows to the end of the card at the first start."""


@dataclass(frozen=True)
class Partition:
    """One row of the table."""

    number: int
    label: str
    kind: str
    mib: int
    start: int
    """Byte."""
    flags: str = ""

    @property
    def size(self) -> int:
        """Bytes."""
        return self.mib * MIB


def identity(name: str) -> uuid.UUID:
    """A UUID that is the same in each build."""
    return uuid.uuid5(_SPACE, name)


def volume(name: str) -> str:
    """A FAT volume number that is the same in each build: eight hexadecimal digits."""
    return identity(name).hex[:8]


def partitions(arch: str) -> list[Partition]:
    """The table for a processor."""
    rows = (
        ("config", ESP, CONFIG_MIB, ""), ("boot-a", BASIC, BOOT_MIB, ""), ("boot-b", BASIC, BOOT_MIB, ""),
        ("system-a", ROOTS[arch], SYSTEM_MIB, NO_AUTO), ("system-b", ROOTS[arch], SYSTEM_MIB, NO_AUTO), ("data", LINUX,
        DATA_MIB, ""),
    )  # fmt: skip
    found, at = [], FIRST
    for number, (label, kind, mib, flags) in enumerate(rows, 1):
        found.append(Partition(number, label, kind, mib, at, flags))
        at += mib * MIB
    return found


def total(rows: list[Partition]) -> int:
    """Bytes of the whole image."""
    return rows[-1].start + rows[-1].size + TAIL


def script(rows: list[Partition]) -> str:
    """The table in the words of sfdisk(8)."""
    lines = ["label: gpt", f"label-id: {identity('disk')}", f"first-lba: {2048}", f"sector-size: {SECTOR}", ""]
    for row in rows:
        words = [
            f"start={row.start // SECTOR}",
            f"size={row.size // SECTOR}",
            f"type={row.kind}",
            f"uuid={identity(row.label)}",
            f'name="{row.label}"',
        ]
        lines.append(", ".join([*words, *([f'attrs="{row.flags}"'] if row.flags else [])]))
    return "\n".join(lines) + "\n"
