"""How writes to the local disk go: an error stays until a write succeeds, a refusal until there is room again."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import AsyncIterator

from appliance.core.memory.eviction import Evictor
from appliance.core.store import Store
from appliance.errors import StoreError, TierFullError

log = logging.getLogger(__name__)

TRIED = 1024 * 1024
"""Most bytes that a trial writes."""


class DiskWatch:
    """Stands between the writers and the evictor.

    Args:
        evictor: Gives room.
        store: The local disk's database.
    """

    def __init__(self, evictor: Evictor, store: Store) -> None:
        self._evictor = evictor
        self._store = store
        self._size = 0
        """Bytes of the write that failed or was refused."""
        self.error: StoreError | None = None
        self._refused: TierFullError | None = None

    @contextlib.asynccontextmanager
    async def room_for(self, size: int) -> AsyncIterator[None]:
        """As Evictor.room_for; hears how the write goes. Raises TierFullError."""
        try:
            async with self._evictor.room_for(size):
                yield
        except StoreError as error:
            self.failed(error, size)
            raise
        except TierFullError as error:
            self._refused, self._size = error, size
            raise
        if size and size >= self._size:  # a deletion, or less than what failed, goes through where a value does not
            self.error = self._refused = None

    def failed(self, error: StoreError, size: int = 0) -> None:
        """A write failed."""
        if self.error is None:
            log.error("the memory's disk fails: %s", error.message)
            self._size = 0
        self.error, self._size = error, max(size, self._size)

    @property
    def refused(self) -> TierFullError | None:
        """Why the newest write found no room; None where it would find some now."""
        if self._refused is not None and self._evictor.fits(self._size):
            self._refused = None
        return self._refused

    async def try_again(self) -> None:
        """After a failed write: see whether one as large goes through now, and leave nothing of it. Raises StoreError."""
        if self.error is None:
            return
        size = min(max(self._size, 1), TRIED)

        def fill(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT OR REPLACE INTO totals (name, value) VALUES ('trial', zeroblob(?))", (size,))

        await self._store.write(fill)
        await self._store.write(lambda connection: connection.execute("DELETE FROM totals WHERE name = 'trial'"))
        log.info("the memory's disk takes writes again")
        self.error = None
