"""What the appliance and the recognition's process say to each other: MessagePack, each message after its length in four bytes.

The appliance asks {id, op, …}: "hear" (pcm, key, and texts and before where the worker does not know the key), "spot" (pcm,
phrases), "stop" (target), "ping". The worker answers {id, ok: {…}} or {id, error, kind}; its first message has id 0 and says
that it is ready, or why not. An answer with `kept` was found before, for the same sound.
"""

from __future__ import annotations

from typing import Any

import msgspec

LENGTH = 4
LARGEST = 64 << 20
"""Bytes of the longest message: half an hour of sound."""
UNKNOWN = "unknown"
"""Kind of error: it has no sentences of that key."""
STOPPED = "stopped"
DAMAGED = "damaged"
FAILED = "failed"


def pack(message: dict[str, Any]) -> bytes:
    """A message as it goes over the pipe."""
    data = msgspec.msgpack.encode(message)
    return len(data).to_bytes(LENGTH, "big") + data


def unpack(data: bytes) -> dict[str, Any]:
    """A message without its length. Raises msgspec.DecodeError, ValidationError."""
    return msgspec.msgpack.decode(data, type=dict[str, Any])
