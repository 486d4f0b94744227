"""The tasks, put together from settings, spine and the domains that do them; a part of the composition root."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from secrets import token_urlsafe
from shutil import which
from typing import TYPE_CHECKING, Any

from appliance.core.inference.manifest import places
from appliance.core.model import Health, Severity
from appliance.core.state import Section
from appliance.core.tasks.book import TaskBook
from appliance.core.tasks.desk import Desk
from appliance.core.tasks.executor import Handler
from appliance.core.tasks.handlers.command import CommandHandler
from appliance.core.tasks.handlers.infer import InferenceHandler
from appliance.core.tasks.handlers.language import LanguageHandler
from appliance.core.tasks.handlers.recall import MemoryHandler
from appliance.core.tasks.handlers.transfer import TransferHandler
from appliance.core.tasks.handlers.voice import RecognitionHandler, SynthesisHandler
from appliance.core.tasks.handlers.web import HttpHandler
from appliance.core.tasks.service import Ground, Remote, TasksService
from appliance.core.tasks.wire import KEY
from appliance.core.voice.local.files import installed

if TYPE_CHECKING:
    from appliance.core.inference.service import InferenceService
    from appliance.core.inference.status import InferenceStatus
    from appliance.core.llm.service import LlmService
    from appliance.core.memory.service import MemoryService
    from appliance.core.secrets import Secrets
    from appliance.core.voice.service import VoiceService
    from appliance.runtime import Appliance

MIB = 2**20
SEEN = frozenset({"detection", "classification", "pose", "segmentation"})
"""Tasks of models that look at pictures."""

Tell = Callable[[str, Severity, dict[str, Any]], Awaitable[None]]


def build(
    spine: Appliance, memory: MemoryService, inference: InferenceService, llm: LlmService, voice: VoiceService,
    objects: Callable[[], Any | None], tell: Tell,
) -> TasksService:  # fmt: skip
    """The service.

    Args:
        spine: The appliance with its spine.
        memory: The tiered memory.
        inference: Runs models.
        llm: The door to language models.
        voice: Recognises and makes speech.
        objects: Makes the client of S3's files; None where S3 is not configured.
        tell: Told of tasks that failed and workers that fell silent.
    """
    settings = spine.settings

    async def noted(event: str, attributes: dict[str, Any]) -> None:
        await tell(event, Severity.warning, attributes)

    desk = Desk(TaskBook(spine.store, settings.tasks.keep), settings.tasks, spine.clock, noted)
    offered: list[Handler] = [
        *_own(spine, memory, objects),
        *_models(spine, inference),
        _language(spine, llm),
        *_voice(spine, voice),
    ]
    return TasksService(Ground(
        desk=desk, settings=settings.tasks, handlers={each.name: each for each in offered}, name=settings.node.device_id,
        state=spine.state, clock=spine.clock, remote=_remote(spine),
    ))  # fmt: skip


def _remote(spine: Appliance) -> Remote | None:
    """Workers elsewhere, where Kafka is configured. Raises StoreError."""
    settings = spine.settings
    if not settings.kafka.bootstrap_servers.strip():
        return None
    from appliance.core.streams.kafka import Access
    from appliance.core.tasks.remote import RemoteWorkers
    from appliance.core.tasks.wire import Seal

    device = settings.node.device_id
    access = Access(settings.kafka, spine.secrets.text("kafka.password"), f"prime-spark-tasks-{device}")
    return RemoteWorkers(access, spine.clock, Seal(task_key(spine.secrets).encode()), device)


def task_key(secrets: Secrets) -> str:
    """What orders and results are signed with; made where there is none. Raises StoreError."""
    if not (found := secrets.text(KEY)):
        found = token_urlsafe(32)
        secrets.put(KEY, found.encode())
    return found


def _own(spine: Appliance, memory: MemoryService, objects: Callable[[], Any | None]) -> list[Handler]:
    async def remember(key: str, namespace: str) -> Any:
        return await memory.memory.get(key, namespace)

    tasks = spine.settings.tasks
    files = objects() if tasks.folders or tasks.backups else None
    return [
        CommandHandler(tasks.commands),
        HttpHandler(tasks.http_hosts),
        TransferHandler(tasks.folders, tasks.http_hosts, tasks.files_max_mib * MIB, files, remember),
        MemoryHandler(memory.memory),
        *_backups(spine, files),
    ]


def _backups(spine: Appliance, files: Any | None) -> list[Handler]:
    """Nothing of it is loaded where nothing is to be kept."""
    if not spine.settings.tasks.backups:
        return []
    from appliance.core.tasks.handlers.backup import BackupHandler

    return [BackupHandler(spine.settings.tasks.backups, files, spine.clock.wall)]


def _models(spine: Appliance, inference: InferenceService) -> list[Handler]:
    def status() -> InferenceStatus | None:
        found: InferenceStatus | None = spine.state.get(Section.inference).value
        return found

    def any_model() -> bool:
        now = status()
        return now is not None and any(each.active for each in now.models)

    def sees() -> bool:
        now = status()
        return now is not None and any(each.active and each.task in SEEN for each in now.models)

    def hailo() -> bool:
        now = status()
        able = {Health.healthy, Health.degraded}
        return now is not None and any(each.backend == "hailo" and each.health in able for each in now.engine.devices)

    return [
        InferenceHandler("inference", "Run a model on a picture or a recording of this machine", inference, any_model),
        InferenceHandler("vision", "Find things in a picture of this machine", inference, sees),
        InferenceHandler("hailo_inference", "Run a model on the Hailo", inference, hailo, backend="hailo"),
    ]


def _voice(spine: Appliance, voice: VoiceService) -> list[Handler]:
    wanted = spine.settings.voice

    def hears() -> bool:
        return wanted.enabled != "no" and (wanted.stt != ("local",) or installed(places(None, spine.paths.models)))

    def speaks() -> bool:
        return wanted.enabled != "no" and (
            wanted.tts != ("local",) or which("piper" if wanted.piper else "espeak-ng") is not None
        )

    async def speech(text: str) -> Any:  # the engines are made when they are first asked
        return await voice.kit.engines.synthesize(text)

    return [
        RecognitionHandler(lambda path: voice.desk.transcribe(str(path), ""), hears),
        SynthesisHandler(speech, spine.settings.tasks.folders, speaks),
    ]


def _language(spine: Appliance, llm: LlmService) -> LanguageHandler:
    def able() -> bool:
        now = spine.state.get(Section.llm).value
        healths = {Health.healthy, Health.degraded}
        return now is not None and any(each.health in healths and not each.switch for each in now.endpoints)

    return LanguageHandler(lambda: llm.gateway, able)
