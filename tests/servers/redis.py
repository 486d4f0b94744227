"""Redis as the appliance spawns it: no persistence, a UNIX socket, a memory limit."""

from __future__ import annotations

from pathlib import Path

import redis

from tests.servers.child import Server
from tests.support import needs_program


class RedisServer(Server):
    """A redis-server on a UNIX socket in `directory`, or on `port` of loopback.

    Args:
        directory: of its own; with a socket its path must be short (107 bytes for all of it).
        maxmemory: as Redis writes it.
        policy: what it evicts.
        port: TCP port, or None for the UNIX socket.
    """

    def __init__(self, directory: Path, maxmemory: str = "64mb", policy: str = "allkeys-lru", port: int | None = None) -> None:
        super().__init__(directory, "redis")
        self.maxmemory = maxmemory
        self.policy = policy
        self.port = port
        self.socket = directory / "redis.sock"

    @property
    def url(self) -> str:
        """What redis-py connects to."""
        return f"redis://127.0.0.1:{self.port}/0" if self.port else f"unix://{self.socket}?db=0"

    def start(self) -> None:
        """Start it, empty; returns when it answers PING."""
        where = ["--port", str(self.port or 0), "--bind", "127.0.0.1"]
        where += [] if self.port else ["--unixsocket", str(self.socket), "--unixsocketperm", "700"]
        keep = ["--save", "", "--appendonly", "no", "--dir", str(self.directory)]
        limit = ["--maxmemory", self.maxmemory, "--maxmemory-policy", self.policy]
        self.child.spawn([needs_program("redis-server"), *where, *keep, *limit], self._answers)

    def _answers(self) -> bool:
        with redis.Redis.from_url(self.url, socket_timeout=1.0) as client:
            try:
                return bool(client.ping())
            except redis.ConnectionError:  # not yet; BusyLoadingError is one too
                return False
