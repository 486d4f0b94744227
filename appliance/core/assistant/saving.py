"""Talks as files of the appliance: whole, or not at all, and none in place of another."""

from __future__ import annotations

import errno
import os
import re
import tempfile
from pathlib import Path

from appliance.errors import DiskFullError, StoreError

MOST = 500
"""Files that are kept; further ones are refused, none is removed by itself."""
NAMES = 100
"""Names that are tried."""


def save(directory: Path, title: str, text: str) -> Path:
    """Write a text; blocks.

    Args:
        directory: Made where it is missing.
        title: The file's name is made of it.
        text: Markdown.

    Raises:
        StoreError: It cannot be written; DiskFullError where there is no room.
    """
    name = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:40] or "talk"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if sum(1 for _ in directory.iterdir()) >= MOST:
            raise StoreError(f"{directory} has {MOST} files already.", "remove some of them.")
        return _write(directory, name, text.encode(errors="replace"))
    except OSError as error:
        kind = DiskFullError if error.errno in {errno.ENOSPC, errno.EDQUOT} else StoreError
        hint = "make room, or look at the directory's rights."
        raise kind(f"{directory}/{name}.md cannot be written: {error.strerror}.", hint) from error


def _write(directory: Path, name: str, content: bytes) -> Path:
    handle, temporary = tempfile.mkstemp(prefix=".", dir=directory)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        for number in range(1, NAMES + 1):
            path = directory / (f"{name}.md" if number == 1 else f"{name}-{number}.md")
            try:
                os.link(temporary, path)
            except FileExistsError:
                continue
            return path
        raise StoreError(f"{directory} has {NAMES} files of the name {name} already.", "remove some of them.")
    finally:
        Path(temporary).unlink(missing_ok=True)
