"""Which commands were taken already: on disk before one is carried out, so that none is carried out twice."""

from __future__ import annotations

import sqlite3

from appliance.core.store import Store
from appliance.errors import CommandRefusedError

KEEP = 86_400.0
"""Seconds beyond its end for which an id is kept: a clock that is set back makes no old command new."""
LIMIT = 100_000
"""Most ids kept. Only commands that an issuer signed are among them; beyond it new ones are refused."""


class Seen:
    """The ids of commands.

    Args:
        store: The appliance's database; opened by its own service.
        limit: Most ids kept.
    """

    def __init__(self, store: Store, limit: int = LIMIT) -> None:
        self._store = store
        self._limit = limit

    async def take(self, command_id: str, expires: float, now: float) -> None:
        """Take a command for carried out; on disk when this returns.

        Args:
            command_id: Its id.
            expires: When it ends, seconds since the epoch.
            now: Wall clock.

        Raises:
            CommandRefusedError: It was taken before, or too many are known.
            StoreError: It is not on disk; the command must not be carried out.
        """

        def insert(connection: sqlite3.Connection) -> str:
            connection.execute("DELETE FROM commands_seen WHERE expires < ?", (now - KEEP,))
            if connection.execute("SELECT count(*) FROM commands_seen").fetchone()[0] >= self._limit:
                known = connection.execute("SELECT 1 FROM commands_seen WHERE id = ?", (command_id,)).fetchone()
                return "replayed" if known else "too many"
            row = (command_id, expires)
            fresh = connection.execute("INSERT INTO commands_seen VALUES (?, ?) ON CONFLICT (id) DO NOTHING", row).rowcount
            return "" if fresh else "replayed"

        found = await self._store.write(insert)
        if found == "replayed":
            raise CommandRefusedError("replayed", f"The command {command_id} was taken before.")
        if found:
            raise CommandRefusedError("too many", f"{self._limit} commands were taken within a day; no more are.")
