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
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from appliance import settingforms as forms
from appliance.core.model import Role
from appliance.settingaccess import ApiSettings
from appliance.settingacme import AcmeSettings
from appliance.settingagents import AgentSettings
from appliance.settingalerts import AlertSettings
from appliance.settingassistant import AssistantSettings
from appliance.settingbackup import BackupSettings
from appliance.settingdeploy import DeploySettings
from appliance.settingfleet import FleetSettings
from appliance.settinggroups import Group, Port, Seconds, env
from appliance.settinginference import HailoSettings, InferenceSettings, ModelSettings
from appliance.settingllm import LlmSettings
from appliance.settingobserve import ObserveSettings
from appliance.settingpower import PowerSettings, UpsSettings
from appliance.settingsecrets import SecretSettings, VaultSettings
from appliance.settingsources import SourceSettings
from appliance.settingtasks import TaskSettings
from appliance.settingupdate import UpdateSettings
from appliance.settingvoice import VoiceSettings, WyomingSettings
from appliance.settingvpn import VpnSettings

Strategies = Literal["latest_wins", "cloud_wins", "edge_wins", "merge", "manual"]


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


class NasSettings(Group):
    """The NAS."""

    enabled: Literal["auto", "yes", "no"] = "auto"
    """Whether it is a tier of the memory; auto: where the directory of its mount point exists."""
    path: Annotated[Path, AfterValidator(forms.absolute)] = Field(Path("/mnt/nas"), json_schema_extra=env("NAS_SHARE_PATH"))
    """Mount point; the marker file .prime-spark-nas proves that it is mounted."""
    max_mib: Annotated[int, Field(ge=0)] = 0
    """Most that the memory takes on it, MiB; 0: as much as it has."""
    policy: Literal["lru", "lfu", "ttl"] = "lru"
    """What leaves it first at that bound: least recently used, least often used, nearest to its end."""
    high_percent: Annotated[float, Field(gt=0, le=100)] = 95.0
    """Values that are held elsewhere too begin to leave it at this share of max_mib."""
    low_percent: Annotated[float, Field(gt=0, le=100)] = 85.0
    """They leave until it is down to this share; below high_percent."""

    @model_validator(mode="after")
    def _marks(self) -> NasSettings:
        forms.ordered(self.low_percent, self.high_percent, "low_percent", "high_percent")
        return self


class MemorySettings(Group):
    """The tiered memory: tier 1 in Redis, tier 2 on the local disk."""

    redis_url: Annotated[str, AfterValidator(forms.redis_url)] = ""
    """Redis to use, such as redis://10.0.0.5:6379/0; empty: see redis_port. The password is the secret redis.password."""
    redis_port: Port = Field(0, json_schema_extra=env("REDIS_LOCAL_PORT"))
    """Port of a Redis on this machine; 0 runs a private redis-server that only the appliance can reach."""
    redis_max_memory: Annotated[str, Field(pattern=r"(?i)^[1-9][0-9]*(kb|mb|gb)$"), AfterValidator(forms.memory_size)] = Field(
        "2gb", json_schema_extra=env("REDIS_MAX_MEMORY")
    )
    """Most memory of the private redis-server, such as 512mb; from 1mb to 1024gb."""
    redis_policy: Literal["allkeys-lru", "allkeys-lfu", "volatile-ttl"] = Field(
        "allkeys-lru", json_schema_extra=env("REDIS_EVICTION_POLICY")
    )
    """What leaves tier 1 first."""
    hot_max_mib: Annotated[int, Field(ge=1, le=4096)] = 64
    """Most memory of tier 1 inside this process, which is used where no redis-server is installed; MiB."""
    hot_value_max_kib: Annotated[int, Field(ge=1, le=65536)] = 8192
    """Larger values stay below tier 1; KiB."""
    disk_max_mib: Annotated[int, Field(ge=1)] = 4096
    """Most that the memory takes on the local disk, MiB."""
    disk_policy: Literal["lru", "lfu", "ttl"] = "lru"
    """What leaves the local disk first: least recently used, least often used, nearest to its end."""
    disk_high_percent: Annotated[float, Field(gt=0, le=100)] = 95.0
    """Values begin to leave the local disk at this share of disk_max_mib."""
    disk_low_percent: Annotated[float, Field(gt=0, le=100)] = 85.0
    """They leave until it is down to this share; below disk_high_percent."""
    value_max_mib: Annotated[int, Field(ge=1, le=256)] = 64
    """Largest value, MiB."""
    absent_seconds: Annotated[float, Field(ge=0, le=3600)] = 5.0
    """Seconds for which a key that was found nowhere is not looked for again."""
    behind_max_mib: Annotated[int, Field(ge=1, le=1024)] = 32
    """Most that may wait in memory for the local disk; MiB. Writers wait beyond it."""

    @model_validator(mode="after")
    def _marks(self) -> MemorySettings:
        forms.ordered(self.disk_low_percent, self.disk_high_percent)
        return self


class S3Settings(Group):
    """Tier 3, objects: MinIO, SeaweedFS, any S3. The secret key is the secret s3.secret_key."""

    endpoint: Annotated[str, AfterValidator(forms.endpoint)] = Field("", json_schema_extra=env("MINIO_ENDPOINT"))
    """Host and port, such as 10.8.0.14:9000; empty for none."""
    access_key: str = Field("", json_schema_extra=env("MINIO_ACCESS_KEY"))
    """Access key."""
    bucket: Annotated[str, Field(min_length=3, max_length=63), AfterValidator(forms.bucket)] = Field(
        "prime-spark-ai", json_schema_extra=env("MINIO_BUCKET")
    )
    """Bucket; created where it is missing."""
    secure: bool = False
    """Speak TLS."""


class DocumentSettings(Group):
    """Tier 3, JSON documents: PostgreSQL, Supabase's too. The password is the secret documents.password."""

    url: Annotated[str, AfterValidator(forms.postgres_url)] = Field("", json_schema_extra=env("SUPABASE_URL"))
    """postgresql://USER@HOST:PORT/DATABASE without a password; empty for none."""


class SyncSettings(Group):
    """How edge and cloud are kept the same."""

    interval_seconds: Annotated[float, Field(ge=1, le=86400)] = 300.0
    """Seconds between two synchronisations."""
    batch: Annotated[int, Field(ge=1, le=10_000)] = 100
    """Deliveries in a row."""
    strategy: Strategies = "latest_wins"
    """What settles a key that both sides changed."""
    namespaces: tuple[
        Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*=(latest_wins|cloud_wins|edge_wins|merge|manual)$")], ...
    ] = ()
    """Strategies of single namespaces, such as ["notes=merge", "plans=manual"]."""
    bandwidth_kib: Annotated[int, Field(ge=0)] = 0
    """Most that goes to and comes from the cloud, KiB/s; 0 for no bound."""


class KafkaSettings(Group):
    """The stream to the cloud. The password is the secret kafka.password."""

    bootstrap_servers: Annotated[str, AfterValidator(forms.servers)] = Field(
        "", json_schema_extra=env("KAFKA_BOOTSTRAP_SERVERS")
    )
    """Brokers, such as 10.8.0.14:9092,10.8.0.15:9092; empty for none."""
    tls: bool = False
    """Speak TLS."""
    ca_file: Path | None = None
    """Certificates that are trusted; the system's where it is not set."""
    cert_file: Path | None = None
    """This appliance's certificate, for brokers that ask for one."""
    key_file: Path | None = None
    """Its private key."""
    sasl_mechanism: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = ""
    """How to log in; empty for no login."""
    username: str = ""
    """User to log in as."""
    linger_ms: Annotated[int, Field(ge=0, le=5000)] = 20
    """Milliseconds that messages gather before a batch goes out."""
    create_topics: bool = True
    """Create the topics that are missing."""


class IssuerSettings(Group):
    """Somebody whose signed commands are obeyed, such as [commands.issuers.cloud]."""

    public_key: Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]{43}=$")]
    """Ed25519 public key, base64 (RFC 8032)."""
    role: Literal["viewer", "operator", "admin"] = "operator"
    """What the issuer may do."""


class CommandSettings(Group):
    """Signed commands over Kafka."""

    enabled: bool = True
    """Off: none is obeyed."""
    max_age_seconds: Annotated[float, Field(ge=1, le=86400)] = 300.0
    """Longest time from a command's timestamp to its end; one that wants to live longer is refused."""
    issuers: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")], IssuerSettings] = Field({})
    """By name."""


class OutboxSettings(Group):
    """Events that wait for Kafka."""

    memory_mib: Annotated[int, Field(ge=1, le=1024)] = 16
    """Most that waits in memory before it goes to disk, MiB."""
    disk_mib: Annotated[int, Field(ge=1)] = 1024
    """Most that waits on disk, MiB; beyond it the lowest class loses its oldest first."""
    max_age_hours: Annotated[float, Field(gt=0, le=8760)] = 168.0
    """What has waited longer is given up; 7 days, as Kafka keeps it."""
    dead_letters: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    """Most dead letters that are kept of each origin (outbox, commands, updates)."""


class AnalyticsSettings(Group):
    """TimescaleDB, or PostgreSQL without the extension; nothing configured: DuckDB. The password is analytics.password."""

    host: Annotated[str, AfterValidator(forms.host)] = Field("", json_schema_extra=env("POSTGRES_HOST"))
    """Server; empty for none."""
    port: Port = Field(5432, json_schema_extra=env("POSTGRES_PORT"))
    """TCP port."""
    user: str = Field("", json_schema_extra=env("POSTGRES_USER"))
    """User."""
    database: str = "prime_spark_analytics"
    """Database."""
    tls: Literal["disable", "prefer", "require", "verify-full"] = "prefer"
    """Whether the connection is encrypted, and the server proven."""


class SinkSettings(Group):
    """Kafka to the analytics database, as the role sink of `prime-spark agent`, or in the appliance itself."""

    enabled: bool = False
    """Run it in this appliance."""
    group: Annotated[str, Field(min_length=1, max_length=249)] = "prime-spark-sink"
    """Consumer group."""
    batch_rows: Annotated[int, Field(ge=100, le=200_000)] = 50_000
    """Most rows in one transaction."""
    wait_ms: Annotated[int, Field(ge=1, le=60_000)] = 500
    """Milliseconds until a batch that is not full is written."""


class WindowSettings(Group):
    """Rules over the streams, as the role windows of `prime-spark agent`."""

    group: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,60}$")] = "prime-spark-windows"
    """Consumer group; the topics of the windows' own state begin with it."""
    rules_topic: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,200}$")] = "prime-spark.rules"
    """Topic that brings the rules; compacted."""
    commit_seconds: Annotated[float, Field(ge=0.1, le=60)] = 1.0
    """Seconds between two transactions; windows are seen when theirs is complete."""
    groups: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    """Most groups of one rule in one partition; events of others are refused, and counted."""
    values: Annotated[int, Field(ge=1, le=10_000_000)] = 100_000
    """Most values of a group that a percentile keeps, in one length of its window."""
    metrics_port: Port = 0
    """Port of /metrics on 127.0.0.1, for Prometheus; 0 opens none."""


class HeadlessSettings(Group):
    """Keyboard shortcuts without a screen."""

    keyboard: str = "auto"
    """Input device of a bare keyboard (/dev/input/eventN); "auto" takes every keyboard found, "" none."""
    serial: str = ""
    """Serial line to read keys from, such as /dev/ttyAMA0; empty for none."""
    led_pin: Annotated[int, Field(ge=0, le=27)] | None = None
    """BCM number of the status LED's pin; none where it is not set."""


class Settings(Group):
    """All settings."""

    node: NodeSettings = NodeSettings()
    log: LogSettings = LogSettings()
    console: ConsoleSettings = ConsoleSettings()
    ssh: SshSettings = SshSettings()
    health: HealthSettings = HealthSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    inference: InferenceSettings = InferenceSettings()
    hailo: HailoSettings = HailoSettings()
    models: ModelSettings = ModelSettings()
    sources: SourceSettings = SourceSettings()
    nas: NasSettings = NasSettings()
    memory: MemorySettings = MemorySettings()
    s3: S3Settings = S3Settings()
    documents: DocumentSettings = DocumentSettings()
    sync: SyncSettings = SyncSettings()
    kafka: KafkaSettings = KafkaSettings()
    outbox: OutboxSettings = OutboxSettings()
    commands: CommandSettings = CommandSettings()
    analytics: AnalyticsSettings = AnalyticsSettings()
    sink: SinkSettings = SinkSettings()
    windows: WindowSettings = WindowSettings()
    headless: HeadlessSettings = HeadlessSettings()
    fleet: FleetSettings = FleetSettings()
    tasks: TaskSettings = TaskSettings()
    agents: AgentSettings = AgentSettings()
    deploy: DeploySettings = DeploySettings()
    llm: LlmSettings = LlmSettings()
    assistant: AssistantSettings = AssistantSettings()
    power: PowerSettings = PowerSettings()
    ups: UpsSettings = UpsSettings()
    alerts: AlertSettings = AlertSettings()
    api: ApiSettings = ApiSettings()
    acme: AcmeSettings = AcmeSettings()
    secrets: SecretSettings = SecretSettings()
    vault: VaultSettings = VaultSettings()
    vpn: VpnSettings = VpnSettings()
    voice: VoiceSettings = VoiceSettings()
    wyoming: WyomingSettings = WyomingSettings()
    observe: ObserveSettings = ObserveSettings()
    backup: BackupSettings = BackupSettings()
    update: UpdateSettings = UpdateSettings()


@functools.cache
def meanings() -> dict[tuple[str, str], str]:
    """(group, setting) → the text that stands below it in its file; read only where somebody asks."""
    found = {}
    kinds = (field.annotation for field in Settings.model_fields.values())
    modules = {__name__, *(kind.__module__ for kind in kinds if kind is not None)}
    for group in [each for name in sorted(modules) for each in ast.parse(inspect.getsource(sys.modules[name])).body]:
        if not isinstance(group, ast.ClassDef):
            continue
        for field, text in pairwise(group.body):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
                found[group.name, field.target.id] = inspect.cleandoc(ast.literal_eval(text.value))
    return found
