"""Every setting, with its default. Frozen; unknown keys are errors.

Sources, later ones win: these defaults, the configuration file, the boot partition's file, environment variables
(the names of contracts.md, section 11, given as `env` below). Loading is in appliance.config.
"""

from __future__ import annotations

import ast
import functools
import inspect
import sys
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from appliance.core.model import Role, Severity


def env(name: str) -> dict[str, Any]:
    """Mark a field as set by this environment variable."""
    return {"env": name}


Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0, le=86400 * 365)]
Percent = Annotated[float, Field(ge=0, le=100)]


class Group(BaseModel):
    """Base of all groups of settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class NodeSettings(Group):
    """This machine."""

    device_id: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")] = "control-pc"
    """Name that every event carries; letters, digits, dot, dash, underscore."""


class LogSettings(Group):
    """The appliance's own log."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", json_schema_extra=env("LOG_LEVEL"))
    """Lowest level that is kept."""
    format: Literal["json", "text"] = Field("text", json_schema_extra=env("LOG_FORMAT"))
    """Form of the log file and of headless output."""


class ConsoleSettings(Group):
    """The TUI."""

    theme: Literal["dark", "light", "console-16"] = "dark"
    """Theme where the terminal has the colours for it; a 16-colour terminal always gets console-16."""
    role: Literal["viewer", "operator", "admin"] = "admin"
    """Role of whoever sits at the machine's own terminal."""

    @property
    def console_role(self) -> Role:
        """The role as a value."""
        return Role[self.role]


class SshSettings(Group):
    """The embedded SSH server, which gives the TUI and nothing else."""

    enabled: bool = True
    """Off: no port is opened."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 or :: for the whole network."""
    port: Port = 8022
    """TCP port; 0 picks a free one."""
    max_sessions: Annotated[int, Field(ge=1, le=64)] = 8
    """Consoles open at one time."""


class HealthSettings(Group):
    """Supervision."""

    check_interval_seconds: Seconds = 5.0
    """Seconds between two health probes of a service."""


class TelemetrySettings(Group):
    """Readings of the host."""

    interval_seconds: Annotated[float, Field(ge=0.5, le=3600)] = 5.0
    """Seconds between two readings."""
    flush_seconds: Annotated[float, Field(ge=1, le=3600)] = 15.0
    """Readings are written to disk this often; a cut of the power loses at most this much telemetry."""
    keep_days: Annotated[int, Field(ge=1, le=3650)] = 30
    """Days that raw readings are kept; minute roll-ups 90 days, hour roll-ups 365 days."""


class InferenceSettings(Group):
    """Models and pictures."""

    model_dir: Path | None = None
    """Directory of models; searched before the appliance's own ones."""
    model: str = ""
    """Name of the model to use; empty takes the first one found."""
    threads: Annotated[int, Field(ge=1, le=64)] = 2
    """CPU threads of ONNX Runtime."""
    score_threshold: Annotated[float, Field(ge=0, le=1)] = 0.3
    """Lowest score of a box that is reported."""
    max_file_mib: Annotated[int, Field(ge=1, le=1024)] = 64
    """Largest picture file, MiB."""
    max_megapixels: Annotated[int, Field(ge=1, le=150)] = 50
    """Largest picture, millions of pixels."""


class NasSettings(Group):
    """The NAS."""

    path: Path = Field(Path("/mnt/nas"), json_schema_extra=env("NAS_SHARE_PATH"))
    """Mount point; the marker file .prime-spark-nas proves that it is mounted."""


class HeadlessSettings(Group):
    """Keyboard shortcuts without a screen."""

    keyboard: str = "auto"
    """Input device of a bare keyboard (/dev/input/eventN); "auto" takes every keyboard found, "" none."""
    serial: str = ""
    """Serial line to read keys from, such as /dev/ttyAMA0; empty for none."""
    led_pin: Annotated[int, Field(ge=0, le=27)] | None = None
    """BCM number of the status LED's pin; none where it is not set."""


class RuleSettings(Group):
    """Changes to one alert rule; what is not given keeps the rule's default."""

    enabled: bool = True
    """Off: the rule is not evaluated."""
    threshold: float | None = None
    """Limit, in the rule's unit."""
    for_seconds: Annotated[float, Field(ge=0)] | None = None
    """How long the limit must be passed before the alert fires."""
    cooldown_seconds: Annotated[float, Field(ge=0)] | None = None
    """How long after it resolved the alert stays quiet."""
    severity: Severity | None = None
    """info, warning or critical."""


class AlertSettings(Group):
    """Alert rules by name, such as [alerts.rules.cpu]."""

    rules: dict[str, RuleSettings] = {}
    """Changes by rule name."""


class ApiSettings(Group):
    """The REST API; in this version it is served on the UNIX socket alone."""

    port: Port = Field(8000, json_schema_extra=env("API_PORT"))
    """TCP port set aside for it; `prime-spark doctor` checks that nothing else has it."""


class Settings(Group):
    """All settings."""

    node: NodeSettings = NodeSettings()
    log: LogSettings = LogSettings()
    console: ConsoleSettings = ConsoleSettings()
    ssh: SshSettings = SshSettings()
    health: HealthSettings = HealthSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    inference: InferenceSettings = InferenceSettings()
    nas: NasSettings = NasSettings()
    headless: HeadlessSettings = HeadlessSettings()
    alerts: AlertSettings = AlertSettings()
    api: ApiSettings = ApiSettings()


@functools.cache
def meanings() -> dict[tuple[str, str], str]:
    """(group, setting) → the text that stands below it in this file; read only where somebody asks."""
    found = {}
    for group in ast.parse(inspect.getsource(sys.modules[__name__])).body:
        if not isinstance(group, ast.ClassDef):
            continue
        for field, text in pairwise(group.body):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
                found[group.name, field.target.id] = inspect.cleandoc(ast.literal_eval(text.value))
    return found
