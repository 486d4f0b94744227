"""Files in the directories that tasks may use: which those are, and writing them so that they are whole or as they were."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from appliance.errors import DiskFullError, InvalidArgumentsError, NotAuthorizedError, TaskError


def inside(text: str, folders: Sequence[Path]) -> Path:
    """A path in one of the allowed directories, links resolved. Raises NotAuthorizedError, InvalidArgumentsError."""
    path = Path(text)
    if not path.is_absolute() or "\0" in text or not path.name:
        raise InvalidArgumentsError(f"{text[:100]!r} is no absolute path of a file.", "write it from / on.")
    whole = path.resolve()
    if not any(whole.is_relative_to(folder.resolve()) for folder in folders):
        allowed = ", ".join(map(str, folders))
        raise NotAuthorizedError(f"Tasks may not use {whole}.", f"allowed are: {allowed} (tasks.folders).")
    return whole


def put_in_place(part: Path, target: Path) -> None:
    """Give a finished and synced file its name. Raises OSError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part.replace(target)
    descriptor = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def explained(error: OSError, target: Path) -> DiskFullError | TaskError:
    """What a failed write means for the task."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return DiskFullError(f"{target.parent} is full.", "make room there.")
    return TaskError(f"{target} cannot be written: {error.strerror or error}.", "look at that directory and its rights.")
