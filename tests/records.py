"""Records of the memory for tests."""

from __future__ import annotations

import time
from typing import Any

import uuid_utils

from appliance.core.memory import codec
from appliance.core.memory.model import Kind, Meta, Record


def make(key: str = "k", value: bytes = b'{"n": 1}', parent: str = "", *, kind: Kind = Kind.json, **meta: Any) -> Record:
    """A new version of a key. Times are cut to microseconds, as every tier keeps them."""
    deleted = meta.get("deleted", False)
    fields: dict[str, Any] = {
        "namespace": "default",
        "version": uuid_utils.uuid7().hex,
        "checksum": codec.checksum(kind, value, deleted=deleted),
        "modified": round(time.time(), 6),
        "device": "edge-1",
    }
    return Record(Meta(key=key, kind=kind, parent=parent, size=len(value), **(fields | meta)), value)


def tombstone(key: str = "k", parent: str = "", **meta: Any) -> Record:
    """A version that says: deleted."""
    return make(key, b"", parent, deleted=True, **meta)
