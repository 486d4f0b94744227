"""What is remembered about a user: a profile and facts, for one agent or shared by all of the user's agents."""

from __future__ import annotations

import asyncio

import msgspec

from appliance.core.assistant.model import SHARED, Fact, Remembered
from appliance.core.assistant.shelf import Shelf, place
from appliance.core.events import new_id
from appliance.core.ports import Clock
from appliance.errors import ConflictError, NotFoundError


class FactBook:
    """Keeps them.

    Args:
        shelf: Where.
        clock: For times.
        most: Facts for each user and agent.
    """

    def __init__(self, shelf: Shelf, clock: Clock, most: int) -> None:
        self._shelf = shelf
        self._clock = clock
        self._most = most
        self._lock = asyncio.Lock()

    async def get(self, user: str, agent: str) -> Remembered:
        """What is remembered under one name. Raises StoreError."""
        return await self._shelf.get(place("facts", user, agent), Remembered) or Remembered(agent=agent)

    async def known_to(self, user: str, agent: str) -> list[Remembered]:
        """What an agent knows of a user: what is shared, and its own. Raises StoreError."""
        found = [await self.get(user, each) for each in dict.fromkeys((SHARED, agent))]
        return [each for each in found if each.profile or each.facts]

    async def all(self, user: str) -> list[Remembered]:
        """Everything that is remembered about a user. Raises StoreError."""
        found, _ = await self._shelf.get_many(await self._shelf.keys(place("facts", user, "")), Remembered)
        return sorted(found.values(), key=lambda each: (each.agent != SHARED, each.agent))

    async def add(self, user: str, agent: str, text: str, by: str, *, edge_only: bool = False) -> Fact:
        """Remember a fact; one that is known already stays as it is. Raises ConflictError where there are too many."""
        line = " ".join(text.split())
        async with self._lock:
            known = await self.get(user, agent)
            same = next((each for each in known.facts if each.text.lower() == line.lower()), None)
            if same is not None:
                return same
            if len(known.facts) >= self._most:
                hint = "forget some with `prime-spark assistant forget`, or raise assistant.facts."
                raise ConflictError(f"{self._most} facts are remembered already.", hint)
            fact = Fact(new_id().replace("-", "")[-8:], line, self._clock.wall(), by, edge_only)
            await self._put(user, msgspec.structs.replace(known, facts=(*known.facts, fact)))
        return fact

    async def profile(self, user: str, agent: str, text: str) -> Remembered:
        """Set the profile; empty for none. Raises as Memory.set."""
        async with self._lock:
            changed = msgspec.structs.replace(await self.get(user, agent), profile=text.strip())
            await self._put(user, changed)
        return changed

    async def forget(self, user: str, fact: str) -> Fact:
        """Forget a fact, whichever agent's. Raises NotFoundError."""
        async with self._lock:
            for known in await self.all(user):
                gone = next((each for each in known.facts if each.fact == fact), None)
                if gone is not None:
                    rest = tuple(each for each in known.facts if each is not gone)
                    await self._put(user, msgspec.structs.replace(known, facts=rest))
                    return gone
        raise NotFoundError(f"No fact {fact!r} is remembered.", "list them with `prime-spark assistant facts`.")

    async def forget_all(self, user: str) -> int:
        """Forget profile and facts of all agents; how many facts it were."""
        async with self._lock:
            known = await self.all(user)
            for each in known:
                await self._shelf.remove(place("facts", user, each.agent))
        return sum(len(each.facts) for each in known)

    async def _put(self, user: str, known: Remembered) -> None:
        key = place("facts", user, known.agent)
        if known.profile or known.facts:
            await self._shelf.put({key: known})
        else:
            await self._shelf.remove(key)


def as_text(known: list[Remembered], *, near: bool) -> str:
    """For the model; empty where nothing is remembered.

    Args:
        known: What there is.
        near: The model's place is in the house for sure: what must stay there may go along.
    """
    lines = [f"Profile: {each.profile}" for each in known if each.profile]
    lines += [f"- {fact.text}" for each in known for fact in each.facts if near or not fact.edge_only]
    return "\n".join(lines)
