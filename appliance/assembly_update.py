"""The updates of the image, put together from the spine and the backups; a part of the composition root."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from appliance import __version__
from appliance.core.catalog.update import update_actions
from appliance.core.lifecycle.update.service import UpdateService
from appliance.core.model import Severity
from appliance.core.state import Section

if TYPE_CHECKING:
    from appliance.core.actions import Action
    from appliance.core.lifecycle.backup.service import BackupService
    from appliance.core.lifecycle.update.desk import Desk
    from appliance.core.lifecycle.update.image import Image
    from appliance.core.model import ServiceStatus
    from appliance.core.ports import Restarter
    from appliance.runtime import Appliance

Tell = Callable[[str, Severity, dict[str, Any]], Awaitable[None]]


def build(spine: Appliance, backup: BackupService, tell: Tell, environ: Mapping[str, str]) -> UpdateService:
    """At rest: what does the work is loaded only where this machine was started from our image."""

    def make() -> Desk:
        from appliance.core.lifecycle.update.bootslots import Places
        from appliance.core.lifecycle.update.image import Image
        from appliance.hw.poweroff import Restart

        image = Image(Places(run=spine.paths.run))
        image.facts()
        return desk(spine, backup, tell, environ, image, Restart())

    return UpdateService(make, spine.state, __version__)


def desk(
    spine: Appliance, backup: BackupService, tell: Tell, environ: Mapping[str, str], image: Image, machine: Restarter
) -> Desk:
    """What does the work, on an image and a machine that are given."""
    from appliance.core.lifecycle.update.book import Book
    from appliance.core.lifecycle.update.desk import Desk
    from appliance.core.lifecycle.update.gate import network
    from appliance.core.lifecycle.update.ground import Ground
    from appliance.core.lifecycle.update.rauc import Rauc
    from appliance.core.lifecycle.update.shop import Shop
    from appliance.hw.host import connected

    wanted, data = spine.settings.update, spine.paths.data

    async def first(owner: str) -> str:
        if not spine.settings.backup.targets:
            return "no target for backups is configured: no backup was made"
        await backup.waited(await backup.submit_run(owner))
        return "a backup was made and proved"

    def services() -> tuple[ServiceStatus, ...]:
        found: tuple[ServiceStatus, ...] = spine.state.get(Section.services).value or ()
        return (*found, network(connected())) if found else ()

    return Desk(
        Ground(
            wanted, image, Rauc(environ), Book(data / "update.json"), Shop(wanted, data / "updates"), machine, first, services,
            spine.clock, tell, spine.audit,
        ),
        spine.jobs,
        spine.state,
    )  # fmt: skip


def actions(spine: Appliance, service: UpdateService) -> list[Action]:
    """All."""
    return update_actions(service, spine.state)
