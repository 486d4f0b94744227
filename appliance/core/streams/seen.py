"""Which commands were taken already, and how far each came: on disk before one is carried out, so that none is twice."""

from __future__ import annotations

import sqlite3

from appliance.core.store import Store
from appliance.errors import CommandRefusedError

KEEP = 86_400.0
"""Seconds beyond its end for which an id is kept; what ended before the latest forgotten one is refused for ever."""
LIMIT = 100_000
"""Most ids kept. Only commands that an issuer signed are among them; beyond it new ones are refused."""
NEW, TAKEN, ANSWERED = "", "taken", "answered"
"""How far a command came; between the last two stands how it ended."""


class Seen:
    """The ids of commands.

    Args:
        store: The appliance's database; opened by its own service.
        limit: Most ids kept.
    """

    def __init__(self, store: Store, limit: int = LIMIT) -> None:
        self._store = store
        self._limit = limit

    async def take(self, command_id: str, expires: float, now: float, place: str = "") -> None:
        """Take a command for carried out; on disk when this returns.

        Args:
            command_id: Its id.
            expires: When it ends, seconds since the epoch.
            now: Wall clock.
            place: Where it stands in its topic; empty where that is not known.

        Raises:
            CommandRefusedError: It was taken before, or too many are known, or it ended so long ago that nobody knows.
            StoreError: It is not on disk; the command must not be carried out.
        """

        def insert(connection: sqlite3.Connection) -> str:
            _forget(connection, now - KEEP)
            if connection.execute("SELECT 1 FROM commands_seen WHERE id = ?", (command_id,)).fetchone() is not None:
                return "replayed"
            if expires <= _forgotten(connection):
                return "forgotten"
            if connection.execute("SELECT count(*) FROM commands_seen").fetchone()[0] >= self._limit:
                return "too many"
            connection.execute(
                "INSERT INTO commands_seen (id, expires, place, state) VALUES (?, ?, ?, ?)", (command_id, expires, place, TAKEN)
            )
            return ""

        found = await self._store.write(insert)
        if found == "replayed":
            raise CommandRefusedError("replayed", f"The command {command_id} was taken before.")
        if found == "forgotten":
            told = "It ends no later than commands that are forgotten already; the clock was set back."
            raise CommandRefusedError("expired", told)
        if found == "too many":
            raise CommandRefusedError("too many", f"{self._limit} commands were taken within a day; no more are.")

    async def known(self, command_id: str, place: str) -> str:
        """How far a command came that comes again from its own place; NEW where it is none of those. Raises StoreError."""
        query = "SELECT state FROM commands_seen WHERE id = ? AND place = ? AND place != ''"
        row = await self._store.read(lambda connection: connection.execute(query, (command_id, place)).fetchone())
        return str(row[0]) if row is not None else NEW

    async def note(self, command_id: str, state: str) -> None:
        """Write how far a command came. Raises StoreError."""
        query = "UPDATE commands_seen SET state = ? WHERE id = ?"
        await self._store.write(lambda connection: connection.execute(query, (state, command_id)).rowcount)


def _forget(connection: sqlite3.Connection, before: float) -> None:
    latest = connection.execute("SELECT max(expires) FROM commands_seen WHERE expires < ?", (before,)).fetchone()[0]
    if latest is None:
        return
    connection.execute("DELETE FROM commands_seen WHERE expires < ?", (before,))
    connection.execute(
        "INSERT INTO commands_forgotten (one, expires) "
        "VALUES (1, ?) ON CONFLICT (one) DO UPDATE SET expires = max(expires, excluded.expires)",
        (latest,),
    )


def _forgotten(connection: sqlite3.Connection) -> float:
    row = connection.execute("SELECT expires FROM commands_forgotten").fetchone()
    return float(row[0]) if row is not None else float("-inf")
