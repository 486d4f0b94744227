"""The Conflicts page: two appliances write one key in one PostgreSQL, and the operator decides on the page."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from appliance.core.memory.diff import side_by_side
from appliance.core.memory.documents import DocumentReplica
from appliance.core.model import Role
from appliance.core.state import Section
from appliance.screens import deciding
from appliance.screens.editor import Editor
from appliance.screens.glyphs import Caps, Colours, unsafe
from appliance.screens.sides import GUTTER, side_lines
from appliance.screens.widgets.grid import Grid
from appliance.screens.widgets.lines import Line, width_of
from tests.memory.rig import Rig, running
from tests.screens.conftest import Bench, Seen
from tests.support import wait_for

PLAN = {"title": "Harvest", "steps": ["weigh", "wash"], "note": "as before"}


def rows(mine: str, theirs: str, base: str | None = None) -> list[dict[str, Any]]:
    import msgspec

    return [msgspec.to_builtins(row) for row in side_by_side(mine, theirs, base)]


def text(line: Line) -> str:
    return "".join(piece for piece, _ in line)


def test_marks_tell_what_differs_and_by_whom() -> None:
    """In two columns: differs, only one side has it, who changed it since the base."""
    mine, theirs, base = "a\nb2\nc\nd\nf", "a\nb\nc\nd2\ne\nf", "a\nb\nc\nd\nf"
    head, *lines = (text(line) for line in side_lines(rows(mine, theirs, base), 24, "mine: x", "theirs: y"))
    assert head.split() == ["mine:", "x", "theirs:", "y"]
    assert [(line[:10].strip(), line[10:14], line[14:].strip()) for line in lines] == [
        ("a", "    ", "a"), ("b2", " |m ", "b"), ("c", "    ", "c"), ("d", " |t ", "d2"), ("", " >t ", "e"), ("f", "    ", "f"),
    ]  # fmt: skip


def test_clashes_are_marked_and_no_base_marks_nobody() -> None:
    assert " |! " in text(side_lines(rows("1", "2", "0"), 40, "", "")[1])
    assert " |  " in text(side_lines(rows("1", "2"), 40, "", "")[1])
    assert " <  " in text(side_lines(rows("1\n2", "1"), 40, "", "")[2])


@pytest.mark.parametrize("width", [4, 30, 78, 158])
def test_long_lines_go_on_and_nothing_is_lost(width: int) -> None:
    """One above the other where both do not fit beside each other; never wider than the screen, never cut."""
    one, other = "".join(f"<{i}>" for i in range(60)), "".join(f"[{i}]" for i in range(60))
    lines = side_lines(rows(f"x\n{one}", f"x\n{other}"), width, "mine", "theirs")[1:]
    assert max(width_of(line) for line in lines) <= max(width, GUTTER + 1)
    if width < 158:
        marks = [text(line)[:GUTTER] for line in lines]
        split = marks.index(" >  ")
        assert "".join(text(line)[GUTTER:] for line in lines[1:split]) == one
        assert "".join(text(line)[GUTTER:] for line in lines[split:]) == other
    else:
        half = (width - GUTTER) // 2
        assert "".join(text(line)[:half].strip() for line in lines[1:]) == one
        assert "".join(text(line)[half + GUTTER :].strip() for line in lines[1:]) == other


def compared(**more: Any) -> dict[str, Any]:
    return {
        "key": "a:b", "tier": "documents", "mine_device": "pc", "theirs_device": "pi", "mine_modified": 1.0,
        "theirs_modified": 2.0, "kind": "json",
        "mine_deleted": False, "theirs_deleted": False, "mergeable": True, "unmergeable": "", "editable": "x", "base": None,
        "merged": ["y"], **more,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("more", "missing"),
    [
        ({}, set()),
        ({"mergeable": False}, {"m"}),
        ({"theirs_deleted": True}, {"b"}),
        ({"editable": None}, {"e"}),
        ({"editable": "a\x1b[31m"}, {"e"}),
        ({"editable": "two\n\tlines"}, set()),
    ],
)
def test_only_what_can_be_is_offered(more: dict[str, Any], missing: set[str]) -> None:
    assert deciding.offered(compared(**more)) == {"k", "t", "b", "m", "e", "v", "r", "Tab"} - missing
    assert deciding.offered(None) == {"r", "Tab"}


@pytest.mark.parametrize(
    ("choice", "more", "told"),
    [
        ("mine", {}, "as it is on this side here and in documents"),
        ("mine", {"mine_deleted": True}, "will be deleted"),
        ("theirs", {"theirs_deleted": True}, "will be deleted"),
        ("both", {}, "a:b.theirs-"),
        ("merged", {}, "the merge of both sides"),
        ("value", {}, "what you wrote (3 bytes)"),
    ],
)
def test_a_confirmation_says_what_will_happen(choice: str, more: dict[str, Any], told: str) -> None:
    assert told in deciding.consequence(compared(**more), choice, "ü1")


@pytest.fixture
async def other(postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    """Another appliance's memory on the same PostgreSQL; this one's is configured for it."""
    monkeypatch.setenv("SUPABASE_URL", postgres)
    rig = Rig(tmp_path / "other", [DocumentReplica(postgres, "pi")], device="pi")
    rig.clock.wall_now = time.time()
    async with running(rig):
        yield rig


async def undecided(bench: Bench, other: Rig, mine: Any, theirs: Any, key: str = "k") -> str:
    """A key that both have and both change; returns the conflict's id."""
    before = len(await conflicts(bench))
    await bench.invoke("memory.set", key=f"plans:{key}", json_text=json.dumps(PLAN), durability="cloud")
    await other.machinery.synchroniser.run_all()
    assert await other.memory.get(key, "plans") == PLAN
    other.clock.wall_now = time.time()
    await other.memory.set(key, theirs, namespace="plans")
    await other.delivered()
    await bench.invoke("memory.set", key=f"plans:{key}", json_text=json.dumps(mine))

    async def known() -> bool:
        return len(await conflicts(bench)) > before

    await wait_for(known, 60)
    return str(next(row["conflict_id"] for row in await conflicts(bench) if row["key"] == f"plans:{key}"))


async def conflicts(bench: Bench) -> Any:
    return await bench.invoke("sync.conflicts")


async def value(bench: Bench, key: str = "plans:k") -> Any:
    return (await bench.invoke("memory.get", key=key))["value"]  # type: ignore[index]


async def agreed(bench: Bench, other: Rig, wanted: Any) -> None:
    """Both appliances have the same."""
    assert await value(bench) == wanted

    async def same() -> bool:
        await other.machinery.synchroniser.run_all()
        return bool(await other.memory.get("k", "plans") == wanted)

    await wait_for(same, 60)
    assert await conflicts(bench) == []


MINE = {**PLAN, "note": "earlier"}
THEIRS = {**PLAN, "steps": ["weigh", "dry", "wash"]}
MERGED = {**MINE, "steps": THEIRS["steps"]}


@pytest.fixture(autouse=True)
def by_hand(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No strategy decides."""
    from appliance import config

    load = config.load

    def manual(where: Any, environ: Any) -> Any:
        where.config.write_text(where.config.read_text() + '[sync]\nstrategy = "manual"\n')
        return load(where, environ)

    monkeypatch.setattr(config, "load", manual)


async def on_conflicts(seen: Seen) -> Seen:
    await seen.press("0", "plans:k")
    await seen.shows("theirs: pi")
    return seen


@pytest.mark.parametrize(
    ("key", "told", "wanted"),
    [
        ("k", "as it is on this side", MINE),
        ("t", "as it is on the other side", THEIRS),
        ("b", "kept beside it", MINE),
        ("m", "the merge of both sides", MERGED),
    ],
)
async def test_a_conflict_of_two_appliances_is_settled(other: Rig, bench: Bench, key: str, told: str, wanted: Any) -> None:
    """Seen side by side, decided with a key after a confirmation; then both have the same."""
    await undecided(bench, other, MINE, THEIRS)
    seen = await on_conflicts(bench.open())
    row = (await conflicts(bench))[0]
    await seen.shows(f"why  {row['reason'][:60]}")
    for mark in (r"\"note\": \"earlier\", +\|m +\"note\": \"as before\"", r" >t +\"dry\""):
        assert re.search(mark, seen.display), seen.display
    await seen.press(key, told)
    await seen.press("\x1b", "not confirmed")
    assert len(await conflicts(bench)) == 1
    await seen.press(key, told)
    await seen.press("y", "is settled")
    await seen.shows("no conflicts")
    await agreed(bench, other, wanted)
    listed: Any = await bench.invoke("memory.list", search="theirs-")
    assert len(listed["entries"]) == (key == "b")
    await seen.end()


async def test_a_value_is_written_by_hand(other: Rig, bench: Bench) -> None:
    """What is no JSON is not taken, and the text is not lost."""
    await undecided(bench, other, MINE, THEIRS)
    seen = await on_conflicts(bench.open())
    await seen.press("e", "Ctrl-S")
    await wait_for(lambda: isinstance(seen.app.screen, Editor) and seen.app.focused is not None)
    area: Any = seen.app.focused
    assert json.loads(area.text) == MERGED
    area.text = '{"title": '
    await seen.press("\x13", "That is no JSON")
    area.text = '{"title": "Both"}'
    await seen.press("\x13", "what you wrote (17 bytes)")
    await seen.press("y", "is settled")
    await agreed(bench, other, {"title": "Both"})
    await seen.end()


async def test_leaving_the_editor_changes_nothing(other: Rig, bench: Bench) -> None:
    await undecided(bench, other, MINE, THEIRS)
    seen = await on_conflicts(bench.open())
    await seen.press("e", "Ctrl-S")
    await seen.press("\x1b", "Synchronisation")
    assert len(await conflicts(bench)) == 1
    await seen.end()


async def test_what_clashes_is_not_merged(other: Rig, bench: Bench) -> None:
    """No key for it in the footer, and a reason where it is pressed; base and clash are seen."""
    await undecided(bench, other, {**PLAN, "note": "one"}, {**PLAN, "note": "two"})
    seen = await on_conflicts(bench.open(size=(160, 48)))
    assert "m Merged" not in seen.display
    assert re.search(r"\"one\", +\|! +\"note\": \"two\"", seen.display)
    await seen.press("m", "there is no clean merge")
    await seen.press("v", "Last common version")
    await seen.shows('"note": "as before"')
    await seen.end()


@pytest.mark.parametrize("key", ["k", "e"])
async def test_a_viewer_decides_nothing(other: Rig, bench: Bench, key: str) -> None:
    await undecided(bench, other, MINE, THEIRS)
    seen = await on_conflicts(bench.open(role=Role.viewer))
    await seen.press(key, "sync.resolve needs the role operator")
    assert len(await conflicts(bench)) == 1
    await seen.end()


async def test_a_run_is_told(other: Rig, bench: Bench) -> None:
    """`r` synchronises; the panel says when, and what went where."""
    await wait_for(lambda: bench.appliance.state.get(Section.sync).value)  # the first run, by itself
    await bench.invoke("memory.set", key="plans:k", json_text=json.dumps(PLAN), durability="cloud")
    await other.machinery.synchroniser.run_all()
    await other.memory.set("new", {"a": 1}, namespace="plans")
    await other.delivered()
    seen = bench.open()
    await seen.press("0", "no conflicts")
    await seen.press("r", "pulled 1,")
    assert re.search(r"documents +\d\d:\d\d:\d\d +next \d\d:\d\d:\d\d +pushed \d+, ", seen.display)
    await seen.end()


async def test_without_a_cloud_the_page_says_so(bench: Bench) -> None:
    seen = bench.open()
    await seen.press("0", "no cloud tier is configured")
    await seen.press("r", "nothing to synchronise with")
    await seen.end()


async def test_sides_scroll_together_and_rows_are_not_painted_again(
    other: Rig, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The header stays; a reading that brings the same paints nothing."""
    long = {**PLAN, "steps": [f"step {number}" for number in range(40)]}
    await undecided(bench, other, {**long, "note": "mine"}, long)
    seen = await on_conflicts(bench.open())
    await seen.press("\t", "theirs: pi")
    await wait_for(lambda: getattr(seen.app.focused, "id", "") == "sides")
    await seen.press("\x1b[F", '"title": "Harvest"')
    assert seen.display.count('"title": "Harvest"') == 2
    assert "mine: control-pc" in seen.display
    page: Any = seen.app.page
    laid_out: list[object] = []
    monkeypatch.setattr(page.query_one("#conflicts", Grid), "set_rows", laid_out.append)
    stamp = page.stamp.at
    page.read()
    await wait_for(lambda: page.stamp.at != stamp and not page._reading)
    assert laid_out == []
    await seen.end()


async def test_the_page_keeps_to_the_console(other: Rig, bench: Bench) -> None:
    """Editor and question included: no glyph that a console's font lacks, no colour beyond 16."""
    await undecided(bench, other, MINE, THEIRS)
    seen = await on_conflicts(bench.open(Caps(Colours.console, full_glyphs=False, mouse=False)))
    await seen.press("e", "Ctrl-S")
    await seen.press("\x13", "what you wrote")
    await seen.press("\x1b", "not confirmed")
    data = seen.channel.text
    assert unsafe(re.sub(r"\x1b(\[[0-9;?<>$]*[A-Za-z]|[^\[])", "", data)) == set()
    assert not re.search(r"\x1b\[[0-9;]*?(?:38|48);[25];", data)
    await seen.end()
