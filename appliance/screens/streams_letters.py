"""Dead letters as rows and lines."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence

from appliance.core.streams.model import DeadLetter
from appliance.screens import format as f
from appliance.screens.entries import value_lines
from appliance.screens.streams_view import count
from appliance.screens.themes import Role
from appliance.screens.widgets.grid import Column, Row
from appliance.screens.widgets.lines import Line

LETTERS = (
    Column("when", 11), Column("from", 8), Column("topic", 18), Column("key", 14, least=90), Column("size", 9, "right", 60),
    Column("why"),
)  # fmt: skip


def letter_rows(letters: Sequence[DeadLetter]) -> list[Row]:
    """A row a dead letter."""
    return [
        Row(
            letter.letter_id,
            (
                (f.clock(letter.time), "muted"), letter.origin, letter.topic, (letter.key, "muted"),
                f.size(letter.size), (letter.reason, "warn"),
            ),
        )
        for letter in letters
    ]  # fmt: skip


def pretty(body: str) -> str:
    """JSON laid out; anything else as it is."""
    try:
        return json.dumps(json.loads(body), ensure_ascii=False, indent=2)
    except (ValueError, RecursionError):
        return body


def letter_facts(letter: DeadLetter) -> list[Line]:
    """What is known of a dead letter, above its body."""
    place = f.NONE if letter.partition is None else f"partition {letter.partition}, offset {count(letter.offset)}"
    told = [
        ("why", letter.reason), ("set aside", f"{f.clock(letter.time)}, {f.span(max(0.0, time.time() - letter.time))} ago"),
        ("from", letter.origin), ("topic", letter.topic), ("key", letter.key or f.NONE), ("place", place),
        ("size", f"{f.size(letter.size)} ({letter.size} bytes)"), ("id", letter.letter_id),
    ]  # fmt: skip
    return [((f" {name:<10}", "muted"), (text, "warn" if name == "why" else "text")) for name, text in told]


def body_lines(letter: DeadLetter, width: int) -> list[Line]:
    """A dead letter with its body, wrapped to so many cells."""
    return [*letter_facts(letter), (), (("Body", "title"),), *value_lines(pretty(letter.body).split("\n"), width)]


def retried(result: Mapping[str, int]) -> tuple[str, Role]:
    """What `streams.retry` did with all dead letters: (text, role). What stays is not told as gone."""
    went, kept = result["retried"], result["kept"]
    told = f"{went} dead letter{'s' if went != 1 else ''} sent again or stored"
    if kept:
        told += f", {kept} cannot be and stay{'s' if kept == 1 else ''}: r on one says why"
    return told, "warn" if kept or not went else "ok"


def retried_one(letter: DeadLetter | None) -> str:
    """What `streams.retry` did with one, which is known to have worked."""
    if letter is not None and letter.origin == "sink":
        return "the dead letter's event is stored"
    return "the dead letter is on the way again"
