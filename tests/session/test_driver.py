"""Bytes in, keys out; frames out, bounded."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from textual._xterm_parser import XTermParser

from appliance.screens.glyphs import Caps, Colours, unsafe
from appliance.session.driver import LONGEST_PASTE, ChannelDriver, _parsed
from tests.session.rig import Opened, Rig, screen_of
from tests.support import wait_for

CONSOLE = Caps(Colours.console, full_glyphs=False, mouse=False)


async def opened(rig: Rig, caps: Caps | None = None, size: tuple[int, int] = (80, 24)) -> Opened:
    console = rig.open(caps, size)
    await wait_for(lambda: console.ready)
    return console


async def test_takes_the_terminal_and_gives_it_back(rig: Rig) -> None:
    console = await opened(rig)
    assert console.channel.text.startswith("\x1b[?1049h")
    assert "\x1b[?2004h" in console.channel.text
    assert "\x1b[?1000h" in console.channel.text
    await console.end()
    assert console.channel.text.endswith("\x1b[?1049l\x1b[?25h")
    assert "\x1b[?2004l" in console.channel.text
    assert console.channel.closed


async def test_console_gets_neither_mouse_nor_paste_nor_unsafe_glyphs(rig: Rig) -> None:
    console = await opened(rig, CONSOLE)
    await console.end()
    assert "\x1b[?1000" not in console.channel.text
    assert "\x1b[?2004" not in console.channel.text
    assert "ready ███ + o" in "".join(screen_of(bytes(console.channel.written.partition(b"\x1b[?1049l")[0])))
    assert unsafe(console.channel.text) == set()


async def test_keys_arrive(rig: Rig) -> None:
    console = await opened(rig)
    console.session.feed(b"a\x1bOPB\x1b[A")
    await wait_for(lambda: console.app.pressed == ["a", "f1", "B", "up"])
    await console.end()


async def test_a_lone_escape_arrives(rig: Rig) -> None:
    console = await opened(rig)
    console.session.feed(b"\x1b")
    await wait_for(lambda: console.app.pressed == ["escape"])
    await console.end()


async def test_a_lone_escape_arrives_soon_after_another_key(rig: Rig) -> None:
    console = await opened(rig)
    console.session.feed(b"a")
    await wait_for(lambda: console.app.pressed == ["a"])
    console.session.feed(b"\x1b")
    await wait_for(lambda: console.app.pressed == ["a", "escape"])
    await console.end()


async def test_a_character_cut_in_two_arrives_whole(rig: Rig) -> None:
    console = await opened(rig)
    for byte in "é😀".encode():
        console.session.feed(bytes([byte]))
    console.session.feed(b"z")
    await wait_for(lambda: console.app.pressed[-1:] == ["z"])
    assert len(console.app.pressed) == 3
    await console.end()


async def test_a_sequence_cut_in_two_is_one_key(rig: Rig) -> None:
    console = await opened(rig)
    console.session.feed(b"\x1b[")
    console.session.feed(b"A")
    await wait_for(lambda: console.app.pressed == ["up"])
    await console.end()


async def test_a_paste_comes_as_one(rig: Rig) -> None:
    console = await opened(rig)
    console.session.feed(b"\x1b[200~two\nlines\x1b[201~")
    await wait_for(lambda: console.app.pasted == ["two\nlines"])
    await console.end()


async def test_an_endless_paste_is_thrown_away(rig: Rig) -> None:
    console = await opened(rig)
    console.session.feed(b"\x1b[200~")
    for _ in range(LONGEST_PASTE // 65536 + 1):
        console.session.feed(b"x" * 65536)
    assert console.session._driver is not None
    driver = console.session._driver
    assert driver._unanswered <= LONGEST_PASTE
    console.session.feed(b"y" * 65536)
    await wait_for(lambda: driver._thrown is None)
    console.session.feed(b"k")
    await wait_for(lambda: "k" in console.app.pressed)
    assert (console.app.pasted, console.app.pressed) == ([], ["k"]), "none of it is typed"
    await console.end()


async def test_keys_behind_a_paste_that_was_too_long_are_keys(rig: Rig) -> None:
    console = await opened(rig)
    console.session.feed(b"\x1b[200~" + b"x" * (LONGEST_PASTE + 1))
    for part in (b"q" * 1000, b"q\x1b[20", b"1~j", b"k"):
        console.session.feed(part)
    await wait_for(lambda: "k" in console.app.pressed)
    assert (console.app.pasted, console.app.pressed) == ([], ["j", "k"])
    await console.end()


@pytest.mark.parametrize("junk", [b"\x1b[:P\0?", b"\x1b[9999999999999999999999999~\0?", b"\xff\xfe\x80", b"\x1b[<;;M"])
async def test_junk_costs_no_more_than_itself(rig: Rig, junk: bytes) -> None:
    console = await opened(rig)
    console.session.feed(junk)
    console.session.feed(b"\x1b[Bk")
    await wait_for(lambda: "k" in console.app.pressed)
    await console.end()


@settings(deadline=None, max_examples=300, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.sampled_from(
            ["\x1b", "[", "<", "0", "1", "9" * 25, ";", ":", "u", "~", "M", "R", "t", "\x1b[200~", "é", "\0", "2026", "$y"]
        )
    )
)
def test_the_parser_never_breaks_the_session(parts: list[str]) -> None:
    _parsed(XTermParser().feed, "".join(parts) or "x")


@pytest.mark.parametrize(
    ("told", "painted"), [((0, 0), (80, 24)), ((20, 5), (20, 5)), ((1, 1), (1, 1)), ((100_000, 100_000), (1000, 400))]
)
async def test_any_size_is_painted(rig: Rig, told: tuple[int, int], painted: tuple[int, int]) -> None:
    console = rig.open(size=told)
    await wait_for(lambda: console.session.app is not None and console.app.is_running and console.app._dom_ready)
    assert tuple(console.app.size) == painted
    await console.end()


async def test_a_resize_arrives_and_zero_means_80_by_24(rig: Rig) -> None:
    console = await opened(rig, size=(120, 40))
    console.session.resize(20, 5)
    await wait_for(lambda: tuple(console.app.screen.size) == (20, 5))
    console.session.resize(0, 0)
    await wait_for(lambda: tuple(console.app.screen.size) == (80, 24))
    await console.end()


async def test_a_stalled_terminal_misses_frames_and_gets_a_whole_one_when_it_resumes(rig: Rig) -> None:
    console = await opened(rig)
    driver = console.session._driver
    assert isinstance(driver, ChannelDriver)
    console.channel.paused = True
    before = len(console.channel.written)
    console.session.feed(b"abc\x0e")
    await wait_for(lambda: console.app.ticks > 20)
    assert len(console.channel.written) == before
    assert driver.dropped_frames > 0
    console.channel.written.clear()
    console.channel.paused = False
    console.session.resumed()
    await wait_for(lambda: "keys: a b c" in screen_of(bytes(console.channel.written))[0])
    await console.end()


async def test_resuming_without_loss_paints_nothing(rig: Rig) -> None:
    console = await opened(rig)
    console.channel.paused = True
    console.channel.paused = False
    console.session.resumed()
    assert console.session._driver is not None
    assert not console.session._driver._owes_repaint
    await console.end()


async def test_nothing_of_the_process_is_touched_for_a_reader(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    import io
    import webbrowser
    from pathlib import Path

    called: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url, *_: called.append(url))
    console = await opened(rig)
    console.app.open_url("https://example.invalid/page")
    binary = io.BytesIO(b"1")
    target = Path(str(tmp_path)) / "x"
    assert console.session._driver is not None
    console.session._driver.deliver_binary(binary, delivery_key="k", save_path=target)
    await wait_for(lambda: "example.invalid/page" in console.channel.text)
    assert called == []
    assert binary.closed
    assert not target.exists()
    assert not console.session._driver.can_suspend
    await console.end()


async def test_ends_before_it_ran(rig: Rig) -> None:
    console = rig.open()
    console.session.end()
    await wait_for(console.run.done)
    assert len(rig.sessions) == 0
    assert console.channel.closed


async def test_what_the_app_returns_comes_back(rig: Rig) -> None:
    console = await opened(rig)
    console.app.exit("left")
    assert await console.run == "left"
