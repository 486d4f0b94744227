"""What to do where the edge (mine) and the cloud (theirs) hold different versions of one key."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Literal

import msgspec

from appliance.core.memory.merge import Merged, merge_records, same_record
from appliance.core.memory.model import Record

AHEAD = 24 * 3600.0
"""Seconds that a version may be dated in the future before its clock is not trusted."""
NAMED = 5
"""Clashing places that a reason names."""

Action = Literal["mine", "theirs", "merged", "manual", "same"]


class Strategy(StrEnum):
    """How a conflict is settled."""

    latest_wins = "latest_wins"
    """By the wall clock of the write; a tie goes to the cloud."""
    cloud_wins = "cloud_wins"
    edge_wins = "edge_wins"
    merge = "merge"
    """Three-way; by hand where it is not clean."""
    manual = "manual"
    """Both versions are kept until the operator decides."""


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done.

    Attributes:
        action: Whose version is the one from now on; "merged" a new one; "manual" both until the operator decides;
            "same" where both say the same, so that there is nothing to do.
        reason: One sentence for people.
        merged: The new version's fields where the action is "merged".
        clashes: Where a merge is not clean; see merge.Merge.
        conflict: False where both say the same, or only one side changed it.
    """

    action: Action
    reason: str
    merged: Merged | None = None
    clashes: tuple[str, ...] = ()
    conflict: bool = True


def decide(strategy: Strategy, base: Record | None, mine: Record, theirs: Record, now: float) -> Decision:
    """What to do with two versions of one key.

    Two versions that say the same (value, expiry, tags) are no conflict under any strategy, nor are two of which one
    says what the base says: then the changed one is the newer.

    Args:
        strategy: How to settle a conflict.
        base: The last common version; None where it is not kept or there was none.
        mine: The edge's version.
        theirs: The cloud's version.
        now: Wall clock, seconds since the epoch.
    """
    if same_record(mine, theirs):
        return Decision(action="same", reason="Both say the same.", conflict=False)
    if base is not None and same_record(mine, base):
        return Decision(action="theirs", reason="Only the cloud changed it.", conflict=False)
    if base is not None and same_record(theirs, base):
        return Decision(action="mine", reason="Only the edge changed it.", conflict=False)
    return _settle(strategy, base, mine, theirs, now)


def _settle(strategy: Strategy, base: Record | None, mine: Record, theirs: Record, now: float) -> Decision:
    match strategy:
        case Strategy.latest_wins:
            return _latest(mine, theirs, now)
        case Strategy.cloud_wins:
            return Decision(action="theirs", reason="Both changed it; the cloud wins.")
        case Strategy.edge_wins:
            return Decision(action="mine", reason="Both changed it; the edge wins.")
        case Strategy.merge:
            return _merge(base, mine, theirs)
        case Strategy.manual:
            return Decision(action="manual", reason="Both changed it; the operator decides.")


def _latest(mine: Record, theirs: Record, now: float) -> Decision:
    for side, record in (("edge", mine), ("cloud", theirs)):
        doubt = _doubt(record.meta.modified, now)
        if doubt:
            reason = f"Both changed it, and the {side}'s version {doubt}; the operator decides."
            return Decision(action="manual", reason=reason)
    ahead = mine.meta.modified - theirs.meta.modified
    if ahead == 0:
        return Decision(action="theirs", reason="Both changed it at the same time; the cloud wins a tie.")
    if ahead > 0:
        return Decision(action="mine", reason=f"Both changed it; the edge's version is {ahead:.3f} s newer.")
    return Decision(action="theirs", reason=f"Both changed it; the cloud's version is {-ahead:.3f} s newer.")


def _doubt(modified: float, now: float) -> str:
    """Why the time of a write is not trusted; empty where it is."""
    if not math.isfinite(modified) or modified <= 0:
        return "has no time of its write"
    if modified - now > AHEAD:
        return f"is dated {(modified - now) / 3600:.1f} h in the future"
    return ""


def _merge(base: Record | None, mine: Record, theirs: Record) -> Decision:
    merged = merge_records(base, mine, theirs)
    if not merged.clean:
        reason = f"It cannot be merged: {merged.why}{_places(merged.clashes)}."
        return Decision(action="manual", reason=reason, clashes=merged.clashes)
    if _says(merged, mine):
        return Decision(action="mine", reason="Merged; the edge's version has the cloud's changes already.")
    if _says(merged, theirs):
        return Decision(action="theirs", reason="Merged; the cloud's version has the edge's changes already.")
    return Decision(action="merged", reason="Merged; the changes of both are in it.", merged=merged)


def _says(merged: Merged, record: Record) -> bool:
    meta = record.meta
    value = (merged.deleted, merged.kind, merged.value) == (meta.deleted, meta.kind, record.value)
    return value and merged.expires == meta.expires and frozenset(merged.tags) == frozenset(meta.tags)


def _places(clashes: tuple[str, ...]) -> str:
    named = [place if place.isprintable() else ascii(place) for place in clashes if place][:NAMED]
    if not named:
        return ""
    more = f" and {len(clashes) - len(named)} more" if len(clashes) > len(named) else ""
    return f" ({', '.join(named)}{more})"
