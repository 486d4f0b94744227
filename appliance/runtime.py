"""The composition root: the only file that knows everyone. Settings go in, a running appliance comes out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from appliance.core.actions import ActionRegistry
from appliance.core.alerts.engine import Engine
from appliance.core.alerts.rules import effective
from appliance.core.alerts.service import AlertService
from appliance.core.analytics.duck import DuckStore
from appliance.core.analytics.service import AnalyticsService
from appliance.core.audit import AuditLog
from appliance.core.auth import Accounts
from appliance.core.bus import Bus
from appliance.core.catalog import data, doctor, people, services, work
from appliance.core.catalog import memory as memory_actions
from appliance.core.catalog import settings as setting_actions
from appliance.core.clock import SystemClock
from appliance.core.console import Console
from appliance.core.devices import DeviceService
from appliance.core.dispatch import Dispatcher
from appliance.core.doctor.devices import detectors
from appliance.core.events import HealthChanged, InferenceCompleted, Noted
from appliance.core.inference import manifest
from appliance.core.inference.service import InferenceService
from appliance.core.jobs import Jobs
from appliance.core.logs import LogRing
from appliance.core.memory.build import Places, build
from appliance.core.model import Actor, CheckResult, InferenceResult, ServiceStatus
from appliance.core.outbox import Outbox
from appliance.core.ports import Service
from appliance.core.presence import Presence
from appliance.core.queues import QueueService
from appliance.core.secrets import Secrets
from appliance.core.services import Supervisor
from appliance.core.setup import SetupService
from appliance.core.state import LiveState
from appliance.core.store import Store
from appliance.core.storekeeper import StoreService
from appliance.core.supervision import Policy
from appliance.core.telemetry.service import TelemetryService
from appliance.errors import StoreError
from appliance.hw.host import PsutilHost
from appliance.hw.onnx import OnnxAccelerator
from appliance.paths import Paths, socket_address
from appliance.settings import Settings

if TYPE_CHECKING:
    from starlette.applications import Starlette

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
        self._wire_services()
        self._tasks: set[asyncio.Task[None]] = set()
        self.supervisor: Supervisor | None = None

    def _wire_spine(self) -> None:
        device = self.settings.node.device_id
        self.store = Store(self.paths.database)
        self.outbox = Outbox(self.store, device)
        self.bus = Bus(self.outbox)
        self.jobs = Jobs(self.store, self.state, self.clock)
        self.secrets = Secrets(self.paths.secrets, dict(self._environ))
        key = self.secrets.get_or_create("audit.key")
        self.audit = AuditLog(self.store, key, self.clock, mark=self.paths.audit_mark)
        self.accounts = Accounts(self.store, self.clock)
        self.duck = DuckStore(self.paths.analytics, device)
        self.dispatcher = Dispatcher(self.registry, self.audit, closed=self.stopping.is_set, current=self.accounts.current)

    def _wire_services(self) -> None:
        told = self.settings.telemetry
        self.telemetry = TelemetryService(PsutilHost(self.paths.data), self.bus, self.state, self.clock, told.interval_seconds)
        self.analytics = AnalyticsService(
            self.duck, self.bus, self.outbox, self.state, self.clock, told.flush_seconds, told.keep_days
        )
        engine = Engine(effective(self.settings.alerts.rules))
        self.alerts = AlertService(engine, self.store, self.bus, self.state, self.clock)
        self.devices = DeviceService(detectors(), self.state)
        self.inference = self._make_inference()
        self.store_service = StoreService(self.store, self.outbox, self.jobs, self.bus, self.clock)
        where = self.paths
        places = Places(where.memory, where.redis_socket, socket_address(where.redis_socket))
        self.memory, self._memory_needs = build(self.settings, places, self.secrets, self.clock, self.state, self._note)
        self.setup = SetupService(self.accounts, self.state, self.settings.node.device_id)

    def _make_inference(self) -> InferenceService:
        wanted = self.settings.inference
        return InferenceService(
            accelerator=OnnxAccelerator(threads=wanted.threads),
            model_dirs=manifest.places(wanted.model_dir, self.paths.models),
            model=wanted.model,
            state=self.state,
            clock=self.clock,
            on_result=self._keep_result,
            score_threshold=wanted.score_threshold,
            max_bytes=wanted.max_file_mib * 1024 * 1024,
            max_pixels=wanted.max_megapixels * 1_000_000,
        )

    async def _note(self, event: str, attributes: dict[str, object]) -> None:
        await self.bus.publish(Noted(time=self.clock.wall(), event=event, severity="info", attributes=attributes))

    async def _keep_result(self, result: InferenceResult) -> None:
        await self.bus.publish(InferenceCompleted.of(result))

    def core_services(self) -> list[Service]:
        """The services that every mode has, the API last."""
        queues = QueueService(self.bus, self.analytics.status, self.state)
        kept: list[Service] = [self.store_service, self.setup]
        kept += [self.telemetry, self.analytics, self.alerts, self.devices, self.inference, queues]
        kept += [*self._memory_needs, self.memory, self._api()]
        return kept

    def _api(self) -> Service:
        from appliance.api.server import ApiService

        return ApiService(self._rest, self.paths.api_socket, socket_address(self.paths.api_socket))

    def _rest(self) -> Starlette:
        from appliance.api.app import RestApi
        from appliance.api.server import local_actor

        return RestApi(self.dispatcher, self.state, self.bus, self.settings.node.device_id, local_actor).asgi()

    def start(self, further: list[Service]) -> None:
        """Start all services; returns at once."""
        policy = Policy(probe_interval=self.settings.health.check_interval_seconds)
        self.supervisor = Supervisor([*self.core_services(), *further], self.state, self.clock, policy, self._health_changed)
        self._register_actions(self.supervisor)
        self.supervisor.start()

    def _register_actions(self, supervisor: Supervisor) -> None:
        add = self.registry.add
        add(*services.actions(supervisor, self.state, self.presence, self.stopping.set))
        add(*work.job_actions(self.jobs), *work.alert_actions(self.alerts, self.state))
        add(*work.audit_actions(self.audit), *work.log_actions(self.logs))
        add(*people.user_actions(self.accounts, self.setup.refresh))
        add(people.setup_action(self.accounts, self._rename, self.setup.refresh))
        add(*data.metric_actions(self.duck, self.clock))
        add(*data.inference_actions(self.inference, self.jobs, self.state, self.duck))
        add(*memory_actions.memory_actions(self.memory, self.state), *memory_actions.sync_actions(self.memory, self.jobs))
        add(*setting_actions.actions(self._settings_rows, self._change_setting, self._new_settings))
        add(*doctor.actions(self._examine))

    def _settings_rows(self) -> list[dict[str, Any]]:
        from appliance import configfile

        return configfile.rows(self.settings, self.paths, self._environ)

    async def _change_setting(self, key: str, value: str) -> None:
        from appliance import configfile

        await asyncio.to_thread(configfile.change, self.paths, key, value, self._environ)

    async def _new_settings(self) -> str:
        from appliance import configfile

        await asyncio.to_thread(configfile.write_new, self.paths.config)
        return str(self.paths.config)

    async def _examine(self) -> tuple[CheckResult, ...]:
        from appliance.core.doctor.runner import run_checks
        from appliance.core.doctor.wiring import context_for

        return await run_checks(context_for(self.settings, self.paths, self._environ))

    async def _rename(self, name: str) -> None:
        await self._change_setting("node.device_id", name)

    def _health_changed(self, before: ServiceStatus, after: ServiceStatus) -> None:
        log.info("%s is %s: %s", after.name, after.health.value, after.reason)
        event = HealthChanged(
            time=self.clock.wall(), component=after.name, status=after.health.value, message=after.reason,
            details={"before": before.health.value},
        )  # fmt: skip
        task = asyncio.create_task(self._publish(event))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _publish(self, event: HealthChanged) -> None:
        """Keep a change of health; those of the first moments wait for the store."""
        try:
            async with asyncio.timeout(STORE_WAIT):
                await self.store_service.opened.wait()
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
        return Console(self.state, self.dispatcher, self.logs, self.presence, self.loop, actor, session_id)

    def local_actor(self, name: str) -> Actor:
        """Whoever sits at the machine's own terminal."""
        return Actor(name, self.settings.console.console_role, "console")
