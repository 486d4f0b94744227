"""Deliveries and what was told, on disk."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable

import msgspec

from appliance.core.alerts.channels.grouping import Key, Told
from appliance.core.alerts.channels.model import Delivery, DeliveryState, Note, Notice
from appliance.core.store import Store

ALL_COUNTS = "SELECT channel, what, value FROM alert_channel_counts"
ALL_TOLD = "SELECT channel, group_key, route, time, labels, notes FROM alert_told"
COUNT = (
    "INSERT INTO alert_channel_counts (channel, what, value) "
    "VALUES (?, ?, ?) ON CONFLICT (channel, what) DO UPDATE SET value = value + excluded.value"
)
INSERT = (
    "INSERT INTO alert_deliveries (delivery_id, channel, state, created, record, notice) VALUES (?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (delivery_id) DO UPDATE SET state = excluded.state, record = excluded.record, notice = excluded.notice"
)
TOLD = (
    "INSERT INTO alert_told (channel, group_key, route, time, labels, notes) "
    "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (channel, group_key) DO UPDATE SET "
    "route = excluded.route, time = excluded.time, labels = excluded.labels, notes = excluded.notes"
)
PRUNE = (
    "DELETE FROM alert_deliveries WHERE state != 'waiting' AND seq <= coalesce((SELECT seq FROM alert_deliveries "
    "WHERE state != 'waiting' ORDER BY seq DESC LIMIT 1 OFFSET ?), 0)"
)

NEWEST = (
    "SELECT seq, record FROM alert_deliveries WHERE (? = '' OR channel = ?) AND (? IS NULL OR seq < ?){} "
    "ORDER BY seq DESC LIMIT ?"
)


class Kept(msgspec.Struct, frozen=True):
    """A message that waits, with what it says."""

    delivery: Delivery
    notice: Notice


class Loaded(msgspec.Struct, frozen=True):
    """What earlier runs left."""

    waiting: tuple[Kept, ...]
    told: tuple[tuple[Key, Told, float], ...]
    """With the wall clock of its last message."""
    counts: dict[str, Counter[str]]
    recent: tuple[Delivery, ...]


class Book:
    """Deliveries on disk.

    Args:
        store: An open store.
        keep: Most records of what waits no more.
    """

    def __init__(self, store: Store, keep: int) -> None:
        self._store = store
        self._keep = keep

    async def load(self, recent: int) -> Loaded:
        """What earlier runs left. Raises StoreError."""

        def read(connection: sqlite3.Connection) -> Loaded:
            rows = connection.execute("SELECT seq, record, notice FROM alert_deliveries WHERE state = 'waiting' ORDER BY seq")
            waiting = tuple(Kept(_record(seq, body), msgspec.json.decode(notice, type=Notice)) for seq, body, notice in rows)
            told = tuple(
                ((channel, key), _told(route, labels, notes), time)
                for channel, key, route, time, labels, notes in connection.execute(ALL_TOLD)
            )
            counts: dict[str, Counter[str]] = {}
            for channel, what, value in connection.execute(ALL_COUNTS):
                counts.setdefault(channel, Counter())[what] = value
            return Loaded(waiting, told, counts, tuple(_newest(connection, recent)))

        return await self._store.read(read)

    async def put(
        self, kept: Iterable[Kept], told: Iterable[tuple[Key, Told | None]] = (), wall: float = 0.0,
        counts: Iterable[tuple[str, str, int]] = (),
    ) -> dict[str, int]:  # fmt: skip
        """Write deliveries, what was told with them, and counts, all or nothing; on disk when this returns.

        Args:
            kept: New ones, or later states of old ones.
            told: By channel and group; None where nothing of it fires any more.
            wall: When that was.
            counts: (channel, what, how many more).

        Returns:
            Their numbers by delivery_id.

        Raises:
            StoreError: Nothing is written.
        """
        rows = [_row(each) for each in kept]
        known = [(key, _told_row(key, each, wall)) for key, each in told]
        counted = list(counts)

        def write(connection: sqlite3.Connection) -> dict[str, int]:
            connection.executemany(INSERT, rows)
            for key, row in known:
                if row is None:
                    connection.execute("DELETE FROM alert_told WHERE channel = ? AND group_key = ?", key)
                else:
                    connection.execute(TOLD, row)
            connection.executemany(COUNT, counted)
            connection.execute(PRUNE, (self._keep,))
            found = (connection.execute("SELECT seq FROM alert_deliveries WHERE delivery_id = ?", (row[0],)) for row in rows)
            return {row[0]: (seq.fetchone() or (0,))[0] for row, seq in zip(rows, found, strict=True)}

        return await self._store.write(write)

    async def newest(self, limit: int, channel: str, states: Collection[str], before: int | None) -> list[Delivery]:
        """Records, newest first. Raises StoreError.

        Args:
            limit: Most of them.
            channel: Only of it; empty for all.
            states: Only these; empty for all.
            before: Only with a lower number.
        """
        return await self._store.read(lambda connection: _newest(connection, limit, channel, states, before))

    async def forget_told(self, keys: Iterable[Key]) -> None:
        """Nothing is known any more of groups whose channel is gone. Raises StoreError."""
        gone = list(keys)
        query = "DELETE FROM alert_told WHERE channel = ? AND group_key = ?"
        await self._store.write(lambda connection: connection.executemany(query, gone))


def _newest(
    connection: sqlite3.Connection, limit: int, channel: str = "", states: Collection[str] = (), before: int | None = None
) -> list[Delivery]:
    marks = f" AND state IN ({', '.join('?' * len(states))})" if states else ""
    query = NEWEST.format(marks)
    rows = connection.execute(query, (channel, channel, before, before, *states, limit))
    return [_record(seq, record) for seq, record in rows]


def _record(seq: int, body: bytes) -> Delivery:
    return msgspec.structs.replace(msgspec.json.decode(body, type=Delivery), seq=seq)


def _row(each: Kept) -> tuple[str, str, str, float, bytes, bytes | None]:
    delivery = each.delivery
    notice = msgspec.json.encode(each.notice) if delivery.state is DeliveryState.waiting else None
    record = msgspec.json.encode(msgspec.structs.replace(delivery, kept=True))
    return delivery.delivery_id, delivery.channel, delivery.state.value, delivery.created, record, notice


def _told(route: str, labels: bytes, notes: bytes) -> Told:
    group = msgspec.json.decode(labels, type=dict[str, str])
    return Told(route, group, msgspec.json.decode(notes, type=dict[str, Note]), 0.0)


def _told_row(key: Key, told: Told | None, wall: float) -> tuple[str, str, str, float, bytes, bytes] | None:
    if told is None:
        return None
    return (*key, told.route, wall, msgspec.json.encode(told.group), msgspec.json.encode(told.notes))
