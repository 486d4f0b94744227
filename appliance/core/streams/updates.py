"""Offers of models over Kafka: checked, told of, and handed to whoever installs them."""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, NamedTuple, Protocol

import msgspec
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from appliance.core.bus import Bus
from appliance.core.events import Noted, new_id
from appliance.core.ports import Clock
from appliance.core.streams import signing
from appliance.core.streams.deadletters import DeadLetters
from appliance.core.streams.kafka_reader import Record
from appliance.core.streams.model import DeadLetter, ModelOffer
from appliance.errors import CommandRefusedError

LARGEST = 64 * 1024
KEPT = 20
"""Newest offers that are shown."""
OFTEN, PERIOD = 20, 600.0
"""Most events of offers, and most dead letters of what is none, within so many seconds: the topic is not signed, and whoever
may write to it must not fill the journal, nor push other dead letters out. What is beyond is counted."""
NOT_INSTALLED = "offered, not installed: models.updates is set to ignore"
PASSED = "passed over: too many offers came at a time"

Text = Annotated[str, Field(min_length=1, max_length=256)]


class _Open(BaseModel):
    """Fields of later versions are no error."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class Rollout(_Open):
    """Whom it reaches, step by step."""

    strategy: Text
    percent: Annotated[float, Field(ge=0, le=100)] | None = None
    """Of the requests that the new version gets while it is watched."""


class Offer(_Open):
    """The data of models.updates."""

    model: Text
    version: Text
    artifact: Annotated[str, Field(pattern=r"^s3://[^/\s]+/\S*[^/\s]$", max_length=1024)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")]
    stage: Annotated[str, Field(pattern=r"(?i)^(production|staging|archived)$")]
    device_ids: Annotated[list[Text], Field(max_length=10_000)] = []
    """Empty for all."""
    rollout: Rollout | None = None


class Envelope(_Open):
    """Version 1, or the first generation's without v and id."""

    v: Literal[1] = 1
    id: Annotated[str, Field(max_length=64)] = ""
    timestamp: Annotated[str, Field(max_length=64)]
    data: Offer


class Taken(NamedTuple):
    """What the installer made of an offer."""

    state: str
    note: str


class Installer(Protocol):
    """Downloads, proves and activates what is offered (assembly joins it to inference's)."""

    async def offered(self, offer: ModelOffer, percent: float | None, strategy: str) -> Taken:
        """Take an offer; it is durable when this returns, and taken once however often it comes. Raises StoreError."""

    def knows(self, offer: ModelOffer) -> bool:
        """Whether it took this one before."""

    def rows(self) -> tuple[ModelOffer, ...]:
        """Those that it took, the newest change first."""


class Updates:
    """Takes the messages of models.updates.

    Args:
        device_id: This device.
        bus: Told of offers.
        letters: Takes what is no offer.
        clock: For times.
    """

    def __init__(self, device_id: str, bus: Bus, letters: DeadLetters, clock: Clock) -> None:
        self.installer: Installer | None = None
        """None where offers are only told of."""
        self._device_id = device_id
        self._bus = bus
        self._letters = letters
        self._clock = clock
        self.offers: deque[ModelOffer] = deque(maxlen=KEPT)
        """Newest first."""
        self.unusable = 0
        self.passed = 0
        """Offers without an event, and other messages without a dead letter: there were too many."""
        self._recent: dict[str, deque[float]] = {"offers": deque(), "letters": deque()}

    async def take(self, record: Record) -> None:
        """Tell of one message's offer, if it is for this device. Raises StoreError."""
        try:
            envelope = parse(record.value)
        except CommandRefusedError as error:
            self.unusable += 1
            if not self._room("letters"):
                return
            await self._letters.add(self._letter(record, error.message), record.value[:LARGEST])
            return
        offer = envelope.data
        if offer.device_ids and self._device_id not in offer.device_ids and "*" not in offer.device_ids:
            return
        if any(each.offer_id == envelope.id for each in self.offers if envelope.id):
            return
        shown = ModelOffer(
            offer_id=envelope.id, time=record.time, model=offer.model, version=offer.version, stage=offer.stage,
            artifact=offer.artifact, sha256=offer.sha256.lower(), note=NOT_INSTALLED, state="ignored",
        )  # fmt: skip
        if self.installer is not None and self.installer.knows(shown):
            return  # a topic that is read again must not use up the room of what is new
        if not self._room("offers"):
            self.offers.appendleft(msgspec.structs.replace(shown, note=PASSED))
            return
        known = offer.rollout.model_dump() if offer.rollout is not None else {}
        if self.installer is not None:
            taken = await self.installer.offered(shown, known.get("percent"), str(known.get("strategy", "")))
            shown = msgspec.structs.replace(shown, state=taken.state, note=taken.note)
        told = offer.model_dump(mode="json", exclude={"device_ids"})
        attributes: dict[str, Any] = {**told, "offer_id": envelope.id, "state": shown.state, "message": shown.note}
        await self._bus.publish(
            Noted(time=self._clock.wall(), event="model.update-offered", severity="info", attributes=attributes)
        )
        self.offers.appendleft(shown)

    def shown(self) -> tuple[ModelOffer, ...]:
        """The newest offers, each as far as it came by now."""
        rows = self.installer.rows() if self.installer is not None else ()
        taken = {(row.model, row.version, row.sha256) for row in rows}
        others = [each for each in self.offers if (each.model, each.version, each.sha256) not in taken]
        return (*rows, *others)[:KEPT]

    def _room(self, kind: str) -> bool:
        """Whether one more is written down now; counts it if not."""
        recent, now = self._recent[kind], self._clock.monotonic()
        while recent and recent[0] <= now - PERIOD:
            recent.popleft()
        if len(recent) < OFTEN:
            recent.append(now)
            return True
        self.passed += 1
        return False

    def _letter(self, record: Record, reason: str) -> DeadLetter:
        key = record.key.decode(errors="backslashreplace")
        return DeadLetter(
            letter_id=new_id(), time=self._clock.wall(), origin="updates", topic=record.topic, key=key, reason=reason,
            size=len(record.value), partition=record.partition, offset=record.offset,
        )  # fmt: skip


def parse(body: bytes) -> Envelope:
    """The offer that a message carries. Raises CommandRefusedError, saying what is wrong."""
    if len(body) > LARGEST:
        raise CommandRefusedError("too large", f"The message has {len(body)} bytes; {LARGEST} are the most.")
    document = signing.read(body)
    try:
        envelope = Envelope.model_validate(document)
        datetime.fromisoformat(envelope.timestamp).astimezone(UTC)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in found["loc"])
        raise CommandRefusedError("wrong types", f"The message offers no model: {where}: {found['msg']}.") from error
    except (ValueError, OverflowError) as error:
        raise CommandRefusedError("wrong types", f"The message offers no model: {error}.") from error
    return envelope
