"""Answers of other parts, kept in the tiered memory. A cache that fails costs time, never an answer."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from appliance.core.memory.model import Durability
from appliance.errors import ApplianceError

log = logging.getLogger(__name__)

PATIENCE = 0.25
"""Seconds that the memory may take: a tier that is slow must not make answers slow."""
LARGEST = 1024 * 1024
"""Bytes; a larger answer is not kept."""
Kept = TypeVar("Kept")


class Keeper(Protocol):
    """What is needed of the memory."""

    async def get(self, key: str, namespace: str, default: Any = None) -> Any:
        """A value; `default` where there is none."""

    async def set(self, key: str, value: Any, *, namespace: str, ttl: float | None, durability: Durability) -> None:
        """Keep a value."""


class Answers(Generic[Kept]):
    """Keeps answers of one kind for a while.

    Args:
        memory: Where; None for nowhere.
        namespace: In the memory.
        kind: A msgspec struct.
    """

    def __init__(self, memory: Keeper | None, namespace: str, kind: type[Kept]) -> None:
        self.memory = memory
        self._namespace, self._kind = namespace, kind
        self.failures = 0
        """Since the start."""

    async def get(self, key: str) -> Kept | None:
        """A kept answer; None where there is none, or the memory fails."""
        if self.memory is None:
            return None
        try:
            async with asyncio.timeout(PATIENCE):
                found = await self.memory.get(key, self._namespace)
            return msgspec.json.decode(found, type=self._kind) if isinstance(found, bytes) else None
        except (ApplianceError, TimeoutError, msgspec.MsgspecError) as error:
            self._failed("gives no answer", error)
            return None

    async def set(self, key: str, answer: Kept, seconds: float) -> None:
        """Keep an answer for so many seconds."""
        if self.memory is None or len(body := msgspec.json.encode(answer)) > LARGEST:
            return
        try:
            async with asyncio.timeout(PATIENCE):
                await self.memory.set(key, body, namespace=self._namespace, ttl=seconds, durability=Durability.memory)
        except (ApplianceError, TimeoutError) as error:
            self._failed("keeps no answer", error)

    def _failed(self, what: str, error: Exception) -> None:
        self.failures += 1
        log.warning("the memory %s (%d times so far): %s", what, self.failures, str(error) or type(error).__name__)
