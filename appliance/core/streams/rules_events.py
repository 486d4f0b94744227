"""What a rule makes of one message: its event time, its group, and its number."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

from appliance.core.events import rfc3339
from appliance.core.streams.rules import Rule
from appliance.core.streams.rules_language import compile_expression
from appliance.errors import RuleError

ALIASES = {"cpu_percent": "cpu_usage", "memory_percent": "memory_usage", "disk_percent": "disk_usage"}
"""Names of metrics that are accepted on reading."""
NAMESPACE = uuid.UUID("5b0a3b6e-5f0c-5d4e-9c77-2f6f0f6d1c11")
"""Of the ids of windows (UUID version 5)."""
OUTPUT = "cloud.aggregated"
CLOUD = "cloud"
"""The device of a window that is no single device's."""
AHEAD = 86_400_000
"""Milliseconds that an event may be ahead of this machine's clock; its group would hear nothing else for as long."""
LABEL = 200
"""Most characters of one label; longer ones end in ~ and a checksum."""
DEPTH = 64
"""Most lists and objects of a message within each other."""
_decode = msgspec.json.Decoder(strict=True).decode


class BadMessageError(RuleError):
    """A message that no rule can use, whatever the rule.

    Args:
        reason: In a few words, by which they are counted.
        message: What is wrong.
    """

    code = "bad_message"

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message, "look at the sender: contracts.md, section 2, has the envelope.")
        self.reason = reason


class Sample(NamedTuple):
    """One event as its window sees it."""

    group: str
    device: str
    """"" where it is not grouped by device."""
    time_ms: int
    value: float | None


class Closed(NamedTuple):
    """One window with its result."""

    rule: Rule
    group: str
    device: str
    start_ms: int
    end_ms: int
    value: float | int | None
    events: int


def read(body: bytes | None, key: str, now_ms: int | None = None) -> tuple[dict[str, Any], int]:
    """An envelope and its event time, milliseconds; also one of the first generation (`timestamp`, `source`, `data`).

    Args:
        body: The message.
        key: Its key: the device, where the envelope does not name it.
        now_ms: Of the clock, to refuse what is from the future; None to refuse nothing.

    Raises:
        BadMessageError: It is none.
    """
    try:
        envelope = _decode(body or b"")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadMessageError("not JSON", f"a message is no JSON: {error}") from error
    except RecursionError:
        raise _too_deep() from None
    if _is_deep(body or b"", envelope):
        raise _too_deep()
    if not isinstance(envelope, dict):
        raise BadMessageError("not an object", "a message is JSON, but no object")
    if envelope.get("v", 1) != 1:
        raise BadMessageError("unknown version", f"the envelope has version {str(envelope['v'])[:40]}, not 1")
    if not isinstance(envelope.get("data"), dict):
        raise BadMessageError("no data", "the envelope's data is no object")
    device = envelope.get("device_id", key)
    if not isinstance(device, str) or not device:
        raise BadMessageError("no device", "neither the envelope nor the key names a device")
    moment = _moment(envelope)
    if now_ms is not None and moment > now_ms + AHEAD:
        raise BadMessageError("from the future", f"{envelope['timestamp']!r} is more than a day ahead of the clock")
    return _with_names(envelope, device), moment


def _too_deep() -> BadMessageError:
    return BadMessageError("nested too deeply", f"a message is nested more than {DEPTH} deep")


def _is_deep(body: bytes, envelope: Any) -> bool:
    """Whether a message is nested more than DEPTH deep. Those with few brackets, nearly all, are not looked into."""
    if body.count(b"{") + body.count(b"[") <= DEPTH:
        return False
    level: list[Any] = [[envelope]]
    for _ in range(DEPTH + 1):
        inside = [one for each in level for one in (each.values() if isinstance(each, dict) else each)]
        level = [one for one in inside if isinstance(one, (dict, list))]
    return bool(level)


def _moment(envelope: Mapping[str, Any]) -> int:
    text = envelope.get("timestamp")
    if not isinstance(text, str) or len(text) > 64:
        raise BadMessageError("no timestamp", "the envelope has no timestamp")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadMessageError("no timestamp", f"{text!r} is no RFC 3339 timestamp") from error
    if moment.tzinfo is None:
        if "v" in envelope:
            raise BadMessageError("no timestamp", f"{text!r} has no time zone")
        moment = moment.replace(tzinfo=UTC)  # the first generation wrote UTC without saying so
    try:
        millis = round((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1000)
    except OverflowError as error:
        raise BadMessageError("no timestamp", f"{text!r} is out of range") from error
    if millis < 0:
        raise BadMessageError("no timestamp", f"{text!r} is before 1970")
    return millis


def _with_names(envelope: dict[str, Any], device: str) -> dict[str, Any]:
    data = envelope["data"]
    metrics = data.get("metrics")
    if isinstance(metrics, dict) and not ALIASES.keys().isdisjoint(metrics):
        renamed = {ALIASES[name]: value for name, value in metrics.items() if name in ALIASES}
        data = {**data, "metrics": {**renamed, **metrics}}
    return {**envelope, "device_id": device, "data": data}


class Reader:
    """Applies one rule to events.

    Args:
        rule: A checked one.
    """

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self._filter = compile_expression(rule.filter) if rule.filter else None
        self._field = compile_expression(rule.field) if rule.field else None
        self._paths = tuple((name, tuple(name.split("."))) for name in rule.group_by)

    def sample(self, envelope: Mapping[str, Any], moment: int) -> Sample | None:
        """What the event adds to a window; None where the rule is not about it, or it lacks the field.

        Raises:
            RuleError: The rule cannot be worked out for it.
        """
        rule = self.rule
        if rule.types and envelope.get("type") not in rule.types:
            return None
        if self._filter is not None and not self._filter(envelope):
            return None
        value = self._field.number(envelope) if self._field is not None else None
        if self._field is not None and value is None:
            return None
        device = envelope["device_id"] if "device_id" in rule.group_by else ""
        return Sample(self._group(envelope), device, moment, value)

    def _group(self, envelope: Mapping[str, Any]) -> str:
        labels = [(name, _label(envelope, name, path)) for name, path in self._paths]
        if len(labels) <= 1:
            return labels[0][1] if labels else ""
        return ",".join(f"{name}={quote(label, safe=' /:@+-_.')}" for name, label in labels)


def _label(envelope: Mapping[str, Any], name: str, path: tuple[str, ...]) -> str:
    if name in {"device_id", "source", "type"}:
        value: Any = envelope.get(name)
    elif name.startswith("tag:"):
        tags = envelope["data"].get("tags")
        value = tags.get(name[4:]) if isinstance(tags, dict) else None
    else:
        value = envelope["data"]
        for part in path:
            value = value.get(part) if isinstance(value, dict) else None
    if value is None:
        return ""
    if isinstance(value, str) and value and not value.startswith('"'):
        return _cut(value)
    return _cut(msgspec.json.encode(value).decode())  # an empty text is "" in quotes: it is not the same as none


def _cut(label: str) -> str:
    """A label of LABEL characters at most; those that begin alike stay apart."""
    if len(label) <= LABEL:
        return label
    return f"{label[: LABEL - 17]}~{hashlib.sha256(label.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


def window_id(closed: Closed) -> str:
    """The same for the same window, whoever works it out and however often."""
    parts = (closed.rule.id, closed.rule.fingerprint, closed.group, str(closed.start_ms), str(closed.end_ms))
    return str(uuid.uuid5(NAMESPACE, "\n".join(parts)))


def envelope_of(closed: Closed, now_ms: int) -> dict[str, Any]:
    """The event of cloud.aggregated; its timestamp is the window's end, so that it is the same each time.

    Args:
        closed: The window.
        now_ms: Of the clock. A window that is closed before it is over has this moment as its timestamp: readers refuse events
            from the future.
    """
    stamp = rfc3339(min(closed.end_ms, now_ms) / 1000)
    return {
        "v": 1, "id": window_id(closed), "timestamp": stamp, "source": "cloud", "device_id": closed.device or CLOUD,
        "type": "window.closed", "data": data_of(closed),
    }  # fmt: skip


def data_of(closed: Closed) -> dict[str, Any]:
    """What the event says of its window."""
    return {
        "rule_id": closed.rule.id, "window_start": rfc3339(closed.start_ms / 1000), "window_end": rfc3339(closed.end_ms / 1000),
        "group_key": closed.group, "aggregation": closed.rule.aggregation, "value": closed.value, "event_count": closed.events,
    }  # fmt: skip


def key_of(envelope: Mapping[str, Any]) -> bytes:
    """The key of a window's message: the device, or the group."""
    device, data = envelope["device_id"], envelope["data"]
    return str(device if device != CLOUD else data["group_key"] or data["rule_id"]).encode()
