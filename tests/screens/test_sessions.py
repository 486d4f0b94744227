"""The Sessions page: who is logged in where, tokens of programs, and ending them by keys."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from appliance.core.access.model import ApiSession, ApiToken
from appliance.core.model import Role, SessionInfo
from appliance.core.state import Section
from appliance.screens import sessions_view as view
from appliance.screens.glyphs import Caps, Colours, unsafe
from appliance.screens.widgets.grid import Row
from tests.screens.conftest import Bench
from tests.support import wait_for

PLAIN = Caps(Colours.console, full_glyphs=False, mouse=False)


def cells(row: Row) -> str:
    return " | ".join(cell if isinstance(cell, str) else cell[0] for cell in row.cells)


def console(name: str, user: str, **more: Any) -> SessionInfo:
    return SessionInfo(name, user, Role.operator, "ssh", "192.0.2.7", time.time() - 7200, 100, 30, "jobs", **more)


def test_what_is_not_known_of_a_session_is_a_dash() -> None:
    login = ApiSession("s1", "eve", time.time() - 60, time.time() - 5, time.time() + 7300, 2, "", "")
    older = msgspec.structs.replace(console("b", "ada"), since=time.time() - 7300)
    rows = view.open_rows([older, console("a", "bob")], [login], {}, "b")
    assert cells(rows[0]) == "bob | ssh | operator | 192.0.2.7 | 2 h | 2 h | – | jobs | "
    assert cells(rows[1]).endswith("jobs | you")
    assert cells(rows[2]) == "eve | REST | – | – | 1 min | 5 s | 2 h | a client without a name, renewed 2x | "


def test_a_token_says_how_long_it_holds() -> None:
    made = time.time() - 86400 * 3
    for_ever = ApiToken("id1", "panel", "bob", Role.viewer, ("metrics", "state"), made, None, None)
    over = ApiToken("id2", "old", "bob", Role.viewer, ("*",), made, time.time() - 1, made)
    assert [cells(row) for row in view.token_rows([for_ever, over])] == [
        "panel | bob | viewer | metrics state | 3 d | never | never | id1",
        "old | bob | viewer | * | 3 d | 3 d | over | id2",
    ]
    assert "when it is revoked" in "".join(text for line in view.token_lines(for_ever) for text, _ in line)


async def test_sessions_and_tokens_come_and_go_by_keys(bench: Bench) -> None:
    """A login of the API and a console are ended, a token is made, shown once and revoked, a user is logged out."""
    await bench.invoke("user.add", name="bob", password="staple battery")
    desk = bench.appliance.domains.access.desk  # type: ignore[union-attr]
    bob = await bench.appliance.accounts.get("bob")
    first = await desk.sessions.open(bob, "192.0.2.9", "curl/8")
    ended: list[str] = []
    bench.appliance.presence.add(console("ssh-1", "bob"), lambda: ended.append("ssh-1"))
    seen = bench.open(PLAIN)
    await seen.press("gw", "curl/8")
    for text in ("192.0.2.7", "REST", "you"):
        await seen.shows(text)
    await seen.press("/", "Enter keeps the filter")
    await seen.press("curl\r", "/curl")
    await seen.press("\r", "where nobody renews it")
    await seen.press("\x1b", "Logged in")
    await seen.press("d", "has to log in again")
    await seen.press("y", "the login has ended")
    assert not desk.sessions.holds(first.session_id)
    await seen.press("\x1b", "192.0.2.7")
    await seen.press("\x1b[F", "▶bob")
    await seen.press("d", "Close the console ssh-1")
    await seen.press("y", "the console is closed")
    assert ended == ["ssh-1"]
    bench.appliance.presence.remove("ssh-1")
    await seen.press("n", "its secret is shown once")
    for field, text in (("name", "panel"), ("user", "bob"), ("role", ""), ("scopes", "metrics, state"), ("days", "30")):
        await seen.fill(field, text)
    await seen.shows("psk_")
    secret = next(word for word in seen.prose.split() if word.startswith("psk_") and len(word) > 40)
    assert (await desk.identify(secret, "192.0.2.9")).scopes == ("metrics", "state")
    await seen.press("\x1b", "▶panel")
    await seen.shows("metrics state")
    assert secret not in seen.display
    await desk.sessions.open(bob, "192.0.2.9", "curl/8")
    await seen.press("l", "Log bob out")
    await seen.press("s", "1 login")
    await seen.press("d", "Revoke the token panel")
    await seen.press("y", "the token panel is revoked")
    await wait_for(lambda: "no token yet" in seen.display)
    assert len(bench.appliance.state.get(Section.sessions).value) == 1
    data = bytes(seen.channel.written).decode()
    assert unsafe("".join(sign for sign in data if sign.isprintable())) == set()
    await seen.end()
