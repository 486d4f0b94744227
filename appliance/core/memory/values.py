"""Values of callers as bytes and back, and how they are framed in tier 1: one byte of kind, then the value."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from appliance.core.memory.model import Kind
from appliance.errors import InvalidArgumentsError

BYTES, JSON = b"b", b"j"
MARKS = {Kind.bytes: BYTES, Kind.json: JSON}
_BYTES_MARK = BYTES[0]
_to_json = msgspec.json.Encoder()
_from_json = msgspec.json.Decoder()


def pack(value: Any, limit: int) -> tuple[Kind, bytes]:
    """Kind and bytes of a value: bytes stay what they are, anything else becomes JSON.

    Raises:
        InvalidArgumentsError: It is neither, or has more bytes than the limit.
    """
    if isinstance(value, (bytes, bytearray, memoryview)):
        kind, payload = Kind.bytes, bytes(value)
    elif isinstance(value, msgspec.Raw):  # JSON text that was checked: its digits stay as they were written
        kind, payload = Kind.json, bytes(value)
    else:
        try:
            kind, payload = Kind.json, _to_json.encode(value)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise InvalidArgumentsError(f"The value is no JSON: {error}.", "give bytes, or what JSON can carry.") from error
    check_size(len(payload), limit)
    return kind, payload


def check_size(size: int, limit: int) -> None:
    """Raises InvalidArgumentsError where a value is too large."""
    if size > limit:
        raise InvalidArgumentsError(
            f"The value has {size} bytes; the limit is {limit}.", "raise memory.value_max_mib, or keep it as a file."
        )


def value_of(kind: Kind, payload: bytes) -> Any:
    """The value that the bytes carry."""
    return payload if kind is Kind.bytes else _from_json.decode(payload)


def frame(kind: Kind, payload: bytes) -> bytes:
    """For tier 1."""
    return MARKS[kind] + payload


def frame_many(values: Collection[Any], limit: int) -> list[bytes]:
    """All of them for tier 1; quick where all are bytes."""
    if set(map(type, values)) == {bytes}:
        check_size(max(map(len, values)), limit)
        return [BYTES + value for value in values]
    return [frame(*pack(value, limit)) for value in values]


def unframe(framed: bytes) -> Any:
    """The value in a frame."""
    return framed[1:] if framed[0] == _BYTES_MARK else _from_json.decode(memoryview(framed)[1:])


def split(framed: bytes) -> tuple[Kind, bytes]:
    """Kind and bytes in a frame."""
    return (Kind.bytes if framed[0] == _BYTES_MARK else Kind.json), framed[1:]
