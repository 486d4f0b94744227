"""The services, wired to the spine: the second half of the composition root, loaded after the first paint."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from appliance import (
    assembly_agents,
    assembly_api,
    assembly_assistant,
    assembly_backup,
    assembly_deploy,
    assembly_fleet,
    assembly_llm,
    assembly_power,
    assembly_tasks,
    assembly_update,
    assembly_voice,
    upsparts,
)
from appliance.core.alerts.channels.ground import Ground as ChannelGround
from appliance.core.alerts.channels.service import ChannelService
from appliance.core.alerts.engine import Engine
from appliance.core.alerts.requests import Requests
from appliance.core.alerts.rules import effective
from appliance.core.alerts.service import AlertService
from appliance.core.analytics.cache import AnswerCache
from appliance.core.analytics.duck import DuckStore
from appliance.core.analytics.duck_query import DuckReader
from appliance.core.analytics.quality_service import QualityService
from appliance.core.analytics.query_service import QueryService
from appliance.core.analytics.querying import Analytics
from appliance.core.analytics.service import AnalyticsService
from appliance.core.catalog import alerts as alert_actions
from appliance.core.catalog import analytics as analytics_actions
from appliance.core.catalog import data, doctor, people, services, work
from appliance.core.catalog import inference as inference_actions
from appliance.core.catalog import memory as memory_actions
from appliance.core.catalog import models as model_actions
from appliance.core.catalog import power as power_actions
from appliance.core.catalog import rules as rule_actions
from appliance.core.catalog import settings as setting_actions
from appliance.core.catalog import sources as source_actions
from appliance.core.catalog import streams as stream_actions
from appliance.core.catalog import sync as sync_actions
from appliance.core.catalog import tasks as task_actions
from appliance.core.catalog import vpn as vpn_actions
from appliance.core.catalog.exports import export_actions
from appliance.core.catalog.inserting import insert_action
from appliance.core.catalog.uploads import upload_actions
from appliance.core.devices import DeviceService
from appliance.core.doctor.devices import detectors
from appliance.core.events import InferenceCompleted, Noted
from appliance.core.inference import build as inference
from appliance.core.inference.offers import Offers
from appliance.core.inference.service import InferenceService
from appliance.core.inference.sources import build as sources
from appliance.core.inference.sources.model import Kind
from appliance.core.memory.build import Places, build
from appliance.core.model import CheckResult, InferenceResult, Severity
from appliance.core.ports import Service
from appliance.core.power.supervised import SupervisedServices
from appliance.core.queues import QueueService
from appliance.core.services import Supervisor
from appliance.core.setup import SetupService
from appliance.core.storekeeper import StoreService
from appliance.core.streams import build as streams
from appliance.core.streams.issuing import Issuer
from appliance.core.streams.rules_samples import Samples
from appliance.core.streams.rules_service import RulesService
from appliance.core.streams.rules_store import RuleBook
from appliance.core.streams.service import StreamService
from appliance.core.telemetry.figures import FiguresService
from appliance.core.telemetry.service import TelemetryService
from appliance.core.vpn import build as vpn
from appliance.hw import accelerators
from appliance.hw.camera import V4l2Cameras
from appliance.hw.camera_pi import PiCamera, PiCameras
from appliance.hw.host import PsutilHost
from appliance.paths import socket_address

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.types import ASGIApp

    from appliance.core.inference.registry.intake import Remote
    from appliance.core.streams.sink_insert import Inserter
    from appliance.core.streams.sink_letters import SinkLetters
    from appliance.core.vpn.model import Tunnel
    from appliance.runtime import Appliance


class Domains:
    """What the appliance does, one attribute for each domain.

    Args:
        spine: The appliance with its spine.
        environ: The process's environment, to tell where settings come from.
    """

    def __init__(self, spine: Appliance, environ: Mapping[str, str]) -> None:
        self._spine = spine
        self._environ = environ
        settings, bus, state, clock = spine.settings, spine.bus, spine.state, spine.clock
        told = settings.telemetry
        self.duck = DuckStore(spine.paths.analytics, settings.node.device_id)
        self.telemetry = TelemetryService(PsutilHost(spine.paths.data), bus, state, clock, told.interval_seconds)
        self.figures = FiguresService(bus, state, clock)
        self.analytics = AnalyticsService(self.duck, bus, spine.outbox, state, clock, told.flush_seconds, told.keep_days)
        rules = effective(settings.alerts.rules, Requests(lambda: spine.observer.meter, clock).measures())
        self.alerts = AlertService(Engine(rules), spine.store, bus, state, clock)
        device = settings.node.device_id
        self.channels = ChannelService(ChannelGround(settings.alerts, device, spine.store, spine.secrets, state, clock))
        self.cameras = V4l2Cameras()
        self.devices = DeviceService(
            [*detectors(upses=upsparts.looks(settings), environ=environ), self.cameras, PiCameras()], state
        )
        self.inference = self._make_inference()
        self.fleet = assembly_fleet.build(spine, self._tell)
        self.shell = self.fleet.links
        self.store = StoreService(spine.store, spine.outbox, spine.jobs, bus, clock)
        places = Places(spine.paths.memory, spine.paths.redis_socket, socket_address(spine.paths.redis_socket))
        self.memory, self._memory_needs = build(settings, places, spine.secrets, clock, state, self._note)
        self.sources = sources.build(sources.Ground(
            settings, spine.store, spine.secrets, self.memory.memory, self.inference, bus.publish, state, clock,
            {Kind.picamera: PiCamera},
        ))  # fmt: skip
        self.vpn = self._make_vpn()
        self._make_queries(told.keep_days)
        self.streams = self._make_streams()
        if self.streams.parts.updates is not None and settings.models.updates != "ignore":
            self.streams.parts.updates.installer = Offers(self.inference.parts.updating)
        self.power = assembly_power.build(spine, self.sources, self.streams, self.memory, self.shell)
        self.deploy = assembly_deploy.build(spine, self.fleet, self._tell)
        self.llm = assembly_llm.build(spine, self.memory)
        self.assistant = assembly_assistant.build(spine, self.memory, self.llm)
        self.voice = assembly_voice.build(spine, self.memory, self.llm, self._tell, self._change_setting, environ)
        self.tasks = assembly_tasks.build(spine, self.memory, self.inference, self.llm, self.voice, self._s3_files, self._tell)
        self.agents = assembly_agents.build(spine)
        self.backup = assembly_backup.build(spine, self.duck.copy_to, self._tell, environ)
        self.update = assembly_update.build(spine, self.backup, self._tell, environ)
        self.access = assembly_api.ApiAccess(spine)
        self.access.further.append(lambda api: assembly_llm.routes(self.llm, api.actor_of, api.allow))
        self.access.further.append(lambda api: assembly_llm.talk_routes(self.llm, api))
        book, topic = RuleBook(spine.store, clock), settings.windows.rules_topic
        self.rules = RulesService(book, lambda: self.streams.connected, topic, clock)
        spine.jobs.on_end = self._note
        self.setup = SetupService(spine.accounts, state, settings.node.device_id, spine.paths.run)
        self.queues = QueueService(bus, self.analytics.status, state)

    def _make_vpn(self) -> vpn.Vpn:
        spine, wanted = self._spine, self._spine.settings.vpn
        return vpn.build(wanted, spine.store, spine.secrets, spine.state, spine.clock, self._tell, _tunnel, self.shell)

    def _make_queries(self, keep_days: int) -> None:
        settings, clock, state = self._spine.settings.analytics, self._spine.clock, self._spine.state
        cache = AnswerCache(self.memory.memory)
        self._sink_letters: SinkLetters | None = None
        self._inserter: Inserter | None = None
        self._readings = DuckReader(self.duck, keep_days)
        self.local_answers = self.answers = Analytics(self._readings, cache, clock, state)
        if settings.host:
            from appliance.core.analytics.timescale import make_database
            from appliance.core.analytics.timescale_query import PostgresReader
            from appliance.core.streams.sink_insert import Inserter
            from appliance.core.streams.sink_letters import SinkLetters

            database = make_database(settings, self._spine.secrets, "queries", size=2)
            self.answers = Analytics(PostgresReader(database), cache, clock, state)
            self._sink_letters = SinkLetters(database, clock)
            self._inserter = Inserter(database, clock)
        self.quality = QualityService(self._spine.settings.node.device_id, self._spine.bus, state, clock)
        self.queries = QueryService(self.answers, state, looks=bool(settings.host))

    def _make_streams(self) -> StreamService:
        spine = self._spine
        stands_on = streams.Spine(
            spine.settings, spine.secrets, spine.outbox, spine.store, spine.bus, spine.state, spine.clock, spine.dispatcher,
            spine.audit,
        )  # fmt: skip
        return streams.build(stands_on, spine.paths.streams)

    def _make_inference(self) -> InferenceService:
        spine, hailo, wanted = self._spine, self._spine.settings.hailo, self._spine.settings.inference
        found = accelerators.find(
            hailo=hailo.enabled, python=hailo.python, device_id=hailo.device_id, stall_seconds=wanted.stall_seconds,
            threads=wanted.threads, ways=self._spine.paths.data / "onnx-ways.json",
        )  # fmt: skip
        return inference.build(inference.Ground(
            settings=spine.settings, accelerators=found,
            models=spine.paths.models, remote=self._s3_files(), store=spine.store, state=spine.state, clock=spine.clock,
            note=self._tell, on_result=self._keep_result, power=self._engine_mode,
        ))  # fmt: skip

    def _engine_mode(self) -> str | None:
        return self.power.engine_mode()

    def _s3_files(self) -> Remote | None:
        wanted = self._spine.settings.s3
        if not wanted.endpoint:
            return None
        from appliance.core.memory.object_files import ObjectFiles
        from appliance.core.memory.objects import ObjectReplica

        key, device = self._spine.secrets.text("s3.secret_key"), self._spine.settings.node.device_id
        return ObjectFiles(ObjectReplica(wanted.endpoint, wanted.access_key, key, wanted.bucket, wanted.secure, device))

    async def _tell(self, event: str, severity: Severity, attributes: dict[str, Any]) -> None:
        told = Noted(time=self._spine.clock.wall(), event=event, severity=severity.value, attributes=attributes)
        await self._spine.bus.publish(told)

    async def _note(self, event: str, attributes: dict[str, object]) -> None:
        await self._spine.bus.publish(Noted(time=self._spine.clock.wall(), event=event, severity="info", attributes=attributes))

    async def _keep_result(self, result: InferenceResult) -> None:
        await self._spine.bus.publish(InferenceCompleted.of(result))

    def services(self) -> list[Service]:
        """The services that every mode has, the API last."""
        kept: list[Service] = [self.store, self.setup, self.telemetry, self.analytics, self.alerts, self.channels, self.devices]
        kept += [
            self.inference,
            self.queues,
            *self._memory_needs,
            self.memory,
            self.sources,
            *self.fleet.services(),
            self.vpn.service,
            self.streams,
            self.rules,
            self.figures,
            self.queries,
            self.quality,
            self.power,
            self.tasks,
            self.llm,
            self.assistant,
            self.voice,
            *self.deploy.services(),
            *self.agents.services(),
            self.backup,
            self.update,
            *self._sink(),
            *self._traces(),
        ]
        return [*kept, self._api(), *self.access.services()]

    def _sink(self) -> list[Service]:
        """Kafka to the analytics database, where the settings want it here."""
        if not self._spine.settings.sink.enabled:
            return []
        from appliance.core.streams.sink import make_sink

        return [make_sink(self._spine.settings, self._spine.secrets, self._spine.clock)]

    def _traces(self) -> list[Service]:
        """Traces to a collector, where one is configured."""
        spine = self._spine
        if not spine.settings.observe.traces.endpoint:
            return []
        from appliance import __version__
        from appliance.core.observe.service import TraceService

        names = {"service.name": "prime-spark", "service.version": __version__,
                 "service.instance.id": spine.settings.node.device_id}  # fmt: skip
        return [TraceService(spine.settings.observe.traces, spine.observer, spine.secrets, names)]

    def _api(self) -> Service:
        from appliance.api.server import ApiService

        path = self._spine.paths.api_socket
        return ApiService(self._rest, path, socket_address(path))

    def _rest(self) -> ASGIApp:
        from appliance.api.watched import Watched

        return Watched(self._bare_rest(), self._spine.observer, "socket")

    def _bare_rest(self) -> Starlette:
        from appliance.api.app import RestApi
        from appliance.api.server import local_actor

        spine = self._spine
        app = RestApi(spine.dispatcher, spine.state, spine.bus, spine.settings.node.device_id, local_actor).asgi()
        app.router.routes.extend(assembly_llm.routes(self.llm, local_actor))
        return app

    def register_actions(self, supervisor: Supervisor) -> None:
        """Fill the registry."""
        spine, add = self._spine, self._spine.registry.add
        add(*self.fleet.actions(), *assembly_fleet.far_actions(self.fleet, spine))
        add(*services.actions(supervisor, spine.state, spine.presence, spine.stopping.set))
        add(*work.job_actions(spine.jobs), *work.alert_actions(self.alerts, spine.state))
        add(*alert_actions.channel_actions(self.channels))
        add(*work.audit_actions(spine.audit), *work.log_actions(spine.logs))
        add(*people.user_actions(spine.accounts, self.setup.refresh))
        add(people.setup_action(spine.accounts, self._rename, self.setup.refresh))
        add(*data.metric_actions(self.duck, spine.clock))
        add(*analytics_actions.analytics_actions(self.answers, self.local_answers, spine.clock, spine.state))
        add(insert_action(spine.settings.node.device_id, self.duck, lambda: self._inserter, spine.state, spine.clock))
        add(*export_actions(self.answers, self.local_answers, spine.clock, spine.paths.exports))
        running = self.inference.parts
        add(*inference_actions.inference_actions(self.inference, spine.jobs, spine.state, self.duck, running.cache.clear))
        add(*upload_actions(self.inference, self.access.uploads), *model_actions.model_actions(running, spine.jobs))
        add(*source_actions.source_actions(self.sources, self.cameras.each))
        add(*vpn_actions.vpn_actions(self.vpn.service, self.vpn.desk, self.vpn.other, self.vpn.examiner))
        add(*memory_actions.memory_actions(self.memory, spine.state), *sync_actions.sync_actions(self.memory, spine.jobs))
        add(*stream_actions.stream_actions(self.streams, spine.state, spine.clock))
        add(*stream_actions.letter_actions(self.streams, self._sink_letters))
        samples = Samples(spine.outbox, self._readings, spine.settings.node.device_id)
        add(*rule_actions.rule_actions(self.rules, samples.newest))
        device = spine.settings.node.device_id
        add(*stream_actions.command_actions(self.streams, Issuer(device, spine.secrets, spine.clock), device))
        add(*setting_actions.actions(self._settings_rows, self._change_setting, self._new_settings))
        self.power.hands.tools.services = SupervisedServices(supervisor)
        add(*power_actions.power_actions(self.power, spine.clock))
        add(*task_actions.task_actions(self.tasks, lambda: assembly_tasks.task_key(spine.secrets)))
        add(*self.deploy.actions(), *assembly_llm.actions(self.llm))
        add(*assembly_assistant.actions(spine, self.assistant), *assembly_voice.actions(self.voice))
        add(*assembly_backup.actions(spine, self.backup), *assembly_update.actions(spine, self.update))
        add(*self.access.actions())
        add(*doctor.actions(self._examine))

    def _settings_rows(self) -> list[dict[str, Any]]:
        from appliance import configfile

        return configfile.rows(self._spine.settings, self._spine.paths, self._environ)

    async def _change_setting(self, key: str, value: str) -> None:
        from appliance import configfile

        await asyncio.to_thread(configfile.change, self._spine.paths, key, value, self._environ)

    async def _new_settings(self) -> str:
        from appliance import configfile

        await asyncio.to_thread(configfile.write_new, self._spine.paths.config)
        return str(self._spine.paths.config)

    async def _examine(self) -> tuple[CheckResult, ...]:
        from appliance import config
        from appliance.core.doctor.runner import run_checks
        from appliance.core.doctor.wiring import context_from

        load = functools.partial(config.load, self._spine.paths, self._environ)
        paths, environ = self._spine.paths, self._environ
        return await run_checks(await asyncio.to_thread(context_from, load, paths, environ, upsparts.looks))

    async def _rename(self, name: str) -> None:
        await self._change_setting("node.device_id", name)


def _tunnel(name: str) -> Tunnel:
    """What carries the VPN; nothing of it is loaded where none is wanted."""
    from appliance.hw.wireguard.tunnel import WireGuardTunnel

    return WireGuardTunnel(name)
