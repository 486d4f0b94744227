"""The sources as the operators set them, durable; their passwords apart, with the secrets."""

from __future__ import annotations

import asyncio
import difflib
import logging
import sqlite3

import msgspec

from appliance.core.inference.sources.definition import Definition, build
from appliance.core.ports import Clock
from appliance.core.secrets import Secrets
from appliance.core.store import Store
from appliance.errors import ConflictError, InvalidArgumentsError, NotFoundError

log = logging.getLogger(__name__)


class SourceBook:
    """Keeps definitions in the appliance's database.

    Args:
        store: The database.
        secrets: Where passwords are kept.
        clock: Says when.
        most: Sources that may be kept.
    """

    def __init__(self, store: Store, secrets: Secrets, clock: Clock, most: int) -> None:
        self._store = store
        self._secrets = secrets
        self._clock = clock
        self._most = most

    async def all(self) -> list[Definition]:
        """Every source, by name; one that this version cannot read is told in the log. Raises StoreError."""

        def read(connection: sqlite3.Connection) -> list[tuple[str, str]]:
            return connection.execute("SELECT name, document FROM sources ORDER BY name").fetchall()

        found = []
        for name, document in await self._store.read(read):
            try:
                found.append(build(msgspec.json.decode(document)))
            except (InvalidArgumentsError, msgspec.DecodeError) as error:
                log.error("the source %s is left out: %s", name, error)
        return found

    async def one(self, name: str) -> Definition:
        """One source. Raises NotFoundError, with the nearest name, and StoreError."""
        kept = {each.name: each for each in await self.all()}
        if name in kept:
            return kept[name]
        near = difflib.get_close_matches(name, kept, n=1)
        hint = f"did you mean {near[0]}?" if near else "list them with `prime-spark source list`."
        raise NotFoundError(f"There is no source {name!r}.", hint)

    async def put(self, source: Definition, *, new: bool = False) -> None:
        """Keep a source; it is on disk when this returns.

        Raises:
            ConflictError: There are too many; or it is there, and should be a new one.
            StoreError: Nothing is kept.
        """
        document = msgspec.json.encode(source.model_dump(mode="json")).decode()
        now = self._clock.wall()

        def write(connection: sqlite3.Connection) -> None:
            names = {row[0] for row in connection.execute("SELECT name FROM sources")}
            if new and source.name in names:
                raise ConflictError(f"There is a source {source.name} already.", "take another name, or remove that one.")
            if len(names | {source.name}) > self._most:
                raise ConflictError(f"There are {self._most} sources already.", "remove one, or raise sources.most.")
            connection.execute(
                "INSERT INTO sources (name, document, changed) "
                "VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET document = excluded.document, "
                "changed = excluded.changed",
                (source.name, document, now),
            )

        await self._store.write(write)

    async def remove(self, name: str) -> None:
        """Remove a source with its password, that first: where it cannot be, all stays. Raises NotFoundError, StoreError."""
        await self.one(name)
        await asyncio.to_thread(self._secrets.remove, secret_name(name))
        await self._store.write(lambda connection: connection.execute("DELETE FROM sources WHERE name = ?", (name,)))

    async def set_password(self, name: str, password: str) -> None:
        """Keep a source's password; an empty one removes it. Raises StoreError."""
        if password:
            await asyncio.to_thread(self._secrets.put, secret_name(name), password.encode())
        else:
            await asyncio.to_thread(self._secrets.remove, secret_name(name))

    def password(self, name: str) -> str:
        """A source's password; empty where there is none. Blocks. Raises StoreError."""
        return self._secrets.text(secret_name(name))


def secret_name(source: str) -> str:
    """Under which a source's password is kept."""
    return f"source.{source}.password"
