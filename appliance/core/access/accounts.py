"""An account with all that matters about who uses it; what nobody knows is None, never 0."""

from __future__ import annotations

import msgspec

from appliance.core.model import Role


class LastLogin(msgspec.Struct, frozen=True):
    """The newest login of a user that the audit has."""

    time: float
    """Wall clock."""
    via: str
    """"ssh" or "api"."""
    origin: str
    """Address."""


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """One account."""

    name: str
    role: Role
    created: float
    has_password: bool
    keys: int
    """Public keys that may log in."""
    second_factor: bool
    recovery_codes: int | None = None
    """Those that are left; None without a second factor."""
    locked_s: float | None = None
    """Seconds for which the API takes no login of this account; None where it does."""
    last_login: LastLogin | None = None
    """None where the audit has none."""
    consoles: int = 0
    """Open ones, over SSH too."""
    logins: int = 0
    """Sessions of the API."""
    tokens: int = 0
    """Tokens of programs that act in this name."""
