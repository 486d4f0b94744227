"""The memory's answers as text: what the Memory and Conflicts pages show, as tables."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from rich.table import Table
from rich.text import Text

from appliance.core.printable import printable
from appliance.screens import format as f
from appliance.screens.values import moment
from appliance.verbs import render

Block = Table | Text
ENTRY = ("key", "kind", "size", "tiers", "age", "ttl", "pinned", "checksum", "hits", "tags")
TIER = ("tier", "health", "entries", "size", "hits", "p50/p99 ms", "owed", "limit", "evicted", "errors")
RUN = ("tier", "started", "pushed", "sent", "pulled", "got", "conflicts", "next", "error", "next_step")
WIDE = 110
"""Columns from which all fields of a row are shown."""
FOUND = ("key", "snippet", "rank", "age")
CONFLICT = ("id", "key", "tier", "mine", "theirs", "reason")


def _listing(value: Mapping[str, Any], width: int) -> list[Block]:
    rows = [
        {
            **entry, "size": f.size(entry["size"]), "age": f.duration(entry["age_s"]),
            "ttl": f.duration(entry["ttl_s"]) if entry["ttl_s"] is not None else "", "pinned": "yes" if entry["pinned"] else "",
            "tiers": _where(entry),
        }
        for entry in value["entries"]
    ]  # fmt: skip
    if not rows:
        return [Text("no keys")]
    notes = ["* owed, not there yet"] if any(entry["owed"] for entry in value["entries"]) else []
    notes += ["? cannot be asked now"] if any(entry["unknown"] for entry in value["entries"]) else []
    notes += [f"more: --cursor {printable(shlex.quote(value['cursor']))}"] if value["cursor"] else []
    return [render.table(rows, ENTRY if width >= WIDE else ENTRY[:7]), *([Text("   ".join(notes))] if notes else [])]


def _where(entry: Mapping[str, Any]) -> str:
    return " ".join([*entry["tiers"], *(f"{tier}*" for tier in entry["owed"]), *(f"{tier}?" for tier in entry["unknown"])])


def _status(value: Mapping[str, Any], width: int) -> list[Block]:
    rows = [
        {
            "tier": f"{tier['level']} {tier['name']}", "health": tier["health"], "entries": tier["entries"],
            "size": f.size(tier["size"]), "hits": f.hit_rate(tier["hits"], tier["misses"]),
            "p50/p99 ms": f"{f.ms(tier['p50_ms'])}/{f.ms(tier['p99_ms'])}",
            "owed": f"{tier['owed']}, {f.duration(tier['oldest_owed_s'])}" if tier["owed"] else "0",
            "limit": f.size(tier["limit"]), "evicted": tier["evictions"], "errors": tier["errors"],
        }
        for tier in value["tiers"]
    ]  # fmt: skip
    counts = "  ".join(f"{name} {value[name]}" for name in ("fetches", "coalesced", "corrupt", "conflicts"))
    whole = f"hits {f.hit_rate(value['hits'], value['misses'])} of {value['hits'] + value['misses']}"
    told = "\n".join(printable(_reason(tier)) for tier in value["tiers"])
    line = f"{whole}  {f.ms(value['p50_ms'])}/{f.ms(value['p99_ms'])} ms  {counts}"
    return [render.table(rows, TIER if width >= WIDE else TIER[:7]), Text(told), Text(line)]


def _reason(tier: Mapping[str, Any]) -> str:
    lost = "".join(f"; {tier[name]} {name}" for name in ("evictions", "errors") if tier[name])
    step = f". Next: {tier['next_step']}" if tier["next_step"] else ""
    named = "" if tier["reason"].startswith((f"{tier['name']}: ", f"{tier['name']} ")) else f"{tier['name']}: "
    return f"{named}{tier['reason'].rstrip('.')}{lost}{step}"


def _runs(value: Mapping[str, Any], _: int) -> list[Block]:
    owed = ", ".join(f"{tier} {count}" for tier, count in value["owed"].items()) or "nothing"
    counts = f"conflicts found {value['conflicts_detected']}, settled {value['conflicts_resolved']}"
    none = "no run yet" if value["tiers"] else "no cloud tier is configured: set s3.endpoint or documents.url"
    runs = run_table(value["runs"], value["interval_s"]) if value["runs"] else Text(none)
    return [runs, Text(f"owed: {owed}   {counts}")]


def run_table(runs: Sequence[Mapping[str, Any]], interval: float | None = None) -> Table:
    """Synchronisations, one a row.

    Args:
        runs: As `sync.status` has them.
        interval: Seconds from the end of one to the next; None where that is not to be told.
    """
    rows = [
        {
            **run, "sent": f.size(run["sent_bytes"]), "got": f.size(run["received_bytes"]), "conflicts": run["waiting"],
            "next": f.clock(run["ended"] + interval) if run["ended"] and interval else "",
        }
        for run in runs
    ]  # fmt: skip
    return render.table(rows, RUN)


def _found(value: list[dict[str, Any]], _: int) -> list[Block]:
    now = time.time()
    rows = [
        {
            "key": f"{each['meta']['namespace']}:{each['meta']['key']}", "snippet": " ".join(each["snippet"].split()),
            "rank": f"{each['rank']:.3f}", "age": f.duration(max(0.0, now - each["meta"]["modified"])),
        }
        for each in value
    ]  # fmt: skip
    return [render.table(rows, FOUND)]


def _deleted(value: Mapping[str, Any], _: int) -> list[Block]:
    unasked = ", ".join(value["not_asked"])
    told = f"{value['key']} is deleted in every tier"
    return [Text(printable(f"{told}; not reached now, so it is deleted there later: {unasked}" if unasked else told))]


def _conflicts(value: list[dict[str, Any]], _: int) -> list[Block]:
    rows = [
        {
            **row, "id": row["conflict_id"][-6:], "mine": _written(row, "mine"), "theirs": _written(row, "theirs"),
        }
        for row in value
    ]  # fmt: skip
    return [render.table(rows, CONFLICT), Text("compare: sync conflict ID   decide: sync resolve ID mine|theirs|both|merged")]


def _written(row: Mapping[str, Any], which: str) -> str:
    """When a side was written, and by whom."""
    modified = row[f"{which}_modified"]
    return f"{f.NONE if modified is None else moment(modified)} {row[f'{which}_device']}"


def _conflict(value: Mapping[str, Any], width: int) -> list[Block]:
    from appliance.screens.deciding import side  # late: with them comes Textual
    from appliance.screens.sides import LEGEND, side_lines

    lines = side_lines(value["rows"], width, side(value, "mine"), side(value, "theirs"))
    body = Text("\n").join(Text("".join(printable(piece) for piece, _ in line)) for line in lines)
    base = "not kept" if value["base"] is None else "kept"
    merge = "a clean merge is there: keep merged" if value["mergeable"] else f"no clean merge: {value['unmergeable']}"
    head = f"{printable(value['key'])} in {value['tier']}   base {base}   {printable(merge)}\n{LEGEND}"
    decide = f"decide: sync resolve {value['conflict_id'][-6:]} mine|theirs|both|merged --seen {value['seen']}"
    return [Text(head), body, Text(decide)]


FORMS: Mapping[str, render.Form] = MappingProxyType({
    "memory.list": _listing, "memory.status": _status, "sync.status": _runs, "sync.conflicts": _conflicts,
    "sync.conflict": _conflict, "memory.search": _found, "memory.delete": _deleted,
})  # fmt: skip
