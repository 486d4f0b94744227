"""What everything about updates stands on, and how an outcome is kept and told."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from appliance.core.lifecycle.update.model import Outcome
from appliance.core.model import Actor, Role, ServiceStatus, Severity
from appliance.core.ports import Clock, Restarter

if TYPE_CHECKING:
    from appliance.core.lifecycle.update.book import Book
    from appliance.core.lifecycle.update.image import Image
    from appliance.core.lifecycle.update.rauc import Rauc
    from appliance.core.lifecycle.update.shop import Shop
    from appliance.settingupdate import UpdateSettings

log = logging.getLogger(__name__)

ACTOR = Actor("update", Role.admin, "internal")
Tell = Callable[[str, Severity, dict[str, Any]], Awaitable[None]]


class Audit(Protocol):
    """Where a row of each decision is written."""

    async def record(self, actor: Actor, action: str, args: dict[str, Any], outcome: str, detail: str) -> None:
        """Make one row durable. Raises StoreError."""


@dataclass
class Ground:
    """It.

    Attributes:
        settings: Of the updates.
        image: What this machine was started from.
        rauc: Writes slots, and changes the boot choice.
        book: What is remembered.
        shop: The source of releases.
        machine: Starts this machine again.
        backup: Makes a backup first, for whoever is named, and says what was done. Raises ApplianceError.
        services: How all services are.
        clock: For times.
        tell: Told what came of it.
        audit: One row a decision.
    """

    settings: UpdateSettings
    image: Image
    rauc: Rauc
    book: Book
    shop: Shop
    machine: Restarter
    backup: Callable[[str], Awaitable[str]]
    services: Callable[[], tuple[ServiceStatus, ...]]
    clock: Clock
    tell: Tell
    audit: Audit

    async def keep(self, **changes: Any) -> None:
        """Change the notes, durably. Raises StoreError."""
        await asyncio.to_thread(self.book.change, **changes)

    async def conclude(self, outcome: Outcome, **changes: Any) -> Outcome:
        """Keep an outcome and tell it; where the telling is cut off, the next start does it. Raises StoreError."""
        told = log.info if outcome.good else log.warning
        told("update %s: %s to %s %s", outcome.kind.value, outcome.former, outcome.version, outcome.reason)
        await self.keep(last=outcome, told=False, **changes)
        await self.tell_last()
        return outcome

    async def tell_last(self) -> None:
        """Tell the last outcome unless that was done. Raises StoreError."""
        last = self.book.notes.last
        if last is None or self.book.notes.told:
            return
        facts = {
            "former": last.former or "", "version": last.version or "", "reason": last.reason, "next_step": last.next_step,
        }  # fmt: skip
        await self.audit.record(ACTOR, f"update.{last.kind.value}", facts, "event", last.reason)
        await self.tell(f"update.{last.kind.value}", Severity.info if last.good else Severity.warning, facts)
        await self.keep(told=True)
