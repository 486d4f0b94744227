"""Answers in the tiered memory. A cache that fails costs time, never an answer."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from typing import Any, Protocol

import msgspec

from appliance.core.llm.model import Answer, Choice, Privacy, Request, Wishes
from appliance.core.memory.model import Durability
from appliance.errors import ApplianceError

log = logging.getLogger(__name__)

NAMESPACE = "llm"
PATIENCE = 0.25
"""Seconds that the memory may take."""
LARGEST = 1024 * 1024
"""Bytes; a larger answer is not kept."""
VERSION = 1
"""Changes when the same request is to be answered in another way."""


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
        seconds: How long; 0 for not at all.
    """

    def __init__(self, memory: Keeper | None, seconds: float) -> None:
        self._memory = memory if seconds else None
        self._seconds = seconds
        self.hits = self.misses = self.failures = 0

    def wanted(self, request: Request) -> bool:
        """Whether an answer may be kept: its tiers reach into the cloud, so what is for the edge alone may not."""
        if self._memory is None or request.wishes.privacy is Privacy.edge_only:
            return False
        if request.wishes.cache is not None:
            return request.wishes.cache
        temperature = request.options.get("temperature")
        return isinstance(temperature, int | float) and not isinstance(temperature, bool) and temperature == 0

    async def get(self, key: str) -> Answer | None:
        """A kept answer; None where there is none, or the memory fails."""
        if self._memory is None:
            return None
        try:
            async with asyncio.timeout(PATIENCE):
                found = await self._memory.get(key, NAMESPACE)
            answer = msgspec.json.decode(found, type=Answer) if isinstance(found, bytes) else None
        except (ApplianceError, TimeoutError, msgspec.MsgspecError) as error:
            self._failed("gives no answer", error)
            return None
        self.hits += answer is not None
        self.misses += answer is None
        return answer

    async def set(self, key: str, answer: Answer) -> None:
        """Keep an answer."""
        if self._memory is None or len(body := msgspec.json.encode(answer)) > LARGEST:
            return
        try:
            async with asyncio.timeout(PATIENCE):
                await self._memory.set(key, body, namespace=NAMESPACE, ttl=self._seconds, durability=Durability.memory)
        except (ApplianceError, TimeoutError) as error:
            self._failed("keeps no answer", error)

    def _failed(self, what: str, error: Exception) -> None:
        self.failures += 1
        log.warning("the memory %s (%d times so far): %s", what, self.failures, str(error) or type(error).__name__)


def key_of(request: Request, choice: Choice, digest: str) -> str:
    """The same for requests that the same model answers in the same way, and for no others.

    Args:
        request: All of it counts but the wishes of its way.
        choice: Whose model would answer.
        digest: Of the model; without one the endpoint's name stands for it.
    """
    plain = msgspec.structs.replace(request, wishes=Wishes(), model="", keep_alive=None)
    body = msgspec.json.encode((VERSION, choice.model, digest or choice.endpoint, plain), order="deterministic")
    return hashlib.sha256(body).hexdigest()
