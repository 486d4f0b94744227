"""Entries of the memory as rows of a table, and one entry with all that is known of it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from appliance.core.memory.model import EntryStat, TierStatus
from appliance.core.model import Health
from appliance.core.printable import printable
from appliance.screens import format as f
from appliance.screens.dialogs import Choice
from appliance.screens.tiers import letter, marks
from appliance.screens.widgets.grid import Column, Row
from appliance.screens.widgets.lines import Line

COLUMNS = (
    Column("key"), Column("kind", 5), Column("size", 9, "right"), Column("tiers", 5), Column("age", 6, "right"),
    Column("ttl", 6, "right"), Column("pin", 3), Column("sha-256", 8), Column("hits", 6, "right", 120),
    Column("device", 14, least=120), Column("tags", 20, least=120),
)  # fmt: skip
ANSWERING = frozenset({Health.healthy, Health.degraded})


def entry_row(entry: Mapping[str, Any], tiers: Sequence[str], elapsed: float) -> Row:
    """One key.

    Args:
        entry: As `memory.list` has it.
        tiers: All tiers, fastest first.
        elapsed: Seconds since it was read.
    """
    ttl = None if entry["ttl_s"] is None else max(0.0, entry["ttl_s"] - elapsed)
    return Row(
        entry["key"],
        (
            (entry["key"], "text"), (entry["kind"], "muted"), f.size(entry["size"]),
            (marks(tiers, entry["tiers"], entry["owed"], entry["unknown"]), "accent"),
            f.duration(entry["age_s"] + elapsed), (f.duration(ttl), "muted" if ttl is None else "text"),
            ("pin" if entry["pinned"] else "", "warn"), (entry["checksum"][:8], "muted"),
            (str(entry["hits"]), "muted"), (entry["device"], "muted"), (", ".join(entry["tags"]), "muted"),
        ),
    )  # fmt: skip


def entry_lines(stat: EntryStat, value: Sequence[Line], tiers: Sequence[TierStatus]) -> list[Line]:
    """An entry: what is known of it, its copies, its value.

    Args:
        stat: Where it lay before its value was read.
        value: Its value, or why there is none.
        tiers: As they are now.
    """
    return [
        *(((f" {name:<10}", "muted"), (text, "text")) for name, text in _facts(stat)),
        (),
        (("Copies, before the value below was read", "title"),),
        *_copies(stat, tiers),
        (),
        (("Value", "title"),),
        *value,
    ]


def _facts(stat: EntryStat) -> list[tuple[str, str]]:
    meta, now = stat.meta, time.time()
    stored = f"; {f.size(stat.stored)} on the disk" if stat.stored else ""
    ends = "never" if meta.expires is None else f"{f.clock(meta.expires)}, in {f.duration(max(0.0, meta.expires - now))}"
    used = f"{f.clock(stat.used)}, {f.since(stat.used)} ago" if stat.used else f.NONE
    return [
        ("key", f"{meta.namespace}:{meta.key}"), ("value", f"{meta.kind.value}, {f.size(meta.size)}{stored}"),
        ("written", f"{f.clock(meta.modified)}, {f.since(meta.modified)} ago, by {meta.device or f.NONE}"), ("expires", ends),
        ("tags", ", ".join(meta.tags) or f.NONE), ("reads", f"{stat.hits}, last {used}"),
        ("pinned", "yes" if stat.pinned else "no"), ("SHA-256", meta.checksum),
        ("version", f"{meta.version}, replaced {meta.parent}" if meta.parent else meta.version),
    ]  # fmt: skip


def _copies(stat: EntryStat, tiers: Sequence[TierStatus]) -> list[Line]:
    copies = {copy.tier: copy for copy in stat.copies}
    lines: list[Line] = []
    for tier in tiers:
        copy = copies.get(tier.name)
        state = copy.state if copy is not None else "not there"
        version = copy.version if copy is not None else ""
        which = "this version" if version == stat.meta.version else f"version {version}" if version else ""
        away = "" if tier.health in ANSWERING else f"  {tier.health.value}: {tier.reason}"
        lines.append(
            (
                (f" {letter(tier.name)} {tier.name:<10}", "accent"),
                (f"{state:<10}", "text" if state == "held" else "warn" if state == "owed" else "muted"),
                (which, "muted"),
                (away, "warn"),
            )
        )
    return lines


def value_lines(shown: Sequence[str], width: int) -> list[Line]:
    """Lines of a value, broken where they are longer than the screen is wide."""
    lines: list[Line] = []
    for line in shown:
        text = printable(line)
        lines += [((f" {text[start : start + width]}", "text"),) for start in range(0, max(1, len(text)), max(1, width))]
    return lines


def form(namespace: str | None) -> dict[str, Any]:
    """What is asked for a value to keep."""
    return {
        "key": {
            "type": "string", "description": "NAMESPACE:KEY, or KEY in the namespace default",
            "default": f"{namespace}:" if namespace else "",
        },
        "value": {"type": "string", "description": "the value"},
        "kind": {"enum": ["text", "json"], "default": "text"},
        "ttl": {"type": "number", "description": "seconds until it is gone; empty for never"},
        "tags": {"type": "array", "description": "tags, with commas between; may be empty"},
        "durability": {"enum": ["memory", "edge", "cloud"], "default": "edge"},
    }  # fmt: skip


def which_tier(key: str, tiers: Sequence[TierStatus]) -> Choice:
    """Asks out of which tier a value shall go."""
    front = next((tier.name for tier in tiers if tier.level == 1), "tier 1")
    text = f"Out of which tier shall {short(key)} go? A value that lies nowhere else stays."
    return Choice("Evict", text, (("1", f"out of tier 1 alone ({front})"), ("2", "out of tier 1 and off the local disk")))


def loss(key: str) -> str:
    """What a deletion does."""
    return f"{short(key)} is deleted in every tier, here and in the cloud, for every appliance. It cannot be brought back."


def short(key: str, most: int = 60) -> str:
    """A key that fits into a question."""
    return key if len(key) <= most else f"{key[:most]}…"
