"""Answers in the tiered memory. A cache that fails costs time, never an answer."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from typing import Any, Protocol

import msgspec

from appliance.core.analytics.asking import Asked
from appliance.core.analytics.model import Answer
from appliance.core.memory.model import Durability
from appliance.errors import ApplianceError

log = logging.getLogger(__name__)

NAMESPACE = "analytics"
PATIENCE = 0.25
"""Seconds that the memory may take: a tier that is slow must not make answers slow."""
LARGEST = 1024 * 1024
"""Bytes; a larger answer is not kept."""
SETTLED = 3600.0
"""Seconds after which hardly any reading of a range is still on its way: streams hold some back while a link is down."""
LONG, MIDDLE, SHORT = 600.0, 60.0, 5.0
"""Seconds that an answer is kept: of a settled range, of one that ended lately, of one that reaches to now.

A reading that arrives late, whenever that is, therefore shows after ten minutes at most: no write has to know which
answers it changes.
"""
VERSION = 2
"""Changes when the same query is to be answered in another way."""


class Keeper(Protocol):
    """What is needed of the memory."""

    async def get(self, key: str, namespace: str, default: Any = None) -> Any:
        """A value; `default` where there is none."""

    async def set(self, key: str, value: Any, *, namespace: str, ttl: float | None, durability: Durability) -> None:
        """Keep a value."""


class AnswerCache:
    """Keeps answers for a while.

    Args:
        memory: Where; None for nowhere.
    """

    def __init__(self, memory: Keeper | None) -> None:
        self._memory = memory
        self.failures = 0
        """Since the start."""

    async def get(self, key: str) -> Answer | None:
        """A kept answer; None where there is none, or the memory fails."""
        if self._memory is None:
            return None
        try:
            async with asyncio.timeout(PATIENCE):
                found = await self._memory.get(key, NAMESPACE)
            return None if not isinstance(found, bytes) else msgspec.json.decode(found, type=Answer)
        except (ApplianceError, TimeoutError, msgspec.MsgspecError) as error:
            self._failed("gives no answer", error)
            return None

    async def set(self, key: str, asked: Asked, answer: Answer) -> None:
        """Keep an answer, for how long depends on its range."""
        if self._memory is None:
            return
        body = msgspec.json.encode(answer)
        if len(body) > LARGEST:
            return
        try:
            async with asyncio.timeout(PATIENCE):
                await self._memory.set(
                    key, body, namespace=NAMESPACE, ttl=lifetime(asked, answer.as_of), durability=Durability.memory
                )
        except (ApplianceError, TimeoutError) as error:
            self._failed("keeps no answer", error)

    def _failed(self, what: str, error: Exception) -> None:
        self.failures += 1
        log.warning("the memory %s (%d times so far): %s", what, self.failures, str(error) or type(error).__name__)


def key_of(asked: Asked, store: str) -> str:
    """The same for all ways to ask the same of a store."""
    body = msgspec.json.encode((VERSION, store, asked.query), order="deterministic")
    return hashlib.sha256(body).hexdigest()


def lifetime(asked: Asked, now: float) -> float:
    """Seconds that an answer read now is good for."""
    age = now - asked.query.until
    return LONG if age >= SETTLED else MIDDLE if age > 0 else SHORT
