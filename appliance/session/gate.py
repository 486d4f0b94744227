"""One connection of the SSH server: who it is, and what it may ask for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import asyncssh

from appliance.core.model import Actor, UserInfo
from appliance.session.doorkeeper import Doorkeeper
from appliance.session.limits import source_of

OFFERS = 20
"""Keys that one connection may offer."""


class Gate(asyncssh.SSHServer):
    """One connection: who it is, and what it may ask for. Forwarding of any kind and subsystems are refused by default.

    Args:
        keeper: What all connections share.
        open_session: Makes a channel's session.
    """

    def __init__(self, keeper: Doorkeeper, open_session: Callable[[Gate], asyncssh.SSHServerSession[bytes]]) -> None:
        self._keeper = keeper
        self._open_session = open_session
        self._conn: asyncssh.SSHServerConnection | None = None
        self._proven: dict[str, UserInfo] = {}
        self._offers = 0
        self.address = self.source = ""
        self.user: UserInfo | None = None
        """Who it is; None before the login is complete."""

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """Turn away locked addresses, and all where too many are half open."""
        self._conn = conn
        self.address = str((conn.get_extra_info("peername") or ("unknown",))[0])
        self.source = source_of(self.address)
        if self._keeper.admits(self.source):
            self._keeper.connections.add(self)
        else:
            conn.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._keeper.connections.discard(self)
        self._conn = None
        if not self._keeper.connections:
            self._keeper.emptied.set()

    def begin_auth(self, username: str) -> bool:
        """Everybody must log in."""
        if self._conn is not None and self._keeper.banner:
            self._conn.send_auth_banner(self._keeper.banner)
        return True

    def password_auth_supported(self) -> bool:
        """Passwords are checked."""
        return True

    def public_key_auth_supported(self) -> bool:
        """Keys are checked."""
        return True

    async def validate_password(self, username: str, password: str) -> bool:
        """Check a password on the core loop."""
        await asyncio.sleep(self._keeper.limiter.delay())
        if self._keeper.limiter.locked(self.source):
            self.hang_up("Too many failed logins. Try again later.")
            return False
        user = await self._keeper.on_core(self._keeper.accounts.check_password(username, password))
        if user is not None:
            self._proven[username] = user
        elif self._keeper.failed(self, username, "password"):
            self.hang_up("Too many failed logins. Try again later.")
        return user is not None

    async def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        """Check a key; offering an unknown one is no failure (RFC 4252, section 7), offering many is.

        An offer proves nothing yet: the signature is checked after this, by asyncssh.
        """
        self._offers += 1
        if self._offers > OFFERS:
            self._keeper.failed(self, username, f"{OFFERS} keys")
            self.hang_up("Too many keys were offered.")
            return False
        user = await self._keeper.on_core(self._keeper.accounts.check_key(username, key.get_fingerprint()))
        if user is not None:
            self._proven[username] = user
        return user is not None

    def auth_completed(self) -> None:
        """Somebody is in."""
        name = self._conn.get_extra_info("username") if self._conn is not None else None
        self.user = self._proven.get(str(name))
        self._proven.clear()
        if self.user is not None:
            self._keeper.came_in(self)
        else:
            self.hang_up("This login belongs to nobody.")

    def forget(self, name: str) -> None:
        """What this user proved before does not count any more."""
        self._proven.pop(name, None)

    def hang_up(self, reason: str) -> None:
        """End the connection and say why."""
        if self._conn is not None:
            self._conn.disconnect(asyncssh.DISC_BY_APPLICATION, reason)

    def abort(self) -> None:
        """End the connection at once."""
        if self._conn is not None:
            self._conn.abort()

    def backlog(self) -> int:
        """Bytes that the network has not taken yet; asyncssh itself does not look at them."""
        transport = self._conn._transport if self._conn is not None else None
        return transport.get_write_buffer_size() if transport is not None else 0

    def actor(self) -> Actor:
        """Who this is. Raises RuntimeError before a login."""
        if self.user is None:
            raise RuntimeError("no login yet")
        return Actor(self.user.name, self.user.role, "ssh", self.address)

    def session_requested(self) -> asyncssh.SSHServerSession[bytes]:
        """A terminal or a command."""
        return self._open_session(self)
