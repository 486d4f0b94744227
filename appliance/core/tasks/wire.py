"""Messages between the dispatcher and the workers: the contract's envelope, proven by a key that both sides have.

The signature is HMAC-SHA-256 (RFC 2104) over the envelope's id, timestamp, device, type and the very bytes of its data, so
nobody else can give orders, or make results up. Orders carry a lease, results give it back.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any

import msgspec

from appliance.core.events import new_id, rfc3339
from appliance.core.tasks.model import Capability
from appliance.errors import StreamError

TASK, CANCEL, RECALL = "task.order", "task.cancel", "task.recall"
STARTED, RESULT, RETURNED, BEAT = "task.started", "task.result", "task.returned", "worker.beat"
KEY = "tasks.key"
"""Name of the secret."""
LARGEST = 900 * 1024
"""Bytes of a message, below what brokers take where nobody has set anything."""
UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)
"""What decoding bytes of anybody's making may raise: not UTF-8, or nested too deep, among others."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """Do this. Times are durations: no clock of the worker is asked."""

    task_id: str
    type: str
    priority: int
    payload: Any
    attempt: int
    deadline: str | None = None
    """RFC 3339, for people; `left_s` counts."""
    worker: str
    session: str
    lease: int
    lease_s: float
    beat: int
    """Number of the worker's newest sign of life that the dispatcher had seen: an older order is not begun any more."""
    limit_s: float
    left_s: float | None = None
    """Seconds until the deadline, when the order was given."""


class Stop(msgspec.Struct, frozen=True, kw_only=True):
    """Do it no more, or give it back where it was not begun."""

    task_id: str
    worker: str
    session: str
    lease: int
    reason: str = ""


class Begun(msgspec.Struct, frozen=True, kw_only=True):
    """A worker begins a task, or gives it back unbegun."""

    task_id: str
    worker: str
    session: str
    lease: int


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a task."""

    task_id: str
    status: str
    """"completed" or "failed"."""
    worker: str
    session: str
    lease: int
    duration_ms: float
    result: Any = None
    error: str = ""
    final: bool = False
    """A failure that would be the same again."""


class Beat(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's sign of life, which renews its leases."""

    worker: str
    session: str
    number: int
    capabilities: tuple[Capability, ...]
    limit: int
    running: tuple[tuple[str, int], ...] = ()
    """(task, lease) of all that it has."""
    load: float | None = None
    version: str = ""
    stopping: bool = False


Message = Order | Stop | Begun | Result | Beat
KINDS: dict[str, type[Any]] = {
    TASK: Order, CANCEL: Stop, RECALL: Stop, STARTED: Begun, RETURNED: Begun, RESULT: Result, BEAT: Beat,
}  # fmt: skip


class _Envelope(msgspec.Struct, kw_only=True):
    v: int
    id: str
    timestamp: str
    source: str
    device_id: str
    type: str
    data: msgspec.Raw
    signature: str = ""


class Seal:
    """Signs and checks.

    Args:
        key: The secret tasks.key; 16 bytes at least.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._encode = msgspec.json.Encoder().encode
        self._decode = msgspec.json.Decoder(_Envelope).decode

    def wrap(self, kind: str, data: Message, device_id: str, now: float) -> bytes:
        """An envelope with this data.

        Args:
            kind: Of `KINDS`.
            data: The data.
            device_id: The worker that it goes to, or comes from: the message's key.
            now: Wall clock, for people.

        Raises:
            StreamError: It is larger than a message may be.
        """
        raw = self._encode(data)
        made = _Envelope(
            v=1, id=new_id(), timestamp=rfc3339(now), source="edge", device_id=device_id, type=kind, data=msgspec.Raw(raw)
        )
        made.signature = self._sign(made)
        body = self._encode(made)
        if len(body) > LARGEST:
            raise StreamError(f"The message {kind} has {len(body)} bytes; {LARGEST} are the most.", "make it smaller.")
        return body

    def open(self, body: bytes) -> tuple[str, Any]:
        """(kind, data) of an envelope.

        Raises:
            StreamError: It is none of ours: malformed, of another kind, not signed with our key.
        """
        try:
            found = self._decode(body)
        except UNREADABLE as error:
            raise StreamError(f"It is no envelope: {error}.") from error
        if found.v != 1 or found.type not in KINDS:
            raise StreamError(f"It is of the type {found.type[:40]!r}, version {found.v}.")
        if not hmac.compare_digest(self._sign(found).encode(), found.signature.encode()):
            raise StreamError("Its signature is wrong: it was made with another key.", "give both sides the same tasks.key.")
        try:
            return found.type, msgspec.json.decode(found.data, type=KINDS[found.type])
        except UNREADABLE as error:
            raise StreamError(f"Its data do not fit {found.type}: {error}.") from error

    def _sign(self, envelope: _Envelope) -> str:
        head = "\n".join((envelope.id, envelope.timestamp, envelope.source, envelope.device_id, envelope.type, ""))
        digest = hmac.new(self._key, head.encode() + bytes(envelope.data), hashlib.sha256).digest()
        return base64.b64encode(digest).decode()
