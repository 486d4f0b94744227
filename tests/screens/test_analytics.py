"""The Analytics page on a real appliance: questions, plots, cursor, files; and how lines are drawn."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import Any

import pytest

from appliance.core.analytics.model import Answer, QualityFinding, Query, Series
from appliance.core.model import Actor, Role
from appliance.core.state import Section
from appliance.errors import ConflictError, DatabaseError, InvalidArgumentsError
from appliance.screens.analytics import Analytics
from appliance.screens.analytics_acts import end_of, length_of
from appliance.screens.analytics_ask import BUCKETS, Ask
from appliance.screens.analytics_view import answer_pieces, fault_lines, finding_lines, series_rows, table_of
from appliance.screens.glyphs import CONSOLE, Caps, Colours, unsafe
from appliance.screens.units import Unit, unit_of
from appliance.screens.values import layout, moment
from appliance.screens.widgets.axes import time_label, time_ticks, value_range, value_ticks
from appliance.screens.widgets.lines import Line, width_of
from appliance.screens.widgets.plot import Plotted, draw, frame_of
from tests.screens.conftest import Bench, Seen
from tests.support import wait_for

PLAIN = Caps(Colours.console, full_glyphs=False, mouse=False)
NOW = 1_790_000_000.0
NO_UNIT = Unit("")


def text_of(lines: list[Line]) -> list[str]:
    return ["".join(piece for piece, _ in line) for line in lines]


def plot(points: list[tuple[float, float | None]], *, fine: bool = False, cursor: float | None = None) -> list[str]:
    lines = [Plotted("", "line-1", points, 60.0)]
    frame = frame_of(lines, NOW, NOW + 3600, 70, 12, NO_UNIT)
    assert frame is not None
    return text_of(draw(lines, frame, NO_UNIT, fine=fine, cursor=cursor))


def test_why_there_is_no_answer_is_told_whole_with_the_next_step() -> None:
    fault = DatabaseError("measurements on 10.8.0.14:5432 refuses connections: no server listens there.", "start the server.")
    lines = fault_lines(fault, 40)
    assert all(width_of(line) <= 40 for line in lines)
    assert " ".join(text_of(lines)).split() == f"{fault.message} Next: {fault.next_step}".split()


def test_a_line_as_a_table_has_moments_and_values() -> None:
    series = Series(labels={"device_id": "pc"}, points=((NOW, 12.0), (NOW + 60, None)))
    lines = text_of(layout(table_of(series, Ask(metric="cpu_usage")), 80))
    assert moment(NOW) in "\n".join(lines)
    assert not any("1790000000" in line for line in lines)
    (row,) = (line for line in lines if moment(NOW) in line)
    assert "12.0 %" in row
    (row,) = (line for line in lines if moment(NOW + 60) in line)
    assert "–" in row


def wave(gap: range = range(0)) -> list[tuple[float, float | None]]:
    return [(NOW + 60 * at + 30, None if at in gap else 50 + 40 * math.sin(at / 5)) for at in range(60)]


@pytest.mark.parametrize("fine", [False, True])
def test_a_gap_is_a_gap(fine: bool) -> None:
    """Where nothing was measured no column has a stroke; without the gap each has one."""
    drawn = plot(wave(range(20, 40)), fine=fine)
    left = drawn[0].index("┤") + 1
    columns = list(zip(*(line[left:].ljust(70) for line in drawn[:-2]), strict=False))
    width = 70 - left
    empty = {at for at in range(width) if not "".join(columns[at]).strip()}
    assert set(range(width * 21 // 60 + 1, width * 39 // 60 - 1)) <= empty
    assert not empty & set(range(width * 20 // 60 - 2))
    whole = list(zip(*(line[left:].ljust(70) for line in plot(wave(), fine=fine)[:-2]), strict=False))
    assert all("".join(whole[at]).strip() for at in range(1, width - 1))


def test_a_console_gets_no_braille_and_a_terminal_does() -> None:
    assert unsafe("".join(plot(wave(range(5, 9)), cursor=NOW + 1830))) == set()
    assert any("⠀" < char <= "⣿" for char in "".join(plot(wave(), fine=True)))


def test_one_value_alone_is_seen() -> None:
    assert "•" in "".join(plot([(NOW + 600, 1.0), (NOW + 1200, None), (NOW + 1800, 2.0)]))


def test_every_line_of_a_plot_fits() -> None:
    for width in (20, 33, 80, 160):
        lines = [Plotted(mark, "line-1", wave(), 60.0) for mark in "AB"]
        frame = frame_of(lines, NOW, NOW + 3600, width, 10, Unit("B/s"))
        drawn = draw(lines, frame, Unit("B/s"), fine=False, cursor=NOW) if frame is not None else []
        assert all(width_of(line) <= width for line in drawn)
    assert frame_of(lines, NOW, NOW + 3600, 5, 2, NO_UNIT) is None


@pytest.mark.parametrize(
    "values", [[], [0.0], [5.0, 5.0], [-3.0, 7.0], [1e-9, 2e-9], [1e15, 2e15], [93.06], [0.0, 100.0], [-5.0, -5.0]]
)
def test_the_axis_holds_all_values(values: list[float]) -> None:
    low, high, step = value_range(values, 4)
    assert high > low
    assert all(low - 1e-9 * abs(low) <= value <= high + 1e-9 * abs(high) for value in values)
    ticks = value_ticks(low, high, step)
    assert 2 <= len(ticks) <= 9
    assert len({NO_UNIT.tick(tick, step) for tick in ticks}) == len(ticks)


@pytest.mark.parametrize("length", [10, 60, 900, 3600, 86400, 7 * 86400, 30 * 86400, 3650 * 86400])
def test_labels_of_time_are_round_and_few(length: int) -> None:
    ticks, step = time_ticks(NOW, NOW + length, 6)
    assert 1 <= len(ticks) <= 7
    assert all(NOW <= tick <= NOW + length for tick in ticks)
    assert len({time_label(tick, step) for tick in ticks}) == len(ticks)


def test_units_come_from_names() -> None:
    assert unit_of("cpu_usage", "avg").name == "%"
    assert unit_of("net_rx_rate", "max").tick(2048.0, 1024.0) == "2.0 KiB/s"
    assert unit_of("cpu_usage", "count").exact(12.0) == "12"
    assert unit_of("temperature_c", "avg").exact(41.25) == "41.25 °C"
    assert unit_of("load_1m", "avg").exact(None) == "–"


def test_the_bucket_fits_the_width() -> None:
    for length in (900.0, 3600.0, 86400.0, 30 * 86400.0):
        for columns in (20, 64, 300):
            name, seconds = Ask(length=length).width_of(columns)
            assert length / seconds <= columns or name == BUCKETS[-1][0]
    assert Ask(length=3600.0, bucket="5m").width_of(10) == ("5m", 300)


def test_zoom_keeps_what_one_looks_at() -> None:
    ask = Ask(length=1000.0, until=NOW)
    near = ask.zoomed(0.5, NOW - 250, NOW + 9999)
    since, until = near.window(NOW)
    assert (since, until) == pytest.approx((NOW - 625, NOW - 125))
    assert Ask(length=1000.0).zoomed(0.5, NOW, NOW).until is None
    assert Ask(length=11.0).zoomed(0.5, NOW, NOW).length == 10.0
    earlier = Ask(length=1000.0).moved(-0.5, NOW)
    assert earlier.until == NOW - 500
    assert earlier.moved(0.5, NOW).until is None


@pytest.mark.parametrize("text", ["", "1", "1x", "9s", "99999w", "-1h", "1h 2"])
def test_a_length_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentsError, match="length"):
        length_of(text)


def test_an_end_is_local_time_or_now() -> None:
    assert end_of("now") is None
    assert end_of("9999-01-01") is None
    assert end_of("2020-01-02 03:04") == time.mktime((2020, 1, 2, 3, 4, 0, 0, 0, -1))
    with pytest.raises(InvalidArgumentsError, match="end"):
        end_of("yesterday")


def answer(**more: Any) -> Answer:
    query = Query(metric="cpu_usage", since=NOW, until=NOW + 180, bucket="1m")
    points = ((NOW, 1.0), (NOW + 60, None), (NOW + 120, 4.0))
    series = (Series(labels={"device_id": "pi"}, points=points),)
    values = {"store": "duckdb", "source": "device_metrics", "cached": True, "elapsed_ms": 1.5, "as_of": NOW, **more}
    return Answer(**{"query": query, "series": series, **values})


def test_a_line_has_its_extremes_and_the_value_at_the_cursor() -> None:
    def cells(cursor: float | None) -> list[str]:
        (row,) = series_rows(answer(), Unit("%"), cursor, 60.0)
        return [cell if isinstance(cell, str) else cell[0] for cell in row.cells]

    assert cells(NOW + 130) == ["A", "pi", "1 %", "2.5 %", "4 %", "4 %", "4 %", "2"]
    assert cells(NOW + 70)[6] == "–"
    assert cells(None)[6] == ""


def test_an_answer_says_where_it_is_from_and_what_is_missing() -> None:
    told = "".join(text for text, _ in answer_pieces(answer(cut=True), 12.0, CONSOLE))
    for text in ("duckdb", "device_metrics", "cached", "12 s ago", "1.5 ms", "CUT"):
        assert text in told
    whole = "".join(text for text, _ in answer_pieces(answer(cached=False), 12.0, CONSOLE))
    assert "CUT" not in whole
    assert "fresh" in whole


def test_findings_are_told_with_device_and_time() -> None:
    finding = QualityFinding(check="gap", metric="m", device_id="pi", since=NOW, until=None, count=3, detail="40 s")
    told = "".join(text_of(finding_lines([finding])))
    for text in ("gap", "m of pi", "still", "3 times", "40 s"):
        assert text in told


async def opened(bench: Bench, caps: Caps = PLAIN, **more: Any) -> tuple[Seen, Analytics]:
    """The page, with an answer of the appliance's own store."""
    seen = bench.open(caps, **more)
    await seen.press("gn", "duckdb")
    page = seen.app.page
    assert isinstance(page, Analytics)
    return seen, page


async def test_the_page_asks_the_store_and_shows_its_values(bench: Bench) -> None:
    """A metric that it has, its newest value in the table, the source; zoomed in it comes from the readings."""
    seen, page = await opened(bench)
    await wait_for(lambda: page.answer is not None and page.answer.series)
    assert page.ask.metric == "cpu_usage"
    await seen.press("+++++++", "device_metrics ")
    await wait_for(lambda: page.answer is not None and page.answer.query.bucket == "1s")
    await seen.press("c", "compared")
    await seen.shows(bench.appliance.settings.node.device_id)
    await seen.end()


async def test_the_cursor_tells_the_value_of_a_bucket(bench: Bench) -> None:
    seen, page = await opened(bench)
    await wait_for(lambda: page.answer is not None and page.answer.series)
    seen.session.feed(b"\x1b[D")
    await wait_for(lambda: page.cursor is not None, 20)
    assert page.answer is not None
    assert page.cursor is not None
    assert page.answer.query.since <= page.cursor < page.answer.query.until
    assert page.page == seen.app._page == "analytics"
    seen.session.feed(b"\x1b")
    await wait_for(lambda: page.cursor is None)
    await seen.end()


async def test_another_metric_is_found_by_typing(bench: Bench) -> None:
    seen, page = await opened(bench)
    await seen.press("m", "type to narrow down")
    await seen.press("memory_us", "memory_usage")
    await seen.press("\r", "memory_usage, %")
    await wait_for(lambda: page.answer is not None and page.answer.query.metric == "memory_usage")
    await seen.end()


async def test_a_range_is_chosen_moved_and_held(bench: Bench) -> None:
    seen, page = await opened(bench)
    await seen.press("t", "last 15 min")
    await seen.press("4", "1 d to now")
    await seen.press("<", "held; n: up to now")
    assert page.ask.until is not None
    await seen.press("n", "range ends now")
    await seen.press("t", "another one")
    await seen.press("c", "such as 45m")
    await seen.fill("length", "45m")
    await seen.fill("end", "")
    await seen.shows("45 min to now")
    await seen.end()


async def test_findings_are_shown(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the state says of the data stands on the page, and what it said last stays there."""
    finding = QualityFinding(
        check="late", metric="cpu_usage", device_id="pi", since=NOW, until=None, count=3, detail="40 s late"
    )
    put = bench.appliance.state.put
    put(Section.quality, (finding,))
    monkeypatch.setattr(bench.appliance.state, "put", lambda name, value: None if name is Section.quality else put(name, value))
    seen = bench.open(PLAIN)
    await seen.press("gn", "1 finding about this data")
    await seen.press("f", "40 s late")
    await seen.end()


async def test_an_export_is_a_file_and_overwrites_none(bench: Bench) -> None:
    """Its path is told; a second one of that name is refused and the first one stays."""
    seen, _ = await opened(bench, size=(200, 50))
    await seen.press("x", "its ending is added")
    await seen.fill("form", "")
    await seen.fill("name", "mine")
    await seen.shows("rows are in")
    path = bench.appliance.paths.exports / "mine.csv"
    text = path.read_text()
    assert text.startswith("time,")
    assert len(text.splitlines()) > 2
    assert path.stat().st_mode & 0o077 == 0
    await seen.press("x", "its ending is added")
    await seen.fill("form", "")
    await seen.fill("name", "mine")
    await seen.shows("already")
    assert path.read_text() == text
    assert os.listdir(path.parent) == ["mine.csv"]
    await seen.end()


async def save(bench: Bench, **args: object) -> Any:
    args = {"metric": "cpu_usage", **args}
    return await bench.appliance.dispatcher.invoke("analytics.save", args, Actor("ada", Role.admin, "console"))


async def test_a_picture_is_a_picture(bench: Bench) -> None:
    from PIL import Image

    await wait_for(lambda: bench.invoke("analytics.metrics"), 20)
    saved = await save(bench, form="png", name="it")
    with Image.open(Path(saved["path"])) as picture:
        assert picture.format == "PNG"
        assert picture.size[0] > 400
    with pytest.raises(ConflictError, match="already"):
        await save(bench, form="png", name="it")


@pytest.mark.parametrize("name", ["../x", "/etc/x", ".x", "a/b", "", "a" * 200])
async def test_a_file_lies_nowhere_else(bench: Bench, name: str) -> None:
    with pytest.raises(InvalidArgumentsError):
        await save(bench, name=name)


async def test_a_viewer_reads_and_writes_no_file(bench: Bench) -> None:
    seen, _ = await opened(bench, role=Role.viewer)
    await seen.press("x", "needs the role operator")
    assert not bench.appliance.paths.exports.exists()
    await seen.end()


async def test_nothing_is_read_while_the_page_is_not_seen(bench: Bench) -> None:
    seen, page = await opened(bench)
    await seen.press("1", "Host")
    await wait_for(lambda: page._timer is None and not page._reading)
    assert page._watch is None
    await seen.end()
