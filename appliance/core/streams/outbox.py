"""What waits for Kafka: durable events in the journal, all others in a ring that goes to disk while Kafka does not answer."""

from __future__ import annotations

from collections.abc import Collection

from appliance.core.events import Event
from appliance.core.model import HealthReport
from appliance.core.outbox import Outbox
from appliance.core.ports import Clock
from appliance.core.store import Store
from appliance.core.streams.deadletters import DeadLetters
from appliance.core.streams.model import OutboxStatus, Producer
from appliance.settings import OutboxSettings


class StreamOutbox:
    """The outbox of the appliance.

    Durable events are not offered here: they are in the journal already, and this is one more of its readers ("kafka").
    Where Kafka is not configured, make none of these, and call `journal.forget("kafka")` after `journal.load()`: the
    journal would keep its drops for a reader that never comes.

    What kill -9 costs: of durable events nothing; of the others at most what was in RAM, which is what came while Kafka
    answered and was not acknowledged yet, and, while it does not answer, what came in the last minute.

    Args:
        journal: The durable events; loaded already.
        store: `Store(path of streams.sqlite, "appliance.core.streams.migrations")`, not open; opened and closed here.
        clock: Both clocks.
        settings: Bounds.
        device_id: What the envelopes carry as device.
    """

    def __init__(self, journal: Outbox, store: Store, clock: Clock, settings: OutboxSettings, device_id: str) -> None:
        raise NotImplementedError
        self.letters: DeadLetters
        """Dead letters: list, get, add, retry, discard."""

    async def start(self) -> None:
        """Open the file; one that is no database any more is moved aside. Raises StoreError."""

    async def run(self, producer: Producer) -> None:
        """Send what waits, and spill, until cancelled. An outage is no error: it is retried."""

    async def stop(self) -> None:
        """After `run` was cancelled: bring to disk what is in RAM, and close."""

    def offer(self, event: Event) -> None:
        """Take an event that is not durable (a durable one is passed over: the journal has it); never blocks, never fails."""

    async def room(self) -> None:
        """Wait until the ring takes more without giving up something; call it between the batches of a bus subscription."""

    def link(self, up: bool) -> None:
        """The link to Kafka is up (send at once, whatever the backoff), or is down (bring the ring to disk)."""

    async def pause(self) -> None:
        """Send nothing until `resume`; kept over restarts. Raises StoreError."""

    async def resume(self) -> None:
        """Go on after `pause`. Raises StoreError."""

    async def replay(self, since: float, until: float, topics: Collection[str] = ()) -> int:
        """Send events of the journal again, with their ids, after what waits in their classes.

        Args:
            since: First moment, wall clock, seconds since the epoch.
            until: Moment behind the last one.
            topics: Only these; all where none is named.

        Returns:
            How many events that are.

        Raises:
            StreamError: A topic has no durable events.
            StoreError: It is not begun.
        """
        raise NotImplementedError

    async def status(self) -> OutboxStatus:
        """What waits, for Section.streams; cheap enough for each second."""
        raise NotImplementedError

    async def health(self) -> HealthReport:
        """Degraded while the disk is full or the bounds cost events, or when parts of the file were lost."""
        raise NotImplementedError
