"""Values of any kind as lines of text: times as dates, sizes and spans with their units, records and lists as small tables.

The dialogs of the console and the records of the command line are made here, so both say the same.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len, chop_cells

from appliance.core.printable import printable
from appliance.screens import format as f

if TYPE_CHECKING:
    from appliance.screens.themes import Role
    from appliance.screens.widgets.lines import Line

LONG_AGO = 1e8
"""Seconds; numbers above it are moments since the epoch, not spans."""
LONG = 2000
"""Characters of a word that is no word any more."""
STATES: Mapping[str, Role] = MappingProxyType({
    "healthy": "ok", "ok": "ok", "completed": "ok", "degraded": "warn", "warning": "warn", "acknowledged": "warn",
    "unhealthy": "bad", "failed": "bad", "firing": "bad", "critical": "bad", "refused": "bad", "timeout": "bad",
})  # fmt: skip


def moment(value: float) -> str:
    """A moment in local time, to the second; a dash where there was none."""
    if value < LONG_AGO:
        return plain(value) if value else f.NONE
    return datetime.fromtimestamp(value).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def plain(value: float) -> str:
    """A number without a unit, never with an exponent."""
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:.0f}"
    return f"{value:.4g}" if abs(value) >= 0.001 or not value else f"{value:.6f}"


FORMS: tuple[tuple[re.Pattern[str], Callable[[float], str]], ...] = (
    (
        re.compile(
            r"time|since|created|started|ended|checked|updated|active|changed|detected|modified|expires|used|next_try|until"
            r"|\w+_(at|until|modified)"
        ),
        moment,
    ),
    (re.compile(r"(\w+_)?[rt]x_rate|byte_rate"), f.rate),
    (re.compile(r"(memory|disk)_(total|used|free)|process_rss|size|byte_limit|(\w+_)?bytes"), f.size),
    (re.compile(r"\w+_usage|process_cpu|cpu_per_core"), lambda value: f"{value:.1f} %"),
    (re.compile(r"progress|error_rate"), lambda value: f"{100 * value:.0f} %"),
    (re.compile(r"\w+_c"), lambda value: f"{value:.1f} °C"),
    (re.compile(r"\w+_ms"), lambda value: f"{value:.1f} ms"),
    (re.compile(r"\w+_(s|seconds)|age|ttl"), f.span),
)
"""What a number means, by its name (contracts, section 2): the first that fits says its form."""


def is_time(name: str) -> bool:
    """Whether numbers of this name are moments."""
    return FORMS[0][0].fullmatch(name) is not None


def told(name: str, value: Any) -> str:
    """One value as text, its control characters made visible; what is not known is a dash.

    Args:
        name: Of the field that it stands in: it tells the unit.
        value: As JSON has it.
    """
    if value is None:
        return f.NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return next((form for pattern, form in FORMS if pattern.fullmatch(name)), plain)(value)
    if isinstance(value, list | tuple):
        return ", ".join(told(name, item) for item in value)
    if isinstance(value, dict):
        return " ".join(f"{printable(str(key))}={told(str(key), item)}" for key, item in value.items())
    return printable(str(value), keep="\n")


def layout(value: Any, width: int, *, name: str = "", indent: int = 0) -> list[Line]:
    """A value as lines; records and lists inside it as tables of their own, below their names.

    Args:
        value: As JSON has it.
        width: Cells for text: a table that is wider becomes one record below the other.
        name: Of the field that it stands in.
        indent: Cells before each line.
    """
    if isinstance(value, dict):
        return _record(value, width, indent)
    if isinstance(value, list | tuple) and value and all(_is_point(item) for item in value):
        value = [{"time": item[0], name or "value": item[1]} for item in value]
    if isinstance(value, list | tuple) and value and all(isinstance(item, dict) for item in value):
        return _table(value, width, indent)
    if isinstance(value, list | tuple):
        return [line for item in value for line in layout(item, width, name=name, indent=indent)]
    pad = " " * indent
    return [((f"{pad}{part}", "text"),) for part in (told(name, value) or f.NONE).split("\n")]


def _record(record: dict[str, Any], width: int, indent: int) -> list[Line]:
    if set(record) == {"age", "value"} and isinstance(record["value"], dict):
        record = {**record["value"], "age": record["age"]}
    pad = " " * indent
    flat = {key: item for key, item in record.items() if not _is_nested(item)}
    wide = max((cell_len(_label(key)) for key in flat), default=0) + 2
    lines: list[Line] = []
    for key, item in flat.items():
        text = (told(key, item) or f.NONE).split("\n")
        role = STATES.get(item, "text") if isinstance(item, str) else "text"
        lines.append(((f"{pad}{_label(key):<{wide}}", "muted"), (text[0], role)))
        lines += [((" " * (indent + wide), "muted"), (part, role)) for part in text[1:]]
    for key, item in record.items():
        if key not in flat:
            inner = str(record.get("metric", "value")) if key == "points" else key
            lines += [(), ((f"{pad}{_label(key)}", "title"),), *layout(item, width, name=inner, indent=indent + 2)]
    return lines[1:] if lines and not lines[0] else lines


def _table(rows: Sequence[dict[str, Any]], width: int, indent: int) -> list[Line]:
    names = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[told(key, row.get(key)) for key in names] for row in rows]
    sizes = [max(cell_len(_label(key)), *(cell_len(row[at]) for row in cells)) for at, key in enumerate(names)]
    nested = any(_is_nested(item) for row in rows for item in row.values())
    if nested or indent + sum(sizes) + 2 * len(sizes) > width or any("\n" in cell for row in cells for cell in row):
        blocks = [line for row in rows for line in ((), *_record(row, width, indent))]
        return blocks[1:]
    right = [all(isinstance(row.get(key), int | float | None) for row in rows) for key in names]

    def laid(texts: Sequence[str]) -> str:
        parts = (
            text.rjust(size) if to_right else text.ljust(size) for text, size, to_right in zip(texts, sizes, right, strict=True)
        )
        return " " * indent + "  ".join(parts).rstrip()

    return [((laid([_label(key) for key in names]), "muted"),), *(((laid(row), "text"),) for row in cells)]


def _label(key: str) -> str:
    return printable(str(key).replace("_", " "))


def _is_point(item: Any) -> bool:
    """A moment and what was measured then."""
    return (
        isinstance(item, list | tuple)
        and len(item) == 2
        and all(isinstance(part, int | float) for part in item)
        and item[0] >= LONG_AGO
    )


def _is_nested(item: Any) -> bool:
    if isinstance(item, dict):
        return bool(item)
    return isinstance(item, list | tuple) and any(isinstance(part, dict | list | tuple) for part in item)


def _folded(text: str, width: int, first: str, later: str) -> list[str]:
    """As textwrap has it, whose time grows with the square of the longest word: a text with a very long one is cut anywhere."""
    if len(text) > LONG and any(len(word) > LONG for word in text.split()):
        return chop_cells(text, width)
    return textwrap.wrap(text, width, drop_whitespace=True, initial_indent=first, subsequent_indent=later)


def wrap(line: Line, width: int) -> list[Line]:
    """The line, its last piece on as many lines as it needs, below where it begins.

    Args:
        line: Pieces of text, left to right.
        width: Cells for text.
    """
    if not line or sum(cell_len(printable(text)) for text, _ in line) <= width:
        return [line]
    *heads, (last, role) = line
    used = sum(cell_len(printable(text)) for text, _ in heads)
    if used > width // 2:
        parts = _folded(printable("".join(text for text, _ in line)), max(1, width), "", "  ")
        return [((part, role),) for part in parts]
    lead = " " * (len(last) - len(last.lstrip())) if not heads else ""
    parts = _folded(printable(last), max(1, width - used), lead, lead)
    return [(*heads, (parts[0], role)), *(((" " * used, role), (part, role)) for part in parts[1:])]
