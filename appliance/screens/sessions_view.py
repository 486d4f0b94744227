"""Who is logged in where, and the tokens of programs, as rows and lines."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from appliance.core.access.model import ApiSession, ApiToken
from appliance.core.model import Role, SessionInfo
from appliance.screens import format as f
from appliance.screens.values import moment
from appliance.screens.widgets.grid import Cell, Column, Row
from appliance.screens.widgets.lines import Line

OPEN = (
    Column("user", 12), Column("via", 8), Column("role", 8, least=100), Column("from", 17), Column("since", 6, "right"),
    Column("used", 6, "right"), Column("ends", 6, "right"), Column("what"), Column("", 3),
)  # fmt: skip
TOKENS = (
    Column("token", 14), Column("user", 10), Column("role", 8), Column("scopes"), Column("made", 6, "right"),
    Column("used", 6, "right"), Column("ends", 7, "right"), Column("id", 12, least=110),
)  # fmt: skip
CONSOLE, LOGIN = "console ", "login "
"""What the keys of their rows begin with."""
LEAD = 10


def left(expires: float | None) -> str:
    """Until a moment, in a word; "never" where there is none."""
    if expires is None:
        return "never"
    seconds = expires - time.time()
    return f.duration(seconds) if seconds > 0 else "over"


def open_rows(consoles: Sequence[SessionInfo], logins: Sequence[ApiSession], roles: Mapping[str, Role], own: str) -> list[Row]:
    """A row each: consoles first, the newest of each kind first.

    Args:
        consoles: At the machine and over SSH.
        logins: Of the API.
        roles: Of all accounts.
        own: Id of the reader's console.
    """
    rows = [_console(each, own) for each in sorted(consoles, key=lambda one: -one.since)]
    return rows + [_login(each, roles.get(each.user)) for each in logins]


def _console(each: SessionInfo, own: str) -> Row:
    mine = each.session_id == own
    cells: tuple[Cell, ...] = (
        (each.user, "accent" if mine else "text"), each.via, each.role.value, (each.origin or "this machine", "muted"),
        f.since(each.since), f.since(each.active or each.since), f.NONE, (each.screen or f.NONE, "muted"),
        ("you", "accent") if mine else "",
    )  # fmt: skip
    return Row(f"{CONSOLE}{each.session_id}", cells)


def _login(each: ApiSession, role: Role | None) -> Row:
    what = f"{each.agent or 'a client without a name'}, renewed {each.generation}x"
    cells: tuple[Cell, ...] = (
        each.user, ("REST", "accent"), role.value if role is not None else f.NONE, (each.origin or f.NONE, "muted"),
        f.since(each.created), f.since(each.used), left(each.expires), (what, "muted"), "",
    )  # fmt: skip
    return Row(f"{LOGIN}{each.session_id}", cells)


def token_rows(tokens: Sequence[ApiToken]) -> list[Row]:
    """A row a token, by name."""
    return [Row(each.name, _token(each)) for each in tokens]


def _token(each: ApiToken) -> tuple[Cell, ...]:
    ends = left(each.expires)
    used = "never" if each.used is None else f.since(each.used)
    return (
        each.name, each.user, each.role.value, (" ".join(each.scopes), "muted"), f.since(each.created),
        (used, "muted" if each.used is None else "text"),
        (ends, "bad" if ends == "over" else "warn" if ends == "never" else "text"), (each.token_id, "muted"),
    )  # fmt: skip


def _facts(facts: Mapping[str, str]) -> list[Line]:
    return [((f"{name:<{LEAD}}", "muted"), (told, "text")) for name, told in facts.items()]


def console_lines(each: SessionInfo) -> list[Line]:
    """All of a console."""
    return _facts({
        "user": f"{each.user}, {each.role.value}", "via": each.via, "from": each.origin or "this machine",
        "since": moment(each.since), "last key": moment(each.active), "shows": each.screen or f.NONE,
        "size": f"{each.columns} x {each.rows}", "id": each.session_id,
    })  # fmt: skip


def login_lines(each: ApiSession) -> list[Line]:
    """All of a login of the API: with each renewal its refresh token is another one of the same family."""
    return _facts({
        "user": each.user, "via": "REST", "from": each.origin or f.NONE, "client": each.agent or f.NONE,
        "since": moment(each.created), "renewed": f"{f.counted(each.generation, 'time')}, last at {moment(each.used)}",
        "ends": f"{moment(each.expires)}, where nobody renews it", "id": each.session_id,
    })  # fmt: skip


def token_lines(each: ApiToken) -> list[Line]:
    """All of a token but what proves it."""
    return _facts({
        "token": each.name, "user": each.user, "role": f"{each.role.value} at most", "scopes": ", ".join(each.scopes),
        "made": moment(each.created), "used": "never" if each.used is None else moment(each.used),
        "ends": "when it is revoked" if each.expires is None else moment(each.expires), "id": each.token_id,
    })  # fmt: skip


def made(answer: Mapping[str, Any]) -> list[Line]:
    """A new token with its secret."""
    expires = answer["expires"]
    return [
        (("Copy it now: it is shown once, and kept nowhere.", "warn"),), (), ((str(answer["token"]), "accent"),), (),
        *_facts({
            "name": str(answer["name"]), "user": str(answer["user"]), "role": f"{answer['role']} at most",
            "scopes": ", ".join(answer["scopes"]), "ends": "when it is revoked" if expires is None else moment(expires),
        }), (),
        (("Sent as ", "muted"), (f"Authorization: Bearer {str(answer['token'])[:8]}…", "text")),
    ]  # fmt: skip
