"""Tier 3 as rows of PostgreSQL (Supabase too): JSON with its metadata, tags and full-text search; one row a key."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from importlib import resources
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import unquote, urlsplit

from appliance.core.memory import codec
from appliance.core.memory import document_rows as rows
from appliance.core.memory.document_rows import Found
from appliance.core.memory.model import Head, JsonValue, Kind, Meta, Record
from appliance.core.memory.tier import Diverged, Usage
from appliance.core.memory.versions import said
from appliance.core.model import Health, HealthReport
from appliance.errors import (
    CorruptRecordError,
    InvalidArgumentsError,
    MemoryTierError,
    TierFullError,
    TierUnavailableError,
)

if TYPE_CHECKING:
    import asyncpg
    from asyncpg import Connection

T = TypeVar("T")
log = logging.getLogger(__name__)

LARGEST = 1024 * 1024
"""Bytes of one document."""
CONNECT = 3.0
"""Seconds until a connection stands."""
COMMAND = 10.0
"""Seconds for one command."""
PROBE = 2.4
"""Seconds for a probe of health."""
PAGE = 1000
"""Rows that one query of a listing brings."""
ATTEMPTS = 5
"""Times that a write is tried whose rival keeps vanishing."""
LOCK = 0x5053_4D45
"""Advisory lock of whoever makes the tables."""
FULL = frozenset({"53100", "54000"})
KEYS = frozenset({"28000", "28P01", "42501", "3D000"})
REFUSED_JSON = frozenset({"22P02", "22P05", "22003", "54001", "54000"})
"""What jsonb says to JSON that it cannot hold."""


class DocumentReplica:
    """The memory's JSON values in one table (implements tier.Replica).

    Args:
        dsn: postgresql://USER:PASSWORD@HOST:PORT/DATABASE; the password is never shown.
        device_id: Names the connections, for people who look into the server.
        connect: Seconds until a connection stands.
        command: Seconds for one command.
    """

    name = "documents"
    level = 3
    shared = True

    def __init__(self, dsn: str, device_id: str, connect: float = CONNECT, command: float = COMMAND) -> None:
        self._dsn = dsn
        self._where = _place(dsn)
        self._device = device_id
        self._connect = connect
        self._command = command
        self._made: asyncpg.Pool | None = None
        self._opened = False
        self._opening = asyncio.Lock()

    def __repr__(self) -> str:
        return f"DocumentReplica({self._where!r})"

    async def open(self) -> str:
        """Make the tables where they are missing. Raises TierUnavailableError."""
        async with self._opening:
            await self._run(self._migrate, ready=False)
            self._opened = True
        return ""

    async def close(self) -> None:
        """Give the connections back."""
        pool, self._made = self._made, None
        if pool is None:
            return
        try:
            async with asyncio.timeout(PROBE):
                await pool.close()
        except TimeoutError:
            log.info("%s: connections are dropped, closing them takes too long", self._where)
        except _broken() as error:
            log.info("%s: connections are dropped (%s)", self._where, type(error).__name__)
        finally:
            pool.terminate()

    async def health(self) -> HealthReport:
        """From a query on the table; within 2.5 s."""
        try:
            read_only, table = await self._run(self._probe, PROBE, ready=False)
        except MemoryTierError as error:
            return HealthReport(Health.unhealthy, error.message, error.next_step)
        if read_only:
            return HealthReport(Health.unhealthy, f"{self._where} takes no writes.", "is it a standby, or its disk full?")
        if not table:
            return HealthReport(Health.unhealthy, f"{self._where} has lost its table.", "restart the appliance: it makes it.")
        return HealthReport(Health.healthy, f"{self._where} answers and takes writes")

    def accepts(self, meta: Meta) -> bool:
        """JSON up to 1 MiB, and every tombstone."""
        return meta.deleted or (meta.kind is Kind.json and meta.size <= LARGEST)

    async def get(self, namespace: str, key: str) -> Record | None:
        """See tier.Replica."""
        return self._checked(await self._row(rows.GET, namespace, key))

    async def read_id(self, key_id: str) -> Record | None:
        """See tier.Replica."""
        return self._checked(await self._row(rows.READ_ID, key_id))

    async def put(self, record: Record, parent: str) -> Diverged | None:
        """See tier.Replica: one statement that compares and swaps."""
        return await self._swap(record, (parent,) if parent else ())

    async def replace(self, record: Record, seen: tuple[str, ...]) -> Diverged | None:
        """See tier.Replica."""
        return await self._swap(record, seen)

    async def purge(self, namespace: str, key: str, version: str) -> None:
        """See tier.Replica."""
        await self._run(lambda connection: connection.execute(rows.PURGE, namespace, key, version))

    async def heads(self) -> AsyncIterator[Head]:
        """See tier.Replica; by pages, so that no transaction stays open while the reader works (poolers forbid it)."""
        last = ""
        while page := await self._rows(rows.HEADS, last, PAGE):
            for row in page:
                yield rows.head_of(row)
            last = page[-1]["key_id"]

    async def usage(self) -> Usage | None:
        """Documents, and bytes of their values."""
        row = await self._row(rows.USAGE)
        return None if row is None else Usage(row["entries"], int(row["size"]))

    async def search(self, text: str, tags: Sequence[str] = (), namespace: str = "", limit: int = 50) -> list[Found]:
        """Documents with these words, best first; see websearch_to_tsquery for quotes, OR and minus.

        Args:
            text: Words in the key, the tags or the value; empty for all.
            tags: All of which a document must have.
            namespace: Empty for all.
            limit: Most documents to return.

        Raises:
            InvalidArgumentsError: The text is not valid Unicode, or has a NUL in it.
        """
        found = await self._rows(rows.SEARCH, _clean(text.strip()), [_clean(tag) for tag in tags], _clean(namespace), limit)
        return [rows.found_of(row) for row in found]

    async def find(self, part: JsonValue, namespace: str = "", limit: int = 50) -> list[Found]:
        """Documents that contain a part, such as {"room": "hall"}; the newest first. Raises InvalidArgumentsError."""
        try:
            text = _clean(json.dumps(part, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise InvalidArgumentsError(f"That is no JSON: {error}.", "give objects, lists, texts, numbers.") from error
        if "\\u0000" in text:
            return []
        return [rows.found_of(row) for row in await self._rows(rows.FIND, text, _clean(namespace), limit)]

    async def _swap(self, record: Record, known: tuple[str, ...]) -> Diverged | None:
        for _ in range(ATTEMPTS):
            if await self._write(record, known):
                return None
            theirs = await self.get(record.meta.namespace, record.meta.key)
            if theirs is None:
                continue
            return None if said(theirs.meta) == said(record.meta) else Diverged(theirs)
        raise TierUnavailableError(f"{self._where}: others keep writing this key.", "nothing to do: it is tried again.")

    async def _write(self, record: Record, known: tuple[str, ...]) -> bool:
        """Whether the row is ours now; without the column for queries where it cannot hold the value."""
        import asyncpg

        async def swap(connection: Connection) -> bool:
            try:
                return await _put(connection, rows.arguments(record, known, True))
            except asyncpg.PostgresError as error:
                if error.sqlstate not in REFUSED_JSON:
                    raise
                log.info("%s:%s goes without queries on its parts: %s", record.meta.namespace, record.meta.key, error.sqlstate)
            return await _put(connection, rows.arguments(record, known, False))

        return await self._run(swap)

    async def _row(self, query: str, *arguments: object) -> asyncpg.Record | None:
        return await self._run(lambda connection: connection.fetchrow(query, *arguments))

    async def _rows(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        return await self._run(lambda connection: connection.fetch(query, *arguments))

    async def _probe(self, connection: Connection) -> tuple[bool, bool]:
        row = await connection.fetchrow(
            "SELECT current_setting('transaction_read_only') = 'on', to_regclass($1) IS NOT NULL", rows.TABLE
        )
        return bool(row and row[0]), bool(row and row[1])

    async def _migrate(self, connection: Connection) -> None:
        """Bring the schema to the newest version; two appliances may do so at the same time."""
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK)
            await connection.execute("CREATE SCHEMA IF NOT EXISTS prime_spark")
            await connection.execute(
                "CREATE TABLE IF NOT EXISTS prime_spark.memory_migrations (version integer PRIMARY KEY, sha256 text NOT NULL)"
            )
            done = dict(await connection.fetch("SELECT version, sha256 FROM prime_spark.memory_migrations"))
            for version, sql in _scripts():
                digest = hashlib.sha256(sql.encode()).hexdigest()
                if version not in done:
                    await connection.execute(sql)
                    await connection.execute("INSERT INTO prime_spark.memory_migrations VALUES ($1, $2)", version, digest)
                elif done[version] != digest:
                    raise TierUnavailableError(
                        f"{self._where}: version {version} of its tables is not the one of this program.",
                        "start the version that made them, or move the schema prime_spark away.",
                    )

    def _checked(self, row: asyncpg.Record | None) -> Record | None:
        if row is None:
            return None
        record = rows.record_of(row)
        meta = record.meta
        if codec.checksum(meta.kind, record.value, deleted=meta.deleted) != meta.checksum:
            raise CorruptRecordError(
                f"{self._where}: {meta.namespace}:{meta.key} was changed by others, its checksum is wrong.",
                "write it through the memory; another copy is used where there is one.",
            )
        return record

    async def _run(self, work: Callable[[Connection], Awaitable[T]], limit: float | None = None, ready: bool = True) -> T:
        """Do work on a connection; once more on a new one where the server has been away since the last time.

        Every statement here does no harm when it is done twice. Raises MemoryTierError.
        """
        import asyncpg

        if ready and not self._opened:
            await self.open()
        seconds = limit or self._connect + self._command
        try:
            async with asyncio.timeout(seconds):
                try:
                    return await self._once(work)
                except _broken() as error:
                    log.info("%s: connecting anew (%s)", self._where, type(error).__name__)
                    return await self._once(work)
        except TimeoutError:
            raise TierUnavailableError(
                f"{self._where} does not answer within {seconds:.1f} s.", "check the network and the server."
            ) from None
        except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, ValueError) as error:
            raise self._refused(error) from None

    async def _once(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """A connection on which anything but an answer of the server happened is thrown away."""
        pool = await self._pool()
        connection = await pool.acquire(timeout=self._connect)
        try:
            return await work(connection)
        except (asyncio.CancelledError, OSError):
            _drop(connection)
            raise
        except _broken():
            _drop(connection)
            raise
        finally:
            await pool.release(connection, timeout=1.0)

    async def _pool(self) -> asyncpg.Pool:
        if self._made is None:
            import asyncpg

            pool = asyncpg.create_pool(
                self._dsn,
                min_size=0,
                max_size=4,
                timeout=self._connect,
                command_timeout=self._command,
                statement_cache_size=0,
                max_inactive_connection_lifetime=60.0,
                server_settings={"application_name": f"prime-spark {self._device}"[:63]},
            )
            await pool
            self._made = pool
        return self._made

    def _refused(self, error: Exception) -> MemoryTierError:
        code = str(getattr(error, "sqlstate", None) or "")
        import asyncpg

        broke = isinstance(error, asyncpg.InternalClientError)  # its words are about asyncpg's inside
        said = f"{self._where}: {'the connection broke off' if broke else self._scrubbed(str(error)) or type(error).__name__}."
        if code in FULL:
            return TierFullError(said, "make room on the server.")
        if code in KEYS:
            return TierUnavailableError(said, "check user, password, database and rights in the address.")
        if code == "25006":
            return TierUnavailableError(said, "it is read-only: a standby, or its disk is full?")
        return TierUnavailableError(said, "check the network and the server; it is tried again.")

    def _scrubbed(self, text: str) -> str:
        for word in _secrets(self._dsn):
            text = text.replace(word, "(secret)")
        return text.rstrip(".").replace("\n", " ")[:300]


async def _put(connection: Connection, arguments: Sequence[object]) -> bool:
    """Compare and swap; False where another version is there.

    Of two that insert a key at the same moment one may be told that its row is there already: "ON CONFLICT" watches one of
    the two unique indexes. Then it is not there alone any more, and the statement says what is to be said.
    """
    import asyncpg

    for _ in range(ATTEMPTS):
        try:
            return await connection.fetchval(rows.PUT, *arguments) is not None
        except asyncpg.UniqueViolationError as error:
            log.debug("another one wrote the key at the same moment: %s", error)
    return False


def _drop(connection: Connection) -> None:
    """End a connection; one that ended by itself has left the pool already."""
    import asyncpg

    with contextlib.suppress(asyncpg.InterfaceError):
        connection.terminate()


def _broken() -> tuple[type[Exception], ...]:
    """What asyncpg raises where a connection ended, the last one where the end arrives just when a query begins."""
    import asyncpg

    ended = asyncpg.AdminShutdownError, asyncpg.CrashShutdownError, asyncpg.CannotConnectNowError
    return ConnectionError, asyncpg.PostgresConnectionError, *ended, asyncpg.InterfaceError, asyncpg.InternalClientError


def _place(dsn: str) -> str:
    """Server and database of an address; nothing else of it."""
    try:
        parts = urlsplit(dsn)
    except ValueError:
        return "documents"
    if not parts.scheme.startswith("postgres"):
        return "documents"
    return f"documents at {parts.hostname or 'the local server'}{parts.path}"


def _secrets(dsn: str) -> set[str]:
    """The password of an address, as it is written there and as it is meant."""
    found = re.findall(r"://[^:/@]*:([^@]*)@|[?&]password=([^&]*)", dsn)
    words = {word for pair in found for word in pair if word}
    return words | {unquote(word) for word in words}


def _scripts() -> list[tuple[int, str]]:
    """The versions of the schema in documents.sql, in order."""
    text = resources.files("appliance.core.memory").joinpath("documents.sql").read_text(encoding="utf-8")
    parts = re.split(r"^-- version (\d+)\n", text, flags=re.MULTILINE)[1:]
    return [(int(version), sql.strip()) for version, sql in zip(parts[::2], parts[1::2], strict=True)]


def _clean(text: str) -> str:
    """The text itself. Raises InvalidArgumentsError where PostgreSQL cannot take it."""
    if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise InvalidArgumentsError("The text has a NUL or half a character in it.", "take it out.")
    return text
