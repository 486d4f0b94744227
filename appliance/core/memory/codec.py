"""Records as bytes: the one format of files and objects. Compressed above a size, checked on every read.

Layout: "PSM1", length of the header (4 bytes, big endian), header (MessagePack: meta, codec), body, SHA-256 of all before.
"""

from __future__ import annotations

import hashlib
import struct

import msgspec
import zstandard

from appliance.core.memory.model import Kind, Meta, Record
from appliance.errors import CorruptRecordError

MAGIC = b"PSM1"
COMPRESS_ABOVE = 4096
"""Bytes; smaller values stay as they are."""
PACKED = frozenset({"models"})
"""Namespaces whose values are compressed by their nature: they stay as they are (contracts.md, section 8)."""
LARGEST = 256 * 1024 * 1024
"""Bytes that a header may claim for its value; beyond any setting's limit."""
DIGEST = hashlib.sha256().digest_size


class Header(msgspec.Struct, frozen=True):
    """What stands before the body."""

    meta: Meta
    codec: str
    """"" or "zstd"."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Header)


def checksum(kind: Kind, value: bytes, *, deleted: bool = False) -> str:
    """What tells whether two versions say the same: SHA-256 of kind and value, hexadecimal."""
    digest = hashlib.sha256(b"deleted\0" if deleted else kind.value.encode() + b"\0")
    digest.update(value)
    return digest.hexdigest()


def encode(record: Record, compress_above: int = COMPRESS_ABOVE) -> bytes:
    """The record as bytes; compressed only where that makes it smaller."""
    body, codec = record.value, ""
    if len(body) > compress_above and record.meta.namespace.partition(".")[0] not in PACKED:
        packed = zstandard.ZstdCompressor(level=3).compress(body)
        if len(packed) < len(body):
            body, codec = packed, "zstd"
    header = _encoder.encode(Header(record.meta, codec))
    whole = b"".join((MAGIC, struct.pack(">I", len(header)), header, body))
    return whole + hashlib.sha256(whole).digest()


def decode(data: bytes, where: str) -> Record:
    """The record that the bytes carry.

    Args:
        data: What `encode` made.
        where: Named in the error.

    Raises:
        CorruptRecordError: A bit is another one, the end is missing, or it is no record at all.
    """
    view = memoryview(data)
    if len(view) < 8 + DIGEST or bytes(view[:4]) != MAGIC:
        raise CorruptRecordError(
            f"{where} is no record of this memory.", "it is left out; another copy is used where there is one."
        )
    if hashlib.sha256(view[:-DIGEST]).digest() != bytes(view[-DIGEST:]):
        raise CorruptRecordError(
            f"{where} is damaged: its checksum is wrong.", "check the disk; another copy is used where there is one."
        )
    (length,) = struct.unpack(">I", view[4:8])
    try:
        header = _decoder.decode(view[8 : 8 + length])
        body = bytes(view[8 + length : -DIGEST])
        value = _unpack(body, header.meta.size) if header.codec == "zstd" else body
    except (msgspec.DecodeError, zstandard.ZstdError) as error:
        raise CorruptRecordError(f"{where} cannot be read: {error}.", "was it written by a newer version?") from error
    if len(value) != header.meta.size:
        raise CorruptRecordError(f"{where} has {len(value)} bytes of value, not {header.meta.size}.", "check the disk.")
    return Record(header.meta, value)


def _unpack(body: bytes, size: int) -> bytes:
    if size > LARGEST:
        raise zstandard.ZstdError(f"{size} bytes are claimed, more than any value has")
    return zstandard.ZstdDecompressor().decompress(body, max_output_size=max(size, 1))
