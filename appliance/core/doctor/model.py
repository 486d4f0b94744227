"""What a check is, and what it is given."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from appliance.core.fleet.inventory_entry import Entry
from appliance.core.model import CheckResult, Device
from appliance.core.streams.kafka import Access
from appliance.errors import ConfigError
from appliance.settingbackup import BackupTarget
from appliance.settingupdate import UpdateSettings


@dataclass(frozen=True)
class PortUse:
    """A TCP port that the appliance listens on.

    Attributes:
        host: Address, as in the settings.
        port: Number.
        setting: The setting that changes it.
    """

    host: str
    port: int
    setting: str


@dataclass(frozen=True)
class DoctorContext:
    """The machine to look at.

    Attributes:
        environ: Environment variables.
        home: Directory of the databases; need not exist yet.
        lock: The appliance's lock file, which names the process that runs.
        ports: What the appliance listens on.
        nas_path: Where the NAS is mounted.
        model_dirs: Where models are looked for, in order.
        root: Where /dev, /etc, /proc, /run and /sys are looked for.
        system_python: The interpreter that vendors' system packages install for.
        upses: Looks for UPSes, one for each kind; each may block for some seconds.
        kafka: How Kafka is reached; None where it is not configured.
        haproxy: The balancer's program, by name or path.
        machines: Of the configuration, that are reached over SSH.
        backups: Targets of backups, by name.
        updates: Where updates of the image come from.
        config_error: Why the settings cannot be taken; the rest is that of the defaults then.
    """

    environ: Mapping[str, str]
    home: Path
    lock: Path
    ports: tuple[PortUse, ...]
    nas_path: Path
    model_dirs: tuple[Path, ...]
    root: Path = Path("/")
    system_python: str = "/usr/bin/python3"
    upses: tuple[Callable[[], Device], ...] = ()
    config_error: ConfigError | None = None
    kafka: Access | None = None
    machines: tuple[Entry, ...] = ()
    haproxy: str = "haproxy"
    backups: Mapping[str, BackupTarget] = field(default_factory=dict)
    updates: UpdateSettings = field(default_factory=UpdateSettings)

    def text(self, path: str) -> str:
        """A small file below the root, stripped; empty where it cannot be read."""
        try:
            return (self.root / path).read_text(encoding="utf-8", errors="replace").strip(" \t\r\n\0")
        except OSError:
            return ""

    def paths(self, pattern: str) -> list[Path]:
        """Files below the root that match a pattern, sorted."""
        return sorted(self.root.glob(pattern))

    @property
    def board(self) -> str:
        """The board's name from the device tree, such as "Raspberry Pi 5 Model B Rev 1.0"; empty on a PC."""
        return self.text("proc/device-tree/model")

    @property
    def is_pi(self) -> bool:
        """Whether this is a Raspberry Pi."""
        return "Raspberry Pi" in self.board


Run = Callable[[DoctorContext], Awaitable[CheckResult]]


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        id: Its name on the command line, and of its file.
        title: What it looks at.
        run: Looks, without blocking the loop.
        timeout: Seconds after which the check counts as failed.
    """

    id: str
    title: str
    run: Run = field(repr=False)
    timeout: float = 5.0

    def ok(self, reason: str) -> CheckResult:
        """All is well."""
        return CheckResult(self.id, self.title, "ok", reason)

    def warning(self, reason: str, fix: str) -> CheckResult:
        """It works, with a limit."""
        return CheckResult(self.id, self.title, "warning", reason, fix)

    def failed(self, reason: str, fix: str) -> CheckResult:
        """It is there and does not work."""
        return CheckResult(self.id, self.title, "failed", reason, fix)

    def absent(self, reason: str, fix: str) -> CheckResult:
        """It is not there."""
        return CheckResult(self.id, self.title, "absent", reason, fix)
