"""Accounts: who may come in, as what. Passwords are hashed with argon2id (RFC 9106); keys are known by fingerprint."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import sqlite3
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from appliance.core.model import Actor, Role, UserInfo
from appliance.core.ports import Clock
from appliance.core.store import Store
from appliance.errors import ConflictError, InvalidArgumentsError, NotAuthorizedError, NotFoundError, StoreError

NAME = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
MIN_PASSWORD = 8
LOGINS = frozenset({"ssh", "api"})
"""Fronts whose actors are accounts."""
LOOK_UP = 5.0
"""Seconds that looking up a role may take."""
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
        self._listeners: tuple[Callable[[str], None], ...] = ()

    def listen(self, listener: Callable[[str], None]) -> Callable[[], None]:
        """Call `listener` with a user's name when what they logged in with holds no more; returns what ends it."""
        self._listeners = (*self._listeners, listener)

        def end() -> None:
            self._listeners = tuple(other for other in self._listeners if other is not listener)

        return end

    def _tell(self, name: str) -> None:
        for listener in self._listeners:
            listener(name)

    async def _revoke(self, name: str, work: Callable[[sqlite3.Connection], Any]) -> None:
        """Write a change after which the user must log in again, end their sessions of the API with it, and say so."""

        def both(connection: sqlite3.Connection) -> None:
            work(connection)
            connection.execute("DELETE FROM access_sessions WHERE user = ?", (name,))

        try:
            await self._store.write(both)
        except asyncio.CancelledError:  # it may be on disk all the same
            self._tell(name)
            raise
        self._tell(name)

    async def current(self, actor: Actor) -> Actor:
        """The actor with no more than the role that their account has now.

        Raises:
            NotAuthorizedError: The account is gone.
            StoreError: It cannot be looked up.
        """
        if actor.via not in LOGINS:
            return actor
        try:
            async with asyncio.timeout(LOOK_UP):
                row = await self._store.read(
                    lambda connection: connection.execute("SELECT role FROM users WHERE name = ?", (actor.name,)).fetchone()
                )
        except TimeoutError as error:
            raise StoreError(f"The account {actor.name} could not be looked up in {LOOK_UP:g} s.", "see the log.") from error
        if row is None:
            raise NotAuthorizedError(f"The account {actor.name} is gone.", "log in as another user.")
        return msgspec.structs.replace(actor, role=min(actor.role, Role[row[0]]))

    async def users(self) -> list[UserInfo]:
        """All accounts by name."""
        return await self._store.read(_select_users)

    async def get(self, name: str) -> UserInfo:
        """One account. Raises NotFoundError."""
        for user in await self.users():
            if user.name == name:
                return user
        raise NotFoundError(f"No user is called {name!r}.", "list them with `prime-spark user list`.")

    async def add(self, name: str, role: Role, password: str = "", *, first: bool = False) -> UserInfo:
        """Create an account; without a password only keys open it.

        Args:
            name: Its name.
            role: Its role.
            password: Its password, or "".
            first: Only where there is no administrator yet.

        Raises:
            InvalidArgumentsError: The name or the password is not acceptable.
            ConflictError: The name is taken, or there is an administrator.
        """
        if not NAME.fullmatch(name):
            raise InvalidArgumentsError(
                f"{name!r} is not a user name.", "use a to z, 0 to 9, _ and -, starting with a letter, 32 at most."
            )
        digest = await self._hash(password) if password else ""
        row = (name, role.name, digest, self._clock.wall())

        def insert(connection: sqlite3.Connection) -> None:
            if first and _admins(connection):
                raise ConflictError("This appliance has an administrator already.", "add users with `prime-spark user add`.")
            try:
                connection.execute("INSERT INTO users (name, role, password_hash, created) VALUES (?, ?, ?, ?)", row)
            except sqlite3.IntegrityError:
                raise ConflictError(f"A user called {name} exists.", "choose another name.") from None

        await self._store.write(insert)
        return await self.get(name)

    async def adopt(self, people: Iterable[tuple[str, Role, str, tuple[str, ...] | None]]) -> None:
        """Have these accounts, all of them or none; what is not said of one stays as it is.

        Args:
            people: (name, role, argon2id hash or "", public keys or None) of each; the keys are all that it has then.

        Raises:
            ConflictError: There would be no administrator any more.
            StoreError: The disk.
        """
        wanted, now = tuple(people), self._clock.wall()

        def take(connection: sqlite3.Connection) -> None:
            before = _admins(connection)
            for each in wanted:
                _adopt(connection, *each, now)
            if before and not _admins(connection):
                raise ConflictError("No administrator would be left.", "leave one user the role admin.")

        await self._store.write(take)

    async def remove(self, name: str) -> None:
        """Delete an account. Raises NotFoundError; ConflictError for the last admin."""

        def delete(connection: sqlite3.Connection) -> None:
            _keep_an_admin(connection, name)
            if not connection.execute("DELETE FROM users WHERE name = ?", (name,)).rowcount:
                raise NotFoundError(f"No user is called {name!r}.", "list them with `prime-spark user list`.")

        await self._revoke(name, delete)

    async def set_role(self, name: str, role: Role) -> None:
        """Change a role. Raises NotFoundError; ConflictError for the last admin."""

        def update(connection: sqlite3.Connection) -> None:
            if role is not Role.admin:
                _keep_an_admin(connection, name)
            _update(connection, name, "UPDATE users SET role = ? WHERE name = ?", role.name)

        await self._revoke(name, update)

    async def set_password(self, name: str, password: str) -> None:
        """Change a password. Raises NotFoundError, InvalidArgumentsError."""
        digest = await self._hash(password)
        sql = "UPDATE users SET password_hash = ? WHERE name = ?"
        await self._revoke(name, lambda connection: _update(connection, name, sql, digest))

    async def log_out(self, name: str) -> None:
        """End whatever an account has open; nothing of the account changes. Raises NotFoundError, StoreError."""
        await self.get(name)
        await self._revoke(name, lambda _: None)

    async def add_key(self, name: str, public_key: str, limit: Role | None = None) -> str:
        """Let a public key (OpenSSH format, one line) log in; returns its fingerprint. A key that is there gets the new limit.

        Args:
            name: The user.
            public_key: The line of a .pub file.
            limit: What a login with this key may do at most; None for whatever the user may.

        Raises:
            InvalidArgumentsError: It is not such a key.
            NotFoundError: There is no such user.
        """
        mark = fingerprint(public_key)
        await self.get(name)
        row = (mark, name, public_key.strip(), limit and limit.name)

        def insert(connection: sqlite3.Connection) -> bool:
            where = "WHERE user = ? AND fingerprint = ?"
            before = connection.execute(f"SELECT role FROM user_keys {where}", (name, mark)).fetchone()  # noqa: S608
            connection.execute(
                "INSERT INTO user_keys (fingerprint, user, public_key, role) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (user, fingerprint) DO UPDATE SET role = excluded.role", row
            )  # fmt: skip
            return before is not None and before[0] != row[3]

        if await self._store.write(insert):
            self._tell(name)
        return mark

    async def remove_key(self, name: str, mark: str) -> None:
        """Forget a key by its fingerprint. Raises NotFoundError."""

        def delete(connection: sqlite3.Connection) -> None:
            done = connection.execute("DELETE FROM user_keys WHERE user = ? AND fingerprint = ?", (name, mark)).rowcount
            if not done:
                raise NotFoundError(f"{name} has no key {mark}.", "list keys with `prime-spark user list`.")

        await self._revoke(name, delete)

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
        """The user with the role that this key (SHA-256 fingerprint, "SHA256:…") gives, if it may log in as them."""
        for user in await self.users():
            if user.name == name and mark in user.keys:
                return msgspec.structs.replace(user, role=min(user.role, user.key_roles.get(mark, user.role)))
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
    keys: dict[str, dict[str, str | None]] = {}
    for user, mark, limit in connection.execute("SELECT user, fingerprint, role FROM user_keys ORDER BY fingerprint"):
        keys.setdefault(user, {})[mark] = limit
    rows = connection.execute("SELECT name, role, created, password_hash != '' FROM users ORDER BY name")
    found = []
    for name, role, created, has in rows:
        mine = keys.get(name, {})
        limits = {mark: Role[limit] for mark, limit in mine.items() if limit}
        found.append(UserInfo(name, Role[role], created, bool(has), tuple(mine), limits))
    return found


def _admins(connection: sqlite3.Connection) -> set[str]:
    return {row[0] for row in connection.execute("SELECT name FROM users WHERE role = 'admin'")}


def _adopt(
    connection: sqlite3.Connection, name: str, role: Role, digest: str, keys: tuple[str, ...] | None, now: float
) -> None:
    connection.execute(
        "INSERT INTO users (name, role, password_hash, created) VALUES (?, ?, ?, ?) "
        "ON CONFLICT (name) DO UPDATE SET role = excluded.role, "
        "password_hash = CASE excluded.password_hash WHEN '' THEN password_hash ELSE excluded.password_hash END",
        (name, role.name, digest, now),
    )
    if digest:
        connection.execute("DELETE FROM access_sessions WHERE user = ?", (name,))
    if keys is not None:
        connection.execute("DELETE FROM user_keys WHERE user = ?", (name,))
        rows = [(fingerprint(key), name, key) for key in keys]
        sql = "INSERT OR REPLACE INTO user_keys (fingerprint, user, public_key) VALUES (?, ?, ?)"
        connection.executemany(sql, rows)


def _keep_an_admin(connection: sqlite3.Connection, name: str) -> None:
    if _admins(connection) == {name}:
        raise ConflictError(f"{name} is the only admin.", "make another user admin first.")


def _update(connection: sqlite3.Connection, name: str, sql: str, value: Any) -> None:
    if not connection.execute(sql, (value, name)).rowcount:
        raise NotFoundError(f"No user is called {name!r}.", "list them with `prime-spark user list`.")
