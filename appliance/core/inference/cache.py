"""Results that need not be worked out twice: by the input's bytes, the model's version, and the parameters."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import NamedTuple

import msgspec

from appliance.core.inference.pipeline import Ran
from appliance.core.inference.status import CacheStatus


class Key(NamedTuple):
    """What a result depends on.

    Attributes:
        sha256: Of the input's bytes.
        model: name@version.
        mark: Fingerprint of the manifest (files, labels, input, head), so that another model of the same name and version is
            another one.
        threshold: Of the findings.
    """

    sha256: str
    model: str
    mark: str
    threshold: float


class Entry(NamedTuple):
    """A remembered result with the size of the picture it is about."""

    ran: Ran
    width: int
    height: int


class ResultCache:
    """The results that were asked for last. For one event loop.

    Args:
        entries: Most of them; 0 remembers none.
        size: Most bytes of them, as MessagePack has them.
    """

    def __init__(self, entries: int, size: int) -> None:
        self._limit = entries
        self._size_limit = size
        self._held: OrderedDict[Key, tuple[Entry, int]] = OrderedDict()
        self._size = 0
        self._hits = 0
        self._misses = 0
        self._evicted = 0

    def get(self, key: Key) -> Entry | None:
        """The result; None where it is not remembered."""
        found = self._held.get(key)
        if found is None:
            self._misses += 1
            return None
        self._held.move_to_end(key)
        self._hits += 1
        return found[0]

    def put(self, key: Key, entry: Entry) -> None:
        """Remember a result; those that were not asked for the longest go. One that alone is too large is not remembered."""
        size = len(msgspec.msgpack.encode((key, entry.ran.findings))) + 200
        if size > self._size_limit or not self._limit:
            return
        self._drop(key)
        self._held[key] = (entry, size)
        self._size += size
        while len(self._held) > self._limit or self._size > self._size_limit:
            self._drop(next(iter(self._held)))
            self._evicted += 1

    def forget(self, model: str) -> int:
        """Forget a version's results; how many those were."""
        gone = [key for key in self._held if key.model == model]
        for key in gone:
            self._drop(key)
        return len(gone)

    def clear(self) -> int:
        """Forget all; how many those were. The counts stay."""
        count = len(self._held)
        self._held.clear()
        self._size = 0
        return count

    def _drop(self, key: Key) -> None:
        if (held := self._held.pop(key, None)) is not None:
            self._size -= held[1]

    def status(self) -> CacheStatus:
        """As it is now."""
        return CacheStatus(
            hits=self._hits, misses=self._misses, entries=len(self._held), entry_limit=self._limit, bytes=self._size,
            byte_limit=self._size_limit, evicted=self._evicted,
        )  # fmt: skip


def digest(data: bytes) -> str:
    """SHA-256 of an input; blocks for about a millisecond per MiB."""
    return hashlib.sha256(data).hexdigest()
