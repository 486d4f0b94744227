"""The Sources page on a real video: what it shows of sources, live pictures only while it is seen, and its keys."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from appliance.core.inference.sources.model import Kind, SourceEvent, SourceState, SourceStatus, Track
from appliance.core.model import Actor, Box, Role
from appliance.core.state import Section
from appliance.screens import sources_view as view
from appliance.screens.glyphs import CONSOLE, Caps, Colours, unsafe
from appliance.screens.picture import PictureView
from appliance.screens.sources import Sources
from appliance.screens.widgets.lines import Line
from tests.screens.conftest import Bench, Seen
from tests.support import capability, wait_for

SAMPLES = Path(__file__).resolve().parents[2] / ".models" / "samples"
VIDEO = SAMPLES / "bikes.mp4"
PLAIN = Caps(Colours.console, full_glyphs=False, mouse=False)
BOX = Box("person", 0.9, 1, 2, 3, 4)


def text_of(lines: list[Line]) -> str:
    return "\n".join("".join(piece for piece, _ in line) for line in lines)


def source(**more: Any) -> SourceStatus:
    values: dict[str, Any] = {
        "name": "gate", "kind": Kind.stream, "address": "rtsp://127.0.0.1/gate", "enabled": True, "rate": 5.0,
        "state": SourceState.running, "since": time.time() - 65,
    }  # fmt: skip
    return SourceStatus(**{**values, **more})


def row_of(told: SourceStatus, put_s: float | None = 0.0) -> str:
    (row,) = view.source_rows([told], put_s, CONSOLE)
    return " | ".join(cell if isinstance(cell, str) else cell[0] for cell in row.cells)


def test_what_is_not_known_of_a_source_is_a_dash() -> None:
    assert row_of(source()).startswith("gate | stream | ● running | – | – | – | – | 0")


def test_the_age_of_a_frame_grows_between_two_looks() -> None:
    assert "3 s" in row_of(source(frame_age_s=1.2), 2.0)
    assert "1 s" in row_of(source(frame_age_s=1.2), 0.0)


def test_every_lost_frame_is_counted_by_its_reason() -> None:
    lossy = source(dropped=1, refused=2, late=3, failed=4, damaged=5, skipped=100)
    assert view.lost(lossy) == 15
    assert "| 15 |" in row_of(lossy)
    told = text_of(view.fact_lines(lossy))
    for text in ("dropped 1, refused 2, late 3, failed 4, damaged 5", "100 for the rate"):
        assert text in told


@pytest.mark.parametrize("state", SourceState)
def test_every_state_has_a_sign_of_the_console(state: SourceState) -> None:
    sign, _ = view.badge(state, CONSOLE)
    assert state.value in sign
    assert unsafe(sign) == set()


def test_a_source_that_is_tried_again_says_why_when_and_what_to_do() -> None:
    ill = source(state=SourceState.retrying, reason="it does not listen.", next_step="switch it on.", next_try=time.time() + 5)
    told = text_of([tuple(view.trouble(ill))])
    for text in ("gate: it does not listen.", "Next: switch it on.", "tried again at"):
        assert text in told
    assert view.trouble(source())[-1][0] == ""
    assert "the disk is full" in text_of([tuple(view.trouble(source(problem="the disk is full")))])


def event(**more: Any) -> SourceEvent:
    values: dict[str, Any] = {
        "event_id": "e", "time": time.time(), "source": "gate", "rule": "people", "severity": "critical", "zone": "kerb",
        "label": "person", "track_id": 7, "score": 0.5, "seconds": 65.0, "box": BOX,
    }  # fmt: skip
    return SourceEvent(**{**values, **more})


def test_events_say_what_was_kept_of_them() -> None:
    kept = [view.event_rows([event(**more)])[0].cells[-1] for more in (
        {}, {"snapshot": "a"}, {"snapshot": "a", "clip": "b"}, {"problem": "the disk is full"},
    )]  # fmt: skip
    assert kept == [("–", "muted"), ("pic", "muted"), ("both", "muted"), ("failed", "bad")]
    cells = view.event_rows([event()])[0].cells
    assert cells[1:4] == (("people", "bad"), "person #7 kerb", ("1 min", "muted"))


def test_tracks_have_number_age_and_zones() -> None:
    (row,) = view.track_rows([Track(7, "person", 0.91, BOX, 65.0, ("kerb", "door"))])
    assert row.cells == (("7", "accent"), "person", "0.91", "1 min", ("kerb, door", "muted"))


def page(seen: Seen) -> Sources:
    found = seen.app.page
    assert isinstance(found, Sources)
    return found


async def add(bench: Bench, name: str, address: Path, **more: Any) -> None:
    capability(address.exists(), "the samples")
    args = {"name": name, "address": str(address), **more}
    await bench.appliance.dispatcher.invoke("source.add", args, Actor("ada", Role.admin, "console"))


def told(bench: Bench) -> SourceStatus:
    found: SourceStatus = bench.appliance.state.get(Section.sources).value[0]
    return found


async def test_the_life_of_a_source_by_its_keys(bench: Bench) -> None:
    """Added, seen live, given a zone and a rule, kept as a picture, stopped, started, removed after a question."""
    capability(VIDEO.is_file(), "the sample video")
    seen = bench.open(PLAIN)
    await seen.press("gr", "no source yet")
    await seen.press("n", "Add a source")
    for field, text in (("name", "street"), ("address", str(VIDEO)), ("model", ""), ("rate", "2"), ("schedule", "")):
        await seen.fill(field, text)
    await seen.fill("password", "")
    await seen.fill("again", "")
    await seen.shows("street is added")
    await wait_for(lambda: told(bench).inferred >= 1, 60)
    live = page(seen).query_one(PictureView)
    await wait_for(lambda: live._cells, 30)
    assert unsafe(seen.display.replace("\n", "")) == set()
    await seen.press("p", "kept as")
    await seen.press("z", "Corners")
    for field, text in (("zone", "kerb"), ("points", "0.1,0.2 0.9,0.2 0.9,0.8"), ("anchor", "foot")):
        await seen.fill(field, text)
    await seen.shows("the zone is set")
    await wait_for(lambda: told(bench).zones == ("kerb",))
    await seen.press("T", "street has no rule")
    await seen.press("\r", "Source street")
    await seen.shows("pixel format")  # what there is to scroll comes after the frame
    await seen.press("\x1b[6~", "0.1,0.2 0.9,0.2 0.9,0.8")
    await seen.press("q", "Start/stop")
    await seen.press("Z", "Remove a zone (kerb) of street")
    await seen.fill("zone", "")
    await seen.shows("the zone is removed")
    await seen.press("s", "street is st")
    await seen.press("d", "Remove the source street")
    await seen.press("\x1b", "not confirmed")
    await seen.press("d", "Remove the source street")
    await seen.press("y", "street is removed")
    await seen.shows("no source yet")
    await seen.end()


async def test_what_a_source_has_is_in_the_form_and_can_be_taken_away(bench: Bench) -> None:
    args = {"name": "gate", "address": "rtsp://127.0.0.1:9/gate", "stopped": True, "schedule": "sat,sun", "rate": 2}
    await bench.appliance.dispatcher.invoke("source.add", args, Actor("ada", Role.admin, "console"))
    seen = bench.open(PLAIN, (80, 30))
    await seen.press("gr", "– stopped")
    await seen.press("c", "Change gate")
    for text in ("rtsp://127.0.0.1:9/gate", "sat,sun", "latest"):
        await seen.shows(text)
    fields = ("address", "model", "rate", "drop")
    for field in fields:
        await seen.fill(field, "")
    await wait_for(lambda: seen.app.focused is not None and seen.app.focused.id == "field-schedule", 20)
    seen.session.feed(b"\x05\x15")
    await wait_for(lambda: getattr(seen.app.focused, "value", None) == "", 20)
    seen.session.feed(b"\r")
    await seen.fill("password", "")
    await seen.fill("again", "")
    await seen.shows("gate: changed")
    await wait_for(lambda: (told(bench).schedule, told(bench).rate) == ("", 2.0))
    await seen.press("t", "such as person, with commas between them")
    await seen.end()


async def test_a_picture_is_live_while_the_page_is_seen_and_only_then(bench: Bench, tmp_path: Path) -> None:
    """New pictures in a folder change what is drawn; on another page nobody asks for it."""
    folder = tmp_path / "in"
    folder.mkdir()
    await add(bench, "yard", folder)
    seen = bench.open(size=(160, 48))
    await seen.press("gr", " yard ")
    live, asked = page(seen).query_one(PictureView), 0
    service = bench.appliance.domains.sources  # type: ignore[union-attr]
    whole = service.preview

    async def preview(*args: Any) -> Any:
        nonlocal asked
        asked += 1
        return await whole(*args)

    service.preview = preview  # type: ignore[method-assign]
    Image.new("RGB", (64, 48), (200, 0, 0)).save(folder / "red.png")
    await wait_for(lambda: live._cells and live._cells[0][0][1][0] > 150, 60)
    assert asked == 1
    Image.new("RGB", (64, 48), (0, 0, 200)).save(folder / "blue.png")
    await wait_for(lambda: live._cells[0][0][1][2] > 150, 60)
    await seen.press("1", "Host")
    await wait_for(lambda: not live.is_attached)
    before, looked = asked, told(bench).inferred
    Image.new("RGB", (64, 48), (0, 200, 0)).save(folder / "green.png")
    await wait_for(lambda: told(bench).inferred > looked, 60)
    assert asked == before
    await seen.end()


async def test_a_stream_that_is_not_there_says_why_and_what_to_do(bench: Bench) -> None:
    args = {"name": "gate", "address": "rtsp://127.0.0.1:9/gate"}
    await bench.appliance.dispatcher.invoke("source.add", args, Actor("ada", Role.admin, "console"))
    seen = bench.open(PLAIN)
    await seen.press("gr", "✗ retrying")
    await seen.shows("does not listen")
    await seen.shows("Next: ")
    await seen.shows("nothing seen yet")
    await seen.press("\t", "nothing is followed")
    await seen.press("\t", "no event yet")
    await seen.end()


async def test_a_wide_terminal_shows_all_panels(bench: Bench) -> None:
    args = {"name": "gate", "address": "rtsp://127.0.0.1:9/gate", "stopped": True}
    await bench.appliance.dispatcher.invoke("source.add", args, Actor("ada", Role.admin, "console"))
    seen = bench.open(size=(160, 48))
    await seen.press("gr", "– stopped")
    for text in ("Live", "Source", "Tracks", "Events", "nothing is followed", "no event yet"):
        await seen.shows(text)
    await seen.press("s", "gate is started")
    await seen.shows("✗ retrying")
    await seen.end()


async def test_a_viewer_looks_and_changes_nothing(bench: Bench) -> None:
    args = {"name": "gate", "address": "rtsp://127.0.0.1:9/gate", "stopped": True}
    await bench.appliance.dispatcher.invoke("source.add", args, Actor("ada", Role.admin, "console"))
    seen = bench.open(role=Role.viewer)
    await seen.press("gr", "– stopped")
    assert "n Add" not in seen.display
    await seen.press("s", "needs the role operator")
    await seen.press("\r", "definition")
    assert told(bench).state is SourceState.stopped
    await seen.end()
