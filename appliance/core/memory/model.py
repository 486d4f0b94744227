"""The values of the memory: what a record is, which copies there are, what a tier says of itself."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from appliance.core.model import Health


class Kind(StrEnum):
    """What the bytes of a value are."""

    bytes = "bytes"
    json = "json"
    """UTF-8 JSON."""


class Durability(StrEnum):
    """Up to where a write goes before it is acknowledged; a later one includes the earlier ones."""

    memory = "memory"
    """Tier 1: lost with this process."""
    edge = "edge"
    """Synced to the local disk: survives kill -9 and a cut of the power."""
    cloud = "cloud"
    """Stored by a cloud tier as well: survives the loss of this machine."""

    @property
    def rank(self) -> int:
        """0 for memory."""
        return ("memory", "edge", "cloud").index(self.value)


class Meta(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about one version of one key, but its value.

    Attributes:
        namespace: Groups keys; see keys.check_namespace.
        key: Any text up to 1024 bytes of UTF-8.
        kind: Of the value.
        version: UUID version 7, as 32 hexadecimal digits; names this write and no other.
        parent: The version that this one replaced, as its writer knew it; empty for a first one.
        checksum: SHA-256 of kind and value, hexadecimal; see codec.checksum.
        size: Bytes of the value, uncompressed.
        modified: Wall clock of the write, seconds since the epoch.
        expires: Wall clock from which on the value is gone; None for never.
        tags: Sorted.
        device: Who wrote it.
        deleted: True for a tombstone: the key was deleted by this version; it has no value.
    """

    namespace: str
    key: str
    kind: Kind
    version: str
    parent: str = ""
    checksum: str = ""
    size: int = 0
    modified: float = 0.0
    expires: float | None = None
    tags: tuple[str, ...] = ()
    device: str = ""
    deleted: bool = False

    def expired(self, wall: float) -> bool:
        """Whether the value is gone by now."""
        return self.expires is not None and self.expires <= wall


class Record(msgspec.Struct, frozen=True):
    """One version of one key, with its value (uncompressed; empty for a tombstone)."""

    meta: Meta
    value: bytes


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """What a listing of a tier tells of one key's newest version, without reading the value.

    Attributes:
        key_id: keys.key_id of namespace and key.
        version: Version of the record there.
        parent: The version that it replaced.
        checksum: See Meta; may be cut to its first 32 digits.
        size: Bytes stored, as near as the listing tells.
        modified: Wall clock, seconds since the epoch; the tier's own clock where it knows no better.
        deleted: A tombstone, where the listing tells.
    """

    key_id: str
    version: str
    parent: str = ""
    checksum: str = ""
    size: int = 0
    modified: float = 0.0
    deleted: bool = False


class TierStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One tier, as the Memory screen shows it. None is "not known"."""

    name: str
    level: int
    """1, 2 or 3."""
    health: Health
    reason: str
    next_step: str = ""
    entries: int | None = None
    size: int | None = None
    """Bytes stored."""
    limit: int | None = None
    """Bytes that may be stored."""
    hits: int = 0
    misses: int = 0
    errors: int = 0
    evictions: int = 0
    owed: int = 0
    """Writes and deletions that wait to be delivered to it."""
    oldest_owed_s: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None


class MemoryStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The memory as a whole."""

    tiers: tuple[TierStatus, ...]
    hits: int = 0
    misses: int = 0
    fetches: int = 0
    """Look-ups below tier 1."""
    coalesced: int = 0
    """Look-ups that shared another one's fetch."""
    corrupt: int = 0
    """Copies that failed their checksum since the start."""
    conflicts: int = 0
    """Conflicts that wait for the operator."""
    p50_ms: float | None = None
    p99_ms: float | None = None


class Residency(msgspec.Struct, frozen=True, kw_only=True):
    """One copy of a key."""

    tier: str
    state: str
    """"held", "owed" (an older or no copy is there; ours waits), "unknown" (the tier cannot be asked now) or "damaged"."""
    version: str = ""


class EntryStat(msgspec.Struct, frozen=True, kw_only=True):
    """One key with where it lies."""

    meta: Meta
    copies: tuple[Residency, ...]
    pinned: bool = False
    hits: int = 0
    used: float = 0.0
    """Wall clock of the last use that was written down; 0 where there was none."""
    stored: int = 0
    """Bytes on the local disk; 0 where the disk holds no copy."""


class Page(msgspec.Struct, frozen=True):
    """A part of a listing; `cursor` is empty at the end."""

    entries: tuple[EntryStat, ...]
    cursor: str


class Conflict(msgspec.Struct, frozen=True, kw_only=True):
    """Both sides changed since the last common version, and no strategy decided."""

    conflict_id: str
    namespace: str
    key: str
    tier: str
    detected: float
    mine: Meta
    theirs: Meta
    mine_text: str = ""
    theirs_text: str = ""
    base_text: str | None = None
    """The last common version; None where it is not kept."""
    merged_text: str | None = None
    """A clean three-way merge; None where there is none."""
    reason: str = ""


JsonValue = Any
"""None, bool, int, float, str, list or dict of the same."""
