"""The rules as the operators set them, durable on the Control PC, and what of them Kafka has not heard yet."""

from __future__ import annotations

import difflib
import sqlite3
from typing import NamedTuple

import msgspec

from appliance.core.ports import Clock
from appliance.core.store import Store
from appliance.core.streams.rules import Rule, check
from appliance.errors import ConflictError, NotFoundError

MOST = 200
"""Rules that may be kept."""


class Kept(NamedTuple):
    """One rule with what is known of it."""

    rule: Rule
    changed: float
    """Wall clock."""
    published: bool
    """Whether Kafka has it as it is now."""


class Owed(NamedTuple):
    """A change that Kafka has not heard of."""

    rule_id: str
    document: str | None
    """None for a removed one."""
    revision: int


class RuleBook:
    """Keeps rules in the appliance's database.

    Args:
        store: The database.
        clock: Says when.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def all(self) -> list[Kept]:
        """Every rule, by name. Raises StoreError."""

        def read(connection: sqlite3.Connection) -> list[tuple[str, float, int, int]]:
            return connection.execute(
                "SELECT document, changed, revision, published FROM window_rules WHERE document IS NOT NULL ORDER BY id"
            ).fetchall()

        rows = await self._store.read(read)
        return [
            Kept(check(msgspec.json.decode(document)), changed, done >= revision) for document, changed, revision, done in rows
        ]

    async def one(self, rule_id: str) -> Kept:
        """One rule. Raises NotFoundError, with the nearest name, and StoreError."""
        kept = {each.rule.id: each for each in await self.all()}
        if rule_id in kept:
            return kept[rule_id]
        near = difflib.get_close_matches(rule_id, kept, n=1)
        hint = f"did you mean {near[0]}?" if near else "list them with `prime-spark rules list`."
        raise NotFoundError(f"There is no rule {rule_id!r}.", hint)

    async def put(self, rule: Rule) -> None:
        """Keep a rule, new or changed; it is on disk when this returns. Raises ConflictError where there are too many."""
        document = msgspec.json.encode(rule.model_dump(mode="json")).decode()
        now = self._clock.wall()

        def write(connection: sqlite3.Connection) -> None:
            query = "SELECT count(*) FROM window_rules WHERE document IS NOT NULL AND id <> ?"
            if connection.execute(query, (rule.id,)).fetchone()[0] >= MOST:
                raise ConflictError(f"There are {MOST} rules already.", "remove one.")
            connection.execute(
                "INSERT INTO window_rules (id, document, changed, revision) VALUES (?, ?, ?, 1) ON CONFLICT (id) DO UPDATE "
                "SET document = excluded.document, changed = excluded.changed, revision = revision + 1",
                (rule.id, document, now),
            )

        await self._store.write(write)

    async def remove(self, rule_id: str) -> None:
        """Remove a rule. Raises NotFoundError, StoreError."""
        await self.one(rule_id)
        now = self._clock.wall()

        def write(connection: sqlite3.Connection) -> None:
            query = "UPDATE window_rules SET document = NULL, changed = ?, revision = revision + 1 WHERE id = ?"
            connection.execute(query, (now, rule_id))

        await self._store.write(write)

    async def owed(self) -> list[Owed]:
        """What Kafka has not heard of. Raises StoreError."""

        def read(connection: sqlite3.Connection) -> list[Owed]:
            query = "SELECT id, document, revision FROM window_rules WHERE published < revision ORDER BY changed"
            return [Owed(*row) for row in connection.execute(query)]

        return await self._store.read(read)

    async def heard(self, changes: list[Owed]) -> None:
        """Kafka has these; removed rules are forgotten now. Raises StoreError."""

        def write(connection: sqlite3.Connection) -> None:
            for one in changes:
                connection.execute("UPDATE window_rules SET published = ? WHERE id = ?", (one.revision, one.rule_id))
            connection.execute("DELETE FROM window_rules WHERE document IS NULL AND published >= revision")

        await self._store.write(write)
