"""Pictures through the kitty protocol: drawn once, taken away, and never left over another page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from appliance.core.state import Section
from appliance.screens.glyphs import Caps
from appliance.screens.inference import PictureView
from appliance.screens.overlay import TAKE_AWAY, Overlay
from tests.screens.conftest import Bench, Seen
from tests.support import capability, wait_for

PICTURE = Path(__file__).resolve().parents[2] / ".models" / "samples" / "bus.jpg"
PLACED = re.compile(r"\x1b7\x1b\[(\d+);(\d+)H\x1b_Ga=T,f=100,c=(\d+),r=(\d+),q=2,m=\d;")


def test_an_overlay_sends_what_the_terminal_has_not_got() -> None:
    """Once, not again with each frame; after a stall as soon as it is taken; nothing is taken away where nothing is."""
    sent: list[str] = []
    open_ = True

    def send(text: str) -> bool:
        if open_:
            sent.append(text)
        return open_

    overlay = Overlay(send)
    overlay.clear()
    overlay.flush()
    assert sent == []
    overlay.place("P", 4, 2)
    overlay.flush()
    assert sent == ["\x1b7\x1b[3;5HP\x1b8"]
    open_ = False
    overlay.place("Q", 0, 0)
    open_ = True
    overlay.flush()
    overlay.flush()
    assert sent[1:] == [f"{TAKE_AWAY}\x1b7\x1b[1;1HQ\x1b8"]
    overlay.again()
    overlay.clear()
    overlay.clear()
    assert sent[2:] == [sent[1], TAKE_AWAY]


def places(seen: Seen) -> list[tuple[int, ...]]:
    return [tuple(map(int, found)) for found in PLACED.findall(seen.channel.text)]


def is_taken_away(seen: Seen) -> bool:
    text = seen.channel.text
    return text.rfind(TAKE_AWAY) > text.rfind("a=T,f=100,")


async def open_result(bench: Bench, caps: Caps) -> Seen:
    capability(PICTURE.is_file(), "the model with its sample picture")
    job: Any = await bench.invoke("inference.run", paths=[str(PICTURE)])
    await bench.invoke("job.wait", job_id=job.job_id)
    await wait_for(lambda: bench.appliance.state.get(Section.results).value)
    seen = bench.open(caps, (100, 30))
    await seen.press("3", "Results")
    return seen


async def test_a_kitty_terminal_gets_the_picture_inside_its_panel(bench: Bench) -> None:
    """Placed inside the panel; gone under a dialog and on other pages; back after them; moved after a resize."""
    seen = await open_result(bench, Caps(images="kitty"))
    await wait_for(lambda: len(places(seen)) == 1, 20)
    panel = seen.app.screen.query_one(PictureView).region
    row, column, across, down = places(seen)[0]
    assert (row, column) == (panel.y + 2, panel.x + 2)
    assert column + across <= panel.right
    assert row + down <= panel.bottom
    seen.session.feed(b"?")
    await wait_for(lambda: is_taken_away(seen))
    seen.session.feed(b"q")
    await wait_for(lambda: len(places(seen)) == 2)
    seen.session.feed(b"\x0c")
    await wait_for(lambda: len(places(seen)) == 3)
    seen.session.resize(120, 40)
    await wait_for(lambda: places(seen)[-1][3] > down)
    seen.session.feed(b"4")
    await wait_for(lambda: seen.app.page is not None and seen.app.page.page == "jobs" and is_taken_away(seen))
    await seen.end()


async def test_a_stalled_terminal_gets_the_picture_later(bench: Bench) -> None:
    seen = await open_result(bench, Caps(images="kitty"))
    await wait_for(lambda: len(places(seen)) == 1, 20)
    seen.session.feed(b"1")
    await wait_for(lambda: is_taken_away(seen))
    seen.channel.paused = True
    seen.session.feed(b"3")
    await wait_for(lambda: "a=T" in seen.app.overlay._wanted)
    assert len(places(seen)) == 1
    seen.channel.paused = False
    seen.session.resumed()
    await wait_for(lambda: len(places(seen)) == 2)
    await seen.end()


async def test_other_terminals_get_cells(bench: Bench) -> None:
    """Sixel too: its pictures would need the size of a cell in pixels, which terminals seldom tell."""
    for images in ("none", "sixel"):
        seen = await open_result(bench, Caps(images=images))  # type: ignore[arg-type]
        await seen.shows("▀▀▀▀")
        assert "\x1b_G" not in seen.channel.text
        await seen.end()
