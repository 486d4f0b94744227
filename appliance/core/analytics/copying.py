"""Rows in the binary form of PostgreSQL's COPY (its manual, "COPY", section "Binary Format").

Made here and not by the client library, so that it happens in a thread, and what is the same in many rows (a time, a device, an
event's id) is turned into bytes once. A field is its length (int32, -1 for NULL) and its bytes, big-endian.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime

HEADER = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
TRAILER = struct.pack(">h", -1)
NULL = struct.pack(">i", -1)
EPOCH = int(datetime(2000, 1, 1, tzinfo=UTC).timestamp())
"""PostgreSQL's beginning of time, seconds of the Unix epoch."""
PIECE = 256 * 1024
"""Bytes that are handed to the connection at once."""
_LONG = struct.Struct(">iq")
_DOUBLE = struct.Struct(">id")
_LENGTH = struct.Struct(">i")
_COUNT = struct.Struct(">h")


def begin(columns: int) -> bytes:
    """How a row of so many columns begins."""
    return _COUNT.pack(columns)


def timestamp(micros: int) -> bytes:
    """A timestamptz field from microseconds since 2000-01-01 UTC."""
    return _LONG.pack(8, micros)


def double(value: float) -> bytes:
    """A float8 field."""
    return _DOUBLE.pack(8, value)


def text(value: str) -> bytes:
    """A text field. Raises UnicodeEncodeError for a lone surrogate."""
    body = value.encode()
    return _LENGTH.pack(len(body)) + body


def jsonb(body: bytes) -> bytes:
    """A jsonb field from JSON in UTF-8; it begins with the number of its version."""
    return _LENGTH.pack(len(body) + 1) + b"\x01" + body


def uuid(body: bytes) -> bytes:
    """A uuid field from its 16 bytes."""
    return _LENGTH.pack(16) + body


async def stream(rows: Iterable[bytes]) -> AsyncIterator[bytes]:
    """All rows as what COPY reads, in pieces."""
    piece, size = [HEADER], len(HEADER)
    for row in rows:
        piece.append(row)
        size += len(row)
        if size >= PIECE:
            yield b"".join(piece)
            piece, size = [], 0
    piece.append(TRAILER)
    yield b"".join(piece)
