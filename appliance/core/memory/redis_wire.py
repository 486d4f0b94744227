"""Connections to Redis whose long commands hiredis packs: redis-py's asyncio client packs them in Python, many times slower."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hiredis
from redis.asyncio.client import Redis
from redis.asyncio.connection import BlockingConnectionPool, Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

LONG = 4
"""Words from which on a command is packed by hiredis; redis-py splits the names of some shorter ones ("CONFIG GET")."""


MOST = 32
"""Connections; who finds none free waits for one."""


class PackedUnixConnection(UnixDomainSocketConnection):
    """Over a UNIX socket."""

    def pack_command(self, *args: Any) -> list[bytes]:
        """The command as Redis reads it."""
        return packed(args) or super().pack_command(*args)


class PackedConnection(Connection):
    """Over TCP."""

    def pack_command(self, *args: Any) -> list[bytes]:
        """The command as Redis reads it."""
        return packed(args) or super().pack_command(*args)


class PackedSSLConnection(SSLConnection):
    """Over TLS."""

    def pack_command(self, *args: Any) -> list[bytes]:
        """The command as Redis reads it."""
        return packed(args) or super().pack_command(*args)


CLASSES: dict[type, type] = {
    UnixDomainSocketConnection: PackedUnixConnection, Connection: PackedConnection, SSLConnection: PackedSSLConnection,
}  # fmt: skip


class Pool(BlockingConnectionPool):
    """Makes no connection any more once it was closed: a request that is under way then would else leave one behind."""

    closed = False

    async def aclose(self) -> None:
        """Close all connections, for good."""
        self.closed = True
        await super().aclose()


def packed(args: tuple[Any, ...]) -> list[bytes]:
    """A long command; empty for what redis-py packs itself."""
    return [hiredis.pack_command(args)] if len(args) >= LONG and " " not in args[0] else []


def connect(url: str, password: str, seconds: float, met: Callable[[str], None]) -> Redis:
    """A client that has not connected yet.

    Args:
        url: redis://, rediss:// or unix:// address.
        password: Of the server; empty for none.
        seconds: That the server may take, to connect and for each request.
        met: Told with every new connection which server process is at the other end, before anything is asked there.
    """

    async def greet(connection: Connection) -> None:
        if pool.closed:
            raise RedisConnectionError("The client was closed.")
        await connection.on_connect()
        await connection.send_command("INFO", "server")
        told = bytes(await connection.read_response())
        met(next((line[7:].decode() for line in told.splitlines() if line.startswith(b"run_id:")), ""))

    pool: Pool = Pool.from_url(
        url, password=password or None, socket_timeout=seconds, socket_connect_timeout=seconds,
        retry=Retry(NoBackoff(), 1, (RedisConnectionError,)), redis_connect_func=greet, max_connections=MOST, timeout=seconds,
    )  # fmt: skip
    pool.connection_class = CLASSES[pool.connection_class]
    return Redis.from_pool(pool)
