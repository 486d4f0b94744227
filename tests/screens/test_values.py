"""Values of any kind as text: no raw seconds, bytes or brackets, and nothing cut off."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import msgspec
import pytest
from rich.text import Text

from appliance.core.model import Box, HostSample, InferenceResult, JobState, JobStatus, NetworkCounters
from appliance.screens import format as f
from appliance.screens.values import layout, told, wrap
from appliance.screens.widgets.lines import Line, width_of
from appliance.verbs import render
from tests.screens.conftest import Bench

AT = 1_795_250_000.5
DATE = datetime.fromtimestamp(AT).astimezone().strftime("%Y-%m-%d %H:%M:%S")
RAW = re.compile(r"\de\+\d|\d{9}|[{}\[\]]|\(\w")
"""What no reader shall see: exponents, seconds since the epoch, brackets of a programming language."""


def text(lines: list[Line]) -> str:
    return "\n".join("".join(piece for piece, _ in line) for line in lines)


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("time", AT, DATE),
        ("ended", 0.0, "–"),
        ("resolved_at", AT, DATE),
        ("time", 12, "12"),
        ("memory_total", 4 * 2**30, "4.0 GiB"),
        ("net_rx_bytes", 1536, "1.5 KiB"),
        ("rx_rate", 2048.0, "2.0 KiB/s"),
        ("net_tx_rate", 0.0, "0 B/s"),
        ("cpu_usage", 36.78181818181818, "36.8 %"),
        ("progress", 0.5, "50 %"),
        ("temperature_c", 41.23, "41.2 °C"),
        ("inference_time_ms", 61.04, "61.0 ms"),
        ("uptime_s", 12_750.0, "3 h 32 min"),
        ("age", 0.5, "0.5 s"),
        ("total", 1_234_567, "1234567"),
        ("value", 1_234_567.0, "1234567"),
        ("load_1m", 0.123456, "0.1235"),
        ("depends", ["store", "bus"], "store, bus"),
        ("done", True, "yes"),
        ("x", None, "–"),
        ("path", "a\x1b[31mb", r"a\x1b[31mb"),
    ],
)
def test_a_number_has_the_form_of_its_name(name: str, value: Any, shown: str) -> None:
    assert told(name, value) == shown


@pytest.mark.parametrize(
    ("seconds", "one", "two"),
    [(0.4, "0 s", "0.4 s"), (59.9, "59 s", "59.9 s"), (60, "1 min", "1 min"), (3599, "59 min", "59 min 59 s"),
     (12_750, "3 h", "3 h 32 min"), (86_400 * 5 + 7300, "5 d", "5 d 2 h"), (None, "–", "–")],
)  # fmt: skip
def test_spans_are_never_rounded_up(seconds: float | None, one: str, two: str) -> None:
    assert (f.duration(seconds), f.span(seconds)) == (one, two)


RESULT = InferenceResult(
    "r", AT, "/pictures/bus.jpg", "m", "1", "t", "cpu", 810, 1080,
    (Box("bus", 0.592734, 1.0, 2.0, 30.0, 40.0), Box("person", 0.97, 5.0, 6.0, 70.0, 80.0)), 61.0, 70.0,
)  # fmt: skip
JOB = JobStatus(
    "j", "infer", "ada", JobState.completed, AT, AT, AT, 1.0, result=[{"path": "/pictures/bus.jpg", "result": RESULT}]
)
HOST = HostSample(
    AT, "pi", 12.5, (10.0, 20.0), 40.0, 8 * 2**30, 3 * 2**30, None, 17.0, 2**38, 2**37, 41.0, (), 0.5, 0.4, 0.3, 12_750.0,
    (NetworkCounters("eth0", 2**40, 2**30, 1024.0, None, True),), 3.0, 90 * 2**20,
)  # fmt: skip
HISTORY = {"metric": "cpu_usage", "bucket": "minute", "points": ((AT, 36.78181818181818), (AT + 60, 40.0))}


@pytest.mark.parametrize("width", [40, 76, 156])
@pytest.mark.parametrize("value", [JOB, {"age": 1.5, "value": HOST}, HISTORY])
def test_no_raw_value_is_seen_and_nothing_is_wider_than_the_dialog(value: Any, width: int) -> None:
    lines = [part for line in layout(msgspec.to_builtins(value), width) for part in wrap(line, width)]
    assert not RAW.search(text(lines)), text(lines)
    assert max(width_of(line) for line in lines) <= width
    assert DATE in text(lines)
    assert render.as_text(msgspec.to_builtins(value), width, colour=False).split() == text(lines).split()


def test_lists_of_records_are_tables_where_they_fit() -> None:
    shown = text(layout(msgspec.to_builtins(JOB), 76))
    assert re.search(r"label +score +x min", shown)
    assert re.search(r"person +0.97 +5 +6 +70 +80", shown)
    assert re.search(r"time +cpu usage\n +" + DATE + " +36.8 %", text(layout(HISTORY, 76)))
    assert re.search(r"label +bus\n", text(layout(msgspec.to_builtins(JOB), 30)))


@pytest.mark.parametrize("width", [10, 20, 40])
def test_a_long_line_goes_on_below_where_its_text_began(width: int) -> None:
    line: Line = (("name  ", "muted"), ("many words that do not fit on one line of a narrow terminal", "text"))
    parts = wrap(line, width)
    assert " ".join(text(parts).split()) == "name many words that do not fit on one line of a narrow terminal"
    assert max(width_of(part) for part in parts) <= width
    assert wrap((("short", "text"),), width) == [(("short", "text"),)]


def test_the_command_line_marks_names_and_states() -> None:
    marked = render.record({"health": "failed"}, 80)
    assert isinstance(marked, Text)
    assert {str(span.style) for span in marked.spans} == {"bold", "red"}


async def test_dialogs_of_audit_and_jobs_show_no_raw_values(bench: Bench) -> None:
    """At 80 x 24, with the keys that a reader presses."""
    seen = bench.open()
    await seen.press("7", "setup.complete")
    await seen.press("\r", "Row ")
    await seen.shows("via ")
    box = seen.display.partition("Row ")[2]
    assert re.search(r"time +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", box)
    assert not re.search(r"\de\+\d|[{}]", box), box
    await seen.end()
