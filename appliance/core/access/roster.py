"""Who has an account, and what each one's looks like now: put together from accounts, factors, locks, sessions and audit."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from appliance.core.access.accounts import Account, LastLogin
from appliance.core.auth import LOGINS, Accounts
from appliance.core.model import SessionInfo, UserInfo
from appliance.core.state import LiveState, Section
from appliance.core.store import Store

if TYPE_CHECKING:
    from appliance.core.access.desk import AccessDesk

ACTIONS = ("api.login", "session.open")
"""Names under which logins over the API and over SSH stand in the audit."""
KEPT = 1024
"""Users whose last login is remembered; the longest ago goes first."""


class LastLogins:
    """The newest login of every user, out of the audit: all of it the first time, later only what came since.

    Args:
        store: An open store.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen = 0
        self._found: dict[str, LastLogin] = {}

    async def read(self) -> dict[str, LastLogin]:
        """By user. Raises StoreError."""
        after = self._seen

        def select(connection: sqlite3.Connection) -> tuple[int, list[tuple[str, float, str, str]]]:
            last = connection.execute("SELECT max(seq) FROM audit").fetchone()[0] or 0
            rows = connection.execute(
                "SELECT actor, time, via, origin, max(seq) FROM audit"
                " WHERE seq > ? AND seq <= ? AND outcome = 'ok' AND action IN (?, ?) GROUP BY actor ORDER BY max(seq)",
                (after, last, *ACTIONS),
            ).fetchall()
            return last, [row[:4] for row in rows]

        last, rows = await self._store.read(select)
        for name, time, via, origin in rows:
            self._found.pop(name, None)
            self._found[name] = LastLogin(time, via, origin)
        self._seen = max(self._seen, last)
        for name in list(self._found)[:-KEPT]:
            del self._found[name]
        return dict(self._found)


class Roster:
    """All accounts.

    Args:
        accounts: The users.
        desk: Second factors, locks, sessions and tokens of the API.
        state: Where open consoles are.
        logins: The last ones.
    """

    def __init__(
        self, accounts: Accounts, desk: Callable[[], AccessDesk], state: LiveState, logins: LastLogins
    ) -> None:  # fmt: skip
        self._accounts, self._desk, self._state, self._logins = accounts, desk, state, logins

    async def all(self) -> list[Account]:
        """By name. Raises StoreError."""
        desk = self._desk()
        users, factors, last = await self._accounts.users(), await desk.factors.users(), await self._logins.read()
        tokens = Counter(token.user for token in await desk.tokens())
        logins = Counter(session.user for session in desk.all_sessions())
        consoles = self._consoles()
        return [
            Account(
                name=user.name, role=user.role, created=user.created, has_password=user.has_password, keys=len(user.keys),
                second_factor=user.name in factors, recovery_codes=factors.get(user.name),
                locked_s=desk.locked(user.name) or None, last_login=_own(user, last.get(user.name)),
                consoles=consoles[user.name], logins=logins[user.name], tokens=tokens[user.name],
            )
            for user in users
        ]  # fmt: skip

    async def unlock(self, name: str) -> bool:
        """Let an account log in again at once; False where it was not locked. Raises NotFoundError, StoreError."""
        await self._accounts.get(name)
        return self._desk().unlock(name)

    async def log_out(self, name: str, *, tokens: bool) -> dict[str, int]:
        """End all that an account has open; returns how much that was.

        Args:
            name: The account.
            tokens: Revoke the tokens of programs in its name too.

        Raises:
            NotFoundError: There is no such account.
            StoreError: It could not be written.
        """
        desk, consoles = self._desk(), self._consoles()[name]
        logins = sum(session.user == name for session in desk.all_sessions())
        await self._accounts.log_out(name)
        theirs = [token for token in await desk.tokens() if token.user == name] if tokens else []
        for token in theirs:
            await desk.revoke_token(token.token_id)
        return {"consoles": consoles, "logins": logins, "tokens": len(theirs)}

    def _consoles(self) -> Counter[str]:
        """Open consoles of accounts: whoever sits at the machine itself has none, whatever the name."""
        found: Sequence[SessionInfo] = self._state.get(Section.sessions).value or ()
        return Counter(each.user for each in found if each.via in LOGINS)


def _own(user: UserInfo, login: LastLogin | None) -> LastLogin | None:
    """Of an account of that name before this one, it tells nothing."""
    return login if login is not None and login.time >= user.created else None
