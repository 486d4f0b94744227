"""What the Conflicts page says: cells, runs, and what a decision will do."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from appliance.core.memory.model import TierStatus
from appliance.core.printable import printable
from appliance.screens import format as f
from appliance.screens.entries import value_lines
from appliance.screens.glyphs import Glyphs
from appliance.screens.tiers import why
from appliance.screens.values import wrap
from appliance.screens.widgets.charts import badge
from appliance.screens.widgets.grid import Cell
from appliance.screens.widgets.lines import Line

NAMES = MappingProxyType({
    "mine": "keep mine", "theirs": "take theirs", "both": "keep both", "merged": "take the merge", "value": "keep what I wrote",
})  # fmt: skip
KEYS = MappingProxyType({"k": "mine", "t": "theirs", "b": "both", "m": "merged", "e": "value"})
Compared = Mapping[str, Any]
"""As `sync.conflict` has it."""


def run_line(tier: TierStatus, run: Mapping[str, Any] | None, interval: float | None, glyphs: Glyphs) -> Line:
    """How the newest synchronisation with a tier went; the last piece may be long."""
    name = (f" {tier.name:<10}", "title")
    if run is None:
        sign, role = badge(tier.health.value, glyphs)
        return (name, ("not yet  ", "muted"), (f"{sign}: {why(tier)}", role))  # type: ignore[return-value]
    due = f"next {f.clock(run['ended'] + interval)}" if run["ended"] and interval else ""
    head = (name, (f"{f.clock(run['started'])}  ", "text"))
    if run["error"]:
        return (*head, (f"{glyphs.bad} {_failed(run)} {due}".rstrip(), "bad"))  # type: ignore[return-value]
    return (  # type: ignore[return-value]
        *head, (f"{due}  ", "muted"),
        (f"pushed {run['pushed']}, ", "text"), (f"{f.size(run['sent_bytes'])}  ", "muted"),
        (f"pulled {run['pulled']}, ", "text"), (f"{f.size(run['received_bytes'])}  ", "muted"),
    )  # fmt: skip


def _failed(run: Mapping[str, Any]) -> str:
    return f"{run['error']} Next: {run['next_step']}" if run["next_step"] else str(run["error"])


def why_lines(row: Mapping[str, Any] | None, width: int) -> list[Line]:
    """Why a conflict waits for a decision, never cut."""
    return wrap(((" why  ", "muted"), (row["reason"], "text")), max(1, width)) if row is not None else []


def conflict_cells(row: Mapping[str, Any]) -> tuple[Cell, ...]:
    """Key, tier, both writers with their times, when it was found."""
    return (
        row["key"], (row["tier"], "muted"), (brief(row, "mine"), "ok"), (brief(row, "theirs"), "accent"),
        (f.clock(row["detected"]), "muted"),
    )  # fmt: skip


def brief(row: Mapping[str, Any], which: str) -> str:
    """When a side was written, and by whom."""
    return f"{moment(row, which)} {row[f'{which}_device']}"


def moment(row: Mapping[str, Any], which: str) -> str:
    """When a side was written, where that is known."""
    modified = row[f"{which}_modified"]
    return f.NONE if modified is None else f.clock(modified)


def base(one: Compared | None) -> str:
    """Whether the last common version is known."""
    return "" if one is None else "; base kept" if one["base"] is not None else "; no base"


def side(one: Compared, which: str) -> str:
    """The header of a side."""
    gone = ", deleted" if one[f"{which}_deleted"] else ""
    return f"{which}: {one[f'{which}_device'] or f.NONE}, {moment(one, which)}{gone}"


def refusal(one: Compared, choice: str) -> str:
    """Why a choice is not offered; empty where it is."""
    if choice == "merged" and not one["mergeable"]:
        return f"there is no clean merge: {one['unmergeable'] or 'this side has no version'}"
    if choice == "both" and one["theirs_deleted"]:
        return "theirs is a deletion: there is nothing to keep beside mine"
    text = one["editable"]
    if choice == "value" and (text is None or printable(text, keep="\n\t") != text):
        return "this value is no text that can be edited here: keep mine, theirs or both"
    return ""


def offered(one: Compared | None) -> frozenset[str]:
    """The keys that do something."""
    always = frozenset({"r", "Tab"})
    if one is None:
        return always
    keys = {key for key, choice in KEYS.items() if not refusal(one, choice)}
    return always | keys | {"v"}


def consequence(one: Compared, choice: str, value: str | None) -> str:
    """What a decision will do, in words."""
    key, tier = one["key"], one["tier"]
    mine, theirs = side(one, "mine"), side(one, "theirs")
    where = f"here and in {tier}"
    told = {
        "mine": f"{key} will be {'deleted' if one['mine_deleted'] else 'as it is on this side'} {where}. "
        f"What is replaced: {theirs}.",
        "theirs": f"{key} will be {'deleted' if one['theirs_deleted'] else 'as it is on the other side'} {where}. "
        f"What is replaced: {mine}.",
        "both": f"{key} will be as it is on this side, {where}. The other version ({theirs}) is kept beside it, "
        f"under {key}.theirs-…",
        "merged": f"{key} will be the merge of both sides, {where}; v shows it. Both versions are replaced.",
        "value": f"{key} will be what you wrote ({len((value or '').encode())} bytes), {where}. Both versions are replaced.",
    }
    return told[choice]


def base_lines(one: Compared, width: int) -> list[Line]:
    """The last common version, and the clean merge; lines longer than `width` cells are broken."""
    lines: list[Line] = [(("Last common version", "title"),)]
    lines += value_lines(one["base"], width) if one["base"] is not None else [((" not kept", "muted"),)]
    lines += [(), (("Merge of both sides", "title"),)]
    if one["merged"] is not None:
        return [*lines, *value_lines(one["merged"], width)]
    return [*lines, ((f" {refusal(one, 'merged')}", "warn"),)]
