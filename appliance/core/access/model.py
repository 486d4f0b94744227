"""Values of access: sessions, tokens for programs, and who a request comes from."""

from __future__ import annotations

from fnmatch import fnmatchcase

import msgspec

from appliance.core.model import Actor, Role

READS = ("state", "events", "metrics")
"""Scopes that are not names of actions: the live state, the event stream, the numbers for Prometheus."""


PERSONAL = frozenset({"totp.begin", "totp.confirm", "totp.remove"})
"""Actions of a person who logged in: with a program's token one could hang a second factor on its user's account."""

GRANTING = frozenset({"api.token-create", "user.add", "user.set-role", "user.set-password", "user.add-key"})
"""Actions that let somebody in: who may do one can do everything, so a token of fewer scopes does none."""


class Identity(msgspec.Struct, frozen=True):
    """Who a request comes from, and how far what they showed reaches."""

    actor: Actor
    key: str
    """One for each session and each token: what limits and repeated requests are counted by."""
    scopes: tuple[str, ...] = ("*",)
    session_id: str = ""
    """Of a login; empty for a token of a program."""
    since: int = 0
    """Count of what had lost its force when this was proven; see `cuts`."""
    expires: float | None = None
    """Wall clock at which a token of a program ends; None where nothing but its session, or its revocation, ends it."""

    def reaches(self, what: str) -> bool:
        """Whether it may do this: a name of an action, or one of READS."""
        if what in PERSONAL and not self.session_id:
            return False
        if what in GRANTING and "*" not in self.scopes:
            return False
        return any(fnmatchcase(what, scope) for scope in self.scopes)


class ApiSession(msgspec.Struct, frozen=True):
    """One login."""

    session_id: str
    user: str
    created: float
    used: float
    """Wall clock of the login or of the last renewal."""
    expires: float
    generation: int
    """Renewals since the login."""
    origin: str
    agent: str
    """What the client calls itself."""


class ApiToken(msgspec.Struct, frozen=True):
    """A token for a program, without what proves it."""

    token_id: str
    name: str
    user: str
    role: Role
    """The most that it may do; never more than its user."""
    scopes: tuple[str, ...]
    created: float
    expires: float | None
    """None: it holds until it is revoked."""
    used: float | None
    """Wall clock of its last use, to the minute; None where it was never used."""


class Pair(msgspec.Struct, frozen=True):
    """What a login or a renewal gives (RFC 6749, section 5.1, has these names)."""

    access_token: str
    refresh_token: str
    expires_in: int
    """Seconds until the access token ends."""
    session_id: str
    user: str
    role: str
    token_type: str = "bearer"  # noqa: S105 - its kind
