"""Accounts: who may come in, as what. Passwords are hashed with argon2id (RFC 9106); keys are known by fingerprint."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import sqlite3
from typing import Any

from appliance.core.model import Role, UserInfo
from appliance.core.ports import Clock
from appliance.core.store import Store
from appliance.errors import ConflictError, InvalidArgumentsError, NotFoundError

NAME = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
MIN_PASSWORD = 8
HASHERS = 2
"""Password hashes computed at one time; each takes about 64 MiB and 50 ms."""


class Accounts:
    """The users table.

    Args:
        store: An open store.
        clock: For creation times.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._turn = asyncio.Semaphore(HASHERS)
        self._decoy = ""

    async def users(self) -> list[UserInfo]:
        """All accounts by name."""
        return await self._store.read(_select_users)

    async def get(self, name: str) -> UserInfo:
        """One account. Raises NotFoundError."""
        for user in await self.users():
            if user.name == name:
                return user
        raise NotFoundError(f"No user is called {name!r}.", "list them with `prime-spark user list`.")

    async def add(self, name: str, role: Role, password: str = "") -> UserInfo:
        """Create an account; without a password only keys open it.

        Raises:
            InvalidArgumentsError: The name or the password is not acceptable.
            ConflictError: The name is taken.
        """
        if not NAME.fullmatch(name):
            raise InvalidArgumentsError(
                f"{name!r} is not a user name.", "use a to z, 0 to 9, _ and -, starting with a letter, 32 at most."
            )
        digest = await self._hash(password) if password else ""
        row = (name, role.name, digest, self._clock.wall())

        def insert(connection: sqlite3.Connection) -> None:
            try:
                connection.execute("INSERT INTO users VALUES (?, ?, ?, ?)", row)
            except sqlite3.IntegrityError:
                raise ConflictError(f"A user called {name} exists.", "choose another name.") from None

        await self._store.write(insert)
        return await self.get(name)

    async def remove(self, name: str) -> None:
        """Delete an account. Raises NotFoundError; ConflictError for the last admin."""

        def delete(connection: sqlite3.Connection) -> None:
            _keep_an_admin(connection, name)
            if not connection.execute("DELETE FROM users WHERE name = ?", (name,)).rowcount:
                raise NotFoundError(f"No user is called {name!r}.", "list them with `prime-spark user list`.")

        await self._store.write(delete)

    async def set_role(self, name: str, role: Role) -> None:
        """Change a role. Raises NotFoundError; ConflictError for the last admin."""

        def update(connection: sqlite3.Connection) -> None:
            if role is not Role.admin:
                _keep_an_admin(connection, name)
            _update(connection, name, "UPDATE users SET role = ? WHERE name = ?", role.name)

        await self._store.write(update)

    async def set_password(self, name: str, password: str) -> None:
        """Change a password. Raises NotFoundError, InvalidArgumentsError."""
        digest = await self._hash(password)
        await self._store.write(
            lambda connection: _update(connection, name, "UPDATE users SET password_hash = ? WHERE name = ?", digest)
        )

    async def add_key(self, name: str, public_key: str) -> str:
        """Let a public key (OpenSSH format, one line) log in; returns its fingerprint.

        Raises:
            InvalidArgumentsError: It is not such a key.
            NotFoundError: There is no such user.
        """
        mark = fingerprint(public_key)
        await self.get(name)
        await self._store.write(
            lambda connection: connection.execute(
                "INSERT INTO user_keys VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (mark, name, public_key.strip())
            )
        )
        return mark

    async def remove_key(self, name: str, mark: str) -> None:
        """Forget a key by its fingerprint. Raises NotFoundError."""

        def delete(connection: sqlite3.Connection) -> None:
            done = connection.execute("DELETE FROM user_keys WHERE user = ? AND fingerprint = ?", (name, mark)).rowcount
            if not done:
                raise NotFoundError(f"{name} has no key {mark}.", "list keys with `prime-spark user list`.")

        await self._store.write(delete)

    async def check_password(self, name: str, password: str) -> UserInfo | None:
        """The user, if the password is right; takes as long for a name that does not exist."""
        stored = await self._store.read(
            lambda connection: connection.execute("SELECT password_hash FROM users WHERE name = ?", (name,)).fetchone()
        )
        digest = stored[0] if stored else ""
        async with self._turn:
            right = await asyncio.to_thread(self._verify, digest, password)
        return await self.get(name) if right else None

    async def check_key(self, name: str, mark: str) -> UserInfo | None:
        """The user, if this key (SHA-256 fingerprint, "SHA256:…") may log in as them."""
        for user in await self.users():
            if user.name == name and mark in user.keys:
                return user
        return None

    async def _hash(self, password: str) -> str:
        if len(password) < MIN_PASSWORD:
            raise InvalidArgumentsError(f"The password is shorter than {MIN_PASSWORD} characters.", "choose a longer one.")
        async with self._turn:
            return await asyncio.to_thread(hash_password, password)

    def _verify(self, digest: str, password: str) -> bool:
        from argon2 import PasswordHasher
        from argon2.exceptions import InvalidHashError, VerificationError

        if not self._decoy:
            self._decoy = hash_password("no password is this one")
        try:
            return PasswordHasher().verify(digest or self._decoy, password) and bool(digest)
        except (VerificationError, InvalidHashError):
            return False


def hash_password(password: str) -> str:
    """The argon2id hash, with parameters and salt inside; blocks for some 50 ms."""
    from argon2 import PasswordHasher

    return PasswordHasher().hash(password)


def fingerprint(public_key: str) -> str:
    """The SHA-256 fingerprint of an OpenSSH public key line, as `ssh-keygen -l` prints it.

    Raises:
        InvalidArgumentsError: It is not such a line.
    """
    parts = public_key.split()
    try:
        blob = base64.b64decode(parts[1], validate=True)
        size = int.from_bytes(blob[:4], "big")
        if blob[4 : 4 + size].decode() != parts[0]:
            raise ValueError(parts[0])
    except (IndexError, ValueError):
        raise InvalidArgumentsError(
            "This is not a public key in OpenSSH format.", "give the one line of a .pub file, such as ~/.ssh/id_ed25519.pub."
        ) from None
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def _select_users(connection: sqlite3.Connection) -> list[UserInfo]:
    keys: dict[str, list[str]] = {}
    for user, mark in connection.execute("SELECT user, fingerprint FROM user_keys ORDER BY fingerprint"):
        keys.setdefault(user, []).append(mark)
    rows = connection.execute("SELECT name, role, created, password_hash != '' FROM users ORDER BY name")
    return [UserInfo(name, Role[role], created, bool(has), tuple(keys.get(name, ()))) for name, role, created, has in rows]


def _keep_an_admin(connection: sqlite3.Connection, name: str) -> None:
    admins = {row[0] for row in connection.execute("SELECT name FROM users WHERE role = 'admin'")}
    if admins == {name}:
        raise ConflictError(f"{name} is the only admin.", "make another user admin first.")


def _update(connection: sqlite3.Connection, name: str, sql: str, value: Any) -> None:
    if not connection.execute(sql, (value, name)).rowcount:
        raise NotFoundError(f"No user is called {name!r}.", "list them with `prime-spark user list`.")
