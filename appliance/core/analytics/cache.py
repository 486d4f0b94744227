"""Answers in the tiered memory. A cache that fails costs time, never an answer."""

from __future__ import annotations

import hashlib

import msgspec

from appliance.core.analytics.asking import Asked
from appliance.core.analytics.model import Answer
from appliance.core.memory.answers import Answers, Keeper

NAMESPACE = "analytics"
SETTLED = 3600.0
"""Seconds after which hardly any reading of a range is still on its way: streams hold some back while a link is down."""
LONG, MIDDLE, SHORT = 600.0, 60.0, 5.0
"""Seconds that an answer is kept: of a settled range, of one that ended lately, of one that reaches to now.

A reading that arrives late, whenever that is, therefore shows after ten minutes at most: no write has to know which
answers it changes.
"""
VERSION = 2
"""Changes when the same query is to be answered in another way."""


class AnswerCache:
    """Keeps answers for a while.

    Args:
        memory: Where; None for nowhere.
    """

    def __init__(self, memory: Keeper | None) -> None:
        self._answers = Answers(memory, NAMESPACE, Answer)

    @property
    def failures(self) -> int:
        """How often the memory failed since the start."""
        return self._answers.failures

    async def get(self, key: str) -> Answer | None:
        """A kept answer; None where there is none, or the memory fails."""
        return await self._answers.get(key)

    async def set(self, key: str, asked: Asked, answer: Answer) -> None:
        """Keep an answer, for how long depends on its range."""
        await self._answers.set(key, answer, lifetime(asked, answer.as_of))


def key_of(asked: Asked, store: str) -> str:
    """The same for all ways to ask the same of a store."""
    body = msgspec.json.encode((VERSION, store, asked.query), order="deterministic")
    return hashlib.sha256(body).hexdigest()


def lifetime(asked: Asked, now: float) -> float:
    """Seconds that an answer read now is good for."""
    age = now - asked.query.until
    return LONG if age >= SETTLED else MIDDLE if age > 0 else SHORT
