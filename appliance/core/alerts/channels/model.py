"""Values of the alert channels: what is told, its deliveries, and how each channel is."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from appliance.core.model import Health, Severity
from appliance.errors import ApplianceError

RANK = {Severity.info: 0, Severity.warning: 1, Severity.critical: 2}
"""Severities, the least first."""
CHANNEL_RULE = "alert-channel"
"""The rule that tells of channels that do not deliver; never told by the channel that it is about."""


class DeliveryError(ApplianceError):
    """A channel did not take a message.

    Args:
        message: What happened, with what the server answered.
        next_step: What to do.
        retry: It may do better later.
        after: Seconds that the server asked us to wait.
    """

    code = "delivery"

    def __init__(self, message: str, next_step: str = "", *, retry: bool = False, after: float | None = None) -> None:
        super().__init__(message, next_step)
        self.retry = retry
        self.after = after

    def once(self) -> DeliveryError:
        """The same of what nobody tries again, as a test."""
        return DeliveryError(self.message, self.next_step.replace("it is tried again", "then test it once more"))


class Note(msgspec.Struct, frozen=True):
    """One alert as it is told."""

    alert_id: str
    severity: Severity
    labels: dict[str, str]
    annotations: dict[str, str]
    starts: float
    """Wall clock, seconds since the epoch."""
    ends: float = 0.0
    """The same; 0 while it fires."""

    @property
    def firing(self) -> bool:
        """Whether it is not over."""
        return not self.ends


class Notice(msgspec.Struct, frozen=True):
    """One message for one channel: a group of alerts."""

    channel: str
    route: str
    group_key: str
    group: dict[str, str]
    """The labels that its alerts have in common by the route's choice."""
    notes: tuple[Note, ...]
    why: str = "new"
    """"new", "changed", "repeated", "escalated" or "test"."""

    @property
    def firing(self) -> tuple[Note, ...]:
        """Those that are not over."""
        return tuple(note for note in self.notes if note.firing)

    @property
    def resolved(self) -> tuple[Note, ...]:
        """Those that are over."""
        return tuple(note for note in self.notes if not note.firing)

    @property
    def status(self) -> str:
        """ "firing" while any of its alerts is, else "resolved"."""
        return "firing" if self.firing else "resolved"

    @property
    def severity(self) -> Severity:
        """The worst of those that fire; of all where none does."""
        return max((note.severity for note in self.firing or self.notes), key=RANK.__getitem__)


class DeliveryState(StrEnum):
    """What became of a message."""

    waiting = "waiting"
    delivered = "delivered"
    failed = "failed"
    """Refused, so that trying again is no use."""
    given_up = "given up"
    merged = "merged"
    """A later message of its group took its alerts along before it was delivered."""
    dropped = "dropped"
    """Too much waited for the channel."""


class Delivery(msgspec.Struct, frozen=True):
    """The record of one message."""

    seq: int
    delivery_id: str
    """Of every try the same, so that a receiver knows a message that comes twice."""
    channel: str
    state: DeliveryState
    status: str
    """ "firing" or "resolved"."""
    severity: Severity
    title: str
    why: str
    created: float
    """Wall clock."""
    attempts: int = 0
    tried_at: float = 0.0
    """Wall clock of the last try; 0 for none."""
    delivered_at: float = 0.0
    """Wall clock; 0 where it was not."""
    next_try: float = 0.0
    """Wall clock; 0 where none is planned."""
    answer: str = ""
    """What the server said last, or why there was no answer."""
    kept: bool = True
    """Whether it is on disk: what is not would not be tried again after a restart."""


class ChannelStatus(msgspec.Struct, frozen=True):
    """How a channel is."""

    name: str
    kind: str
    target: str
    """Where it goes, without what is secret."""
    health: Health
    reason: str
    next_step: str = ""
    quiet: bool = False
    """Quiet hours hold now."""
    waiting: int = 0
    delivered: int = 0
    failed: int = 0
    retries: int = 0
    merged: int = 0
    dropped: int = 0
    """Given up, or pushed out while too much waited."""
    last_delivered_at: float = 0.0
    """Wall clock; 0 for never."""
    last_answer: str = ""


class ChannelsStatus(msgspec.Struct, frozen=True):
    """All channels, and the newest deliveries, newest first."""

    channels: tuple[ChannelStatus, ...]
    deliveries: tuple[Delivery, ...]
    problem: str = ""
    """Why records are not on disk; empty where they are."""


class RouteStatus(msgspec.Struct, frozen=True):
    """A route as it holds."""

    route: str
    severity: str
    match: tuple[str, ...]
    channels: tuple[str, ...]
    group_by: tuple[str, ...]
    wait_s: float
    interval_s: float
    repeat_s: float
    escalates: str
    """After how long, and to whom; empty for never."""
    last: bool
    alerts: tuple[str, ...] = ()
    """Active alerts that go this way now."""
