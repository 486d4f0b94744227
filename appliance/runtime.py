"""The composition root: settings go in, a running appliance comes out. What a first paint needs is made at once; the
services (appliance.assembly) when they are started.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from appliance.core.access.elsewhere import open_secrets
from appliance.core.actions import ActionRegistry
from appliance.core.audit import AuditLog
from appliance.core.auth import Accounts
from appliance.core.bus import Bus
from appliance.core.clock import SystemClock
from appliance.core.console import Console
from appliance.core.dispatch import Dispatcher
from appliance.core.events import HealthChanged, Noted
from appliance.core.fleet.terminals import Terminals
from appliance.core.jobs import Jobs
from appliance.core.logs import LogRing
from appliance.core.model import Actor, ServiceStatus
from appliance.core.observe.observer import Observer
from appliance.core.outbox import Outbox
from appliance.core.ports import Service
from appliance.core.presence import Presence
from appliance.core.state import LiveState
from appliance.core.store import Store
from appliance.errors import StoreError
from appliance.paths import Paths
from appliance.settings import Settings

if TYPE_CHECKING:
    from appliance.assembly import Domains
    from appliance.core.services import Supervisor

log = logging.getLogger(__name__)

STORE_WAIT = 60.0
"""Seconds that changes of health wait for the store to open."""


class Appliance:
    """Everything that runs, wired together. Made on the core loop.

    Args:
        settings: Checked settings.
        paths: Where things lie.
        logs: The log ring.
        environ: The process's environment, to tell where settings come from.
    """

    def __init__(self, settings: Settings, paths: Paths, logs: LogRing, environ: Mapping[str, str]) -> None:
        self.settings = settings
        self.paths = paths
        self.logs = logs
        self._environ = environ
        self.clock = SystemClock()
        self.state = LiveState(self.clock)
        self.presence = Presence(self.state)
        self.registry = ActionRegistry()
        self.stopping = asyncio.Event()
        self.loop = asyncio.get_running_loop()
        self._wire_spine()
        self._tasks: set[asyncio.Task[None]] = set()
        self.supervisor: Supervisor | None = None
        self.domains: Domains | None = None

    def _wire_spine(self) -> None:
        device = self.settings.node.device_id
        self.store = Store(self.paths.database)
        self.outbox = Outbox(self.store, device)
        self.bus = Bus(self.outbox)
        self.jobs = Jobs(self.store, self.state, self.clock)
        self.secrets = open_secrets(self.paths.secrets, self._environ, self.settings, self.clock)
        key = self.secrets.get_or_create("audit.key")
        self.audit = AuditLog(self.store, key, self.clock, mark=self.paths.audit_mark)
        self.accounts = Accounts(self.store, self.clock)
        self.terminals = Terminals(self._note)
        self.observer = Observer()
        self.dispatcher = Dispatcher(
            self.registry, self.audit, closed=self.stopping.is_set, current=self.accounts.current, observer=self.observer
        )

    async def _note(self, event: str, attributes: dict[str, object]) -> None:
        await self.bus.publish(Noted(time=self.clock.wall(), event=event, severity="info", attributes=attributes))

    def start(self, further: list[Service]) -> None:
        """Make and start all services; returns at once. Raises ConfigError, StoreError."""
        from appliance.assembly import Domains
        from appliance.core.services import Supervisor
        from appliance.core.supervision import Policy

        self.domains = Domains(self, self._environ)
        policy = Policy(probe_interval=self.settings.health.check_interval_seconds)
        offered = [*self.domains.services(), *further]
        self.supervisor = Supervisor(offered, self.state, self.clock, policy, self._health_changed)
        self.domains.register_actions(self.supervisor)
        self.supervisor.start()

    async def settled(self) -> None:
        """Return when every service has been tried. Called after start."""
        if self.supervisor is not None:
            await self.supervisor.settled()

    def _health_changed(self, before: ServiceStatus, after: ServiceStatus) -> None:
        log.info("%s is %s: %s", after.name, after.health.value, after.reason)
        event = HealthChanged(
            time=self.clock.wall(), component=after.name, status=after.health.value, message=after.reason,
            details={"before": before.health.value},
        )  # fmt: skip
        if self.domains is not None:
            task = asyncio.create_task(self._publish(self.domains, event))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _publish(self, domains: Domains, event: HealthChanged) -> None:
        """Keep a change of health; those of the first moments wait for the store."""
        try:
            async with asyncio.timeout(STORE_WAIT):
                await domains.store.opened.wait()
            await self.bus.publish(event)
        except (StoreError, TimeoutError) as error:
            log.warning("the change of %s's health is not kept: %s", event.component, error or "the store did not open")

    async def stop(self, deadline: float = 9.0) -> None:
        """Stop intake, finish or cancel what runs, close everything within `deadline` seconds."""
        self.stopping.set()
        ends = self.loop.time() + deadline
        await self.dispatcher.drain(deadline / 4)
        await self.jobs.stop(deadline / 4)
        if self.supervisor is not None:
            await self.supervisor.stop(max(0.1, ends - self.loop.time()))

    def console(self, actor: Actor, session_id: str) -> Console:
        """The appliance as one session sees it."""
        return Console(self.state, self.dispatcher, self.logs, self.presence, self.loop, actor, session_id, self.terminals)

    def local_actor(self, name: str) -> Actor:
        """Whoever sits at the machine's own terminal."""
        return Actor(name, self.settings.console.console_role, "console")
