"""What the power domain keeps on disk: plans, how far a run is, the chosen setting, events, how long stages took."""

from __future__ import annotations

import logging
import sqlite3
from typing import Any

import msgspec

from appliance.core.ports import Clock
from appliance.core.power.model import PowerEvent, RunState, Setting, StageStatus
from appliance.core.store import Store

log = logging.getLogger(__name__)

PLANS, EVENTS, MEASURED = 50, 5000, 10
"""Most that are kept of each; of measured times, for each stage."""
PUT = "INSERT INTO power_state (name, body) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET body = ?2"


class KeptPlan(msgspec.Struct, frozen=True):
    """A version of the plan."""

    version: int
    time: float
    author: str
    document: str
    """TOML."""


class Run(msgspec.Struct, frozen=True):
    """How far the plan is carried out."""

    run_id: str
    version: int
    document: str
    """The plan that is carried out, whatever was edited since."""
    began: float
    state: RunState
    stages: tuple[StageStatus, ...]
    halted: bool = False
    """The halt of this machine was begun."""
    notes: tuple[str, ...] = ()


class Chosen(msgspec.Struct, frozen=True):
    """The setting that an operator chose."""

    setting: Setting
    by: str


class PowerBook:
    """Reads and writes it.

    Args:
        store: An open store.
        clock: For times.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def plans(self) -> list[KeptPlan]:
        """All kept versions, newest first. Raises StoreError."""
        query = "SELECT version, time, author, document FROM power_plans ORDER BY version DESC"
        rows = await self._store.read(lambda connection: connection.execute(query).fetchall())
        return [KeptPlan(*row) for row in rows]

    async def keep_plan(self, author: str, document: str) -> KeptPlan:
        """Keep a new version; it is on disk when this returns. Raises StoreError."""
        now = self._clock.wall()

        def write(connection: sqlite3.Connection) -> KeptPlan:
            version = connection.execute("SELECT coalesce(max(version), 0) + 1 FROM power_plans").fetchone()[0]
            connection.execute(
                "INSERT INTO power_plans (version, time, author, document) VALUES (?, ?, ?, ?)",
                (version, now, author, document),
            )
            connection.execute("DELETE FROM power_plans WHERE version <= ?", (version - PLANS,))
            return KeptPlan(version, now, author, document)

        return await self._store.write(write)

    async def run(self) -> Run | None:
        """The run of before, if it had not ended. Raises StoreError."""
        found: Run | None = await self._state("run", Run)
        return found

    async def keep_run(self, run: Run | None) -> None:
        """How far it is now; None where it ended. Raises StoreError."""
        await self._put("run", run)

    async def chosen(self) -> Chosen | None:
        """The setting that an operator chose. Raises StoreError."""
        found: Chosen | None = await self._state("setting", Chosen)
        return found

    async def keep_chosen(self, chosen: Chosen | None) -> None:
        """Keep the setting; None goes back to the configured one. Raises StoreError."""
        await self._put("setting", chosen)

    async def notes(self) -> tuple[str, ...]:
        """What the last run left over. Raises StoreError."""
        return await self._state("notes", tuple[str, ...]) or ()

    async def keep_notes(self, notes: tuple[str, ...]) -> None:
        """Keep what a run left over. Raises StoreError."""
        await self._put("notes", notes or None)

    async def _state(self, name: str, kind: Any) -> Any:
        query = "SELECT body FROM power_state WHERE name = ?"
        row = await self._store.read(lambda connection: connection.execute(query, (name,)).fetchone())
        if row is None:
            return None
        try:
            return msgspec.json.decode(row[0], type=kind)
        except msgspec.DecodeError as error:
            log.error("what was kept of the power's %s cannot be read and is left out: %s", name, error)
            return None

    async def _put(self, name: str, value: object | None) -> None:
        if value is None:
            await self._store.write(lambda connection: connection.execute("DELETE FROM power_state WHERE name = ?", (name,)))
            return
        body = msgspec.json.encode(value).decode()
        await self._store.write(lambda connection: connection.execute(PUT, (name, body)))

    async def add_event(self, event: PowerEvent) -> PowerEvent:
        """Keep an event; returned with its number. Raises StoreError."""
        body = msgspec.json.encode(event).decode()

        def write(connection: sqlite3.Connection) -> int:
            cursor = connection.execute("INSERT INTO power_events (time, body) VALUES (?, ?)", (event.time, body))
            seq = int(cursor.lastrowid or 0)
            connection.execute("DELETE FROM power_events WHERE seq <= ?", (seq - EVENTS,))
            return seq

        return msgspec.structs.replace(event, seq=await self._store.write(write))

    async def events(self, limit: int, before: int | None = None) -> list[PowerEvent]:
        """The newest events first, from below the number `before`. Raises StoreError."""
        query = "SELECT seq, body FROM power_events WHERE ?1 IS NULL OR seq < ?1 ORDER BY seq DESC LIMIT ?2"
        rows = await self._store.read(lambda connection: connection.execute(query, (before, limit)).fetchall())
        return [msgspec.structs.replace(msgspec.json.decode(body, type=PowerEvent), seq=seq) for seq, body in rows]

    async def add_measured(self, stage: str, seconds: float) -> None:
        """Keep how long a stage took. Raises StoreError."""

        def write(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT INTO power_measured (stage, seconds) VALUES (?, ?)", (stage, seconds))
            connection.execute(
                "DELETE FROM power_measured WHERE stage = ?1 AND seq NOT IN "
                "(SELECT seq FROM power_measured WHERE stage = ?1 ORDER BY seq DESC LIMIT ?2)",
                (stage, MEASURED),
            )

        await self._store.write(write)

    async def measured(self) -> dict[str, float]:
        """Stage → the longest of its last times, seconds. Raises StoreError."""
        query = "SELECT stage, max(seconds) FROM power_measured GROUP BY stage"
        return dict(await self._store.read(lambda connection: connection.execute(query).fetchall()))
