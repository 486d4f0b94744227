"""Sessions of the API: logins, their renewal, and their end.

An access token holds for minutes; a refresh token renews the session once, and gives the next pair. One that comes a second
time was copied by somebody: the session ends for both. How long ago a token was made is measured by the monotonic clock,
so that a wall clock that is set neither ends nor lengthens it; only tokens from before a restart go by the wall clock.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

import msgspec

from appliance.core.access.book import AccessBook
from appliance.core.access.errors import ReusedTokenError
from appliance.core.access.model import ApiSession, Pair
from appliance.core.access.signing import Claims, Signer
from appliance.core.model import Role, UserInfo
from appliance.core.ports import Clock
from appliance.errors import AuthError

LEEWAY = 60.0
"""Seconds that a token's beginning may lie ahead: the clock was set back while nothing ran."""
ENDED = "This session has ended."


@dataclass
class _Live:
    session: ApiSession
    role: Role
    ends: float
    """Monotonic."""
    issued: dict[int, float] = field(default_factory=dict)
    """Generation → monotonic clock at which its tokens were made; of this process's life, the newest two."""


class Sessions:
    """All of them, in memory and in the book.

    Args:
        book: Where they are kept.
        signer: Signs their tokens.
        clock: Both clocks.
        access_seconds: How long an access token holds.
        session_seconds: How long a session lives that nobody renews.
    """

    def __init__(self, book: AccessBook, signer: Signer, clock: Clock, access_seconds: float, session_seconds: float) -> None:
        self._book, self._signer, self._clock = book, signer, clock
        self._access, self._session = access_seconds, session_seconds
        self._live: dict[str, _Live] = {}

    async def load(self, roles: dict[str, Role]) -> None:
        """Take up the sessions of the life before; `roles` are those of all users."""
        now, here = self._clock.wall(), self._clock.monotonic()
        for session in await self._book.sessions(now):
            left = min(max(0.0, session.expires - now), self._session)
            self._live[session.session_id] = _Live(session, roles.get(session.user, Role.viewer), here + left)

    def all(self) -> list[ApiSession]:
        """Those that have not ended, the newest first."""
        self._tidy()
        return sorted((live.session for live in self._live.values()), key=lambda each: -each.created)

    def holds(self, session_id: str) -> bool:
        """Whether a session has not ended."""
        live = self._live.get(session_id)
        return live is not None and self._clock.monotonic() < live.ends

    async def open(self, user: UserInfo, origin: str, agent: str) -> Pair:
        """A login that was proven."""
        now = self._clock.wall()
        session = ApiSession(
            secrets.token_hex(6), user.name, now, now, now + self._session, 0, origin, agent[:120]
        )  # fmt: skip
        for ended in await self._book.add_session(session):
            self._live.pop(ended, None)
        self._tidy()
        live = self._live[session.session_id] = _Live(session, user.role, self._clock.monotonic() + self._session)
        return self._pair(live)

    async def renew(self, token: str, role: Role | None = None) -> Pair:
        """The next pair for a refresh token.

        Args:
            token: The newest one of its session.
            role: The user's role now; as it was for None.

        Raises:
            AuthError: It is none, or its session ended.
            ReusedTokenError: It was used before, which ends the session.
        """
        claims = self._signer.read("refresh", token)
        live = self._of(claims)
        if claims.generation != live.session.generation:
            await self.end(claims.session_id)
            raise ReusedTokenError(claims.session_id)
        now = self._clock.wall()
        session = msgspec.structs.replace(
            live.session, used=now, expires=now + self._session, generation=claims.generation + 1
        )  # fmt: skip
        if not await self._book.renew(session):  # two at once: the other one was first
            await self.end(claims.session_id)
            raise ReusedTokenError(claims.session_id)
        live.session, live.role = session, role or live.role
        live.ends = self._clock.monotonic() + self._session
        return self._pair(live)

    def user_of_refresh(self, token: str) -> str:
        """Whose session a refresh token renews. Raises AuthError."""
        return self._of(self._signer.read("refresh", token)).session.user

    def check(self, token: str) -> tuple[ApiSession, Role]:
        """The session of an access token. Raises AuthError."""
        claims = self._signer.read("access", token)
        live = self._of(claims)
        if not live.session.generation - 1 <= claims.generation <= live.session.generation:
            raise AuthError("This access token was replaced.", "use the newest one.")
        if self._expired(claims, live):
            raise AuthError("This access token has expired.", "renew it: POST /api/auth/refresh.")
        return live.session, live.role

    def _of(self, claims: Claims) -> _Live:
        live = self._live.get(claims.session_id)
        if live is None or live.session.user != claims.user or self._clock.monotonic() >= live.ends:
            raise AuthError(ENDED, "log in.")
        return live

    def _expired(self, claims: Claims, live: _Live) -> bool:
        issued = live.issued.get(claims.generation)
        if issued is not None:
            return self._clock.monotonic() - issued >= self._access
        now = self._clock.wall()
        return not claims.issued - LEEWAY <= now < min(claims.expires, claims.issued + self._access)

    async def end(self, session_id: str) -> bool:
        """End a session; False where there is none."""
        known = self._live.pop(session_id, None) is not None
        return await self._book.end_session(session_id) or known

    def forget(self, user: str) -> None:
        """The user's sessions ended on disk already."""
        self._live = {mark: live for mark, live in self._live.items() if live.session.user != user}

    def _pair(self, live: _Live) -> Pair:
        session, now = live.session, self._clock.wall()
        live.issued = {
            **{mark: when for mark, when in live.issued.items() if mark == session.generation - 1},
            session.generation: self._clock.monotonic(),
        }
        short = Claims(session.user, session.session_id, session.generation, now, now + self._access)
        long = msgspec.structs.replace(short, expires=now + self._session)
        signed = self._signer.sign("access", short), self._signer.sign("refresh", long)
        return Pair(*signed, int(self._access), session.session_id, session.user, live.role.name)

    def _tidy(self) -> None:
        now = self._clock.monotonic()
        self._live = {mark: live for mark, live in self._live.items() if now < live.ends}
