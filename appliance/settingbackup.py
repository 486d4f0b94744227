"""Settings of the backups: where they go, when, what is in them, how long they are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from appliance import settingforms as forms
from appliance.settinggroups import Group
from appliance.settingtasks import Name, check_mount

DAILY = "30 2 * * *"


def check_cron(text: str) -> str:
    """Five fields, or nothing. Raises SettingError."""
    if text.strip() in {"", DAILY}:  # what is read at every start loads no library
        return text.strip()
    from appliance.core.tasks.cron import fields_of
    from appliance.errors import InvalidArgumentsError

    try:
        return fields_of(text)
    except InvalidArgumentsError as error:
        raise forms.SettingError(error.message.rstrip("."), error.next_step) from error


def check_path(text: str) -> str:
    """An absolute path, or nothing. Raises SettingError."""
    if text:
        forms.absolute(Path(text))
    return text


def check_endpoint(text: str) -> str:
    """Host and port, or nothing. Raises SettingError."""
    return forms.endpoint(text) if text else text


class BackupTarget(Group):
    """One place for backups, such as [backup.targets.nas]."""

    kind: Literal["folder", "s3"] = "folder"
    """folder: a NAS or a USB disk; s3: MinIO, SeaweedFS, any S3."""
    path: Annotated[str, AfterValidator(check_path)] = ""
    """Directory of a folder, such as "/mnt/nas/backup/control-pc"; with `mount` it is made, else it must be there."""
    mount: Annotated[str, AfterValidator(check_mount)] = ""
    """Mount point of a folder: while nothing is mounted there, nothing is written. Below nas.path it need not be given."""
    endpoint: Annotated[str, AfterValidator(check_endpoint)] = ""
    """Host and port of S3, such as 10.8.0.14:9000."""
    bucket: str = ""
    """Its bucket."""
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._/-]{0,200}$")] = "prime-spark"
    """Path in the bucket; two appliances need two."""
    access_key: str = ""
    """Access key of S3."""
    key_name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")] = "s3.secret_key"
    """Name of the secret that holds the secret key of S3."""
    secure: bool = False
    """Speak TLS."""

    @model_validator(mode="after")
    def _whole(self) -> BackupTarget:
        if self.kind == "folder" and not self.path:
            raise forms.SettingError("a folder needs a path", 'give it, such as path = "/mnt/nas/backup/control-pc".')
        if self.kind == "s3":
            if not self.endpoint:
                raise forms.SettingError("an S3 target needs its endpoint", 'give it, such as endpoint = "10.8.0.14:9000".')
            forms.bucket(self.bucket)
        return self


class BackupSettings(Group):
    """Backups of the appliance itself: encrypted, incremental, each one proved by a restore."""

    targets: dict[Name, BackupTarget] = Field({})
    """Where backups go, by name; without any there are none."""
    schedule: Annotated[str, AfterValidator(check_cron)] = DAILY
    """When: minute, hour, day, month, weekday as cron has them; empty for by hand only."""
    zone: Annotated[str, AfterValidator(forms.time_zone)] = "UTC"
    """Time zone of the schedule."""
    keep_all_days: Annotated[int, Field(ge=0, le=400)] = 3
    """Days before the newest backup of which every one is kept, such as those by hand and before an update."""
    keep_daily: Annotated[int, Field(ge=1, le=400)] = 7
    """Days of which the last backup is kept, beyond those."""
    keep_weekly: Annotated[int, Field(ge=0, le=400)] = 4
    """Weeks of which the last backup is kept."""
    keep_monthly: Annotated[int, Field(ge=0, le=400)] = 6
    """Months of which the last backup is kept."""
    settings: bool = True
    """Contains the configuration file and the inventory of machines."""
    secrets: bool = True
    """Contains keys and passwords that lie on this machine: WireGuard, SSH host key, JWT secret, certificates, audit."""
    state: bool = True
    """Contains the database: users, audit, jobs, tasks, alerts, rules, VPN peers, deployments, ledgers."""
    streams: bool = True
    """Contains what waits for Kafka, and dead letters."""
    models: bool = True
    """Contains the manifests of models that were added; not their files."""
    model_files: bool = False
    """Contains the files of these models too."""
    memory: bool = False
    """Contains the memory's values on the local disk."""
    analytics: bool = False
    """Contains the local measurements (DuckDB)."""
    files: bool = False
    """Contains exported answers and files on their way to and from machines."""
    system: bool = True
    """Contains the machine's own name, network, Wi-Fi, logins and host key, where it was started from our image."""
    check_percent: Annotated[float, Field(gt=0, le=100)] = 10.0
    """Share of the repository's data that `backup verify` reads besides the snapshot."""
    limit_hours: Annotated[float, Field(gt=0, le=168)] = 6.0
    """Longest time of one backup, its proof included."""
    bandwidth_kib: Annotated[int, Field(ge=0)] = 0
    """Most that goes to a target, KiB/s; 0 for no bound."""
