"""What the rules measure of updates: whether the last one was not kept, and for how long a newer release has been there."""

from __future__ import annotations

import time

from appliance.core.alerts.reading import Reading
from appliance.core.lifecycle.update.model import OutcomeKind, UpdateStatus
from appliance.core.state import LiveState, Section

DAY = 86400.0
BAD = {OutcomeKind.fell_back, OutcomeKind.failed, OutcomeKind.cut}
"""Outcomes after which something else runs than was wanted. One that was refused was told to whoever asked for it."""
ELSEWHERE = "this machine was not started from our image"


def _status(state: LiveState) -> UpdateStatus | None:
    found = state.get(Section.update).value
    return found if isinstance(found, UpdateStatus) and found.booted is not None else None


def kept(state: LiveState) -> list[Reading]:
    """1 where the last update was not kept; until the next one succeeds."""
    status = _status(state)
    if status is None:
        return [Reading("update", None, ELSEWHERE)]
    last = status.last
    if last is None:
        return [Reading("update", 0.0, "nothing was installed yet")]
    name = last.version or "the last update"
    return [Reading("update", float(last.kind in BAD), f"{name} was not kept: {last.reason}" if last.kind in BAD else name)]


def waiting(state: LiveState) -> list[Reading]:
    """Days since the newer release that the source has was made."""
    status = _status(state)
    if status is None or not status.source:
        return [Reading("release", None, ELSEWHERE if status is None else "no source of releases is configured")]
    if status.newest is None:
        return [Reading("release", 0.0, "nothing newer is known")]
    if status.newest.published is None:
        return [Reading("release", None, f"{status.newest.version} is newer, and its source tells not since when")]
    days = max(0.0, time.time() - status.newest.published) / DAY
    return [Reading("release", days, f"{status.newest.version} has been there for {days:.0f} days: prime-spark update install")]
