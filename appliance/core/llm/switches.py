"""Which endpoints operators drain or have halted; durable."""

from __future__ import annotations

from appliance.core.ports import Clock
from appliance.core.store import Store


class Switches:
    """Keeps them.

    Args:
        store: The appliance's database.
        clock: Says when.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def all(self) -> dict[str, tuple[str, str]]:
        """Endpoint → ("draining" or "halted", who did it). Raises StoreError."""
        rows = await self._store.read(
            lambda connection: connection.execute("SELECT endpoint, switch, who FROM llm_switches").fetchall()
        )
        return {name: (switch, who) for name, switch, who in rows}

    async def put(self, endpoint: str, switch: str, who: str) -> None:
        """Set one; an empty switch lets it serve. Raises StoreError."""
        row = (endpoint, switch, who, self._clock.wall())
        if switch:
            sql = "INSERT OR REPLACE INTO llm_switches (endpoint, switch, who, time) VALUES (?, ?, ?, ?)"
            await self._store.write(lambda connection: connection.execute(sql, row).rowcount)
        else:
            gone = "DELETE FROM llm_switches WHERE endpoint = ?"
            await self._store.write(lambda connection: connection.execute(gone, row[:1]).rowcount)
