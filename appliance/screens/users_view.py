"""Accounts as rows and lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from appliance.core.access.accounts import Account
from appliance.core.model import Role, UserInfo
from appliance.screens import format as f
from appliance.screens import themes
from appliance.screens.glyphs import Glyphs
from appliance.screens.values import moment
from appliance.screens.widgets.grid import Cell, Column, Row
from appliance.screens.widgets.lines import Line

ACCOUNTS = (
    Column("user", 12), Column("role", 8), Column("factor", 6), Column("locked", 8), Column("last login", 11),
    Column("from"), Column("open", 4, "right"), Column("tokens", 6, "right"),
    Column("password", 8, least=110), Column("keys", 4, "right", 110), Column("made", 17, least=130),
)  # fmt: skip
ROLES: dict[Role, themes.Role] = {Role.admin: "accent", Role.operator: "text", Role.viewer: "muted"}
LEAD = 14
"""Cells of a fact's name."""


def account_rows(accounts: Sequence[Account], asked_s: float | None, glyphs: Glyphs) -> list[Row]:
    """A row an account, by name.

    Args:
        accounts: As they were last read.
        asked_s: Seconds since then.
        glyphs: Of the terminal.
    """
    return [Row(each.name, _cells(each, asked_s, glyphs)) for each in accounts]


def _cells(each: Account, asked_s: float | None, glyphs: Glyphs) -> tuple[Cell, ...]:
    left = locked(each, asked_s)
    login = each.last_login
    return (
        each.name, (each.role.value, ROLES[each.role]),
        (f"{glyphs.ok} on", "ok") if each.second_factor else (f"{glyphs.none} off", "muted"),
        (f"{glyphs.bad} {f.duration(left)}", "bad") if left else (f.NONE, "muted"),
        (f.NONE if login is None else f.clock(login.time), "text"), (_where(each), "muted"),
        str(each.consoles + each.logins), str(each.tokens), ("yes", "text") if each.has_password else ("none", "muted"),
        str(each.keys), (moment(each.created)[:16], "muted"),
    )  # fmt: skip


def _where(each: Account) -> str:
    return f.NONE if each.last_login is None else f"{each.last_login.origin or f.NONE} {each.last_login.via}"


def locked(each: Account, asked_s: float | None) -> float | None:
    """Seconds of the lock that are left now; None where there is none."""
    left = None if each.locked_s is None else each.locked_s - (asked_s or 0.0)
    return left if left is not None and left > 0 else None


def fact_lines(each: Account | None, asked_s: float | None) -> list[Line]:
    """What is known of an account."""
    if each is None:
        return []
    left = locked(each, asked_s)
    codes = f", {f.counted(each.recovery_codes, 'recovery code')} left" if each.recovery_codes is not None else ""
    opened = f"{f.counted(each.consoles, 'console')} over SSH, {f.counted(each.logins, 'login')} of the API"
    login = each.last_login
    ways = [*(["a password"] if each.has_password else []), *([f.counted(each.keys, "key")] if each.keys else [])]
    lock = f"for {f.span(float(int(left)))} after failed logins; u unlocks" if left else "no"
    factor: tuple[str, themes.Role] = (f"on{codes}", "ok") if each.second_factor else ("off; t turns it on", "muted")
    rows: tuple[tuple[str, str, themes.Role], ...] = (
        ("user", f"{each.name}, {each.role.value}, since {moment(each.created)}", "text"),
        ("comes in with", " or ".join(ways) or "nothing: p sets a password", "text" if ways else "warn"),
        ("second factor", *factor),
        ("locked", lock, "bad" if left else "muted"),
        ("last login", f"{moment(login.time)} from {_where(each)}" if login is not None else f.NONE, "text"),
        ("open", f"{opened}; {f.counted(each.tokens, 'token')}", "text"),
    )  # fmt: skip
    return [((f" {name:<{LEAD}}", "muted"), (told, role)) for name, told, role in rows]


def key_lines(user: UserInfo) -> list[Line]:
    """The public keys of an account."""
    if not user.keys:
        return [(("no public key", "muted"),)]
    return [
        ((f"{mark}  ", "text"), (f"{user.key_roles[mark].value} at most" if mark in user.key_roles else "", "muted"))
        for mark in user.keys
    ]


def enrolment(answer: dict[str, Any], code: Sequence[str], short: str) -> list[Line]:
    """What an authenticator needs, and the code for its camera where there is room.

    Args:
        answer: Of `totp.begin`.
        code: Lines of the code; none where it does not fit.
        short: Why it is not shown; empty where it is.
    """
    secret = str(answer["secret"])
    grouped = " ".join(secret[at : at + 4] for at in range(0, len(secret), 4))
    how = "Let the authenticator read the code, or type the secret" if code else "Type the secret into the authenticator"
    lines: list[Line] = [
        ((f"{how}; Esc goes on to its first code. This is shown once.", "warn"),), (),
        (("user    ", "muted"), (str(answer["user"]), "text")), (("secret  ", "muted"), (grouped, "accent")),
        (("kind    ", "muted"), ("time-based, 6 digits, 30 s (TOTP)", "text")),
        (("address ", "muted"), (str(answer["uri"]), "muted")),
    ]  # fmt: skip
    if short:
        return [*lines, (), ((short, "muted"),)]
    return [*(((line, "text"),) for line in code), (), *lines]


def recovery(codes: Sequence[str]) -> list[Line]:
    """Recovery codes, to be written down."""
    return [
        (("Each of these codes stands in for the authenticator once. They are shown now and never again.", "warn"),), (),
        *(((f"  {one[:5]}-{one[5:]}", "accent"),) for one in codes),
    ]  # fmt: skip
