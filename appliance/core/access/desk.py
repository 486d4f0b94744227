"""The desk of access: logs in, renews, and tells who a request comes from."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Protocol

from appliance.core.access.book import PREFIX, AccessBook
from appliance.core.access.cuts import Cuts
from appliance.core.access.errors import ReusedTokenError, SecondFactorError, TooManyError
from appliance.core.access.model import ApiSession, ApiToken, Identity, Pair
from appliance.core.access.sessions import Sessions
from appliance.core.access.totp import SecondFactors
from appliance.core.access.turns import Turns
from appliance.core.auth import Accounts
from appliance.core.lockout import LoginLimiter, source_of
from appliance.core.model import Actor, Role, UserInfo
from appliance.core.ports import Clock
from appliance.errors import AuthError, StoreError

log = logging.getLogger(__name__)

VIA = "api"
NOBODY = "?"
"""Name in the audit of whoever did not prove to be a user; none can be called so."""
CHECKING = 16
"""Passwords that may wait for their check at one time."""
TRUSTED = 10.0
"""Seconds for which a token that was right is not looked up again; revoking it here counts at once."""
KEPT = 256
"""Tokens kept in memory."""
USED_EVERY = 60.0
"""Seconds between two notes of when a token was used."""


class Note(Protocol):
    """Writes what happened at the door into the audit."""

    async def __call__(self, actor: Actor, outcome: str, detail: str, action: str = "api.login") -> None:
        """One row, or where there are many refusals a count of them."""


class AccessDesk:
    """Who may come in through the API.

    Args:
        accounts: The users.
        book: Sessions and tokens on disk.
        sessions: The sessions.
        factors: Second factors.
        clock: Both clocks.
        note: Writes logins into the audit.
    """

    def __init__(
        self, accounts: Accounts, book: AccessBook, sessions: Sessions, factors: SecondFactors, clock: Clock, note: Note
    ) -> None:
        self.sessions, self.factors = sessions, factors
        self._accounts, self._book, self._clock, self._note = accounts, book, clock, note
        self.limiter = LoginLimiter(clock.monotonic)
        self._turns, self._cuts = Turns(), Cuts()
        self._checking = self._changes = 0
        self._proven: OrderedDict[str, tuple[ApiToken, float]] = OrderedDict()
        self._noted: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._unlisten = accounts.listen(self._changed)

    async def load(self) -> None:
        """Take up what was there before."""
        await self.sessions.load({user.name: user.role for user in await self._accounts.users()})

    def close(self) -> None:
        """Listen no more."""
        self._unlisten()

    async def login(self, name: str, password: str, code: str, address: str, agent: str) -> Pair:
        """A pair of tokens for who proves to be a user.

        Args:
            name: The user's name.
            password: Their password.
            code: Code of the second factor, or a recovery code; "" where there is none.
            address: Where the request comes from.
            agent: What the client calls itself.

        Raises:
            AuthError: It is not proven; SecondFactorError where only the code is missing.
            TooManyError: The address or the account is locked out, or too many passwords wait for their check.
        """
        marks = (source_of(address), marks_of(name)[0])
        await self._tell_locked(marks, name, address)
        self._admit(marks)
        self._checking += 1
        before = self._changes
        try:
            async with self._turns.of(*marks):
                await asyncio.sleep(self.limiter.delay())
                self._admit(marks)  # those before may have locked it
                user = await self._proven_user(marks, name, password, code, address)
                for mark in marks:
                    self.limiter.succeeded(mark)
        finally:
            self._checking -= 1
        await self._note(Actor(name, user.role, VIA, address), "ok", f"logged in from {address}")
        pair = await self.sessions.open(user, address, agent)
        if self._changes != before:  # what was proven may hold no more
            await self.sessions.end(pair.session_id)
            raise AuthError("An account was changed meanwhile.", "log in again.")
        return pair

    async def _proven_user(
        self, marks: tuple[str, ...], name: str, password: str, code: str, address: str
    ) -> UserInfo:  # fmt: skip
        user = await self._accounts.check_password(name, password)
        if user is None:
            raise await self._failed(marks, name, address, "password")
        if await self.factors.wanted(name):
            if not code:
                raise SecondFactorError("This account has a second factor.", "send its present code as `code` too.")
            if not await self.factors.check(name, code):
                raise await self._failed(marks, name, address, "code of the second factor")
        return user

    async def _tell_locked(self, marks: tuple[str, ...], name: str, address: str) -> None:
        """Have the audit tell of logins that a lock turns away."""
        if any(self.limiter.left(mark) for mark in marks):
            nobody = Actor(NOBODY, Role.viewer, VIA, address)
            await self._note(nobody, "refused", f"locked out after failed logins, as {name[:64]!r}")

    def _admit(self, marks: tuple[str, ...]) -> None:
        wait = max(self.limiter.locked(mark) for mark in marks)
        if wait:
            raise TooManyError("Too many failed logins.", f"try again in {wait:.0f} s.", wait)
        if self._checking >= CHECKING:
            raise TooManyError("Too many logins are under way.", "try again in a moment.", 2.0)

    async def _failed(self, marks: tuple[str, ...], name: str, address: str, what: str) -> AuthError:
        locked = [self.limiter.failed(mark) for mark in marks]
        known = any(user.name == name for user in await self._accounts.users())  # asked of every name: it takes as long
        told = f"wrong {what}" if known else f"no user is called {name[:64]!r}"
        await self._note(Actor(name if known else NOBODY, Role.viewer, VIA, address), "refused", told)
        if any(locked):
            log.warning("%s, or the account %r, is locked out after failed logins", address, name[:40])
        return AuthError("Name, password or code is wrong.", "check them; after a few failures each further one must wait.")

    async def renew(self, refresh_token: str, address: str = "") -> Pair:
        """The next pair.

        Args:
            refresh_token: The newest one of its session.
            address: Where the request comes from.

        Raises:
            AuthError: It proves nothing; ReusedTokenError where it came a second time, which the audit tells.
        """
        name = self.sessions.user_of_refresh(refresh_token)
        role = next((user.role for user in await self._accounts.users() if user.name == name), None)
        if role is None:
            raise AuthError("This account is gone.", "log in as another user.")
        try:
            return await self.sessions.renew(refresh_token, role)
        except ReusedTokenError as error:
            log.warning("a refresh token of %s came a second time, from %s: its session has ended", name, address)
            told = f"a refresh token came a second time; the session {error.session_id} has ended"
            await self._note(Actor(name, role, VIA, address), "refused", told, "api.refresh")
            raise

    async def identify(self, bearer: str, address: str) -> Identity:
        """Who sent a token with a request.

        Args:
            bearer: An access token, or a token of a program.
            address: Where the request comes from.

        Raises:
            AuthError: It proves nothing.
        """
        if bearer.startswith(f"{PREFIX}_"):
            token, since = await self._token(bearer)
            if self._clock.wall() >= (token.expires if token.expires is not None else float("inf")):
                raise AuthError("This token has expired.", "make another: `prime-spark api token create`.")
            self._note_use(token.token_id)
            origin = f"{address} (token {token.name})"
            actor, key = Actor(token.user, token.role, VIA, origin), _mark(token)
            return Identity(actor, key, token.scopes, "", since, token.expires)
        session, role = self.sessions.check(bearer)
        return Identity(Actor(session.user, role, VIA, address), f"session {session.session_id}", ("*",), session.session_id)

    async def _token(self, bearer: str) -> tuple[ApiToken, int]:
        """The token, and the count of cuts against which it was proven."""
        found = self._proven.get(bearer)
        if found is not None and self._clock.monotonic() - found[1] < TRUSTED:
            return found[0], self._cuts.count
        _, _, rest = bearer[:256].partition("_")
        token_id, _, secret = rest.partition("_")
        while True:
            since = self._cuts.count
            token = await self._book.prove(token_id, secret)
            if token is None:
                raise AuthError("This token is not known: it is wrong, or was revoked.", "`prime-spark api token list`.")
            if self._cuts.holds(since, _mark(token), _user_mark(token.user)):  # else it was revoked while it was looked up
                break
        self._proven[bearer] = (token, self._clock.monotonic())
        if len(self._proven) > KEPT:
            self._proven.popitem(last=False)
        return token, since

    async def end_own(self, identity: Identity, session_id: str) -> None:
        """End a session of whoever asks, and have it audited."""
        if await self.sessions.end(session_id):
            await self._note(identity.actor, "ok", f"ended the session {session_id}", "api.logout")

    async def turned_away(self, actor: Actor | None, address: str, what: str) -> None:
        """Have the audit tell of a request to change something that no action has seen.

        Args:
            actor: Who asked, where that was proven.
            address: Where the request came from.
            what: Method, path, and why not.
        """
        await self._note(actor or Actor(NOBODY, Role.viewer, VIA, address), "refused", what, "api.request")

    def holds(self, identity: Identity) -> bool:
        """Whether a stream that an identity opened may go on: its session, or its token and the account behind it."""
        if identity.session_id:
            return self.sessions.holds(identity.session_id)
        if identity.expires is not None and self._clock.wall() >= identity.expires:
            return False
        return self._cuts.holds(identity.since, identity.key, _user_mark(identity.actor.name))

    async def tokens(self) -> list[ApiToken]:
        """All tokens of programs."""
        return await self._book.tokens()

    async def create_token(
        self, name: str, user: str, role: Role, scopes: tuple[str, ...], days: float
    ) -> tuple[ApiToken, str]:
        """A token for a program; returns it and what proves it. Raises ConflictError, NotFoundError."""
        now = self._clock.wall()
        expires = now + days * 86400 if days else None
        token = ApiToken(secrets.token_hex(6), name, user, role, scopes, now, expires, None)
        return token, await self._book.add_token(token)

    async def revoke_token(self, name: str) -> ApiToken:
        """End a token at once. Raises NotFoundError."""
        gone = await self._book.revoke_token(name)
        self._cuts.cut(_mark(gone))
        self._drop(lambda token: token.token_id == gone.token_id)
        return gone

    async def end_session(self, session_id: str) -> bool:
        """End anybody's session; False where there is none."""
        return await self.sessions.end(session_id)

    def locked(self, user: str) -> float:
        """Seconds for which no login of an account is taken; 0 where it is."""
        return max(self.limiter.left(mark) for mark in marks_of(user))

    def unlock(self, user: str) -> bool:
        """Forget an account's failures; False where it was not locked."""
        was = self.locked(user) > 0
        for mark in marks_of(user):
            self.limiter.succeeded(mark)
        return was

    async def check_factor(self, user: str, code: str) -> None:
        """Have a code of a second factor prove who asks. Raises AuthError, TooManyError."""
        mark = marks_of(user)[1]
        async with self._turns.of(mark):
            self._admit((mark,))
            if not await self.factors.wanted(user) or await self.factors.check(user, code):
                return
            self.limiter.failed(mark)
        raise AuthError("This code is wrong, or was used.", "give the present one, or a recovery code.")

    def all_sessions(self) -> list[ApiSession]:
        """Logins that have not ended."""
        return self.sessions.all()

    def _drop(self, wanted: Callable[[ApiToken], bool]) -> None:
        for bearer in [bearer for bearer, (token, _) in self._proven.items() if wanted(token)]:
            del self._proven[bearer]

    def _changed(self, name: str) -> None:
        """What a user logged in with holds no more: on disk their sessions ended with it."""
        self._changes += 1
        self._cuts.cut(_user_mark(name))
        self.sessions.forget(name)
        self._drop(lambda token: token.user == name)

    def _note_use(self, token_id: str) -> None:
        now = self._clock.monotonic()
        if now - self._noted.get(token_id, -USED_EVERY) < USED_EVERY:
            return
        self._noted = {mark: when for mark, when in self._noted.items() if now - when < USED_EVERY} | {token_id: now}
        self._spawn(self._write_use(token_id))

    async def _write_use(self, token_id: str) -> None:
        try:
            await self._book.note_use(token_id, self._clock.wall())
        except StoreError as error:
            log.warning("the last use of a token is not kept: %s", error.message)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work, name="access")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def marks_of(user: str) -> tuple[str, str]:
    """What failures of an account are counted by: of its password, and of its second factor."""
    return f"user {user[:64]}", f"factor {user}"


def _mark(token: ApiToken) -> str:
    """A token's key, which its streams are known by."""
    return f"token {token.token_id}"


def _user_mark(user: str) -> str:
    return f"user {user}"
