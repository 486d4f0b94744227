"""Answers about the past as text: a plot, what each series came to, and the newest points. And as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import msgspec

from appliance.core.analytics.model import Answer, Series
from appliance.core.printable import printable
from appliance.errors import InvalidArgumentsError
from appliance.screens import format as f
from appliance.screens.glyphs import CONSOLE, Glyphs, glyphs_for
from appliance.screens.values import moment
from appliance.session.caps import caps_of, speaks_utf8
from appliance.verbs import render
from appliance.verbs.context import Context

ASCII = Glyphs(spark=" .:-=+*#", fill="#", track="-", ok="+", warn="!", bad="X", none="-")
"""Where the reader's terminal takes nothing else."""
HEIGHT = 8
"""Lines of a plot of one series."""
ROWS = 30
"""Newest points that are listed."""
LINES = 20
"""Series that are drawn."""
MARGIN = 12
"""Columns beside a plot, for its scale."""


def glyphs_of(environ: Mapping[str, str]) -> Glyphs:
    """The characters that the reader's terminal can show."""
    if not speaks_utf8(environ):
        return ASCII
    return glyphs_for(caps_of(environ)) if environ.get("TERM") else CONSOLE


def as_text(name: str, value: Any, context: Context) -> str | None:
    """An answer as text; None where its action has no form of its own here.

    Args:
        name: Of the action.
        value: What it returned, as plain JSON types.
        context: Whose terminal.
    """
    if name == "analytics.export" and isinstance(value, str):
        return value.rstrip("\r\n")
    if name != "analytics.query":
        return None
    answer = msgspec.convert(value, Answer)
    if not answer.series:
        return f"no readings in that range\n{_foot(answer)}"
    glyphs = glyphs_of(context.environ)
    draw = _plot if len(answer.series) == 1 else _sparks
    blocks = [draw(answer, context.width, glyphs), _summary(answer, context), _points(answer, context), _foot(answer)]
    return "\n\n".join(block for block in blocks if block)


def _known(line: Series) -> list[tuple[float, float]]:
    return [(at, value) for at, value in line.points if value is not None]


def _scale(lines: Sequence[Series]) -> tuple[float, float]:
    values = [value for line in lines for _, value in _known(line)]
    low, high = min(values, default=0.0), max(values, default=1.0)
    return (low, high) if high > low else (low - 1.0, high)


def _drawn(answer: Answer, line: Series, width: int) -> list[float | None]:
    """The series as so many columns; where there are fewer buckets than columns, each is as wide as it is."""
    from appliance.screens.widgets.charts import resample  # late: with it comes Textual

    known = _known(line)
    found = resample(known, answer.query.since, answer.query.until, width)
    step = (answer.query.until - answer.query.since) / width
    gaps = [later[0] - earlier[0] for earlier, later in pairwise(known)]
    bucket = min(gaps, default=step)
    last: tuple[int, float] | None = None
    for index, value in enumerate(found):
        if value is not None:
            last = (index, value)
        elif last is not None and (index - last[0]) * step < bucket:
            found[index] = last[1]
    return found


def _plot(answer: Answer, width: int, glyphs: Glyphs) -> str:
    from appliance.screens.widgets.charts import columns  # late: with it comes Textual

    line = answer.series[0]
    low, high = _scale([line])
    across = max(10, width - MARGIN)
    rows = columns(_drawn(answer, line, across), HEIGHT, low, high, glyphs)
    heads = {0: number(high), len(rows) - 1: number(low)}
    drawn = [f"{heads.get(index, ''):>{MARGIN - 2}} {row}".rstrip() for index, row in enumerate(rows)]
    begin, end = moment(answer.query.since), moment(answer.query.until)
    return "\n".join([*drawn, " " * (MARGIN - 1) + begin + f"{end:>{max(len(end) + 1, across - len(begin))}}"])


def _sparks(answer: Answer, width: int, glyphs: Glyphs) -> str:
    from appliance.screens.widgets.charts import sparkline  # late: with it comes Textual

    shown = answer.series[:LINES]
    names = [title(line) for line in shown]
    wide = min(max(map(len, names)), width // 3)
    low, high = _scale(shown)
    across = max(10, width - wide - 2)
    lines = [
        f"{name[:wide]:<{wide}} {sparkline(_drawn(answer, line, across), low, high, glyphs)}".rstrip()
        for name, line in zip(names, shown, strict=True)
    ]
    more = [f"and {len(answer.series) - LINES} more series"] if len(answer.series) > LINES else []
    return "\n".join([*lines, f"{number(low)} to {number(high)}", *more])


def title(line: Series) -> str:
    """A series by its labels."""
    return ", ".join(printable(text) or f"no {printable(name)}" for name, text in line.labels.items()) or "all"


def number(value: float | None) -> str:
    """A number in few characters."""
    return f.NONE if value is None else f"{value:.5g}"


def _summary(answer: Answer, context: Context) -> str:
    rows = []
    for line in answer.series:
        values = [value for _, value in _known(line)]
        mean = sum(value / len(values) for value in values) if values else None
        rows.append(
            {
                "series": title(line), "points": len(line.points), "least": number(min(values, default=None)),
                "mean": number(mean), "greatest": number(max(values, default=None)),
                "last": number(values[-1] if values else None),
            }
        )  # fmt: skip
    return render.draw(render.table(rows, tuple(rows[0])), context.width, colour=context.colour)


def _points(answer: Answer, context: Context) -> str:
    """The newest points of one series; those of many are for --json and --csv."""
    if len(answer.series) > 1:
        return ""
    points = answer.series[0].points
    rows = [{"bucket": moment(at), answer.query.aggregation.value: number(value)} for at, value in points[-ROWS:]]
    table = render.draw(render.table(rows, tuple(rows[0])), context.width, colour=context.colour)
    return f"{table}\n… the newest {ROWS} of {len(points)}; all: --json or --csv FILE" if len(points) > ROWS else table


def _foot(answer: Answer) -> str:
    query = answer.query
    asked = f"{printable(query.metric)}: {query.aggregation.value} in buckets of {query.bucket}"
    cut = "\nthere is more than an answer may have: ask for a shorter range or wider buckets" if answer.cut else ""
    kept = f"kept answer, read {moment(answer.as_of)}" if answer.cached else f"{answer.elapsed_ms:.1f} ms"
    old = answer.kept_since
    gone = "" if old is None else f"\nwhat is before {moment(old)} is not kept whole any more, and left out"
    return f"{asked}, from {answer.source} in {answer.store}; {kept}{cut}{gone}"


def extended(found: click.Command, *, local: bool) -> click.Command:
    """The query's command, with files for its answer. Far away no file of the appliance is written for a caller.

    Args:
        found: As it was made from the registry.
        local: The asker is far away: the command runs in the appliance.
    """
    if local:
        return found
    plain, path = found.callback, click.Path(dir_okay=False, path_type=Path)
    found.params.append(click.Option(["--csv"], type=path, help="Write the answer to this file, as CSV."))
    found.params.append(click.Option(["--png"], type=path, help="Draw the answer into this file."))

    @click.pass_context
    def run(ctx: click.Context, /, csv: Path | None, png: Path | None, **given: Any) -> None:
        if csv is None and png is None:
            ctx.invoke(plain, **given)  # type: ignore[arg-type]
        else:
            _to_files(ctx.ensure_object(Context), csv, png, given)

    found.callback = run
    return found


def _to_files(context: Context, csv: Path | None, png: Path | None, given: dict[str, Any]) -> None:
    as_json = given.pop("as_json")
    args = {
        name: list(value) if isinstance(value, tuple) else value for name, value in given.items() if value not in (None, ())
    }
    result = context.client.invoke("analytics.query", args)
    answer = msgspec.convert(result, Answer)
    if csv is not None:
        from appliance.core.catalog.analytics import csv_text

        write(csv, csv_text(answer).encode())
    if png is not None:
        from appliance.core.analytics.picture import png_of

        write(png, png_of(answer))
    if as_json:
        context.json(result)
    else:
        context.say(f"{_foot(answer)}\nwritten: {', '.join(str(each) for each in (csv, png) if each is not None)}")


def write(path: Path, body: bytes) -> None:
    """Write a file, whole or not at all. Raises InvalidArgumentsError."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(body)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise InvalidArgumentsError(f"{path} cannot be written: {error.strerror or error}.", "give another file.") from error
