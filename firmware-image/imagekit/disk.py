"""The whole image: the table of partitions, and in each what was made for it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from imagekit import layout
from imagekit.shell import run

CHUNK = layout.MIB


def assemble(image: Path, arch: str, contents: Mapping[str, Path]) -> None:
    """Put an image together, sparse: nulls take no room.

    Args:
        image: The file to make.
        arch: The processor.
        contents: File with the content of each partition, by the partition's name. One that is missing stays empty.

    Raises:
        BuildError: sfdisk failed.
    """
    rows = layout.partitions(arch)
    partial = image.with_suffix(".partial")
    with partial.open("wb") as file:
        file.truncate(layout.total(rows))
    run("sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", partial, data=layout.script(rows))
    with partial.open("r+b") as file:
        for row in rows:
            if row.label in contents:
                pour(contents[row.label], file.fileno(), row.start)
    partial.replace(image)


def pour(source: Path, target: int, at: int) -> None:
    """Copy a file into an open one at a byte, leaving out blocks of nulls and what the source never wrote."""
    null = bytes(CHUNK)
    with source.open("rb") as file:
        size, here = os.fstat(file.fileno()).st_size, 0
        while here < size:
            here = _data(file.fileno(), here, size)
            part = os.pread(file.fileno(), CHUNK, here)
            if part != null[: len(part)]:
                os.pwrite(target, part, at + here)
            here += max(len(part), 1)


def _data(descriptor: int, here: int, size: int) -> int:
    """Where the next data is, at or behind a byte; the size where there is none."""
    try:
        return os.lseek(descriptor, here, os.SEEK_DATA)
    except OSError:
        return size
