"""Listings and single entries with where they lie."""

from __future__ import annotations

import sqlite3

import msgspec

from appliance.core.memory import rows
from appliance.core.memory.model import EntryStat, Page, Residency
from appliance.core.memory.parts import Parts
from appliance.core.memory.rows import Row
from appliance.errors import InvalidArgumentsError


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """What to list; None for all.

    Attributes:
        namespace: Only this one.
        prefix: Keys that begin with it.
        search: Keys that have it anywhere.
        tag: Entries that carry it.
        cursor: Of the page before; empty for the first.
        limit: Most entries.
    """

    namespace: str | None = None
    prefix: str = ""
    search: str = ""
    tag: str | None = None
    cursor: str = ""
    limit: int = 100


class Listing:
    """Reads the index.

    Args:
        parts: The tiers.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def page(self, query: Query) -> Page:
        """Entries in the order of namespace and key. Raises InvalidArgumentsError for a cursor that is none of ours."""
        condition, values = _condition(query, self._parts.clock.wall())
        sql = f"WHERE {condition} ORDER BY namespace, key LIMIT ?"

        def work(connection: sqlite3.Connection) -> list[tuple[Row, dict[str, str], set[str]]]:
            found = rows.select(connection, sql, (*values, query.limit + 1))
            return [(row, *_copies(connection, row.entry)) for row in found]

        found = await self._parts.edge.store.read(work)
        more, found = len(found) > query.limit, found[: query.limit]
        cursor = f"{found[-1][0].meta.namespace}:{found[-1][0].meta.key}" if more else ""
        hot = await self._parts.front.holds([f"{row.meta.namespace}:{row.meta.key}" for row, *_ in found])
        return Page(tuple(self._stat(*each, hot=here) for each, here in zip(found, hot, strict=True)), cursor)

    async def one(self, namespace: str, key: str) -> EntryStat | None:
        """One entry, tier 1 included; None where it is not known, deleted or expired."""

        def work(connection: sqlite3.Connection) -> tuple[Row, dict[str, str], set[str]] | None:
            row = rows.find(connection, namespace, key)
            return None if row is None else (row, *_copies(connection, row.entry))

        found = await self._parts.edge.store.read(work)
        if found is None or found[0].meta.deleted or found[0].meta.expired(self._parts.clock.wall()):
            return None
        (hot,) = await self._parts.front.holds([f"{namespace}:{key}"])
        return self._stat(*found, hot=hot)

    async def namespaces(self) -> list[tuple[str, int, int]]:
        """(namespace, entries, bytes of their values)."""
        sql = (
            "SELECT namespace, count(*), sum(size) FROM entries WHERE deleted = 0 AND (expires IS NULL OR expires > ?) "
            "GROUP BY namespace ORDER BY namespace"
        )
        now = self._parts.clock.wall()
        return await self._parts.edge.store.read(lambda connection: connection.execute(sql, (now,)).fetchall())

    def _stat(self, row: Row, held: dict[str, str], owed: set[str], *, hot: bool | None) -> EntryStat:
        copies = []
        if hot:
            copies.append(Residency(tier=self._parts.front.tier.name, state="held", version=row.meta.version))
        elif hot is None:
            copies.append(Residency(tier=self._parts.front.tier.name, state="unknown"))
        if row.place:
            state = "damaged" if self._parts.edge.damage.has(row.meta) else "held"
            copies.append(Residency(tier="disk", state=state, version=row.meta.version))
        for tier in self._parts.replicas.tiers:
            if tier in owed:
                copies.append(Residency(tier=tier, state="owed", version=held.get(tier, "")))
            elif tier in held:
                copies.append(Residency(tier=tier, state="held", version=held[tier]))
        return EntryStat(
            meta=row.meta, copies=tuple(copies), pinned=row.pinned, hits=row.hits, used=row.used, stored=row.stored
        )


def _copies(connection: sqlite3.Connection, entry: int) -> tuple[dict[str, str], set[str]]:
    held = dict(connection.execute("SELECT tier, version FROM copies WHERE entry = ?", (entry,)).fetchall())
    return held, {row[0] for row in connection.execute("SELECT tier FROM owed WHERE entry = ?", (entry,))}


def _condition(query: Query, now: float) -> tuple[str, tuple[object, ...]]:
    parts: list[str] = ["deleted = 0", "(expires IS NULL OR expires > ?)"]
    values: list[object] = [now]
    if query.namespace is not None:
        parts.append("namespace = ?")
        values.append(query.namespace)
    if query.prefix:
        parts.append("substr(key, 1, ?) = ?")
        values += [len(query.prefix), query.prefix]
    if query.search:
        parts.append("instr(lower(key), lower(?)) > 0")
        values.append(query.search)
    if query.tag is not None:
        parts.append("EXISTS (SELECT 1 FROM json_each(tags) t WHERE t.value = ?)")
        values.append(query.tag)
    if query.cursor:
        namespace, colon, key = query.cursor.partition(":")
        if not colon:
            raise InvalidArgumentsError(f"{query.cursor!r} is no cursor.", "give the one of the page before.")
        parts.append("(namespace, key) > (?, ?)")
        values += [namespace, key]
    return " AND ".join(parts), tuple(values)
