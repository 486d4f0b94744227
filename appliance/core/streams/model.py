"""The values of the streams: messages, their classes, and what the Streams screen shows. None is "not known"."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum, StrEnum
from typing import Any, NamedTuple, Protocol

import msgspec


class Priority(IntEnum):
    """Classes of messages. A lower number is sent first and given up last."""

    critical = 0
    high = 1
    normal = 2
    low = 3


class Message(NamedTuple):
    """One event, ready to be sent.

    Attributes:
        id: UUID version 7; the idempotency key up to the last table.
        topic: Where it goes.
        key: Its device, UTF-8: messages of one key and topic keep their order.
        value: The envelope of contracts.md, section 2, as UTF-8 JSON.
        priority: Its class; all messages of one topic have the same one, else their order would not hold.
        time: Wall clock of the event, seconds since the epoch.
    """

    id: str
    topic: str
    key: bytes
    value: bytes
    priority: Priority
    time: float


class Refused(NamedTuple):
    """A message that no broker will ever take as it is, such as one that is too large."""

    message: Message
    reason: str


class Producer(Protocol):
    """Brings messages to the broker."""

    async def send(self, messages: Sequence[Message]) -> list[Refused]:
        """Send messages, in order for each topic and key; returns when all in-sync replicas have them.

        Returns:
            Those that can never be sent; all others are stored.

        Raises:
            LinkDownError: The broker does not take them now. Some may be stored all the same: sending them again does no
                harm, their readers know them by their ids.
        """


class LinkState(StrEnum):
    """How the link to Kafka is."""

    absent = "absent"
    """Not configured."""
    connecting = "connecting"
    up = "up"
    down = "down"


class LinkStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The link to Kafka."""

    state: LinkState
    reason: str
    next_step: str = ""
    bootstrap: str = ""
    """As configured."""
    brokers: tuple[str, ...] = ()
    """HOST:PORT of those that the cluster names."""
    since: float = 0.0
    """Wall clock of the newest change of state."""


class TopicStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One topic as this appliance sees it."""

    name: str
    direction: str
    """"out", "in" or "both"."""
    partitions: int | None = None
    replication: int | None = None
    sent: int = 0
    """Messages since the start."""
    received: int = 0
    rate: float = 0.0
    """Messages a second, both ways, over the last ten seconds."""
    byte_rate: float = 0.0
    refused: int = 0
    problem: str = ""
    """What differs from the contract, such as a shorter retention; empty for nothing."""


class GroupLag(msgspec.Struct, frozen=True, kw_only=True):
    """How far a consumer group is behind in one topic."""

    group: str
    topic: str
    lag: int
    """Messages."""
    members: int | None = None


class ClassStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One priority class of the outbox."""

    priority: str
    waiting: int
    in_memory: int
    on_disk: int
    bytes: int
    oldest_s: float | None
    sent: int
    """Since the start."""
    dropped: int
    """Since ever: given up because a bound was reached."""


class OutboxStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What waits for Kafka."""

    waiting: int
    bytes: int
    byte_limit: int
    age_limit_s: float
    oldest_s: float | None
    drain_rate: float
    """Messages a second that went out, over the last ten seconds."""
    eta_s: float | None
    """Seconds until it is empty at the present rates; None where it does not get emptier."""
    paused: bool
    sent: int
    dropped: int
    dead: int
    """Dead letters that are kept."""
    quarantined: int
    """Messages lost with damaged parts of the outbox's file, as far as that can be told."""
    retry_s: float | None
    """Seconds until the next try; None while nothing failed."""
    error: str = ""
    next_step: str = ""
    classes: tuple[ClassStatus, ...] = ()
    dead_dropped: int = 0
    """Dead letters given up because there were too many of their origin, since ever."""


class CommandStats(msgspec.Struct, frozen=True, kw_only=True):
    """Signed commands since the start."""

    accepted: int = 0
    refused: dict[str, int] = {}
    """Count by reason: "unsigned", "unknown issuer", "bad signature", "expired", "replayed", "not for this device", …"""
    last: str = ""
    """The newest one, as one line."""
    last_time: float = 0.0


class ModelOffer(msgspec.Struct, frozen=True, kw_only=True):
    """A model that models.updates offers to this device."""

    offer_id: str
    time: float
    """Of the broker, seconds since the epoch."""
    model: str
    version: str
    stage: str
    artifact: str
    sha256: str
    note: str
    """What became of it."""
    state: str = "offered"
    """"offered", "queued", "downloading", "verifying", "canary", "active", "staged", "archived", "rolled back", "refused",
    "failed", "superseded", or "ignored"."""
    changed: float = 0.0
    """Wall clock of the last change of its state; 0 where nothing was done about it."""


class StreamsStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Section.streams."""

    link: LinkStatus
    outbox: OutboxStatus
    topics: tuple[TopicStatus, ...] = ()
    groups: tuple[GroupLag, ...] = ()
    commands: CommandStats = CommandStats()
    offers: tuple[ModelOffer, ...] = ()
    """Newest first."""
    offers_passed: int = 0
    """Messages of models.updates, since the start, of which nothing was written down because there were too many."""


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A message that could not be sent or used."""

    letter_id: str
    """UUID version 7."""
    time: float
    """Wall clock at which it was set aside."""
    origin: str
    """"outbox", "sink", "commands" or "updates"."""
    topic: str
    key: str
    reason: str
    size: int
    partition: int | None = None
    offset: int | None = None
    body: str = ""
    """The value as text, where the letter is asked for by its id; what is not UTF-8 is escaped."""


class Tailed(msgspec.Struct, frozen=True, kw_only=True):
    """One message that was seen while a topic was watched."""

    number: int
    """Grows by one with each message of a tail; a later tail of the same topic begins with a higher one."""
    time: float
    """Of the broker, seconds since the epoch."""
    partition: int
    offset: int
    key: str
    size: int
    text: str
    """The value as text; cut where it is long."""
    document: dict[str, Any] | None = None
    """The envelope; None where it is none."""
