"""Where the assistant keeps things: in the tiered memory, sealed, each under its user.

Whoever may read the memory sees keys there, and so do the tiers below it; what stands in a value only this appliance reads.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

import msgspec

from appliance.core.access.sealing import Sealer
from appliance.core.memory.listing import Query
from appliance.core.memory.model import Page
from appliance.errors import StoreError

NAMESPACE = "assistant"
PAGE = 500
"""Keys of one look."""
AT_ONCE = 16
"""Values that are opened together."""
Kept = TypeVar("Kept")


class Keeper(Protocol):
    """What is needed of the memory; see Memory."""

    async def get(self, key: str, namespace: str, default: Any = None) -> Any:
        """A value."""

    async def get_many(self, keys: Any, namespace: str) -> dict[str, Any]:
        """Those values that there are."""

    async def set_many(self, values: Mapping[str, Any], *, namespace: str) -> None:
        """Keep all of them, or none."""

    async def delete(self, key: str, namespace: str) -> bool:
        """Forget a key; whether it was there."""

    async def scan(self, query: Query) -> Page:
        """Keys in order."""


class Shelf:
    """Values of users.

    Args:
        memory: Where.
        sealer: Made when it is first needed.
    """

    def __init__(self, memory: Callable[[], Keeper], sealer: Callable[[], Sealer]) -> None:
        self._memory = memory
        self._make = sealer

    @functools.cached_property
    def _sealer(self) -> Sealer:
        return self._make()

    async def get(self, key: str, kind: type[Kept]) -> Kept | None:
        """A value; None where there is none. Raises StoreError where it cannot be opened, and as Memory.get."""
        found = await self._memory().get(key, NAMESPACE)
        return None if found is None else await asyncio.to_thread(self._open, key, found, kind)

    async def get_many(self, keys: Iterable[str], kind: type[Kept]) -> tuple[dict[str, Kept], int]:
        """Those that there are, and how many of them cannot be opened. Raises as Memory.get."""
        wanted, opened, bad = list(keys), dict[str, Kept](), 0
        for start in range(0, len(wanted), AT_ONCE):
            found = await self._memory().get_many(wanted[start : start + AT_ONCE], NAMESPACE)
            part, failed = await asyncio.to_thread(self._open_all, found, kind)
            opened |= part
            bad += failed
        return opened, bad

    async def put(self, values: Mapping[str, Any]) -> None:
        """Keep values, all of them or none; durable when it returns. Raises as Memory.set."""
        sealed = await asyncio.to_thread(self._seal, values)
        await self._memory().set_many(sealed, namespace=NAMESPACE)

    async def remove(self, *keys: str) -> bool:
        """Forget; whether the first one was there. Raises as Memory.delete."""
        existed = [await self._memory().delete(key, NAMESPACE) for key in keys]
        return existed[0]

    async def keys(self, prefix: str) -> list[str]:
        """All keys that begin so. Raises StoreError."""
        found: list[str] = []
        cursor = ""
        while True:
            query = Query(namespace=NAMESPACE, prefix=prefix, cursor=cursor, limit=PAGE)
            page = await self._memory().scan(query)
            found += [entry.meta.key for entry in page.entries]
            cursor = page.cursor
            if not cursor:
                return found

    def _seal(self, values: Mapping[str, Any]) -> dict[str, bytes]:
        return {key: self._sealer.seal(_bytes(value), f"assistant {key}") for key, value in values.items()}

    def _open(self, key: str, sealed: Any, kind: type[Kept]) -> Kept:
        if not isinstance(sealed, bytes):
            raise StoreError(f"{NAMESPACE}:{key} is nothing that the assistant kept.", "delete it.")
        plain = self._sealer.open(sealed, f"assistant {key}")
        if kind is bytes:
            return plain  # type: ignore[return-value]
        try:
            return msgspec.json.decode(plain, type=kind)
        except msgspec.MsgspecError as error:
            raise StoreError(f"{NAMESPACE}:{key} has another form than this version writes: {error}.", "delete it.") from error

    def _open_all(self, found: Mapping[str, Any], kind: type[Kept]) -> tuple[dict[str, Kept], int]:
        opened, bad = dict[str, Kept](), 0
        for key, sealed in found.items():
            try:
                opened[key] = self._open(key, sealed, kind)
            except StoreError:
                bad += 1
        return opened, bad


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else msgspec.json.encode(value)


def place(kind: str, user: str, *rest: str) -> str:
    """A key: no name of a user reaches into another one's."""
    return "/".join((kind, quote(user, safe=""), *rest))
