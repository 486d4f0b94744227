"""Values as text: tables for lists, lines for records. The forms of the screens' text twins."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from appliance.core.printable import printable
from appliance.screens.values import is_time, layout, told, wrap

MARKS = {"healthy": "ok", "degraded": "!", "unhealthy": "X", "absent": "-"}
STYLES = {
    "healthy": "green",
    "ok": "green",
    "degraded": "yellow",
    "warning": "yellow",
    "unhealthy": "red",
    "failed": "red",
    "firing": "red",
}
ROLES = {"muted": "bold", "title": "bold underline", "ok": "green", "warn": "yellow", "bad": "red"}
"""Of a record's lines → styles."""

Form = Callable[[Any, int], Sequence[Table | Text | Group]]
"""(value, columns of the terminal) → what is printed."""

NOTHING: Mapping[str, str] = MappingProxyType({})

COLUMNS: dict[str, tuple[str, ...]] = {
    "service.list": ("name", "health", "phase", "restarts", "since", "reason", "next_step"),
    "alert.list": ("alert_id", "severity", "state", "since", "silenced_until", "silenced_by", "message"),
    "alert.history": ("seq", "changed", "alert_id", "severity", "state", "changed_by", "message"),
    "alert.rules": ("rule", "state", "severity", "silenced_until", "silenced_by", "reason"),
    "alert.channels": (
        "name",
        "kind",
        "target",
        "health",
        "waiting",
        "delivered",
        "failed",
        "dropped",
        "last_delivered_at",
        "reason",
    ),
    "alert.deliveries": ("seq", "created", "channel", "state", "severity", "title", "attempts", "next_try", "answer"),
    "alert.routes": ("route", "severity", "match", "channels", "group_by", "escalates", "last", "alerts"),
    "job.list": ("job_id", "name", "owner", "state", "progress", "created", "message", "error"),
    "audit.list": ("seq", "time", "actor", "via", "action", "outcome", "detail", "args"),
    "user.list": ("name", "role", "has_password", "keys", "key_roles", "created"),
    "device.list": ("kind", "name", "health", "reason", "next_step"),
    "session.list": ("session_id", "user", "role", "via", "origin", "screen", "columns", "rows", "since", "active"),
    "log.list": ("time", "level", "logger", "message"),
    "config.list": ("key", "value", "next_start", "default", "origin", "env"),
    "actions": ("name", "role", "shortcut", "dangerous", "summary"),
    "doctor": ("status", "check", "reason", "fix"),
}
"""Columns of each action's table, in order; others show every field."""


def as_text(value: Any, width: int, *, colour: bool, columns: tuple[str, ...] = ()) -> str:
    """A JSON value as text.

    Args:
        value: What an action returned, as plain JSON types.
        width: Columns of the terminal.
        colour: Whether to use colours.
        columns: Fields to show of a list's records; all where empty.
    """
    if isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
        return draw(table(value, columns or tuple(value[0])), width, colour=colour)
    if isinstance(value, list):
        return "\n".join(cell("", item) for item in value) or "nothing to show"
    if isinstance(value, dict):
        return draw(record(value, width), width, colour=colour)
    return "done" if value is None else printable(str(value), keep="\n")


def points(history: dict[str, Any]) -> list[dict[str, Any]]:
    """A metric's history as one record a point."""
    return [{"time": at, history["metric"]: value} for at, value in history["points"]]


def table(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> Table:
    """A list of records as a table."""
    grid = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", show_edge=False)
    shown = [
        name for name in columns if any(row.get(name) not in (None, "", [], (), 0.0 if is_time(name) else None) for row in rows)
    ]
    for name in shown:
        grid.add_column(name.replace("_", " "), overflow="fold")
    for row in rows:
        grid.add_row(*(Text(cell(name, row.get(name)), style=style_of(row.get(name))) for name in shown))
    return grid


def record(value: dict[str, Any], width: int) -> Text:
    """One record as lines of name and value, with what is nested in it as tables of its own."""
    lines = [part for line in layout(value, width) for part in wrap(line, width)]
    return Text("\n").join(
        Text.assemble(*((printable(text, keep="\n"), ROLES.get(role, "")) for text, role in line)) for line in lines
    )


def style_of(value: Any) -> str:
    """The colour of a state, or none."""
    return STYLES.get(value, "") if isinstance(value, str) else ""


def cell(name: str, value: Any) -> str:
    """One value as text, its control characters made visible; what is not known is a dash."""
    return told(name, value)


def formed(
    forms: Mapping[str, Form], name: str, value: Any, width: int, *, colour: bool, nothing: Mapping[str, str] = NOTHING
) -> str | None:
    """An answer in its action's own form; None where it has none, or there is nothing to show.

    Args:
        forms: By the action's name: what makes tables and lines of a value for so many columns.
        name: Of the action.
        value: What it returned, as plain JSON types.
        width: Columns of the terminal.
        colour: Whether to use colours.
        nothing: By the action's name: what is said of an answer with nothing in it.
    """
    form = forms.get(name)
    if form is None or not value:
        return None if value is None else nothing.get(name)
    return "\n\n".join(draw(block, width, colour=colour) for block in form(value, width))


def draw(renderable: Table | Text | Group, width: int, *, colour: bool) -> str:
    """A rich table as text."""
    console = Console(file=io.StringIO(), width=width, force_terminal=colour, no_color=not colour, legacy_windows=False)
    with console.capture() as capture:
        console.print(renderable, crop=False)  # a line that says so stays whole
    return "\n".join(line.rstrip() for line in capture.get().rstrip("\n").split("\n"))


def status(value: dict[str, Any], width: int, *, colour: bool, forms: Mapping[str, Form]) -> str:
    """The text twin of Overview.

    Args:
        value: What `appliance.status` returned.
        width: Columns of the terminal.
        colour: Whether to use colours.
        forms: Of sections that have more than one block, by their names.
    """
    parts: list[tuple[str, Callable[[Any], Table | Text | Group]]] = [
        ("host", lambda sample: record(host_lines(sample), width)),
        ("services", lambda rows: table(rows, ("name", "health", "reason", "next_step"))),
        ("alerts", lambda rows: table(rows, COLUMNS["alert.list"])),
        ("devices", lambda rows: table(rows, ("kind", "name", "health", "reason"))),
        ("queues", lambda rows: table(rows, ("name", "depth", "capacity", "delivered", "dropped", "policy"))),
        ("inference", lambda stats: Group(*forms["inference"](stats, width))),
        ("sessions", lambda rows: table(rows, COLUMNS["session.list"])),
    ]
    blocks = []
    for name, form in parts:
        section = value[name]
        age = "never read" if section["age"] is None else f"{section['age']:.0f} s"
        body = draw(form(section["value"]), width, colour=colour) if section["value"] else "none"
        blocks.append(f"== {name} ({age})\n{body}")
    return "\n\n".join(blocks)


def host_lines(sample: dict[str, Any]) -> dict[str, Any]:
    """The host's numbers with their units."""

    def percent(name: str) -> str:
        return "–" if sample[name] is None else f"{sample[name]:.0f} %"

    heat = "–" if sample["temperature_c"] is None else f"{sample['temperature_c']:.1f} °C"
    flags = "–" if sample["throttled"] is None else ", ".join(sample["throttled"]) or "no"
    return {
        "host": sample["hostname"],
        "cpu": f"{percent('cpu_usage')}   load {sample['load_1m']:.2f} {sample['load_5m']:.2f} {sample['load_15m']:.2f}",
        "memory": f"{percent('memory_usage')} of {told('memory_total', sample['memory_total'])}",
        "disk": f"{percent('disk_usage')}, {told('disk_free', sample['disk_free'])} free",
        "temperature": f"{heat}   throttled {flags}",
        "up": told("uptime_s", sample["uptime_s"]),
        "this process": f"{told('process_rss', sample['process_rss'])}, {told('process_cpu', sample['process_cpu'])} of a core",
    }
