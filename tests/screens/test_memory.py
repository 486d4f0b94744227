"""The Memory page on a real appliance: what it shows of tiers and keys, and what its keys do."""

from __future__ import annotations

import base64
import random
import re
from pathlib import Path
from typing import Any

import pytest

from appliance.core.memory.model import MemoryStatus, TierStatus
from appliance.core.model import Health, Role
from appliance.core.state import Section
from appliance.screens import format as f
from appliance.screens.chrome import HELP, fitting
from appliance.screens.entries import entry_row, value_lines
from appliance.screens.glyphs import CONSOLE, FULL, Caps, Colours, unsafe
from appliance.screens.tiers import COLUMNS, count, legend, marks, summary_lines, tier_cells
from appliance.screens.widgets.grid import Grid
from appliance.screens.widgets.lines import width_of
from tests.screens.conftest import Bench, Seen
from tests.support import wait_for

TIERS = ("redis", "disk", "nas", "documents", "objects")
EVIL = "\x1b]52;c;ZXZpbA==\x07\u202e"


def tier(name: str = "disk", **more: Any) -> TierStatus:
    return TierStatus(**{"name": name, "level": 2, "health": Health.healthy, "reason": "well", **more})


def test_marks_tell_every_state_without_colour() -> None:
    assert marks(TIERS, ["redis", "disk"], ["documents"], []) == "RD·p·"
    assert marks(TIERS, ["disk"], ["nas", "objects"], ["redis"]) == "?Dn·o"
    assert marks((), ["disk"], [], []) == ""
    text = "".join(piece for line in legend(TIERS, 80) for piece, _ in line)
    assert all(width_of(line) <= 80 for line in legend(TIERS, 80))
    assert len(legend(TIERS, 160)) == 1
    assert [name for name in (*TIERS, "held", "owed", "not known", "not there") if name not in text] == []


def test_marks_of_all_tiers_differ() -> None:
    assert len(set(marks((*TIERS, "memory"), (*TIERS, "memory"), [], []))) == 6


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (0, "0"), (9999, "9999"), (10_000, "10k"), (999_999, "999k"), (12_000_000, "12M")]
)
def test_counts_are_short(value: int | None, text: str) -> None:
    assert count(value) == text


@pytest.mark.parametrize(("value", "text"), [(None, "–"), (0.123, "0.12"), (5.55, "5.5"), (123.4, "123")])
def test_times_have_three_digits(value: float | None, text: str) -> None:
    assert f.ms(value) == text


def test_what_is_not_known_is_no_zero() -> None:
    """A tier that was never asked has dashes, and no meter."""
    cells = [cell if isinstance(cell, str) else cell[0] for cell in tier_cells(tier(), CONSOLE)]
    shown = dict(zip([column.title for column in COLUMNS], cells, strict=True))
    assert [shown[name] for name in ("entries", "size", "of", "used", "", "hits", "p50/p99 ms")] == ["–"] * 4 + ["", "–", "–"]


def test_a_fault_is_told_with_its_reason() -> None:
    """The worst first, what is wrong in words; evictions and errors where the table has no column for them."""
    ill = (
        tier("disk", evictions=3),
        tier("nas", health=Health.absent, reason="no marker"),
        tier("objects", health=Health.unhealthy, reason="no answer", errors=7),
    )
    status = MemoryStatus(tiers=ill, hits=3, misses=1, conflicts=2)
    first, *others = ("".join(piece for piece, _ in line) for line in summary_lines(status, 80, FULL))
    second = "\n".join(others)
    assert "hits 75 % of 4" in first
    assert "conflicts 2" in first
    assert second.index("objects: no answer") < second.index("nas: no marker")
    assert "evicted disk 3" in second
    assert "errors objects 7" in second
    assert "evicted" not in "".join(piece for line in summary_lines(status, 160, FULL) for piece, _ in line)
    assert "every tier is well" in summary_lines(MemoryStatus(tiers=(tier(),)), 80, FULL)[1][0][0]


NAS = "The NAS is not mounted at /srv/a/long/path/of/the/nas: .prime-spark-nas is not there."
STEP = "mount it; put the marker file there once with `touch /srv/a/long/path/of/the/nas/.prime-spark-nas`."


@pytest.mark.parametrize("width", [40, 80, 160])
def test_reason_and_next_step_are_whole(width: int) -> None:
    """Of the selected tier first; a name is not said twice; what has no room is named."""
    ill = [
        tier(name, health=Health.absent, reason=f"{name}: {NAS}", next_step=STEP) for name in ("nas", "documents", "objects")
    ]
    status = MemoryStatus(tiers=(tier("disk"), *ill))
    lines = summary_lines(status, width, FULL, "objects")[1:]
    text = "".join("".join(piece for piece, _ in line).strip() for line in lines)
    bare = re.sub(r"\s", "", text)
    assert re.sub(r"\s", "", f"objects:{NAS}Next:{STEP}") in bare
    assert "objects:objects" not in bare
    assert all(name in bare for name in ("nas", "documents"))
    assert all(width_of(line) <= width for line in lines)
    assert "disk: well" in "".join(piece for line in summary_lines(status, 80, FULL, "disk") for piece, _ in line)


@pytest.mark.parametrize("width", [80, 100, 110, 119, 120, 160])
def test_every_column_of_the_tiers_has_its_width(width: int) -> None:
    shown = [column for column in COLUMNS if width >= column.least]
    assert all(column.width >= min(len(column.title), 5) for column in shown)
    assert 1 + sum(column.width + 1 for column in shown) <= width - 2


def test_times_go_on_after_a_reading() -> None:
    entry = {
        "key": "a:b", "kind": "json", "size": 2048, "tiers": ["disk"], "owed": [], "unknown": [], "age_s": 10.0, "ttl_s": 30.0,
        "pinned": True, "hits": 2, "tags": ["x"], "checksum": "0123456789ab", "device": "pc",
    }  # fmt: skip
    cells = [cell if isinstance(cell, str) else cell[0] for cell in entry_row(entry, TIERS, 5.0).cells]
    assert cells[:8] == ["a:b", "json", "2.0 KiB", "·D···", "15 s", "25 s", "pin", "01234567"]
    assert entry_row(entry, TIERS, 100.0).cells[5] == ("0 s", "text")


@pytest.mark.parametrize("width", [1, 7, 80])
def test_a_long_line_is_broken_and_whole(width: int) -> None:
    lines = value_lines(["x" * 100, "", "a\x1bb"], width)
    assert all(width_of(line) <= width + 1 for line in lines)
    assert "".join(line[0][0][1:] for line in lines) == "x" * 100 + r"a\x1bb"


@pytest.mark.parametrize("width", [0, 5, 20, 80])
def test_help_is_the_last_key_that_goes(width: int) -> None:
    keys = [("a", "One"), ("b", "Another"), HELP, ("q", "Quit")]
    shown = fitting(keys, width)
    assert HELP in shown
    assert sum(len(key) + len(text) + 3 for key, text in shown) <= max(width, 8)
    assert (shown == keys) == (width == 80)


async def on_memory(seen: Seen) -> Seen:
    """The page, with its keys read."""
    await seen.press("9", "not there")
    await wait_for(lambda: "reading" not in seen.display)
    return seen


def line_of(seen: Seen, key: str) -> str:
    return next((line for line in seen.display.splitlines() if key in line and ("│" in line)), "")


async def test_what_one_console_keeps_the_other_sees(bench: Bench) -> None:
    """Through the form on one console; on the other without a key."""
    here, there = await on_memory(bench.open()), await on_memory(bench.open(size=(160, 48)))
    await here.press("a", "NAMESPACE:KEY")
    for text, field in (("notes:today", "value"), ('{"sun": [1, 2]}', "kind")):
        await here.press(f"{text}\r", text)
        await wait_for(lambda field=field: getattr(here.app.focused, "id", "") == f"field-{field}")  # type: ignore[misc]
    here.session.feed(b"\x7f" * 4)
    await wait_for(lambda: not here.app.focused.value)  # type: ignore[union-attr]
    here.session.feed(b"json\r")
    await wait_for(lambda: getattr(here.app.focused, "id", "") == "field-ttl")
    here.session.feed(b"\r")
    await wait_for(lambda: getattr(here.app.focused, "id", "") == "field-tags")
    here.session.feed(b"sky, plans\r")
    await wait_for(lambda: getattr(here.app.focused, "id", "") == "field-durability")
    await here.press("\r", "notes:today is kept, durability edge")
    await there.shows("notes:today")
    assert re.search(r"notes:today +json +15 B +·?R?M?D", line_of(there, "notes:today"))
    found: Any = await bench.invoke("memory.get", key="notes:today")
    assert found["tags"] == ["plans", "sky"]
    await here.end()
    await there.end()


async def fill(seen: Seen, *texts: str | None) -> None:
    """Type into the field that has the focus and those below it, in place of what stands there; None leaves a field."""
    for text in texts:
        field: Any = seen.app.focused
        if text is not None:
            seen.session.feed(b"\x7f" * len(field.value))
            await wait_for(lambda field=field: not field.value)  # type: ignore[misc]
            seen.session.feed(text.encode())
            await wait_for(lambda field=field, text=text: field.value == text)  # type: ignore[misc]
        seen.session.feed(b"\r")
        await wait_for(lambda field=field: seen.app.focused is not field)  # type: ignore[misc]


async def test_a_form_that_is_refused_keeps_what_was_typed(bench: Bench) -> None:
    """The reason stands whole beside the field."""
    seen = await on_memory(bench.open())
    await seen.press("a", "NAMESPACE:KEY")
    await wait_for(lambda: getattr(seen.app.focused, "id", "") == "field-key")
    await fill(seen, "notes:today", "{no", "json", None, "sky", None)
    await seen.shows("no JSON")
    await seen.shows("stand in double")
    await wait_for(lambda: getattr(seen.app.focused, "id", "") == "field-value")
    assert "notes:today" in seen.display
    await fill(seen, "[1]", None, None, None, None)
    await seen.shows("notes:today is kept")
    found: Any = await bench.invoke("memory.get", key="notes:today")
    assert (found["value"], found["tags"]) == ([1], ["sky"])
    await seen.end()


async def test_the_selected_tier_is_told_whole(bench: Bench) -> None:
    """And the header has role and seconds where there is room for them."""
    seen = await on_memory(bench.open(size=(100, 30)))
    await seen.press("\t", "Memory")
    await wait_for(lambda: getattr(seen.app.focused, "id", "") == "tiers")
    front = bench.appliance.state.get(Section.memory).value.tiers[0]
    await seen.shows(f"{front.name}: {front.reason}")
    await seen.press("\x1b[B", "disk: ")
    assert "ada admin" in seen.display.splitlines()[0]
    assert re.search(r"\d\d:\d\d:\d\d", seen.display.splitlines()[0])
    await seen.end()


async def test_a_value_walks_up_when_it_is_read(bench: Bench) -> None:
    """Out of tier 1 with `e`, back with Enter; the marks and the copies tell."""
    await bench.invoke("memory.set", key="a:one", value="first line\nsecond line")
    seen = await on_memory(bench.open())
    front = bench.appliance.state.get(Section.memory).value.tiers[0].name
    letter = front[0].upper()
    await seen.shows(f" {letter}D ")
    await seen.press("e", f"out of tier 1 alone ({front})")
    await seen.press("1", "a:one is out of tier 1; held by disk")
    await wait_for(lambda: " ·D " in line_of(seen, "a:one"))
    await seen.press("e", "out of tier 1 alone")
    await seen.press("2", "lies on the local disk alone")
    await seen.press("\r", "second line")
    assert re.search(f"{letter} {front} +not there", seen.display)
    assert re.search("D disk +held +this version", seen.display)
    await seen.press("q", f" {letter}D ")
    await seen.end()


async def test_pinned_promoted_deleted(bench: Bench) -> None:
    """Each by its key, and told; deleting asks first, and Esc means no."""
    await bench.invoke("memory.set", key="a:one", value="1")
    seen = await on_memory(bench.open())
    await seen.shows("a:one")
    await seen.press("p", "a:one is pinned")
    await wait_for(lambda: " pin " in line_of(seen, "a:one"))
    await seen.press("p", "is not pinned any more")
    await wait_for(lambda: " pin " not in line_of(seen, "a:one"))
    await bench.invoke("memory.evict", key="a:one")
    await seen.press("m", "a:one is in every faster tier; held by")
    await seen.press("d", "deleted in every tier")
    await seen.press("\x1b", "not confirmed")
    assert await bench.invoke("memory.get", key="a:one")
    await seen.press("d", "deleted in every tier")
    await seen.press("y", "a:one is deleted")
    await seen.shows("no keys yet")
    await seen.end()


@pytest.mark.parametrize(
    ("key", "action"), [("p", "memory.pin"), ("m", "memory.promote"), ("e", "memory.evict"), ("d", "memory.delete")]
)
async def test_a_viewer_is_refused(bench: Bench, key: str, action: str) -> None:
    """At once, without a question first; reading is allowed."""
    await bench.invoke("memory.set", key="a:one", value="first line")
    seen = await on_memory(bench.open(role=Role.viewer, size=(120, 30)))
    await seen.shows("a:one")
    await seen.press(key, f"{action} needs the role operator")
    await seen.press("\r", "first line")
    await seen.end()


async def test_search_namespaces_and_pages(bench: Bench) -> None:
    """The appliance narrows down; pages follow its cursor, there and back."""
    for start in range(130):
        await bench.invoke("memory.set", key=f"many:k{start:03}", value="x", durability="memory")
    await bench.invoke("memory.set", key="few:other", value="x")
    seen = await on_memory(bench.open())
    await seen.shows("more: >")
    await seen.press("G", "many:k098")
    await seen.press(">", "many:k099")
    await seen.shows("page 2")
    await seen.press("<", "few:other")
    await seen.press("n", "namespace few")
    await wait_for(lambda: "many:" not in seen.display)
    await seen.press("n", "namespace many")
    await wait_for(lambda: "few:" not in seen.display)
    await seen.press("n", "few:other")
    await seen.press("/", "part of a key")
    await seen.press("K12", "many:k124")
    await wait_for(lambda: "many:k119" not in seen.display and "few:other" not in seen.display)
    await seen.press("zz", "no such key")
    await seen.press("\x1b", "few:other")
    await seen.end()


async def test_a_value_steers_no_terminal(bench: Bench, tmp_path: Path) -> None:
    """Text, JSON and bytes with escape sequences in them are shown as what they are."""
    await bench.invoke("memory.set", key="a:text", value=f"before{EVIL}after")
    await bench.invoke("memory.set", key="b:json", json_text='{"b": "\\u001b]52;x", "a": 1.5}', tags=["plain"])
    (tmp_path / "file").write_bytes(b"\x00\x01\x1b]52;" + bytes(40))
    await bench.invoke("memory.set", key="c:bytes", file=base64.b64encode((tmp_path / "file").read_bytes()).decode())
    seen = await on_memory(bench.open(size=(100, 40)))
    await seen.shows("c:bytes")
    await seen.press("\r", "before<ESC>]52;c;ZXZpbA==<U+0007><U+202E>after")
    await seen.press("q", "Keys")
    await seen.press("j\r", '"a": 1.5,')
    await seen.shows(r'"b": "\u001b]52;x"')
    await seen.press("q", "Keys")
    await seen.press("j\r", "binary, 47 bytes")
    await seen.shows("000000 00 01 1b 5d 35 32 3b 00")
    for bad in ("\x1b]52", "\u202e"):
        assert bad not in seen.channel.text
    await seen.end()


async def test_a_fault_is_shown_as_what_it_is(bench: Bench, home: Path, tmp_path: Path) -> None:
    """A damaged value: its metadata, its copies, and the reason instead of a value."""
    (tmp_path / "large").write_bytes(random.Random(1).randbytes(500_000))
    await bench.invoke("memory.set", key="a:one", file=base64.b64encode((tmp_path / "large").read_bytes()).decode())
    await bench.invoke("memory.evict", key="a:one")
    seen = await on_memory(bench.open(size=(100, 40)))
    await seen.shows("a:one")
    (file,) = [path for path in home.rglob("*") if path.is_file() and "/files/" in str(path)]
    file.write_bytes(b"damaged" + file.read_bytes()[7:])
    await seen.press("\r", "is lost: no tier gives what was written")
    assert "SHA-256" in seen.display
    await seen.press("q", "corrupt 1")
    await seen.end()


async def test_enter_on_a_tier_tells_all_of_it(bench: Bench) -> None:
    seen = await on_memory(bench.open())
    await seen.press("\t", "Memory")
    await wait_for(lambda: getattr(seen.app.focused, "id", "") == "tiers")
    await seen.press("\r", "level")
    for text in ("health", "reason", "next step", "evicted", "errors"):
        await seen.shows(text)
    await seen.end()


async def test_equal_values_repaint_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reading of the keys that brings the same rows lays nothing out anew."""
    await bench.invoke("memory.set", key="a:one", value="1")
    seen = await on_memory(bench.open())
    await seen.shows("a:one")
    page: Any = seen.app.page
    grid = page.query_one("#entries", Grid)
    await wait_for(lambda: grid.rows and not page._reading)
    page._entries = ({**page._entries[0], "age_s": 3 * 86400.0},)
    page._show_entries()
    laid_out: list[object] = []
    monkeypatch.setattr(grid, "set_rows", laid_out.append)
    page._show_entries()
    assert laid_out == []
    page._entries = ({**page._entries[0], "age_s": 5 * 86400.0},)
    page._show_entries()
    assert len(laid_out) == 1
    await seen.end()


@pytest.mark.parametrize("size", [(80, 24), (160, 48)])
async def test_a_full_page_keeps_to_the_console(bench: Bench, size: tuple[int, int]) -> None:
    """With keys, the form, a question and a value on it: no glyph that a console's font lacks."""
    await bench.invoke("memory.set", key="a:one", value="1", ttl=3600.0, tags=["x"])
    seen = await on_memory(bench.open(Caps(Colours.console, full_glyphs=False, mouse=False), size))
    await seen.shows("a:one")
    for key, text in (("a", "durability"), ("\x1b", "Keys"), ("d", "deleted"), ("\x1b", "Keys"), ("\r", "this version")):
        await seen.press(key, text)
    plain = re.sub(r"\x1b(\[[0-9;?<>$]*[A-Za-z]|[^\[])", "", seen.channel.text)
    assert unsafe(plain) == set()
    await seen.end()
