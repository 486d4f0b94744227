"""What the rules measure of backups: the days since each target had one that was proved."""

from __future__ import annotations

import time

from appliance.core.alerts.reading import Reading
from appliance.core.lifecycle.backup.model import BackupStatus, TargetStatus
from appliance.core.state import LiveState, Section

DAY = 86400.0


def unproved(state: LiveState) -> list[Reading]:
    """Days since the newest backup of each target that a restore proved; since the target is known, where it has none."""
    status = state.get(Section.backup).value
    found = status.targets if isinstance(status, BackupStatus) else ()
    return [_reading(each, time.time()) for each in found] or [Reading("backups", None, "no target for backups is configured")]


def _reading(target: TargetStatus, now: float) -> Reading:
    if target.last_good is None:
        days = max(0.0, now - target.first_seen) / DAY
        return Reading(target.name, days, f"{target.name} has had no proved backup for {days:.1f} days, and none before")
    days = max(0.0, now - target.last_good) / DAY
    return Reading(target.name, days, f"the last one at {target.name} was proved {days:.1f} days ago")
