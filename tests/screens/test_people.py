"""Readers see each other."""

from __future__ import annotations

import re
import time

import pytest

from appliance.core.model import Role, SessionInfo
from appliance.core.state import Section
from appliance.screens.people import company, row_of
from tests.screens.conftest import Bench
from tests.support import wait_for


def info(name: str, user: str, **more: float) -> SessionInfo:
    return SessionInfo(name, user, Role.operator, "ssh", "192.0.2.7", time.time() - 7200, 100, 30, "jobs", **more)


@pytest.mark.parametrize(
    ("sessions", "text"),
    [
        ((), ""),
        ((info("a", "ada"),), ""),
        ((info("a", "ada"), info("b", "bob"), info("c", "eve"), info("d", "eve")), "with bob, eve x2"),
        ((info("a", "ada"), info("b", "ada")), "with ada"),
    ],
)
def test_company_is_everybody_else(sessions: tuple[SessionInfo, ...], text: str) -> None:
    assert company(sessions, "a") == text


def test_idle_is_since_the_last_key_or_since_opened() -> None:
    assert row_of(info("b", "bob", active=time.time() - 60), "a").cells[7] == "1 min"
    assert row_of(info("b", "bob"), "a").cells[7] == "2 h"


async def test_consoles_name_each_other(bench: Bench) -> None:
    """Names in a wide header, a count in a narrow one; the dialog has role, origin, page and idle time, and lives."""
    seen = bench.open(size=(120, 30))
    await seen.shows("1 console")
    bench.appliance.presence.add(info("ssh-1", "bob-with-a-long-name"), lambda: None)
    await seen.shows("ada admin  with bob-with-a-long-name")
    narrow = bench.open(size=(60, 24))
    await narrow.shows("3 consoles")
    await seen.press("?", "Who is connected")
    await seen.press("q", "Host")
    await seen.press("w", "this machine")
    for text in ("bob-with-", "operator", "192.0.2.7", "jobs", "2 h", "you"):
        await seen.shows(text)
    bench.appliance.presence.remove("ssh-1")
    await wait_for(lambda: "192.0.2.7" not in seen.display)
    await seen.press("w", "Services")
    for each in (seen, narrow):
        await each.end()


async def test_a_key_is_a_sign_of_life(bench: Bench) -> None:
    """The first key is told to the others at once, the next ones are not: the spine is not flooded by typing."""
    seen = bench.open()
    await seen.shows("Host")
    sessions = bench.appliance.state
    assert sessions.get(Section.sessions).value[0].active == 0.0
    seen.session.feed(b"m")
    await seen.shows("Memory %")
    await wait_for(lambda: sessions.get(Section.sessions).value[0].active > 0.0)
    before = sessions.get(Section.sessions)
    seen.session.feed(b"m" * 5)
    await seen.shows("CPU %")
    assert sessions.get(Section.sessions).version == before.version
    assert re.search(r"ada admin  1 console", seen.display)
    await seen.end()


async def test_a_resized_console_is_seen_as_large_as_it_is(bench: Bench) -> None:
    """At once: whoever resizes need not turn the page."""
    seen = bench.open()
    await seen.shows("Host")
    seen.session.resize(120, 40)

    def size() -> tuple[int, int]:
        (session,) = bench.appliance.state.get(Section.sessions).value
        return session.columns, session.rows

    await wait_for(lambda: size() == (120, 40), message="the presence knows the new size")
    await seen.end()
