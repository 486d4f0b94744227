"""Wires the streams from the settings."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NamedTuple

from appliance.core.audit import AuditLog
from appliance.core.bus import Bus
from appliance.core.dispatch import Dispatcher
from appliance.core.model import Actor
from appliance.core.outbox import Outbox
from appliance.core.ports import Clock
from appliance.core.refusals import Refusals, Write
from appliance.core.secrets import Secrets
from appliance.core.state import LiveState
from appliance.core.store import Store
from appliance.core.streams.commands import Commander
from appliance.core.streams.kafka import Access
from appliance.core.streams.outbox import StreamOutbox
from appliance.core.streams.seen import Seen
from appliance.core.streams.service import Parts, StreamService
from appliance.core.streams.traffic import Traffic
from appliance.core.streams.updates import Updates
from appliance.core.streams.watch import ClusterWatch
from appliance.errors import StoreError
from appliance.settings import Settings

log = logging.getLogger(__name__)

MIGRATIONS = "appliance.core.streams.migrations"


class Spine(NamedTuple):
    """What of the appliance the streams stand on."""

    settings: Settings
    secrets: Secrets
    journal: Outbox
    store: Store
    bus: Bus
    state: LiveState
    clock: Clock
    dispatcher: Dispatcher
    audit: AuditLog


def build(spine: Spine, path: Path) -> StreamService:
    """The service; without Kafka's address it is absent and loads nothing.

    Args:
        spine: What it stands on.
        path: The outbox's file.

    Raises:
        StoreError: A secret cannot be read.
    """
    settings, device = spine.settings, spine.settings.node.device_id
    traffic = Traffic(spine.clock.monotonic)
    refusals = Refusals(refusal_writer(spine.audit))
    access: Access | None = None
    outbox: StreamOutbox | None = None
    updates: Updates | None = None
    watch: ClusterWatch | None = None
    if settings.kafka.bootstrap_servers.strip():
        access = Access(settings.kafka, spine.secrets.text("kafka.password"), f"prime-spark-{device}")
        outbox = StreamOutbox(spine.journal, Store(path, MIGRATIONS), spine.clock, settings.outbox, device)
        updates = Updates(device, spine.bus, outbox.letters, spine.clock)
        watch = ClusterWatch(access, traffic, spine.clock, settings.sink.group)
    commander = _commander(spine, refusals) if settings.commands.enabled and access is not None else None
    parts = Parts(
        access=access, outbox=outbox, journal=spine.journal, bus=spine.bus, state=spine.state, clock=spine.clock,
        traffic=traffic, commander=commander, updates=updates, refusals=refusals, watch=watch, device_id=device,
        bounds=settings.outbox, spans=spine.dispatcher.observer.spans,
    )  # fmt: skip
    return StreamService(parts)


def _commander(spine: Spine, refusals: Refusals) -> Commander:
    settings = spine.settings
    return Commander(
        settings.commands,
        settings.node.device_id,
        spine.dispatcher,
        Seen(spine.store),
        spine.bus,
        spine.clock,
        refusals.note,
        spine.audit,
    )


def refusal_writer(audit: AuditLog) -> Write:
    """Writes one refused command into the audit; a failure to do so is told in the log."""

    async def write(actor: Actor, action: str, detail: str) -> None:
        log.warning("a command over Kafka is refused: %s", detail)
        try:
            await audit.record(actor, action, {}, "refused", detail)
        except StoreError as error:
            log.error("a refused command is not in the audit: %s", error.message)

    return write
