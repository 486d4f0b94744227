"""The backups, put together from the spine and the stores that they copy; a part of the composition root."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliance.core.catalog.backup import backup_actions
from appliance.core.catalog.firstboot import reset_actions
from appliance.core.lifecycle.backup.service import BackupService
from appliance.core.model import Actor, Role, Severity

if TYPE_CHECKING:
    from appliance.core.actions import Action
    from appliance.core.lifecycle.backup.keeper import Keeper
    from appliance.core.lifecycle.backup.model import Restored
    from appliance.runtime import Appliance


def build(
    spine: Appliance,
    duckdb: Callable[[Path], None],
    tell: Callable[[str, Severity, dict[str, Any]], Awaitable[None]],
    environ: Mapping[str, str],
) -> BackupService:
    """At rest: what copies and proves is loaded when the service starts."""

    def make(report: Callable[[str, float | None], None]) -> Keeper:
        from appliance import __version__
        from appliance.core.lifecycle.backup.keeper import Ground, Keeper

        wanted = spine.settings
        return Keeper(Ground(
            wanted.backup, wanted.nas.path, wanted.node.device_id, __version__, spine.paths, spine.secrets, environ,
            spine.clock, duckdb, report,
        ))  # fmt: skip

    def most_days() -> float:
        from appliance.core.alerts.rules import effective

        return next(rule.threshold for rule in effective(spine.settings.alerts.rules) if rule.name == "backup")

    async def note(done: Restored, facts: dict[str, Any], sentence: str) -> None:
        actor = Actor(done.by or "backup", Role.admin, "internal")
        await spine.audit.record(actor, "backup.restored", facts, "event", sentence)

    return BackupService(make, spine.settings.backup, spine.jobs, spine.state, spine.clock, tell, most_days, note)


def actions(spine: Appliance, service: BackupService) -> list[Action]:
    """All."""
    return [
        *backup_actions(service, spine.paths.exports, spine.settings.node.device_id),
        *reset_actions(spine.paths.run),
    ]
