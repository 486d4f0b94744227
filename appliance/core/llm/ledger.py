"""What left the house, written down before it leaves; and the caps of a day, which hold across restarts and clock jumps."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from appliance.core.ledgerclock import LedgerClock
from appliance.core.llm.faults import Fault, LlmError
from appliance.core.llm.model import LedgerEntry, Operation, Place, SentTo, Spent, Usage
from appliance.core.ports import Clock
from appliance.core.store import Store

DAY = 86400.0
TIDY = 100
"""Entries between two looks for those that are too many."""
UNSENT = "not sent"
"""Outcome of what never left: nobody could be reached."""
TOLD = 32
"""Endpoints that are told one by one."""
MINUTE = 60.0
SUMS = (
    "CREATE TEMP TABLE llm_sums (minute INTEGER, endpoint TEXT, requests INTEGER, bytes INTEGER, tokens INTEGER, cost REAL,"
    " PRIMARY KEY (minute, endpoint)) WITHOUT ROWID"
)
"""What each minute of the day comes to: adding up a day's entries for each answer would take longer with each of them. It lives
with the writer's connection, and goes back with its transaction where that fails."""
COLUMNS = "id, time, who, endpoint, place, model, operation, why, bytes, tokens_in, tokens_out, cost, outcome"


class Caps(msgspec.Struct, frozen=True):
    """Most in 24 hours; None for no cap."""

    bytes: int | None = None
    tokens: int | None = None
    cost: float | None = None


class Leaving(msgspec.Struct, frozen=True, kw_only=True):
    """A request that is about to leave the house.

    Attributes:
        tokens: Expected, read and written; set aside until the answer tells.
        cost: Expected.
    """

    who: str
    endpoint: str
    place: Place
    model: str
    operation: Operation
    why: str
    bytes: int
    tokens: int
    cost: float


class Ledger:
    """Keeps the entries.

    Args:
        store: The appliance's database.
        clock: For times.
        caps: Of a day.
        keep: Entries that are kept; those of the last 24 hours always.
        boot: Names this start of the machine.
    """

    def __init__(self, store: Store, clock: Clock, caps: Caps, keep: int, boot: Callable[[], str] | None = None) -> None:
        self._store = store
        self._clock = clock
        self._caps = caps
        self._keep = keep
        self._ticks = LedgerClock(clock, "llm_clock", boot)
        self.spent = Spent(bytes_cap=caps.bytes, tokens_cap=caps.tokens, cost_cap=caps.cost)
        """As it was at the last entry or refresh."""

    @property
    def capped(self) -> str:
        """Why nothing more may leave the house now; empty where it may."""
        return _over(self.spent)

    async def refresh(self) -> Spent:
        """Look what counts now. Raises StoreError."""
        self.spent = await self._store.write(lambda connection: self._sum(connection, self._ticks.tick(connection)))
        return self.spent

    async def reserve(self, leaving: Leaving) -> int:
        """Write an entry before anything is sent; returns its number.

        Raises:
            LlmError: A cap would be passed: nothing may be sent.
            StoreError: It could not be written: nothing may be sent.
        """

        def write(connection: sqlite3.Connection) -> tuple[int, Spent]:
            tick = self._ticks.tick(connection)
            after = _plus(self._sum(connection, tick), leaving)
            if reason := _over(after, beyond=True):
                raise LlmError(Fault.capped, f"{reason[0].upper()}{reason[1:]}.", "wait, or raise llm.cloud_*_per_day.")
            row = (
                self._clock.wall(), tick, leaving.who, leaving.endpoint, leaving.place.value, leaving.model,
                leaving.operation.value, leaving.why, leaving.bytes, "sent", leaving.tokens, leaving.cost,
            )  # fmt: skip
            made = connection.execute(
                "INSERT INTO llm_ledger (time, tick, who, endpoint, place, model, operation, why, bytes, outcome, counted,"
                " charged) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row
            ).lastrowid  # fmt: skip
            if made is None:
                raise sqlite3.DatabaseError("the entry got no number")
            _add(connection, tick, leaving.endpoint, (1, leaving.bytes, leaving.tokens, leaving.cost))
            if made % TIDY == 0:
                connection.execute("DELETE FROM llm_ledger WHERE id <= ? AND tick < ?", (made - self._keep, tick - DAY))
            return made, after

        number, self.spent = await self._store.write(write)
        return number

    async def settle(self, number: int, outcome: str, usage: Usage, cost: float | None) -> None:
        """Say how it ended. What is not told stays counted as it was set aside. Raises StoreError."""
        told = usage.tokens_in is not None and usage.tokens_out is not None
        counted = (usage.tokens_in or 0) + (usage.tokens_out or 0) if told else None

        await self._change(
            number,
            "UPDATE llm_ledger SET outcome = ?, tokens_in = ?, tokens_out = ?, cost = ?, counted = COALESCE(?, counted),"
            " charged = COALESCE(?, charged) WHERE id = ?",
            (outcome, usage.tokens_in, usage.tokens_out, cost, counted, cost, number),
        )

    async def unsent(self, number: int) -> None:
        """Nothing of it left the house after all: it counts against no cap. Raises StoreError."""
        await self._change(
            number,
            "UPDATE llm_ledger SET outcome = ?, bytes = 0, tokens_in = 0, tokens_out = 0, cost = 0, counted = 0, charged = 0"
            " WHERE id = ?",
            (UNSENT, number),
        )

    async def _change(self, number: int, sql: str, values: tuple[Any, ...]) -> None:
        def write(connection: sqlite3.Connection) -> Spent:
            tick = self._ticks.tick(connection)
            _prepare(connection, tick)
            before = _counted(connection, number)
            connection.execute(sql, values)
            after = _counted(connection, number)
            if before is not None and after is not None:
                _add(connection, after[0], after[1], [new - old for new, old in zip(after[2:], before[2:], strict=True)])
            return self._sum(connection, tick)

        self.spent = await self._store.write(write)

    async def entries(self, limit: int, before: int | None = None) -> list[LedgerEntry]:
        """The newest ones, those below the number `before`. Raises StoreError."""
        sql = f"SELECT {COLUMNS} FROM llm_ledger WHERE id < ? ORDER BY id DESC LIMIT ?"  # noqa: S608 our own columns
        most = 2**62 if before is None else before
        rows = await self._store.read(lambda connection: connection.execute(sql, (most, limit)).fetchall())
        names = COLUMNS.split(", ")
        return [msgspec.convert(dict(zip(names, row, strict=True)), LedgerEntry) for row in rows]

    def _sum(self, connection: sqlite3.Connection, tick: float) -> Spent:
        """All of the last 24 hours, and to whom: whole minutes, and of the first one what still counts."""
        _prepare(connection, tick)
        first = int((tick - DAY) / MINUTE)
        rows = connection.execute(
            "SELECT endpoint, TOTAL(requests), TOTAL(bytes), TOTAL(tokens), TOTAL(cost) FROM ("
            "SELECT endpoint, requests, bytes, tokens, cost FROM llm_sums WHERE minute > ? UNION ALL "
            "SELECT endpoint, outcome != ?, bytes, counted, charged FROM llm_ledger WHERE tick > ? AND tick < ?"
            ") GROUP BY endpoint ORDER BY 3 DESC",
            (first, UNSENT, tick - DAY, (first + 1) * MINUTE),
        ).fetchall()
        to = [SentTo(name, int(count), int(size), int(tokens), cost) for name, count, size, tokens, cost in rows if count]
        return Spent(
            sum(each.requests for each in to), sum(each.bytes for each in to), sum(each.tokens for each in to),
            sum(each.cost for each in to), self._caps.bytes, self._caps.tokens, self._caps.cost, tuple(to[:TOLD]),
        )  # fmt: skip


def _prepare(connection: sqlite3.Connection, tick: float) -> None:
    """Add the day's entries up, once for each connection."""
    if connection.execute("SELECT 1 FROM temp.sqlite_master WHERE name = 'llm_sums'").fetchone():
        return
    connection.execute(SUMS)
    connection.execute(
        "INSERT INTO llm_sums SELECT CAST(tick / 60 AS INTEGER), endpoint, TOTAL(outcome != ?), TOTAL(bytes), TOTAL(counted),"
        " TOTAL(charged) FROM llm_ledger WHERE tick > ? GROUP BY 1, 2",
        (UNSENT, tick - DAY - MINUTE),
    )


def _add(connection: sqlite3.Connection, tick: float, endpoint: str, values: Sequence[float]) -> None:
    """Count something to the minute of its entry; minutes that are long over are let go of."""
    minute = int(tick / MINUTE)
    connection.execute(
        "INSERT INTO llm_sums VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET requests = requests + excluded.requests,"
        " bytes = bytes + excluded.bytes, tokens = tokens + excluded.tokens, cost = cost + excluded.cost",
        (minute, endpoint, *values),
    )
    connection.execute("DELETE FROM llm_sums WHERE minute < ?", (minute - 2 * DAY / MINUTE,))


def _counted(connection: sqlite3.Connection, number: int) -> tuple[Any, ...] | None:
    """(tick, endpoint, requests, bytes, tokens, cost) of an entry, as they count."""
    sql = "SELECT tick, endpoint, outcome != ?, bytes, counted, charged FROM llm_ledger WHERE id = ?"
    found: tuple[Any, ...] | None = connection.execute(sql, (UNSENT, number)).fetchone()
    return found


def _plus(spent: Spent, leaving: Leaving) -> Spent:
    return msgspec.structs.replace(
        spent, requests=spent.requests + 1, bytes=spent.bytes + leaving.bytes, tokens=spent.tokens + leaving.tokens,
        cost=spent.cost + leaving.cost,
    )  # fmt: skip


def _over(spent: Spent, *, beyond: bool = False) -> str:
    """Which cap is reached, or passed; empty for none."""
    rows = (
        ("bytes", spent.bytes, spent.bytes_cap), ("tokens", spent.tokens, spent.tokens_cap),
        ("cost", spent.cost, spent.cost_cap),
    )  # fmt: skip
    for name, value, cap in rows:
        if cap is not None and (value > cap if beyond else value >= cap):
            return f"the cap of 24 hours is reached: llm.cloud_{name}_per_day = {cap:g}"
    return ""
