"""The role `worker`: does tasks of the Control PC on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.core.streams.kafka import Access
from appliance.core.tasks.executor import Handler
from appliance.core.tasks.faraway import FarWorker
from appliance.core.tasks.handlers.backup import BackupHandler
from appliance.core.tasks.handlers.command import CommandHandler
from appliance.core.tasks.handlers.execution import ExecutionHandler
from appliance.core.tasks.handlers.transfer import TransferHandler
from appliance.core.tasks.handlers.web import HttpHandler
from appliance.core.tasks.wire import KEY, Seal
from appliance.errors import ConfigError

if TYPE_CHECKING:
    from appliance.agent.roles import Surroundings
    from appliance.core.memory.object_files import ObjectFiles

LEAST = 16
"""Characters of a key."""
MIB = 2**20


def make_worker(around: Surroundings) -> FarWorker:
    """The worker of the settings. Raises StoreError where a secret cannot be read, ConfigError where the key is too short."""
    settings, tasks = around.settings, around.settings.tasks
    key = around.secrets.text(KEY)
    if key and len(key) < LEAST:
        step = "put what `prime-spark task key` says on the Control PC there."
        raise ConfigError(f"The secret {KEY} has {len(key)} characters; {LEAST} are the least.", step)
    largest = tasks.files_max_mib * MIB
    objects = _objects(around) if tasks.folders or tasks.backups else None
    plain: list[Handler] = [
        CommandHandler(tasks.commands),
        HttpHandler(tasks.http_hosts),
        TransferHandler(tasks.folders, tasks.http_hosts, largest, objects),
        BackupHandler(tasks.backups, objects, around.clock.wall),
    ]
    handlers: dict[str, Handler] = {each.name: each for each in plain}
    execution = ExecutionHandler(dict(handlers))
    handlers[execution.name] = execution
    name = settings.node.device_id
    access = Access(settings.kafka, around.secrets.text("kafka.password"), f"prime-spark-worker-{name}")
    return FarWorker(name, access, Seal(key.encode()) if key else None, handlers, tasks, around.clock)


def _objects(around: Surroundings) -> ObjectFiles | None:
    wanted = around.settings.s3
    if not wanted.endpoint:
        return None
    from appliance.core.memory.object_files import ObjectFiles
    from appliance.core.memory.objects import ObjectReplica

    key, device = around.secrets.text("s3.secret_key"), around.settings.node.device_id
    return ObjectFiles(ObjectReplica(wanted.endpoint, wanted.access_key, key, wanted.bucket, wanted.secure, device))
