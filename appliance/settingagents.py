"""Settings of the agents: what those that are installed on other machines may do there, and how they are brought there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from appliance import settingforms as forms
from appliance.settinggroups import Group
from appliance.settingtasks import BackupTask, CommandTask, Name


class AgentSettings(Group):
    """Our own program on other machines, which does tasks there (`prime-spark agent install`)."""

    kafka_servers: Annotated[str, AfterValidator(forms.servers)] = ""
    """Brokers as the agents reach them, such as 10.8.0.14:9092; empty: as kafka.bootstrap_servers says."""
    certificates: bool = False
    """Each agent shows brokers a certificate of its own, by this appliance's authority, instead of kafka.cert_file."""
    limit: Annotated[int, Field(ge=1, le=256)] = 5
    """Most tasks that an agent does at one time."""
    commands: dict[Name, CommandTask] = Field({})
    """Programs that the task type command may run on agents, by name; without any they do not offer that type."""
    http_hosts: tuple[Annotated[str, Field(pattern=r"^(\*\.)?[A-Za-z0-9\[\]:._-]{1,253}$")], ...] = ()
    """Hosts that agents may call, such as ["10.8.0.14", "*.example.org"]; without any they do not offer http."""
    folders: tuple[Annotated[Path, AfterValidator(forms.absolute)], ...] = (Path("/var/lib/prime-spark-agent/files"),)
    """Directories that file_transfer may use on agents; others than the first default must be there, and be writable."""
    backups: dict[Name, BackupTask] = Field({})
    """What agents may keep as archives, by name; each agent its own, on a share or a disk that is there. Not in S3."""
    files_max_mib: Annotated[int, Field(ge=1, le=102400)] = 1024
    """Largest file that file_transfer brings, MiB."""
    memory_mib: Annotated[int, Field(ge=128, le=1_048_576)] = 512
    """Most memory of an agent and all that it runs, MiB (MemoryMax= of systemd)."""
    libraries: Literal["auto", "wheels", "index"] = "auto"
    """Whence its libraries come: sent from here, from the machine's own package index, or that where sending cannot be."""
    join_seconds: Annotated[float, Field(ge=1, le=600)] = 60.0
    """Seconds that a new agent has to give its first sign of life over Kafka."""
    cache_mib: Annotated[int, Field(ge=32, le=10_240)] = 256
    """Most that is kept here of what was sent, MiB; the oldest goes first."""
