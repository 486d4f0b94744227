"""A disk with a volatile write cache, as an nbdkit plugin in Python: what was not flushed may be lost, any part of it.

Parameters: `durable=FILE` is the medium; `seen=FILE` is a copy of it, made before, which takes every write and answers every
read; `seed=N`. A write reaches the medium at the next flush. Some reach it before that, whole or in part, at random: a drive
may write back what it holds whenever it likes and in any order, in pieces of one sector. Killing this process is the cut: the
medium then holds everything flushed, and by chance some of what was not.
"""

from __future__ import annotations

import os
import random
from typing import Any

import nbdkit  # type: ignore[import-not-found]  # nbdkit itself provides it

API_VERSION = 2
SECTOR = 512
EARLY = 0.3
"""The share of writes that reach the medium before they are flushed, of which a half does so in part only."""

given: dict[str, str] = {}
files: dict[str, int] = {}
pending: list[tuple[int, int]] = []
chance = random.Random()


def config(key: str, value: str) -> None:
    """One parameter."""
    given[key] = value


def config_complete() -> None:
    """Look at the parameters as a whole."""
    missing = {"durable", "seen"} - set(given)
    if missing:
        raise RuntimeError(f"missing: {', '.join(sorted(missing))}")


def get_ready() -> None:
    """Open both files."""
    chance.seed(int(given.get("seed", "0")))
    for name in ("durable", "seen"):
        files[name] = os.open(given[name], os.O_RDWR)


def thread_model() -> Any:
    """One request after the other: the order of what is flushed is then that of the requests."""
    return nbdkit.THREAD_MODEL_SERIALIZE_ALL_REQUESTS


def open(readonly: bool) -> int:
    """A connection."""
    return 1


def get_size(handle: int) -> int:
    """Bytes."""
    return os.fstat(files["seen"]).st_size


def can_flush(handle: int) -> bool:
    """It has a cache, and says so."""
    return True


def can_fua(handle: int) -> Any:
    """A write that must be durable at once is a write and a flush."""
    return nbdkit.FUA_EMULATE


def can_trim(handle: int) -> bool:
    """Nothing is discarded."""
    return False


def pread(handle: int, buffer: Any, offset: int, flags: int) -> None:
    """Read what the guest believes is there."""
    view = memoryview(buffer)
    while view:
        count = os.preadv(files["seen"], [view], offset)
        view, offset = view[count:], offset + count


def put(name: str, data: memoryview, offset: int) -> None:
    """Write to one of the files."""
    while data:
        count = os.pwrite(files[name], data, offset)
        data, offset = data[count:], offset + count


def pwrite(handle: int, buffer: Any, offset: int, flags: int) -> None:
    """Take a write into the cache; by chance the medium gets some of it now."""
    data = memoryview(bytes(buffer))
    put("seen", data, offset)
    pending.append((offset, len(data)))
    if chance.random() < EARLY:
        whole = len(data) // SECTOR
        share = whole if chance.random() < 0.5 else chance.randrange(whole + 1)
        put("durable", data[: share * SECTOR], offset)


def flush(handle: int, flags: int) -> None:
    """Make everything before durable."""
    for offset, length in pending:
        put("durable", memoryview(os.pread(files["seen"], length, offset)), offset)
    pending.clear()
