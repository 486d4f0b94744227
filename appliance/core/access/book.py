"""Sessions and tokens in the store."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import sqlite3
from typing import Any

import msgspec

from appliance.core.access.model import ApiSession, ApiToken
from appliance.core.model import Role
from appliance.core.store import Store
from appliance.errors import ConflictError, NotFoundError

PER_USER, TOKENS = 32, 256
"""Most sessions of one user, of which the longest unused ends for a new one; most tokens."""
PREFIX = "psk"
"""What tokens begin with, so that scanners for lost secrets find them."""


class AccessBook:
    """Reads and writes.

    Args:
        store: An open store.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def sessions(self, now: float) -> list[ApiSession]:
        """Those that have not ended, the newest first; ended ones are forgotten."""

        def work(connection: sqlite3.Connection) -> list[ApiSession]:
            connection.execute("DELETE FROM access_sessions WHERE expires <= ?", (now,))
            rows = connection.execute(f"SELECT {SESSION} FROM access_sessions ORDER BY created DESC").fetchall()  # noqa: S608
            return [ApiSession(*row) for row in rows]

        return await self._store.write(work)

    async def add_session(self, session: ApiSession) -> list[str]:
        """Keep a login; returns the sessions that ended for it."""

        def work(connection: sqlite3.Connection) -> list[str]:
            connection.execute(
                "INSERT INTO access_sessions (session_id, user, created, used, expires, generation, origin, agent) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                msgspec.structs.astuple(session),
            )
            rows = connection.execute(
                "SELECT session_id FROM access_sessions WHERE user = ? ORDER BY used DESC, created DESC LIMIT -1 OFFSET ?",
                (session.user, PER_USER),
            ).fetchall()
            connection.executemany("DELETE FROM access_sessions WHERE session_id = ?", rows)
            return [row[0] for row in rows]

        return await self._store.write(work)

    async def renew(self, session: ApiSession) -> bool:
        """Keep a renewal; False where another one came first, or the session is gone."""

        def work(connection: sqlite3.Connection) -> bool:
            done = connection.execute(
                "UPDATE access_sessions SET used = ?, expires = ?, generation = ? WHERE session_id = ? AND generation = ?",
                (session.used, session.expires, session.generation, session.session_id, session.generation - 1),
            )
            return done.rowcount == 1

        return await self._store.write(work)

    async def end_session(self, session_id: str) -> bool:
        """Forget a session; False where there is none."""
        sql = "DELETE FROM access_sessions WHERE session_id = ?"
        return bool(await self._store.write(lambda connection: connection.execute(sql, (session_id,)).rowcount))

    async def tokens(self) -> list[ApiToken]:
        """All, by name, each with no more than its user's role."""
        sql = f"SELECT {OF_USER} FROM access_tokens t JOIN users u ON u.name = t.user ORDER BY t.name"  # noqa: S608
        rows = await self._store.read(lambda connection: connection.execute(sql).fetchall())
        return [_bounded(row) for row in rows]

    async def add_token(self, token: ApiToken) -> str:
        """Keep a token; returns what proves it, which is nowhere else. Raises ConflictError, NotFoundError."""
        secret = secrets.token_urlsafe(32)
        row = (
            token.token_id, token.name, token.user, token.role.name, " ".join(token.scopes), digest(secret), token.created,
            token.expires, None,
        )  # fmt: skip

        def work(connection: sqlite3.Connection) -> None:
            if connection.execute("SELECT count(*) FROM access_tokens").fetchone()[0] >= TOKENS:
                raise ConflictError(f"There are {TOKENS} tokens already.", "revoke those that nobody uses.")
            if not connection.execute("SELECT 1 FROM users WHERE name = ?", (token.user,)).fetchone():
                raise NotFoundError(f"No user is called {token.user!r}.", "list them with `prime-spark user list`.")
            try:
                connection.execute(
                    "INSERT INTO access_tokens (token_id, name, user, role, scopes, digest, created, expires, used) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    row,
                )
            except sqlite3.IntegrityError:
                raise ConflictError(f"A token called {token.name} exists.", "choose another name, or revoke it.") from None

        await self._store.write(work)
        return f"{PREFIX}_{token.token_id}_{secret}"

    async def revoke_token(self, name: str) -> ApiToken:
        """Forget a token, by its name or id. Raises NotFoundError."""

        def work(connection: sqlite3.Connection) -> ApiToken:
            row = connection.execute(
                f"SELECT {TOKEN} FROM access_tokens WHERE name = ? OR token_id = ?",  # noqa: S608
                (name, name),
            ).fetchone()
            if row is None:
                raise NotFoundError(f"No token is called {name!r}.", "list them with `prime-spark api token list`.")
            connection.execute("DELETE FROM access_tokens WHERE token_id = ?", (row[0],))
            return _token(row)

        return await self._store.write(work)

    async def prove(self, token_id: str, secret: str) -> ApiToken | None:
        """The token, with no more than its user's role, if the secret is right."""
        sql = f"SELECT {OF_USER} FROM access_tokens t JOIN users u ON u.name = t.user WHERE t.token_id = ?"  # noqa: S608
        row = await self._store.read(lambda connection: connection.execute(sql, (token_id,)).fetchone())
        given = digest(secret)
        if row is None or not hmac.compare_digest(given, row[8]):
            return None
        return _bounded(row)

    async def note_use(self, token_id: str, now: float) -> None:
        """Keep when a token was used last."""
        sql = "UPDATE access_tokens SET used = ? WHERE token_id = ?"
        await self._store.write(lambda connection: connection.execute(sql, (now, token_id)))


SESSION = "session_id, user, created, used, expires, generation, origin, agent"
TOKEN = "token_id, name, user, role, scopes, created, expires, used"  # noqa: S105 - columns
OF_USER = "t.token_id, t.name, t.user, t.role, t.scopes, t.created, t.expires, t.used, t.digest, u.role"


def digest(secret: str) -> bytes:
    """What is kept of a token's secret: with 256 random bits, a plain hash is enough (SP 800-63B, section 3.1.2.2)."""
    return hashlib.sha256(secret.encode()).digest()


def _token(row: tuple[Any, ...]) -> ApiToken:
    return ApiToken(row[0], row[1], row[2], Role[row[3]], tuple(row[4].split()), row[5], row[6], row[7])


def _bounded(row: tuple[Any, ...]) -> ApiToken:
    """Of a row of OF_USER."""
    token = _token(row[:8])
    return msgspec.structs.replace(token, role=min(token.role, Role[row[9]]))
