"""Traps of many Apps in one process (Textual 8.2.8), each with its cure."""

from __future__ import annotations

import itertools
import logging
import re
import sys
import types

import pytest

from appliance.screens.glyphs import Caps, Colours
from appliance.session.driver import ChannelDriver
from appliance.session.ui import UiThread
from tests.session.rig import SECRET, Rig
from tests.support import wait_for

CONSOLE = Caps(Colours.console, full_glyphs=False, mouse=False)
TRUE_CODES = re.compile(r"\x1b\[[0-9;]*[34]8;2;")
INDEXED_CODES = re.compile(r"\x1b\[[0-9;]*[34]8;5;")


@pytest.mark.parametrize("order", [(Caps(), CONSOLE), (CONSOLE, Caps())])
async def test_sessions_do_not_mix_their_colours(rig: Rig, order: tuple[Caps, Caps]) -> None:
    """Rich's styles remember their first escape codes, and Textual shares styles between Apps."""
    consoles = []
    for caps in order:
        console = rig.open(caps)
        await wait_for(lambda: console.ready)  # noqa: B023
        consoles.append(console)
    for console in consoles:
        console.session.feed(b"abc\x1b[A")
    for console in consoles:
        await wait_for(lambda: len(console.app.pressed) == 4)  # noqa: B023
        await console.end()
    painted = {caps.colours: console.channel.text for caps, console in zip(order, consoles, strict=True)}
    assert TRUE_CODES.search(painted[Colours.true])
    assert not TRUE_CODES.search(painted[Colours.console])
    assert not INDEXED_CODES.search(painted[Colours.console])
    assert re.search(r"\x1b\[[0-9;]*4[0-7]m", painted[Colours.console]), "the console has no colours at all"
    assert not re.search(r"\x1b\[[0-9;]*10[0-7]m", painted[Colours.console]), "it has eight backgrounds"
    assert "\x1b]" not in painted[Colours.console]


async def test_256_colours_get_no_truecolor(rig: Rig) -> None:
    console = rig.open(Caps(Colours.indexed))
    await wait_for(lambda: console.ready)
    await console.end()
    assert INDEXED_CODES.search(console.channel.text)
    assert not TRUE_CODES.search(console.channel.text)


async def test_colours_do_not_come_from_the_process(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "7", "LINES": "3"}.items():
        monkeypatch.setenv(name, value)
    console = rig.open(Caps())
    await wait_for(lambda: console.ready)
    assert tuple(console.app.size) == (80, 24)
    await console.end()
    assert "48;2;10;123;76" in console.channel.text  # the small App's own green, not a grey


async def test_streams_of_the_process_are_left_alone(rig: Rig) -> None:
    before = sys.stdout, sys.stderr
    first, second = rig.open(), rig.open()
    await wait_for(lambda: first.ready and second.ready)
    assert (sys.stdout, sys.stderr) == before
    await first.end()
    assert (sys.stdout, sys.stderr) == before
    await second.end()
    assert (sys.stdout, sys.stderr) == before


async def test_a_failure_tells_no_secret_and_ends_one_console(
    rig: Rig, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    failing, other = rig.open(), rig.open()
    await wait_for(lambda: failing.ready and other.ready)
    with caplog.at_level(logging.DEBUG):
        failing.session.feed(b"\x18")
        await wait_for(failing.run.done)
    told = capfd.readouterr()
    formatted = "\n".join(logging.Formatter().format(record) for record in caplog.records)
    assert "ValueError" in formatted
    assert "on_key" in formatted, "the log does not say where"
    for text in (formatted, told.out, told.err, failing.channel.text):
        assert SECRET not in text
    assert told.err == ""
    assert failing.channel.text.rstrip().endswith("open it again.")
    assert "(ValueError)" in failing.channel.text
    other.session.feed(b"k")
    await wait_for(lambda: other.app.pressed == ["k"])
    await other.end()


async def test_an_app_whose_styles_are_broken_says_so(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tests.session.rig.SmallApp.CSS", "#keys { backgrou")
    console = rig.open()
    await wait_for(console.run.done)
    assert capfd.readouterr().err == ""
    assert len(rig.sessions) == 0
    assert "This console failed" in console.channel.text


@pytest.mark.parametrize("seed", range(3))
async def test_nothing_is_left_of_eight_consoles_closed_in_any_order(rig: Rig, seed: int) -> None:
    consoles = [rig.open(CONSOLE if each % 2 else Caps()) for each in range(8)]
    await wait_for(lambda: all(console.ready for console in consoles))
    for console in consoles:
        console.session.feed(b"a\x1b[A\x1b[200~paste\x1b[201~\x1b[97;5u\x1b")
    await wait_for(lambda: all(console.app.pasted for console in consoles))
    orders = list(itertools.permutations(range(8)))
    for index in orders[seed * 7919 % len(orders)]:
        await consoles[index].end()
    consoles.clear()
    await wait_for(lambda: rig.alive() == 0)
    assert len(rig.apps) == 8
    assert rig.state._watches == ()


async def test_a_failed_console_leaves_nothing(rig: Rig) -> None:
    consoles = [rig.open()]
    await wait_for(lambda: consoles[0].ready)
    consoles[0].session.feed(b"\x18")
    await wait_for(consoles[0].run.done)
    consoles.clear()
    await wait_for(lambda: rig.alive() == 0)


async def test_the_parser_of_an_ended_console_holds_no_text(rig: Rig) -> None:
    console = rig.open()
    await wait_for(lambda: console.ready)
    driver = console.session._driver
    assert isinstance(driver, ChannelDriver)
    parser = driver._parser
    assert parser is not None
    console.session.feed(b"\x1b[200~never finished")
    await console.end()
    assert driver._parser is None
    assert parser.is_eof
    assert parser._gen.gi_frame is None  # type: ignore[attr-defined]


async def test_tasks_of_the_ui_loop_are_never_eager(ui: UiThread) -> None:
    """From Python 3.12 on, Textual sets the eager task factory on the loop of each App."""
    order: list[str] = []

    async def child() -> None:
        order.append("child")

    async def parent() -> None:
        import asyncio

        eager = getattr(asyncio, "eager_task_factory", lambda loop, work, **_: types.SimpleNamespace(work=work))
        asyncio.get_running_loop().set_task_factory(eager)
        task = asyncio.create_task(child())
        order.append("parent")
        await task

    await ui.call(parent())
    assert order == ["parent", "child"]
