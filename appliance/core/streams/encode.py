"""Events and rows of the journal as messages, and many messages as one block of bytes."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence

import msgspec
import zstandard

from appliance.core.events import EVENT_TYPES, Event, envelope, topic_of
from appliance.core.journal import Stored
from appliance.core.streams.model import Message, Priority
from appliance.errors import CorruptRecordError

PRIORITIES: dict[str, Priority] = {cls.topic: cls.priority for cls in EVENT_TYPES.values()}
"""The class of each topic that has events of ours."""
LARGEST_BLOCK = 64 * 1024 * 1024
"""Bytes that a block may claim to hold."""
OVERHEAD = 200
"""Bytes that a message costs in memory beside its value, about."""


class _Named(msgspec.Struct):
    """What of an envelope names its key."""

    device_id: str


_named = msgspec.json.Decoder(_Named)
_pack = msgspec.msgpack.Encoder()
_unpack = msgspec.msgpack.Decoder(list[Message])


class Encoder:
    """Makes messages of events.

    Args:
        device_id: What the envelopes carry as device, and the messages as key.
    """

    def __init__(self, device_id: str) -> None:
        self._device_id = device_id
        self._key = device_id.encode()
        self._encode = msgspec.json.Encoder().encode

    def message(self, event: Event) -> Message:
        """The event, ready to be sent."""
        value = self._encode(envelope(event, self._device_id))
        return Message(event.id, event.topic, self._key, value, event.priority, event.time)


def journal_message(row: Stored) -> Message:
    """A row of the journal, ready to be sent; its key is the device that it names.

    Raises:
        KeyError: Its type is none of ours.
        msgspec.MsgspecError: Its envelope cannot be read.
    """
    cls = EVENT_TYPES[row.type]
    key = _named.decode(row.envelope).device_id.encode()
    return Message(row.id, topic_of(row.type, row.envelope), key, row.envelope, cls.priority, row.time)


def size_of(message: Message) -> int:
    """Bytes that it takes in memory, about."""
    return len(message.value) + len(message.key) + OVERHEAD


def pack(priority: Priority, first: int, messages: Sequence[Message]) -> tuple[bytes, bytes]:
    """Many messages as (digest, body): compressed, and proof against every changed bit."""
    body = zstandard.ZstdCompressor(level=3).compress(_pack.encode(messages))
    return digest(priority, first, body), body


def digest(priority: int, first: int, body: bytes) -> bytes:
    """What tells that a block is whole, and in its place."""
    return hashlib.blake2b(body, digest_size=16, salt=zlib.crc32(f"{int(priority)}/{first}".encode()).to_bytes(4)).digest()


def unpack(priority: int, first: int, proof: bytes, body: bytes) -> list[Message]:
    """The messages of a block.

    Raises:
        CorruptRecordError: It is not what was written.
    """
    step = "check the disk; the others go on."
    if digest(priority, first, body) != proof:
        raise CorruptRecordError("Its checksum is wrong.", step)
    try:
        return _unpack.decode(zstandard.ZstdDecompressor().decompress(body, max_output_size=LARGEST_BLOCK))
    except (zstandard.ZstdError, msgspec.MsgspecError) as error:
        raise CorruptRecordError(f"It cannot be read: {error}.", step) from error
