"""Watching topics: a consumer without a group begins near the end when somebody asks, and ends when nobody does."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from appliance.core.streams.kafka_reader import KafkaReader, Record
from appliance.core.streams.model import Tailed
from appliance.errors import ApplianceError, ConflictError, InvalidArgumentsError, LinkDownError

log = logging.getLogger(__name__)

KEPT = 1000
"""Messages that a tail remembers."""
IDLE = 30.0
"""Seconds without a call after which a tail ends."""
TAILS = 4
"""Topics that are watched at one time."""
TEXT = 4096
"""Characters of a message that are kept."""
FIRST = 10.0
"""Seconds that the first call waits for the consumer."""
SEARCH = 0.2
"""Seconds that a regular expression may take over all messages of a call."""


class Tail:
    """One topic that is watched."""

    def __init__(self, topic: str, monotonic: Callable[[], float], number: int) -> None:
        self.topic = topic
        self._monotonic = monotonic
        self.asked = monotonic()
        self.ready = asyncio.Event()
        self.error: ApplianceError | None = None
        self._messages: deque[Tailed] = deque(maxlen=KEPT)
        self.number = number
        """Of the newest message."""

    async def run(self, reader: KafkaReader, before: int) -> None:
        """Read until nobody asks any more."""
        try:
            await reader.start_near_end(self.topic, before)
            while self._monotonic() - self.asked < IDLE:
                records = await reader.take(500, 0.3)
                for record in sorted(records, key=lambda each: each.time):
                    self._add(record)
                self.ready.set()
        except ApplianceError as error:
            self.error = error
        finally:
            self.ready.set()
            await reader.stop()

    def _add(self, record: Record) -> None:
        self.number += 1
        text = record.value[: 4 * TEXT].decode(errors="backslashreplace")
        try:
            document = msgspec.json.decode(record.value) if len(record.value) <= 4 * TEXT else None
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            document = None
        self._messages.append(Tailed(
            number=self.number, time=record.time, partition=record.partition, offset=record.offset,
            key=record.key[:256].decode(errors="backslashreplace"), size=len(record.value),
            text=text if len(text) <= TEXT else f"{text[:TEXT]}…", document=document if isinstance(document, dict) else None,
        ))  # fmt: skip

    def after(self, number: int) -> list[Tailed]:
        """Messages with a higher number, oldest first."""
        return [each for each in self._messages if each.number > number]


class Tails:
    """All topics that are watched.

    Args:
        reader: Makes a consumer without a group.
        monotonic: A clock that only goes forward.
        wall: The other one: numbers go on from it, so that who asks for what came after a number misses nothing where the
            tail began anew, even with another run of the appliance.
    """

    def __init__(self, reader: Callable[[], KafkaReader], monotonic: Callable[[], float], wall: Callable[[], float]) -> None:
        self._reader = reader
        self._monotonic = monotonic
        self._wall = wall
        self._highest = 0
        self._tails: dict[str, tuple[Tail, asyncio.Task[None]]] = {}

    async def read(self, topic: str, after: int, limit: int, text: str, *, is_regex: bool) -> list[Tailed]:
        """Messages that came after number `after`, oldest first; the first call begins about `limit` messages before the end.

        Args:
            topic: Its name.
            after: 0 for all that are remembered.
            limit: Most messages: the newest.
            text: Only messages that contain it in key or value, whatever its case; empty for all.
            is_regex: The text is a regular expression.

        Raises:
            LinkDownError: Kafka does not answer, or has no such topic.
            ConflictError: Too many topics are watched.
            InvalidArgumentsError: The regular expression is none, or takes too long.
        """
        tail = self._find(topic, limit)
        tail.asked = self._monotonic()
        try:
            async with asyncio.timeout(FIRST):
                await tail.ready.wait()
        except TimeoutError:
            raise LinkDownError(f"Kafka does not give {topic} within {FIRST:g} s.", "look at streams status.") from None
        if tail.error is not None:
            raise tail.error
        found = tail.after(after)
        if text:
            found = await asyncio.to_thread(matching, found, text, is_regex=is_regex)
        return found[-limit:]

    def _find(self, topic: str, before: int) -> Tail:
        self._highest = max([self._highest, *(tail.number for tail, _ in self._tails.values())])
        self._tails = {name: each for name, each in self._tails.items() if not each[1].done()}
        if topic not in self._tails:
            if len(self._tails) >= TAILS:
                raise ConflictError(
                    f"{TAILS} topics are watched already.", f"wait {IDLE:g} s after the last look at one of them."
                )
            tail = Tail(topic, self._monotonic, max(self._highest, int(self._wall() * 1000) * 1000))
            self._tails[topic] = (tail, asyncio.create_task(tail.run(self._reader(), before), name=f"tail {topic}"))
        return self._tails[topic][0]

    async def stop(self) -> None:
        """End all."""
        self._highest = max([self._highest, *(tail.number for tail, _ in self._tails.values())])
        tasks = [task for _, task in self._tails.values()]
        self._tails.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def matching(messages: list[Tailed], text: str, *, is_regex: bool) -> list[Tailed]:
    """Those that contain a text, or fit a regular expression. Raises InvalidArgumentsError."""
    import regex

    if not is_regex:
        wanted = text.casefold()
        return [each for each in messages if wanted in f"{each.key}\n{each.text}".casefold()]
    try:
        pattern: Any = regex.compile(text, regex.IGNORECASE)
        return [
            each for each in messages
            if pattern.search(f"{each.key}\n{each.text}", timeout=SEARCH / max(1, len(messages)) + 0.002, concurrent=True)
        ]  # fmt: skip
    except regex.error as error:
        raise InvalidArgumentsError(
            f"That is no regular expression: {error}.", "leave --regex out to look for plain text."
        ) from error
    except TimeoutError as error:
        raise InvalidArgumentsError("That regular expression takes too long.", "make it simpler.") from error
