"""Settings of the tasks: the queue, the worker, and what a worker may do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from appliance import settingforms as forms
from appliance.settinggroups import Group


def check_pattern(text: str) -> str:
    """A regular expression. Raises SettingError."""
    try:
        re.compile(text)
    except re.error as error:
        told = f"this is no regular expression ({error})"
        raise forms.SettingError(told, 'write one such as "[a-z0-9-]+"; the whole argument must match it.') from error
    return text


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]


class CommandTask(Group):
    """One program that the task type command may run, such as [tasks.commands.disk-usage]."""

    program: Annotated[Path, AfterValidator(forms.absolute)]
    """Its file; no shell is between."""
    arguments: tuple[str, ...] = ()
    """Given to it always, before those of the task."""
    extra: Annotated[int, Field(ge=0, le=64)] = 0
    """Most arguments that a task may add."""
    pattern: Annotated[str, Field(max_length=200), AfterValidator(check_pattern)] = r"[A-Za-z0-9][A-Za-z0-9._:@/+-]*"
    """Regular expression that each added argument must match as a whole."""
    limit_seconds: Annotated[float, Field(gt=0, le=86400)] = 300.0
    """Longest time that it may run."""


def check_target(text: str) -> str:
    """Where archives go. Raises SettingError."""
    if text.startswith("s3://"):
        forms.bucket(text.removeprefix("s3://").partition("/")[0])
    else:
        forms.absolute(Path(text))
    return text


def check_mount(text: str) -> str:
    """A mount point, or nothing. Raises SettingError."""
    if text:
        forms.absolute(Path(text))
    return text


class BackupTask(Group):
    """One backup that the task type backup may make, such as [tasks.backups.pictures]."""

    folders: Annotated[tuple[Annotated[Path, AfterValidator(forms.absolute)], ...], Field(min_length=1, max_length=64)]
    """Directories that are kept, with all that is in them."""
    exclude: Annotated[tuple[str, ...], Field(max_length=100)] = ()
    """What is left out: "*.tmp" by its name at any depth, "cache/" a directory, "a/b.log" by its path in the directory."""
    target: Annotated[str, AfterValidator(check_target)]
    """Directory that is there already, such as "/mnt/nas/backups", or s3://BUCKET/PREFIX; MACHINE/NAME/ is made in it."""
    mount: Annotated[str, AfterValidator(check_mount)] = ""
    """Mount point of the target, such as "/mnt/nas": while nothing is mounted there, nothing is written; else empty."""
    keep: Annotated[int, Field(ge=1, le=400)] = 7
    """Archives that are kept; the oldest go when a newer one was made and read back."""


class TaskSettings(Group):
    """The queue of tasks on this appliance, and what this machine's worker does."""

    limit: Annotated[int, Field(ge=1, le=256)] = 10
    """Most tasks that this machine's worker does at one time."""
    lease_seconds: Annotated[float, Field(ge=1, le=3600)] = 20.0
    """A worker that has given no sign of life for so long has lost its tasks; they go to others. The same on all machines."""
    beat_seconds: Annotated[float, Field(ge=0.1, le=600)] = 3.0
    """Seconds between two signs of life of a worker; a third of lease_seconds at most."""
    aging_seconds: Annotated[float, Field(ge=1, le=864000)] = 600.0
    """Seconds of waiting that are worth one step of priority."""
    attempts: Annotated[int, Field(ge=1, le=100)] = 3
    """How often a task is begun before it counts as failed, where it does not say."""
    retry_seconds: Annotated[float, Field(gt=0, le=3600)] = 2.0
    """Seconds before the second attempt; twice as long before each further one."""
    retry_longest_seconds: Annotated[float, Field(gt=0, le=86400)] = 60.0
    """Most seconds between two attempts."""
    limit_seconds: Annotated[float, Field(gt=0, le=604800)] = 3600.0
    """Seconds that one attempt may take, where the task does not say."""
    waiting: Annotated[int, Field(ge=1, le=1_000_000)] = 20_000
    """Most tasks that have not ended; further ones are refused."""
    payload_kib: Annotated[int, Field(ge=1, le=512)] = 256
    """Largest payload of a task, KiB; larger things go through the memory, S3 or a file."""
    result_kib: Annotated[int, Field(ge=1, le=512)] = 256
    """Largest result that is kept, KiB."""
    keep: Annotated[int, Field(ge=10, le=1_000_000)] = 5000
    """Ended tasks that are kept; those that ended first go first."""
    commands: dict[Name, CommandTask] = Field({})
    """Programs that the task type command may run here, by name; without any this machine does not offer that type."""
    folders: tuple[Annotated[Path, AfterValidator(forms.absolute)], ...] = ()
    """Directories that the task type file_transfer may write into and read from; without any it is not offered here."""
    http_hosts: tuple[Annotated[str, Field(pattern=r"^(\*\.)?[A-Za-z0-9\[\]:._-]{1,253}$")], ...] = ()
    """Hosts that tasks may call, such as ["10.8.0.14", "*.example.org", "nas:8080"]; without any http is not offered here."""
    backups: dict[Name, BackupTask] = Field({})
    """What the task type backup may keep here, by name; without any this machine does not offer that type."""
    files_max_mib: Annotated[int, Field(ge=1, le=102400)] = 1024
    """Largest file that file_transfer brings, MiB."""
