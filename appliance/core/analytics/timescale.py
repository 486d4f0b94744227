"""The analytics database: TimescaleDB, or PostgreSQL 15 or later without the extension. Connections, tables, errors.

The one home of asyncpg for analytics. Who reads or writes there hands `Database.run` a function of a connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from appliance.core.analytics import timescale_migrations as migrations
from appliance.core.observe.spans import Span, child, statement
from appliance.errors import AbsentError, ApplianceError, DatabaseError

if TYPE_CHECKING:
    import asyncpg
    from asyncpg import Connection as Connection  # noqa: PLC0414 it is for others too

    from appliance.core.secrets import Secrets
    from appliance.settings import AnalyticsSettings

T = TypeVar("T")
log = logging.getLogger(__name__)

CONNECT = 5.0
"""Seconds until a connection stands."""
COMMAND = 60.0
"""Seconds for one command; the server gives up by itself then too."""
TIMED_OUT = "57014"
"""SQLSTATE of a command that was ended because it took too long, by the server or here."""
SESSION = {
    "timezone": "UTC",
    "statement_timeout": "65s",
    "lock_timeout": "20s",
    "idle_in_transaction_session_timeout": "30s",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}
"""A writer that hangs or is cut off must not keep its locks."""
STEPS = {
    "28P01": "check the secret analytics.password (POSTGRES_PASSWORD) and the setting analytics.user.",
    "28000": "check analytics.user, and who may connect from here: pg_hba.conf on the server.",
    "3D000": "create it on the server (CREATE DATABASE …), or mend the setting analytics.database.",
    "42501": "give the user its rights on the server: GRANT CREATE, USAGE ON SCHEMA public TO …, and ownership of the tables.",
    "53100": "make room on the server's disk.",
    "53300": "the server has too many connections: raise max_connections, or end some.",
    "25006": "it is read-only: is it a standby, or was default_transaction_read_only set?",
    "57P03": "the server is starting or stopping; it is tried again.",
}
"""What to do, by SQLSTATE."""


class Database:
    """A pool of connections to the analytics database.

    Args:
        settings: Where it is.
        password: Of the user; never shown.
        application: Name of the connections, for people who look into the server.
        size: Most connections.
        options: Further parameters of the server's sessions.
        pristine: Reset a connection before its next use, which takes a request; False for who changes nothing in it for long.
    """

    def __init__(
        self,
        settings: AnalyticsSettings,
        password: str,
        application: str,
        size: int = 4,
        options: dict[str, str] | None = None,
        *,
        pristine: bool = True,
    ) -> None:
        self._settings = settings
        self._password = password
        self._server_settings = {"application_name": f"prime-spark {application}"[:63], **SESSION, **(options or {})}
        self._size = size
        self._pristine = pristine
        self._made: asyncpg.Pool | None = None
        self._opening = asyncio.Lock()
        self._schema: migrations.Schema | None = None

    def __repr__(self) -> str:
        return f"Database({self.where!r})"

    @property
    def configured(self) -> bool:
        """Whether the settings name a server."""
        return bool(self._settings.host)

    @property
    def where(self) -> str:
        """Database and server, for messages."""
        return f"{self._settings.database} on {self._settings.host}:{self._settings.port}"

    @property
    def schema(self) -> migrations.Schema | None:
        """What the tables are; None before the first `open`."""
        return self._schema

    async def open(self) -> migrations.Schema:
        """Make the tables where they are missing, once; says whether they are TimescaleDB's.

        Raises:
            DatabaseError: The server is not there, or does not let us.
        """
        async with self._opening:
            if self._schema is None:
                self._schema = await self.run(migrations.migrate)
        return self._schema

    async def run(self, work: Callable[[Connection], Awaitable[T]], limit: float = COMMAND) -> T:
        """Do work on a connection of the pool, within `limit` seconds. It is not tried again here.

        Raises:
            DatabaseError: The server is not there, refuses, or takes too long. Whether a commit arrived is not known then.
            ApplianceError: As `work` raises it.
        """
        try:
            with child("postgresql", kind="client") as span:
                async with asyncio.timeout(limit), self._connection() as connection:
                    if not span.sampled:
                        return await work(connection)
                    span.set({"db.system.name": "postgresql", "db.namespace": self._settings.database})
                    return await _told(connection, work, span)
        except TimeoutError:
            raise DatabaseError(
                f"{self.where} does not answer within {limit:g} s.",
                "check the network and the server; it is tried again.",
                TIMED_OUT,
            ) from None
        except ApplianceError:
            raise
        except failures() as error:
            raise self.explained(error) from error

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        """A connection; where anything but a refusal of the server happened on it, it is thrown away."""
        import asyncpg

        pool = await self._pool()
        connection = await pool.acquire(timeout=CONNECT)
        try:
            yield connection
        except BaseException as error:
            if not isinstance(error, asyncpg.PostgresError | ApplianceError) or connection.is_in_transaction():
                with contextlib.suppress(asyncpg.InterfaceError):
                    connection.terminate()
            raise
        finally:
            await pool.release(connection, timeout=1.0)

    async def _pool(self) -> asyncpg.Pool:
        if not self._settings.host:
            raise AbsentError("No analytics database is configured.", "set analytics.host, analytics.user and the password.")
        if self._made is None:
            import asyncpg

            place = self._settings
            pool = asyncpg.create_pool(
                host=place.host, port=place.port, user=place.user or None, password=self._password or None,
                database=place.database, ssl=_tls(place.tls), min_size=0, max_size=self._size, timeout=CONNECT,
                command_timeout=COMMAND, max_inactive_connection_lifetime=60.0, server_settings=self._server_settings,
                reset=None if self._pristine else _leave,
            )  # fmt: skip
            await pool
            self._made = self._made or pool
        return self._made

    async def close(self) -> None:
        """Give the connections back; within 3 s."""
        pool, self._made = self._made, None
        self._schema = None
        if pool is None:
            return
        try:
            async with asyncio.timeout(3.0):
                await pool.close()
        except failures() as error:  # a TimeoutError is one of the network's
            log.info("%s: connections are dropped (%s)", self.where, type(error).__name__)
            pool.terminate()

    def explained(self, error: BaseException) -> DatabaseError:
        """An error of asyncpg or the network in the operator's words, without the password."""
        if told := _network(error):
            return DatabaseError(f"{self.where} {told[0]}.", told[1])
        code = str(getattr(error, "sqlstate", None) or "")
        text = str(error) or type(error).__name__
        if self._password:
            text = text.replace(self._password, "(secret)")
        text = text.rstrip(".").replace("\n", " ")[:300]
        step = STEPS.get(code, "check the network and the server; it is tried again.")
        return DatabaseError(f"{self.where}: {text}.", step, code)


def make_database(settings: AnalyticsSettings, secrets: Secrets, application: str, **more: Any) -> Database:
    """The database of the settings, with the secret analytics.password. Raises StoreError where that cannot be read."""
    return Database(settings, secrets.text("analytics.password"), application, **more)


def failures() -> tuple[type[Exception], ...]:
    """What asyncpg and the network raise."""
    import asyncpg

    return asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, ValueError


def _network(error: BaseException) -> tuple[str, str] | None:
    """Why a server is not reached, and what to do; None where the error says something else."""
    number, text = getattr(error, "errno", None), str(error)
    if isinstance(error, ConnectionRefusedError) or f"Errno {errno.ECONNREFUSED}" in text:  # several addresses: only a text
        return "refuses connections: no server listens there", "start the server, or correct analytics.host and analytics.port."
    if isinstance(error, socket.gaierror):
        return "has no address", "check analytics.host and the DNS."
    if number in {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN}:
        return "cannot be reached: there is no route", "check the network and the VPN; it is tried again."
    if isinstance(error, ConnectionError):
        return "closed the connection", "see the server's log; it is tried again."
    return None


async def _told(connection: Connection, work: Callable[[Connection], Awaitable[T]], span: Span) -> T:
    """Do the work; every statement of it is a part of the span."""

    def note(query: Any) -> None:
        failed = type(query.exception).__name__ if query.exception is not None else ""
        facts = {"db.system.name": "postgresql", **statement(query.query)}
        made = span.child("statement", "client", facts, time.time() - query.elapsed)
        if failed:
            made.fail(failed)
        made.end()

    with connection.query_logger(note):
        return await work(connection)


async def _leave(_: Connection) -> None:
    """Leave a connection as it is."""


def _tls(mode: str) -> Any:
    """As asyncpg wants it; the server's certificate is proven against the system's authorities."""
    if mode != "verify-full":
        return mode
    import ssl

    return ssl.create_default_context()
