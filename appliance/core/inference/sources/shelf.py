"""Snapshots and clips in the tiered memory: for so many days, and so many bytes; the oldest make room."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Iterable
from typing import Any, Protocol

from appliance.core.memory.model import Durability
from appliance.core.ports import Clock
from appliance.core.store import Store
from appliance.errors import ApplianceError, TierFullError

log = logging.getLogger(__name__)

NAMESPACE = "sources"
DAY = 86400.0


class Keeper(Protocol):
    """What is needed of the memory (memory.memory.Memory)."""

    async def set(
        self, key: str, value: Any, *, namespace: str, ttl: float | None, durability: Durability, tags: Iterable[str]
    ) -> None:
        """Keep a value. Raises ApplianceError."""

    async def delete(self, key: str, namespace: str) -> bool:
        """Forget a key. Raises ApplianceError."""


class Shelf:
    """Keeps pictures of events.

    Args:
        memory: Where they are kept.
        store: Has the list of them.
        clock: Says when.
        days: For how long.
        most: Bytes of all of them.
    """

    def __init__(self, memory: Keeper, store: Store, clock: Clock, days: float, most: int) -> None:
        self._memory = memory
        self._store = store
        self._clock = clock
        self._days = days
        self._most = most
        self._turn = asyncio.Lock()

    async def keep(self, key: str, body: bytes, source: str, tags: Iterable[str] = ()) -> str:
        """Keep a picture or a clip; returns "sources:KEY" when it is on disk.

        Raises:
            ApplianceError: It is not kept: no room, a failing disk.
        """
        if len(body) > self._most:
            raise TierFullError(f"{len(body)} bytes are more than all snapshots may have.", "raise sources.keep_mib.")
        row = (key, source, self._clock.wall(), len(body))
        async with self._turn:
            await self._make_room(len(body))
            await self._store.write(
                lambda connection: connection.execute(
                    "INSERT INTO source_media (key, source, kept, size) VALUES (?, ?, ?, ?)", row
                )
            )
            try:
                await self._memory.set(
                    key, body, namespace=NAMESPACE, ttl=self._days * DAY, durability=Durability.edge, tags=[source, *tags]
                )
            except ApplianceError:
                await self._strike([key])
                raise
        return f"{NAMESPACE}:{key}"

    async def trim(self) -> int:
        """Strike what the memory has let go by now; returns how many are left. Raises StoreError."""
        over = self._clock.wall() - self._days * DAY

        def write(connection: sqlite3.Connection) -> int:
            connection.execute("DELETE FROM source_media WHERE kept < ?", (over,))
            return int(connection.execute("SELECT count(*) FROM source_media").fetchone()[0])

        return await self._store.write(write)

    async def _make_room(self, size: int) -> None:
        """Let the oldest go until there is room."""

        def read(connection: sqlite3.Connection) -> list[tuple[str, int]]:
            held = connection.execute("SELECT coalesce(sum(size), 0) FROM source_media").fetchone()[0]
            going: list[tuple[str, int]] = []
            if held + size > self._most:
                for key, its in connection.execute("SELECT key, size FROM source_media ORDER BY kept, key"):
                    going.append((key, its))
                    held -= its
                    if held + size <= self._most:
                        break
            return going

        going = [key for key, _ in await self._store.read(read)]
        for key in going:
            await self._memory.delete(key, NAMESPACE)
        if going:
            await self._strike(going)
            log.info("%d older snapshots and clips made room", len(going))

    async def _strike(self, keys: list[str]) -> None:
        rows = [(key,) for key in keys]
        await self._store.write(lambda connection: connection.executemany("DELETE FROM source_media WHERE key = ?", rows))
