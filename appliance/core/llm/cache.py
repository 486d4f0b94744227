"""Answers in the tiered memory. A cache that fails costs time, never an answer."""

from __future__ import annotations

import hashlib

import msgspec

from appliance.core.llm.model import Answer, Privacy, Request, Strategy, Wishes
from appliance.core.memory.answers import Answers, Keeper

NAMESPACE = "llm"
VERSION = 2
"""Changes when the same request is to be answered in another way."""


class AnswerCache:
    """Keeps answers for a while.

    Args:
        memory: Where; None for nowhere.
        seconds: How long; 0 for not at all.
    """

    def __init__(self, memory: Keeper | None, seconds: float) -> None:
        self._answers = Answers(memory if seconds else None, NAMESPACE, Answer)
        self._seconds = seconds
        self.hits = self.misses = 0

    @property
    def failures(self) -> int:
        """How often the memory failed since the start."""
        return self._answers.failures

    def wanted(self, request: Request, strategy: Strategy) -> bool:
        """Whether an answer may be kept: the tiers reach into the cloud, so what is for the edge alone may not."""
        alone = request.wishes.privacy is Privacy.edge_only or strategy is Strategy.edge_only
        if self._answers.memory is None or alone:
            return False
        if request.wishes.cache is not None:
            return request.wishes.cache
        temperature = request.options.get("temperature")
        return isinstance(temperature, int | float) and not isinstance(temperature, bool) and temperature == 0

    async def get(self, key: str) -> Answer | None:
        """A kept answer; None where there is none, or the memory fails."""
        if self._answers.memory is None:
            return None
        failed = self.failures
        answer = await self._answers.get(key)
        self.hits += answer is not None
        self.misses += answer is None and self.failures == failed
        return answer

    async def set(self, key: str, answer: Answer) -> None:
        """Keep an answer."""
        await self._answers.set(key, answer, self._seconds)


def key_of(request: Request, model: str, version: str, who: str) -> str:
    """The same for requests of one person that the same model answers in the same way, and for no others.

    Args:
        request: All of it counts but the wishes of its way.
        model: Which would answer.
        version: Its digest; where its endpoint tells none, that endpoint.
        who: Asks; what one person asked is not to be found out by another, not even from how fast the answer is.
    """
    plain = msgspec.structs.replace(request, wishes=Wishes(), model="", keep_alive=None)
    body = msgspec.json.encode((VERSION, who, model, version, plain), order="deterministic")
    return hashlib.sha256(body).hexdigest()
