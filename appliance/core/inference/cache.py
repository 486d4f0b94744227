"""Results that need not be worked out twice: by the input's bytes, the model's version, and the parameters."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import replace
from typing import NamedTuple

import msgspec

from appliance.core.inference.model import Findings
from appliance.core.inference.pipeline import Ran
from appliance.core.inference.status import CacheStatus

MASK_RUNS = 50_000
"""Runs of all masks of one result that are told of; a message of Kafka has its bound."""
OVERHEAD = 1500
"""Bytes of a result beside what was found: the key's texts, objects, places in tables."""


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


class _Held(NamedTuple):
    packed: bytes
    """The findings."""
    rest: Entry
    size: int


class ResultCache:
    """The results that were asked for last. For one event loop.

    Args:
        entries: Most of them; 0 remembers none.
        size: Most bytes of them. What was found is kept as MessagePack: as objects it would be up to 13 times as much.
    """

    def __init__(self, entries: int, size: int) -> None:
        self._limit = entries
        self._size_limit = size
        self._held: OrderedDict[Key, _Held] = OrderedDict()
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
        findings = msgspec.msgpack.decode(found.packed, type=Findings)
        return Entry(replace(found.rest.ran, findings=findings), found.rest.width, found.rest.height)

    def put(self, key: Key, entry: Entry) -> None:
        """Remember a result; those that were not asked for the longest go. One that alone is too large, or has more masks than
        are told of, is not remembered.
        """
        if not self._limit or sum(len(mask.counts) for mask in entry.ran.findings.masks) > MASK_RUNS:
            return
        packed = bytes(memoryview(msgspec.msgpack.encode(entry.ran.findings)))  # the encoder's own has room to grow
        size = len(packed) + OVERHEAD
        if size > self._size_limit:
            return
        self._drop(key)
        self._held[key] = _Held(packed, Entry(replace(entry.ran, findings=Findings()), entry.width, entry.height), size)
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
            self._size -= held.size

    def status(self) -> CacheStatus:
        """As it is now."""
        return CacheStatus(
            hits=self._hits, misses=self._misses, entries=len(self._held), entry_limit=self._limit, bytes=self._size,
            byte_limit=self._size_limit, evicted=self._evicted,
        )  # fmt: skip


def digest(data: bytes) -> str:
    """SHA-256 of an input; blocks for about a millisecond per MiB."""
    return hashlib.sha256(data).hexdigest()
