"""Brings the rules to the windows: each change goes into a compacted topic, and is tried until Kafka has it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from appliance.core.events import new_id
from appliance.core.figures import counted
from appliance.core.model import Health, HealthReport
from appliance.core.ports import Clock
from appliance.core.streams.model import Message, Priority, Refused
from appliance.core.streams.rules_store import Owed, RuleBook
from appliance.errors import AbsentError, LinkDownError

log = logging.getLogger(__name__)

RETRY = 5.0
"""Seconds between two tries while Kafka does not take the rules."""


class RulePublisher(Protocol):
    """Brings messages to the broker (as streams.model.Producer)."""

    async def send(self, messages: Sequence[Message]) -> list[Refused]:
        """Send messages; returns those that can never be sent. Raises LinkDownError."""


class RulesService:
    """Publishes what the book owes (implements ports.Service).

    Args:
        book: The rules.
        publisher: Gives the link to Kafka; raises AbsentError where there is none.
        topic: The rules' topic.
        clock: Says when.
    """

    name = "rules"
    summary = "Brings the rules of the windows to Kafka"
    depends: tuple[str, ...] = ("store",)

    def __init__(self, book: RuleBook, publisher: Callable[[], RulePublisher], topic: str, clock: Clock) -> None:
        self.book = book
        self._publisher = publisher
        self._topic = topic
        self._clock = clock
        self._changed = asyncio.Event()
        self._waiting = 0
        self._problem = ""
        self._next_step = ""

    def wake(self) -> None:
        """A rule was changed."""
        self._changed.set()

    async def start(self) -> None:
        """Look at what is owed."""
        self._waiting = len(await self.book.owed())

    async def run(self) -> None:
        """Publish changes until cancelled."""
        while True:
            self._changed.clear()
            owed = await self.book.owed()
            self._waiting = len(owed)
            if owed and not await self._publish(owed):
                await asyncio.sleep(RETRY)
            elif not owed:
                await self._changed.wait()

    async def _publish(self, owed: list[Owed]) -> bool:
        """Whether Kafka took everything."""
        try:
            refused = await self._publisher().send([self._message(one) for one in owed])
        except (AbsentError, LinkDownError) as error:
            self._tell(error.message, error.next_step)
            return False
        names = {one.message.key.decode(): one.reason for one in refused}
        await self.book.heard([one for one in owed if one.rule_id not in names])
        if names:
            name, reason = next(iter(names.items()))
            self._tell(f"Kafka refuses rule {name}: {reason}", f"look whether the topic {self._topic} is there.")
            return False
        self._problem = self._next_step = ""
        self._waiting = 0
        log.info("%s published: %s", counted(len(owed), "rule"), ", ".join(one.rule_id for one in owed))
        return True

    def _tell(self, problem: str, next_step: str) -> None:
        if problem != self._problem:
            log.warning("rules wait for Kafka: %s", problem)
        self._problem, self._next_step = problem, next_step

    def _message(self, one: Owed) -> Message:
        # A removed rule stays as a word about it: what is only missing could not be told from what has not come yet.
        body = one.document.encode() if one.document is not None else msgspec.json.encode({"id": one.rule_id, "removed": True})
        return Message(new_id(), self._topic, one.rule_id.encode(), body, Priority.normal, self._clock.wall())

    async def stop(self) -> None:
        """Nothing is held."""

    async def health(self) -> HealthReport:
        """Degraded while rules wait for Kafka."""
        if self._problem and self._waiting:
            return HealthReport(Health.degraded, f"{counted(self._waiting, 'rule')} wait: {self._problem}", self._next_step)
        return HealthReport(Health.healthy, "no rule waits for Kafka" if not self._waiting else "rules are being published")
