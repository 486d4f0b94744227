"""The values that cross between services, screens and fronts. All are frozen; all encode to JSON by msgspec."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from appliance.core.findings import Box as Box  # noqa: PLC0414 known here to all who draw and keep boxes
from appliance.core.findings import Class, Mask, Pose, Segment


class Role(StrEnum):
    """What an actor may do; a higher role includes the lower ones, and compares as greater."""

    viewer = "viewer"
    operator = "operator"
    admin = "admin"

    @property
    def rank(self) -> int:
        """0 for the lowest."""
        return ("viewer", "operator", "admin").index(self.value)

    def __lt__(self, other: str) -> bool:
        return self.rank < Role(other).rank

    def __le__(self, other: str) -> bool:
        return self.rank <= Role(other).rank

    def __gt__(self, other: str) -> bool:
        return self.rank > Role(other).rank

    def __ge__(self, other: str) -> bool:
        return self.rank >= Role(other).rank


class Health(StrEnum):
    """The four states of anything that can be asked how it is (contracts, section 2)."""

    healthy = "healthy"
    degraded = "degraded"
    unhealthy = "unhealthy"
    absent = "absent"


class Phase(StrEnum):
    """Where a service stands in its life. Retrying and resting both try again: soon, and after a longer rest."""

    waiting = "waiting"
    starting = "starting"
    running = "running"
    retrying = "retrying"
    resting = "resting"
    stopping = "stopping"
    stopped = "stopped"


class Actor(msgspec.Struct, frozen=True):
    """Who asks: a name, a role, and the front that the request came through."""

    name: str
    role: Role
    via: str
    """"console", "ssh", "socket", "api", "headless", "kafka", "voice", "internal"."""
    origin: str = ""
    """Address or device, for the audit."""


class HealthReport(msgspec.Struct, frozen=True):
    """What a service says of itself."""

    health: Health
    reason: str
    next_step: str = ""
    details: dict[str, Any] = {}


class ServiceStatus(msgspec.Struct, frozen=True):
    """One supervised service as the supervisor sees it."""

    name: str
    summary: str
    phase: Phase
    health: Health
    reason: str
    next_step: str = ""
    since: float = 0.0
    """Wall clock (seconds since the epoch) of the last change of phase or health."""
    checked: float = 0.0
    """Wall clock of the last health probe."""
    restarts: int = 0
    simulated: bool = False
    depends: tuple[str, ...] = ()
    details: dict[str, Any] = {}
    next_try: float = 0.0
    """Wall clock of the next start after a failure; 0 where none is awaited."""
    relapses: int = 0
    """How often in the last ten minutes it came up and failed again."""


class NetworkCounters(msgspec.Struct, frozen=True):
    """Bytes through one interface, since boot and per second over the last interval."""

    name: str
    tx_bytes: int
    rx_bytes: int
    tx_rate: float | None
    rx_rate: float | None
    is_up: bool


class HostSample(msgspec.Struct, frozen=True):
    """One reading of the host. None means that this machine does not tell."""

    time: float
    hostname: str
    cpu_usage: float | None
    """Percent of all cores over the last interval; None in the very first reading."""
    cpu_per_core: tuple[float, ...]
    memory_usage: float
    memory_total: int
    memory_used: int
    swap_usage: float | None
    disk_usage: float
    disk_total: int
    disk_free: int
    temperature_c: float | None
    throttled: tuple[str, ...] | None
    """Raspberry Pi firmware flags now set ("under-voltage", …); None where there is no such firmware."""
    load_1m: float
    load_5m: float
    load_15m: float
    uptime_s: float
    network: tuple[NetworkCounters, ...]
    process_cpu: float | None
    """Percent of one core that the appliance itself took over the last interval."""
    process_rss: int


class Device(msgspec.Struct, frozen=True):
    """A piece of hardware, found or missed."""

    kind: str
    """"accelerator", "microphone", "ups", "i2c", "gpio", "camera", "picamera", "keyboard", "led"."""
    name: str
    health: Health
    reason: str
    next_step: str = ""
    simulated: bool = False


class AlertState(StrEnum):
    """Life of one alert."""

    no_data = "no data"
    ok = "ok"
    pending = "pending"
    firing = "firing"
    acknowledged = "acknowledged"
    silenced = "silenced"
    resolved = "resolved"


class Severity(StrEnum):
    """How much an alert matters."""

    info = "info"
    warning = "warning"
    critical = "critical"


class AlertStatus(msgspec.Struct, frozen=True):
    """One alert: a rule that holds for one subject."""

    alert_id: str
    rule: str
    subject: str
    severity: Severity
    state: AlertState
    message: str
    value: float | None = None
    threshold: float | None = None
    since: float = 0.0
    acknowledged_by: str = ""
    silenced_until: float = 0.0
    resolved_at: float = 0.0
    seq: int = 0
    """Number of this change in the history; 0 of an alert as it is now."""
    silenced_by: str = ""
    changed: float = 0.0
    """Wall clock of the last change of state, acknowledgement or silence."""
    changed_by: str = ""
    """Who made that change; empty where the rule did."""


class RuleStatus(msgspec.Struct, frozen=True):
    """One alert rule and what it last saw."""

    rule: str
    summary: str
    severity: Severity
    state: AlertState
    reason: str
    enabled: bool = True
    silenced_until: float = 0.0
    """Wall clock; 0 where it is not silenced. The state goes on telling what the rule sees."""
    silenced_by: str = ""


class JobState(StrEnum):
    """Life of a job; interrupted means that the appliance ended while it ran."""

    pending = "pending"
    running = "running"
    completed = "completed"
    failed = "failed"
    cancelled = "cancelled"
    interrupted = "interrupted"


class JobStatus(msgspec.Struct, frozen=True):
    """A long-running piece of work."""

    job_id: str
    name: str
    owner: str
    state: JobState
    created: float
    started: float | None = None
    """Wall clock; None before it began (0 in what older versions kept)."""
    ended: float | None = None
    """Wall clock; None before its end."""
    progress: float | None = None
    """0…1, or None where the job cannot know."""
    message: str = ""
    result: Any = None
    error: str = ""


class SessionInfo(msgspec.Struct, frozen=True):
    """One open console."""

    session_id: str
    user: str
    role: Role
    via: str
    origin: str
    since: float
    columns: int
    rows: int
    screen: str = ""
    active: float = 0.0
    """Wall clock of the last key or click, to about ten seconds; 0 where there was none."""


class QueueStatus(msgspec.Struct, frozen=True):
    """One bounded queue on the spine."""

    name: str
    depth: int
    capacity: int
    delivered: int
    dropped: int
    policy: str


class InferenceResult(msgspec.Struct, frozen=True):
    """What a model said of one input, and what that took."""

    result_id: str
    time: float
    source: str
    model: str
    model_version: str
    task: str
    backend: str
    """"hailo" or "cpu"."""
    width: int
    height: int
    boxes: tuple[Box, ...]
    inference_time_ms: float
    total_time_ms: float
    cached: bool = False
    sha256: str = ""
    """Of the file's bytes; empty in results of before it was kept, and of what came from no file."""
    classes: tuple[Class, ...] = ()
    """Best first."""
    poses: tuple[Pose, ...] = ()
    masks: tuple[Mask, ...] = ()
    segments: tuple[Segment, ...] = ()
    embedding: tuple[float, ...] = ()
    statistics: dict[str, float] = {}
    device: str = ""
    """The accelerator's name; empty in results of before it was kept."""
    reason: str = ""
    """Why this device."""
    fell_back: bool = False
    """It ran elsewhere than it should have."""
    priority: str = ""
    """"critical", "high", "normal" or "low"."""
    queued_ms: float | None = None
    """From the submission to the begin of its batch."""
    masks_left_out: int = 0
    """Masks that were too large to be kept."""


class InferenceStats(msgspec.Struct, frozen=True):
    """Counters of the inference service since its start."""

    model: str
    backend: str
    total: int
    errors: int
    """Inputs that the model or the device failed; refused ones are counted apart."""
    p50_ms: float | None
    p95_ms: float | None
    error_rate: float | None = None
    """Share (0…1) of the last hundred inferences that failed; None before the first."""
    refused: int = 0
    """Files that are no picture, are too large, or came while too many waited."""


class AuditEntry(msgspec.Struct, frozen=True):
    """One row of the audit log."""

    seq: int
    time: float
    actor: str
    role: str
    via: str
    origin: str
    action: str
    args: dict[str, Any]
    outcome: str
    """"started", "ok", "refused", "failed", "timeout", or "event"."""
    detail: str
    hash: str


class LogLine(msgspec.Struct, frozen=True):
    """One line of the appliance's own log."""

    seq: int
    time: float
    level: str
    logger: str
    message: str


class UserInfo(msgspec.Struct, frozen=True):
    """An account; never its password."""

    name: str
    role: Role
    created: float
    has_password: bool
    keys: tuple[str, ...] = ()
    """SHA-256 fingerprints of the public keys that may log in."""
    key_roles: dict[str, Role] = {}
    """Fingerprint → what a login with this key may do at most; keys that are not in it give the user's role."""


class CheckResult(msgspec.Struct, frozen=True):
    """What one doctor check found."""

    check: str
    title: str
    status: str
    """"ok", "warning", "failed", "absent"."""
    reason: str
    fix: str = ""
