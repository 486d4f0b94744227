"""Actions on backups: make, list, prove, export, restore; the recovery key."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Literal

from msgspec.structs import replace
from pydantic import Field, SecretStr

from appliance.core.actions import Action, Invocation, NoParams, Params
from appliance.core.figures import counted
from appliance.core.lifecycle.backup.model import BackupStatus, RecoveryKey, Snapshot, TargetStatus
from appliance.core.lifecycle.backup.service import BackupService
from appliance.core.model import JobStatus, Role
from appliance.errors import BackupError, InvalidArgumentsError

LONG = 6 * 3600.0 + 60
"""Seconds that somebody may wait for the end of a job."""
LOOK = 900.0
"""Seconds for a look into the repositories."""
SHORTEST = 12
"""Characters of a passphrase: whoever has the file can try at leisure."""
HERE = frozenset({"console", "socket"})
"""Fronts of whoever is at this machine, who may name a file of theirs."""
Part = Literal["settings", "secrets", "state", "streams", "models", "model_files", "memory", "analytics", "files", "system"]


class Running(Params):
    """A backup."""

    target: str = Field("", max_length=64, description="Only to this target; empty for all")
    wait: bool = Field(False, description="Wait until it has ended")


class Verifying(Params):
    """A snapshot."""

    snapshot: str = Field("latest", min_length=4, max_length=64, description="Id, its beginning, or latest")
    target: str = Field("", max_length=64, description="Only at this target; empty for wherever it is")
    wait: bool = Field(False, description="Wait until it has ended")


class OneSnapshot(Params):
    """A snapshot."""

    snapshot: str = Field(min_length=4, max_length=64, description="Id or its beginning")
    target: str = Field("", max_length=64, description="Only at this target; empty for wherever it is")


class Restoring(Params):
    """What is restored."""

    source: str = Field(min_length=4, max_length=4096, description="Id of a snapshot, latest, or the path of an exported file")
    target: str = Field("", max_length=64, description="Only at this target; empty for wherever it is")
    only: tuple[Part, ...] = Field((), max_length=9, description="Only this part; all where not given")
    other_device: bool = Field(False, description="It may be of another device, which this machine becomes")
    passphrase: SecretStr = Field(SecretStr(""), max_length=1024, description="Passphrase of a file; empty: the recovery key")
    wait: bool = Field(False, description="Wait until it is fetched and proved")


class Exporting(Params):
    """Where the file goes."""

    file: str = Field("", max_length=4096, description="Path of the file; empty: among the exports of the appliance")
    passphrase: SecretStr = Field(SecretStr(""), max_length=1024, description="Passphrase; empty: the recovery key opens it")
    wait: bool = Field(False, description="Wait until it has ended")


class OneFormer(Params):
    """What a restore put aside."""

    name: str = Field(min_length=1, max_length=64, description="Its name, as backup.status tells it")


def backup_actions(service: BackupService, exports: Path, device: str) -> list[Action]:
    """All of the backups.

    Args:
        service: Does the work.
        exports: Directory of exported files.
        device: This machine's name.
    """
    return [*_looks(service), *_making(service, exports, device), *_restoring(service), *_removing(service)]


def _looks(service: BackupService) -> list[Action]:
    async def status(_: Invocation, __: NoParams) -> BackupStatus:
        await service.prepared()
        return service.status

    async def targets(_: Invocation, __: NoParams) -> list[TargetStatus]:
        await service.prepared()
        return [replace(each, snapshots=each.snapshots[:1]) for each in service.status.targets]

    async def listed(_: Invocation, __: NoParams) -> list[Snapshot]:
        found = await (await service.prepared()).list_all()
        await service.refresh()
        return found

    async def key(_: Invocation, __: NoParams) -> RecoveryKey:
        from appliance.core.lifecycle.backup import archive

        found = await (await service.prepared()).key()
        return RecoveryKey(found.decode(errors="replace"), archive.recipient(found))

    return [
        Action("backup.status", "Show what is backed up where, when it was proved, and what is not in it", status, query=True,
               role=Role.viewer, brief=brief),
        Action("backup.targets", "List the targets of backups, each with its newest one", targets, query=True,
               role=Role.viewer),
        Action("backup.list", "List the backups that the targets have", listed, query=True, role=Role.operator, timeout=LOOK,
               brief=lambda found: counted(len(found), "backup")),
        Action("backup.key", "Show the recovery key, which opens every backup: write it down", key, role=Role.admin),
    ]  # fmt: skip


def brief(status: BackupStatus) -> str:
    """In one line."""
    if not status.targets:
        return "no target for backups is configured"
    if status.doing:
        return f"under way: {status.doing}"
    if status.last_proved is None:
        return "no backup was proved yet"
    return f"last proved {(time.time() - status.last_proved) / 3600:.0f} h ago"


Work = Callable[[], Awaitable[Any]]


async def _job(service: BackupService, call: Invocation, work: Work, *, wait: bool) -> JobStatus:
    job = await service.submit(call.action, call.actor.name, work)
    return await service.waited(job) if wait else job


def _making(service: BackupService, exports: Path, device: str) -> list[Action]:
    async def run(call: Invocation, params: Running) -> JobStatus:
        job = await service.submit_run(call.actor.name, params.target)
        return await service.waited(job) if params.wait else job

    async def verify(call: Invocation, params: Verifying) -> JobStatus:
        keeper = await service.prepared()
        return await _job(service, call, lambda: keeper.verify(params.snapshot, params.target), wait=params.wait)

    async def export(call: Invocation, params: Exporting) -> JobStatus:
        keeper = await service.prepared()
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        file = Path(params.file) if params.file else exports / f"{device}-{stamp}.backup.age"
        if params.file and (call.actor.via not in HERE or not file.is_absolute()):
            step = "leave it out: the file is put among the exports of the appliance."
            raise InvalidArgumentsError("A file may be named only at this machine, and with its whole path.", step)
        if not params.file:
            await asyncio.to_thread(exports.mkdir, 0o700, parents=True, exist_ok=True)
        phrase = params.passphrase.get_secret_value()
        if phrase and len(phrase) < SHORTEST:
            told = f"The passphrase has {len(phrase)} characters; the file holds every key of this machine."
            raise InvalidArgumentsError(told, f"give {SHORTEST} at least, or none: the recovery key opens it then.")
        return await _job(service, call, lambda: keeper.export(file, phrase), wait=params.wait)

    return [
        Action("backup.run", "Make a backup now, and prove it", run, Running, Role.operator, timeout=LONG,
               positional=("target",)),
        Action("backup.verify", "Prove a backup again, and check its repository", verify, Verifying, Role.operator,
               timeout=LONG,
               positional=("snapshot",)),
        Action("backup.export", "Write a backup into one encrypted file", export, Exporting, Role.admin, timeout=LONG,
               positional=("file",)),
    ]  # fmt: skip


def _restoring(service: BackupService) -> list[Action]:
    async def restore(call: Invocation, params: Restoring) -> JobStatus:
        keeper = await service.prepared()
        only, other, by = params.only, params.other_device, f"{call.actor.name} ({call.actor.via})"
        if params.source.startswith("/"):
            if call.actor.via not in HERE:
                raise InvalidArgumentsError("A file may be named only at this machine.", "restore a snapshot, or do it there.")
            phrase = params.passphrase.get_secret_value()
            key = b"" if phrase else await keeper.key()
            work: Work = functools.partial(keeper.stage_file, Path(params.source), key, phrase, only, other=other, by=by)
        else:
            work = functools.partial(keeper.stage_snapshot, params.source, params.target, only, other=other, by=by)
        return await _job(service, call, work, wait=params.wait)

    async def cancel(_: Invocation, __: NoParams) -> dict[str, bool]:
        from appliance.core.lifecycle.backup import restoring

        keeper = await service.prepared()
        try:
            done = await asyncio.to_thread(restoring.cancel, keeper.ground.places.data)
        except OSError as error:
            raise BackupError(f"It cannot be taken back: {error.strerror}.", "see the data partition.") from error
        await service.refresh()
        return {"cancelled": done}

    async def acknowledge(_: Invocation, __: NoParams) -> dict[str, bool]:
        from appliance.core.lifecycle.backup import restoring

        keeper = await service.prepared()
        try:
            done = await asyncio.to_thread(restoring.acknowledge, keeper.ground.places.data)
        except OSError as error:
            raise BackupError(f"It cannot be noted: {error.strerror}.", "see the data partition.") from error
        await service.refresh()
        return {"acknowledged": done}

    told = "{source} replaces what is here at the next start. What is here now is kept aside until it is dropped."
    return [
        Action("backup.restore", "Fetch a backup, prove it, and apply it at the next start", restore, Restoring, Role.admin,
               dangerous=True, confirm_text=told, timeout=LONG, positional=("source",)),
        Action("backup.restore-cancel", "Take back a restore that waits for the next start", cancel, role=Role.admin),
        Action("backup.restore-acknowledge", "Take the line about a restore that was applied off the page", acknowledge,
               role=Role.admin),
    ]  # fmt: skip


def _removing(service: BackupService) -> list[Action]:
    async def forget(_: Invocation, params: OneSnapshot) -> dict[str, str]:
        found = await (await service.prepared()).forget(params.snapshot, params.target)
        await service.refresh()
        return {"forgotten": found}

    async def prune(_: Invocation, __: NoParams) -> dict[str, int]:
        found = await (await service.prepared()).prune()
        await service.refresh()
        return {"forgotten": found}

    async def drop(_: Invocation, params: OneFormer) -> dict[str, str]:
        from appliance.core.lifecycle.backup import restoring

        keeper = await service.prepared()
        try:
            await asyncio.to_thread(restoring.drop_former, keeper.ground.places.data, params.name)
        except OSError as error:
            raise BackupError(f"It cannot be removed: {error.strerror}.", "see the data partition.") from error
        await service.refresh()
        return {"dropped": params.name}

    return [
        Action("backup.forget", "Remove one backup for good", forget, OneSnapshot, Role.admin, dangerous=True,
               confirm_text="The backup {snapshot} is removed for good.", timeout=LONG, positional=("snapshot",)),
        Action("backup.prune", "Let go backups that are older than the settings keep", prune, role=Role.admin, dangerous=True,
               confirm_text="Backups past backup.keep_all_days, keep_daily, keep_weekly and keep_monthly are removed for good.",
               timeout=LONG),
        Action("backup.former-drop", "Remove what a restore put aside", drop, OneFormer, Role.admin, dangerous=True,
               confirm_text="What was here before the restore ({name}) is removed for good.", positional=("name",)),
    ]  # fmt: skip
