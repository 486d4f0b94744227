"""Whatever is too long for its place can be read somewhere; keys are offered to those who may use them."""

from __future__ import annotations

import logging

import pytest

from appliance.core.model import Role
from appliance.screens.chrome import Footer
from appliance.screens.glyphs import Caps, Colours
from appliance.screens.themes import CONSOLE, style_of
from tests.screens.conftest import Bench
from tests.support import wait_for

LONG = "The first of many words that do not fit on one line of a small terminal. " * 2 + "Next: read the very end."


async def test_a_long_message_is_whole_and_goes_away(bench: Bench) -> None:
    seen = bench.open()
    await seen.shows("Host")
    page = seen.app.page
    assert page is not None
    page.say(LONG, "bad")
    await seen.shows("read the very end.")
    foot = seen.display.partition(" ✗ The")[2]
    assert " ".join(f"The{foot}".split()) == LONG
    footer = page.query_one(Footer)
    footer._until = 0.001
    footer.tick()
    await wait_for(lambda: footer.size.height == 1)
    await seen.shows("q Quit")
    await seen.end()


async def test_rules_services_and_log_lines_open(bench: Bench) -> None:
    """Enter shows all of them, at 80 x 24."""
    seen = bench.open()
    await seen.press("6", "Rules")
    await seen.press("\t\r", "severity ")
    await seen.shows("reason ")
    await seen.press("\x1b", "a Acknowledge")
    await seen.press("2", "Detail")
    await seen.press("\r", "depends")
    await seen.press("\x1b", "q Quit")
    bench.appliance.logs.emit(
        logging.makeLogRecord({"msg": "a line " + "x" * 90 + " to-its-end", "levelname": "ERROR", "name": "x"})
    )
    await seen.press("5", "a line x")
    await seen.press("\r", "to-its-end")
    await seen.end()


@pytest.mark.parametrize(("role", "shown"), [(Role.viewer, False), (Role.operator, True)])
async def test_keys_are_offered_to_those_who_may(bench: Bench, role: Role, shown: bool) -> None:
    seen = bench.open(role=role)
    for key, text in (("2", " r Restart"), ("3", " o Open"), ("6", " a Acknowledge"), ("4", " c Cancel")):
        await seen.press(key, {"2": "Detail", "3": "Results", "6": "Rules", "4": "no jobs"}[key])
        await seen.shows("? Help")
        assert (text in seen.display.splitlines()[-1]) == shown
    await seen.press("?", "This page")
    assert ("c       Cancel" in seen.display) == shown
    await seen.end()


async def test_nothing_to_read_is_dark_grey_on_the_console(bench: Bench) -> None:
    """The VGA palette's colour 8 is hard to read on black; lines and empty tracks may have it."""
    assert Caps(Colours.console).colours is Colours.console
    for role in ("text", "muted", "head", "tab", "accent", "ok", "warn", "bad", "title", "bar", "bar-muted", "selected"):
        color = style_of(CONSOLE, role).color  # type: ignore[arg-type]
        assert color is not None
        assert color.name != "bright_black", role
    assert style_of(CONSOLE, "muted") != style_of(CONSOLE, "text")
