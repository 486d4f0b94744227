"""From a message to the rows of its event; or the reason why it cannot be used.

Accepted are the envelope of contracts.md, section 2 (version 1), and that of the first generation, {timestamp, source, data}.
The latter has no id: its id is a UUID version 5 of topic and body, so that the same message, sent or read twice, is one event.
An event is stored whole or not at all.
"""

from __future__ import annotations

import math
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Protocol

import msgspec

from appliance.core.analytics import copying
from appliance.core.analytics.rows import ALIASES, EVENTS, INFERENCES, METRICS, SENSORS, TOPICS, Table

LARGEST = 4 * 1024 * 1024
"""Bytes of one message."""
LONGEST = 255
"""Characters of a name: indexes take no longer ones."""
GREATEST = 1e150
"""Largest number: the squares of greater ones cannot be added up, and every later question would fail."""
AHEAD = 3600.0
"""Seconds that an event may lie in the future."""
FIRST_GENERATION = uuid.UUID("5f0c1d6e-2d3b-5c57-9a7e-0d6a3f6f7b10")
"""Namespace of ids that are made here."""
TAGS_MOST = 8192
"""Bytes of an event's tags: each of its rows repeats them."""
SPREAD = 8 * 1024 * 1024
"""Bytes that one event may become in rows."""
WINDOW = 86_400.0
"""Seconds by which cloud.aggregated may lie further ahead: its events have the ends of their windows."""
_BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)
_MICRO = timedelta(microseconds=1)
_TAGS = 1000
"""Sets of tags whose bytes are remembered."""


class Record(Protocol):
    """A message of Kafka."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    """When it came into Kafka, by the producer's or the broker's clock; milliseconds, below 1 where that is not known."""
    key: bytes | None
    value: bytes | None


class Brought(msgspec.Struct):
    """What no consumer brings but the sink shall store as if one had: a letter sent again, an event of the API (a Record)."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int = -1


class Unusable(Exception):  # noqa: N818 it is a verdict, not a fault of the program
    """A message that goes to the dead letters; the text is the reason."""


class Now(NamedTuple):
    """What time it is, by two clocks that may both be wrong; seconds since the epoch. Both must call an event absurd."""

    ours: float
    database: float


class Stored(NamedTuple):
    """An event as rows.

    Attributes:
        table: Where they go.
        rows: Each in COPY's form.
        moment: Its time, seconds since the epoch, whole.
        device: Who sent it; empty for nobody.
        values: By name, where they are metrics.
    """

    table: Table
    rows: list[bytes]
    moment: int
    device: str
    values: dict[str, float]


class Envelope(msgspec.Struct):
    """Version 1, or the first generation where v is missing."""

    timestamp: datetime
    data: msgspec.Raw
    v: int | None = None
    id: uuid.UUID | None = None
    device_id: str | None = None
    type: str | None = None


class Telemetry(msgspec.Struct):
    """Data of edge.telemetry."""

    metrics: dict[str, float]
    tags: msgspec.Raw = msgspec.Raw()
    device_id: str | None = None


class Inference(msgspec.Struct):
    """What of edge.ai.inference has columns of its own."""

    model: str
    inference_time_ms: float
    accuracy: float | None = None


class Sensor(msgspec.Struct):
    """Data of edge.sensors."""

    sensor_type: str
    sensor_id: str
    value: float
    unit: str | None = None
    data: dict[str, Any] | None = None


class Decoder:
    """Turns messages into rows. Not to be used by two threads at once.

    Args:
        prefix: What the names of topics begin with.
    """

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        self._envelope = msgspec.json.Decoder(Envelope)
        self._telemetry = msgspec.json.Decoder(Telemetry)
        self._inference = msgspec.json.Decoder(Inference)
        self._sensor = msgspec.json.Decoder(Sensor)
        self._object = msgspec.json.Decoder(dict[str, Any])
        self._encoder = msgspec.json.Encoder()
        self._names: dict[str, bytes] = {}
        self._tags: dict[bytes, bytes] = {}

    def event(self, record: Record, now: Now) -> Stored:
        """The rows of a message. Raises Unusable."""
        body = record.value
        if not body:
            raise Unusable("empty message")
        if len(body) > LARGEST:
            raise Unusable(f"too large: {len(body)} bytes, at most {LARGEST}")
        topic = record.topic.removeprefix(self._prefix)
        try:
            if b"\\u0000" in body:
                _without_nul(msgspec.json.decode(body))
            return self._rows(topic, record, body, now)
        except msgspec.ValidationError as error:
            raise Unusable(f"wrong type or field: {error}") from None
        except (msgspec.DecodeError, UnicodeError) as error:
            raise Unusable(f"not JSON: {error}") from None
        except RecursionError:
            raise Unusable("nested too deeply") from None

    def _rows(self, topic: str, record: Record, body: bytes, now: Now) -> Stored:
        table = TOPICS[topic]
        envelope = self._envelope.decode(body)
        if envelope.v is not None and envelope.v != 1:
            raise Unusable(f"version {envelope.v} of the envelope is not known")
        if envelope.v == 1 and envelope.id is None:
            raise Unusable("id is missing")
        micros = _micros(envelope, now, record.timestamp / 1000, topic)
        event_id = envelope.id or uuid.uuid5(FIRST_GENERATION, f"{topic}\n{body.hex()}")
        device = self._device(envelope, record, table)
        head = copying.begin(len(table.columns)) + copying.timestamp(micros)
        last = copying.uuid(event_id.bytes)
        moment = micros // 1_000_000 + copying.EPOCH
        if table is METRICS:
            return self._metrics(envelope, device, moment, head, last)
        make = {INFERENCES: self._of_inference, SENSORS: self._of_sensor, EVENTS: self._of_event}[table]
        return Stored(table, [head + make(envelope, device, topic) + last], moment, device, {})

    def _device(self, envelope: Envelope, record: Record, table: Table) -> str:
        """Who sent it; the first generation said so in the data, or by the key alone."""
        found = envelope.device_id
        if not found and envelope.v is None:
            inside = self._object.decode(envelope.data).get("device_id")
            found = inside if isinstance(inside, str) else (record.key or b"").decode()
        if not found and table is not EVENTS:
            raise Unusable("device_id is missing")
        return _name("device_id", found) if found else ""

    def _metrics(self, envelope: Envelope, device: str, moment: int, head: bytes, last: bytes) -> Stored:
        data = self._telemetry.decode(envelope.data)
        values = data.metrics
        for old in values.keys() & ALIASES.keys():
            values.setdefault(ALIASES[old], values[old])
            del values[old]
        head += copying.text(device)
        tail = self._of_tags(data.tags) + last
        if len(tail) * len(values) > SPREAD:
            raise Unusable(f"{len(values)} metrics with {len(tail)} bytes of tags each are too much")
        rows, names = [], self._names
        for name, value in values.items():
            if not -GREATEST < value < GREATEST:
                raise Unusable(f"{name[:LONGEST]} is {value}: beyond what can be added up")
            field = names.get(name)
            rows.append(head + (field or self._known(name)) + copying.double(value) + tail)
        return Stored(METRICS, rows, moment, device, values)

    def _known(self, name: str) -> bytes:
        """The field of a metric's name, remembered."""
        field = copying.text(_name("the name of a metric", name))
        if len(self._names) < _TAGS:
            self._names[name] = field
        return field

    def _of_tags(self, tags: msgspec.Raw) -> bytes:
        raw = bytes(tags)
        if raw in {b"", b"null"}:
            return copying.NULL
        if len(raw) > TAGS_MOST:
            raise Unusable(f"tags of {len(raw)} bytes, at most {TAGS_MOST}")
        field = self._tags.get(raw)
        if field is None:
            field = copying.jsonb(self._encoder.encode(self._object.decode(raw)))
            if len(self._tags) >= _TAGS:
                self._tags.clear()
            self._tags[raw] = field
        return field

    def _whole(self, envelope: Envelope) -> bytes:
        """All data as jsonb, read and written anew, so that the server meets nothing that it cannot take."""
        return copying.jsonb(self._encoder.encode(self._object.decode(envelope.data)))

    def _of_inference(self, envelope: Envelope, device: str, _: str) -> bytes:
        data = self._inference.decode(envelope.data)
        model = copying.text(_name("model", data.model))
        took = _double("inference_time_ms", data.inference_time_ms)
        return copying.text(device) + model + took + self._whole(envelope) + _double("accuracy", data.accuracy)

    def _of_sensor(self, envelope: Envelope, device: str, _: str) -> bytes:
        data = self._sensor.decode(envelope.data)
        which = copying.text(_name("sensor_type", data.sensor_type)) + copying.text(_name("sensor_id", data.sensor_id))
        unit = copying.NULL if data.unit is None else copying.text(data.unit[:LONGEST])
        more = copying.NULL if data.data is None else copying.jsonb(self._encoder.encode(data.data))
        return copying.text(device) + which + _double("value", data.value) + unit + more

    def _of_event(self, envelope: Envelope, device: str, topic: str) -> bytes:
        kind = copying.text(_name("type", envelope.type or topic))
        return kind + (copying.text(device) if device else copying.NULL) + self._whole(envelope)


def _micros(envelope: Envelope, now: Now, came: float, topic: str) -> int:
    """Microseconds since 2000; a time without a zone is UTC in the first generation, and wrong since.

    Too old is only what was so when it came into Kafka (seconds since the epoch): that is a third clock to agree.
    """
    table = TOPICS[topic]
    moment = envelope.timestamp
    if moment.tzinfo is None:
        if envelope.v is not None:
            raise Unusable("timestamp has no time zone")
        moment = moment.replace(tzinfo=UTC)
    seconds = (moment - _BEGINNING).total_seconds() + copying.EPOCH
    if seconds > max(now) + AHEAD + (WINDOW if topic == "cloud.aggregated" else 0.0):
        raise Unusable(f"from the future: {envelope.timestamp.isoformat()}")
    if seconds < min(*now, came if came > 0 else now.ours) - table.keep:
        raise Unusable(f"older than {table.name} keeps ({table.keep // 86400} days): {envelope.timestamp.isoformat()}")
    return (moment - _BEGINNING) // _MICRO


def _name(what: str, value: str) -> str:
    if not value:
        raise Unusable(f"{what} is empty")
    if len(value) > LONGEST:
        raise Unusable(f"{what} is longer than {LONGEST} characters")
    if not value.isprintable():
        raise Unusable(f"{what} has characters that nobody could ask for: {value[:60]!a}")
    return value


def _double(what: str, value: float | None) -> bytes:
    if value is None:
        return copying.NULL
    if not math.isfinite(value) or abs(value) >= GREATEST:
        raise Unusable(f"{what} is {value}: beyond what can be added up")
    return copying.double(value)


def _without_nul(value: Any) -> None:
    """Text with the character NUL, which PostgreSQL does not store. Raises Unusable."""
    if isinstance(value, str):
        if "\0" in value:
            raise Unusable("a text has the character NUL")
    elif isinstance(value, dict):
        for name, inside in value.items():
            _without_nul(name)
            _without_nul(inside)
    elif isinstance(value, list):
        for inside in value:
            _without_nul(inside)
