"""Answers as plots, tables and lines."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Sequence
from typing import Any

from appliance.core.analytics.model import Answer, QualityFinding, Query, Series
from appliance.errors import ApplianceError
from appliance.screens import format as f
from appliance.screens.analytics_ask import Ask
from appliance.screens.glyphs import Glyphs
from appliance.screens.themes import LINES, Role
from appliance.screens.units import Unit, unit_of
from appliance.screens.widgets.grid import Column, Row
from appliance.screens.widgets.lines import Line, Piece
from appliance.screens.widgets.plot import Plotted, draw, frame_of

SERIES = (
    Column("", 1), Column("series"), Column("min", 10, "right"), Column("avg", 10, "right"), Column("max", 10, "right"),
    Column("last", 10, "right"), Column("at cursor", 11, "right"), Column("values", 7, "right", 100),
)  # fmt: skip
LETTERS = "ABCDEF"
FINDINGS = {"gap": "gap", "duplicate": "duplicates", "out_of_range": "out of range", "late": "late"}


def plotted(answer: Answer, step: float) -> list[Plotted]:
    """The answer's series as lines of a plot; a value stands in the middle of its bucket."""
    several = len(answer.series) > 1
    return [
        Plotted(
            LETTERS[index] if several else "",
            LINES[index],
            [(moment + step / 2, value) for moment, value in series.points],
            step,
        )
        for index, series in enumerate(answer.series[: len(LINES)])
    ]


def plot_title(ask: Ask, cursor: float | None, step: float) -> str:
    """What is drawn, in which unit, and where the cursor is."""
    unit = unit_of(ask.metric, ask.aggregation)
    title = f"{ask.metric or 'Plot'}{f', {unit.name}' if unit.name else ''}"
    return title if cursor is None else f"{title}   cursor {f.clock(cursor)} for {f.span(step)}"


def plot_lines(
    answer: Answer | None, unit: Unit, cursor: float | None, step: float, width: int, height: int, *, fine: bool
) -> list[Line]:
    """The answer drawn, or why nothing is.

    Args:
        answer: What was found; None while it is asked.
        unit: Of the values.
        cursor: Begin of the bucket that is looked at.
        step: Seconds of a bucket.
        width: Cells.
        height: Lines.
        fine: With the glyphs that a plain console lacks.
    """
    if answer is None or not any(series.points for series in answer.series):
        return [((" no readings in this range" if answer is not None else " asking", "muted"),)]
    lines = plotted(answer, step)
    frame = frame_of(lines, answer.query.since, answer.query.until, width, height, unit)
    if frame is None:
        return [((" no room for a plot", "muted"),)]
    return draw(lines, frame, unit, fine=fine, cursor=None if cursor is None else cursor + step / 2)


def fault_lines(fault: ApplianceError, width: int) -> list[Line]:
    """Why there is no answer, and what to do, wrapped to so many cells."""
    room = max(1, width - 1)
    told: tuple[tuple[str, Role], ...] = (
        (fault.message, "bad"),
        (f"Next: {fault.next_step}" if fault.next_step else "", "accent"),
    )
    return [((f" {part}", role),) for text, role in told for part in textwrap.wrap(text, room)]


def moved_cursor(cursor: float | None, by: int, query: Query, step: float) -> float:
    """The bucket so many further, within the answer: its begin. Without a cursor it comes in from the side."""
    last = query.since + (max(0.0, query.until - query.since - 1e-6) // step) * step
    at = cursor if cursor is not None else last + step if by < 0 else query.since - step
    return max(query.since, min(last, at + by * step))


def name_of(series: Series) -> str:
    """What a line stands for."""
    return ", ".join(series.labels.values()) or "all devices together"


def table_of(series: Series, ask: Ask) -> dict[str, Any]:
    """A line as a record: what it stands for, and its buckets' begins and values."""
    name = ask.metric if unit_of(ask.metric, ask.aggregation).name else "value"
    points = [{"time": moment, name: value} for moment, value in series.points]
    return {"metric": ask.metric, "aggregation": ask.aggregation, **series.labels, "points": points}


def series_rows(answer: Answer, unit: Unit, cursor: float | None, step: float) -> list[Row]:
    """A row a line: its extremes, its newest value, and that at the cursor.

    Args:
        answer: What was found.
        unit: Of the values.
        cursor: The moment that is looked at.
        step: Seconds of a bucket.
    """
    rows = []
    for index, series in enumerate(answer.series[: len(LINES)]):
        values = [value for _, value in series.points if value is not None]
        role: Role = LINES[index]
        at = value_at(series, cursor, step)
        told = (min(values), sum(values) / len(values), max(values), values[-1]) if values else (None,) * 4
        cells = tuple((unit.exact(value), "text") for value in told)
        rows.append(
            Row(
                str(index),
                (
                    (LETTERS[index], role), (name_of(series), role), *cells,  # type: ignore[arg-type]
                    (unit.exact(at) if cursor is not None else "", "accent"), (str(len(values)), "muted"),
                ),
            )
        )  # fmt: skip
    return rows


def value_at(series: Series, cursor: float | None, step: float) -> float | None:
    """The value of the bucket that a moment lies in; None where it has none."""
    if cursor is None:
        return None
    return next((value for moment, value in series.points if moment <= cursor < moment + step), None)


def question_pieces(ask: Ask, bucket: str, devices: int | None) -> list[Piece]:
    """The question, each part behind the key that changes it."""
    if ask.devices:
        who = ", ".join(ask.devices) if len(ask.devices) <= 2 else f"{len(ask.devices)} devices"
    else:
        who = "all devices" if devices is None else f"all {devices} devices" if devices != 1 else "the one device"
    together = "compared" if ask.compare else "together" if devices != 1 else ""
    until = "now" if ask.until is None else f.clock(ask.until)
    parts = (
        ("m", ask.metric or "no metric"), ("a", ask.aggregation), ("b", f"{bucket}{'' if ask.bucket else ' auto'}"),
        ("t", f"{f.span(ask.length)} to {until}"), ("d", who), ("c", together),
    )  # fmt: skip
    return [piece for key, text in parts if text for piece in key_piece(key, text)]


def key_piece(key: str, text: str) -> tuple[Piece, Piece]:
    """A key, and the value that it changes."""
    return ((f" {key} ", "bar-key"), (f" {text} ", "text"))


def answer_pieces(answer: Answer, age: float | None, glyphs: Glyphs) -> list[Piece]:
    """Where an answer comes from, how old it is, and what is missing of it."""
    pieces: list[Piece] = [
        (f" {glyphs.ok} {answer.store}", "ok"),
        (f"  {answer.source}", "text"),
        ("  cached" if answer.cached else "  fresh", "muted"),
        (f"  read {f.clock(answer.as_of)}, {f.age(age)} ago", "muted"),
        (f"  {f.ms(answer.elapsed_ms)} ms", "muted"),
    ]
    if answer.cut:
        pieces.append((f"  {glyphs.warn} CUT: there is more; take a shorter range or a wider bucket", "warn"))
    if len(answer.series) > len(LINES):
        pieces.append((f"  {glyphs.warn} {len(LINES)} of {len(answer.series)} series are drawn", "warn"))
    return pieces


def finding_lines(findings: Sequence[QualityFinding]) -> list[Line]:
    """What is wrong with the data, newest first."""
    lines: list[Line] = []
    for each in findings:
        until = "still" if each.until is None else f"to {f.clock(each.until)}"
        lines.append(
            (
                (f" {FINDINGS.get(each.check, each.check):<13}", "warn"), (f"{each.metric} ", "text"),
                (f"of {each.device_id}  ", "muted"), (f"{f.clock(each.since)} {until}, {each.count} times  ", "muted"),
                (each.detail, "text"),
            )
        )  # fmt: skip
    return lines or [((" nothing: no gap, no duplicate, nothing out of range, nothing late", "ok"),)]


def quality_piece(findings: Sequence[QualityFinding], metric: str, glyphs: Glyphs) -> Piece:
    """How much is wrong with the data of a metric."""
    own = sum(each.metric == metric for each in findings)
    if not own:
        return ("", "text")
    return (f"  {glyphs.warn} {own} finding{'s' if own != 1 else ''} about this data: f", "warn")


def file_name(ask: Ask, form: str) -> str:
    """A name for a file: metric, aggregation, moment."""
    return f"{ask.metric}-{ask.aggregation}-{time.strftime('%Y%m%d-%H%M%S')}.{form}"
