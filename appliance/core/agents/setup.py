"""What an agent is told: its configuration, its secrets, and its unit."""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import json
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from appliance.core.agents import layout
from appliance.core.tasks.wire import KEY
from appliance.errors import ConfigError
from appliance.settingagents import AgentSettings
from appliance.settings import Settings

PASSWORD, CERTIFICATE_KEY = "kafka.password", "kafka.key"
LARGEST = 256 << 10
"""Bytes of a certificate's file."""
SAME = ("lease_seconds", "beat_seconds", "result_kib", "payload_kib")
"""Settings of the tasks that are equal on all machines."""
HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108 named only
"""What the unit has empty (ProtectHome=) or of its own (PrivateTmp=); systemd opens nothing below, whatever it is told."""
KAFKA = ("tls", "sasl_mechanism", "username", "linger_ms")


class Setup(msgspec.Struct, frozen=True):
    """All that is written besides the program."""

    config: str
    """config.toml."""
    unit: str
    files: dict[str, str] = {}
    """Further files of the configuration's folder, which everybody may read: certificates."""
    secrets: dict[str, str] = {}
    """Shown to the agent alone."""

    def sums(self) -> dict[str, str]:
        """SHA-256 of configuration, unit and certificates, as a look at the machine tells them."""
        texts = {"config": self.config, "unit": self.unit, **{f"file.{name}": text for name, text in self.files.items()}}
        return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}

    def secret_sums(self) -> dict[str, str]:
        """SHA-256 of the secrets. For comparing in memory only: a password is guessed from it."""
        return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in self.secrets.items()}

    def lines(self) -> bytes:
        """All of it for the script that writes it: kind, name, contents in Base64; a last line says that it is all."""
        rows = [("config", "config.toml", self.config), ("unit", layout.UNIT, self.unit)]
        rows += [("config", name, text) for name, text in self.files.items()]
        rows += [("secret", name, text) for name, text in self.secrets.items()]
        told = [f"{kind} {name} {base64.b64encode(text.encode()).decode()}\n" for kind, name, text in rows]
        return "".join([*told, "end of-it all\n"]).encode()


Issue = Callable[[str], tuple[bytes, bytes]]
"""(name of a machine) → its certificate with the chain, and its key, PEM; blocks."""


def make(node: str, settings: Settings, secrets: Mapping[str, str], issue: Issue | None = None) -> Setup:
    """For one machine. Blocks where certificates are read.

    Args:
        node: Its name in the fleet, and the agent's.
        settings: This appliance's.
        secrets: tasks.key and, where Kafka wants one, kafka.password.
        issue: Signs a certificate for the agent, where agents.certificates wants one.

    Raises:
        ConfigError: Kafka cannot be reached from there, a certificate cannot be read, or agents would not see a folder.
    """
    servers = brokers(settings)
    kafka: dict[str, Any] = {"bootstrap_servers": servers}
    kafka |= {name: getattr(settings.kafka, name) for name in KAFKA}
    files, private = _certificates(settings, kafka)
    if settings.agents.certificates:
        certificate, private[CERTIFICATE_KEY] = _own(node, settings, issue)
        files["kafka-cert.pem"] = certificate
        kafka["cert_file"] = f"{layout.CONFIG}/kafka-cert.pem"
        kafka["key_file"] = f"{layout.CREDENTIALS}/{CERTIFICATE_KEY}"
    agents, tasks = settings.agents, settings.tasks
    document = {
        "node": {"device_id": node},
        "log": {"level": settings.log.level},
        "kafka": kafka,
        "tasks": {
            "limit": agents.limit, **{name: getattr(tasks, name) for name in SAME}, "files_max_mib": agents.files_max_mib,
            "http_hosts": list(agents.http_hosts), "folders": [str(each) for each in agents.folders],
            "commands": {name: each.model_dump(mode="json") for name, each in sorted(agents.commands.items())},
            "backups": {name: each.model_dump(mode="json") for name, each in sorted(agents.backups.items())},
        },
    }  # fmt: skip
    given = {KEY: secrets[KEY]} | private
    if secrets.get(PASSWORD):
        given[PASSWORD] = secrets[PASSWORD]
    _seen(agents)
    targets = [Path(each.target) for each in agents.backups.values()]
    folders = [str(each) for each in (*agents.folders, *targets) if not each.is_relative_to(layout.STATE)]
    return Setup(toml(document), unit(given, folders, agents.memory_mib), files, given)


def _seen(agents: AgentSettings) -> None:
    """Whether the unit lets its process see all that it is to use. Raises ConfigError."""
    if far := [name for name, each in agents.backups.items() if each.target.startswith("s3:")]:
        step = f"give agents.backups.{far[0]} a folder there, such as a share that is mounted."
        raise ConfigError("Agents have no key of S3, and keep no backups there.", step)
    kept = [path for each in agents.backups.values() for path in (*each.folders, Path(each.target))]
    if unseen := [str(each) for each in (*agents.folders, *kept) if any(each.is_relative_to(top) for top in HIDDEN)]:
        step = "set agents.folders, or the folders of agents.backups, to others, such as /srv/in."
        raise ConfigError(f"Agents do not see {', '.join(unseen[:3])}: nobody's home and no /tmp is shown to them.", step)


def brokers(settings: Settings) -> str:
    """Kafka's servers as the agents reach them. Raises ConfigError."""
    if own := settings.agents.kafka_servers.strip():
        return own
    servers = settings.kafka.bootstrap_servers.strip()
    if not servers:
        raise ConfigError("No Kafka is configured, and agents get their tasks over it.", "set kafka.bootstrap_servers.")
    for each in servers.split(","):
        host = each.strip().rpartition(":")[0].strip("[]")
        if is_loopback(host):
            step = "set agents.kafka_servers to the address by which the other machines reach that Kafka."
            raise ConfigError(f"Kafka is {each.strip()} here, which is another machine there.", step)
    return servers


def is_loopback(host: str) -> bool:
    """Whether a name or address means the machine itself wherever it is used."""
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return host.lower() == "localhost" or host.lower().endswith(".localhost")
    return found.is_loopback or found.is_unspecified


def _certificates(settings: Settings, kafka: dict[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    files: dict[str, str] = {}
    for name, given in (("ca_file", settings.kafka.ca_file), ("cert_file", settings.kafka.cert_file)):
        if given is not None:
            files[f"kafka-{name.removesuffix('_file')}.pem"] = _read(given)
            kafka[name] = f"{layout.CONFIG}/kafka-{name.removesuffix('_file')}.pem"
    if settings.kafka.key_file is None:
        return files, {}
    kafka["key_file"] = f"{layout.CREDENTIALS}/{CERTIFICATE_KEY}"
    return files, {CERTIFICATE_KEY: _read(settings.kafka.key_file)}


def _own(node: str, settings: Settings, issue: Issue | None) -> tuple[str, str]:
    """A certificate for this agent alone, and its key. Raises ConfigError, StoreError."""
    if not settings.kafka.tls or issue is None:
        raise ConfigError("Certificates are shown to brokers over TLS alone.", "set kafka.tls, or unset agents.certificates.")
    certificate, key = issue(node)
    return certificate.decode(), key.decode()


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST:
            raise ConfigError(f"{path} is larger than a certificate.", "look at the settings of kafka.")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.", "look at the settings of kafka.") from error


def toml(document: Mapping[str, Any]) -> str:
    """A configuration file; what a reader makes of it is exactly the document."""
    lines = [layout.HEAD, *_table(document, ())]
    text = "\n".join([*lines, ""])
    if tomllib.loads(text) != document:
        raise ConfigError("The agents' settings cannot be written as TOML.", "look at [agents] for strange letters.")
    return text


def _table(values: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    plain = [(name, value) for name, value in values.items() if not isinstance(value, Mapping)]
    lines = ["", f"[{'.'.join(_word(each) for each in path)}]"] if path else []
    lines += [f"{_word(name)} = {_value(value)}" for name, value in plain]
    for name, value in values.items():
        if isinstance(value, Mapping):
            lines += _table(value, (*path, name))
    return lines


def _word(name: str) -> str:
    return name if name.replace("-", "").replace("_", "").isalnum() and name.isascii() else json.dumps(name)


def _value(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


UNIT = """{head}
[Unit]
Description=Prime Spark agent: does tasks of the Control PC
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
Type=exec
ExecStart={home}/current/venv/bin/prime-spark agent --role worker
Environment=PRIME_SPARK_HOME={state} PRIME_SPARK_CONFIG={config}/config.toml PRIME_SPARK_RUN={run} HOME={state}
WorkingDirectory={state}
DynamicUser=yes
User={name}
{credentials}
StateDirectory={name} {name}/files
StateDirectoryMode=0700
RuntimeDirectory={name}
RuntimeDirectoryMode=0700
Restart=always
RestartSec=2
TimeoutStopSec=20
KillMode=mixed
MemoryMax={memory}M
TasksMax=512
OOMPolicy=continue
UMask=0077
CapabilityBoundingSet=
AmbientCapabilities=
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
PrivateTmp=yes
PrivateDevices=yes
PrivateUsers=yes
RemoveIPC=yes
KeyringMode=private
LockPersonality=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
SystemCallErrorNumber=EPERM
{folders}
[Install]
WantedBy=multi-user.target
"""


def unit(secrets: Mapping[str, str], folders: list[str], memory: int) -> str:
    """The unit's file.

    Args:
        secrets: By name; only the names are written.
        folders: Directories besides its own that it may write to.
        memory: MiB.
    """
    shown = "\n".join(f"LoadCredential={name}:{layout.CONFIG}/secrets/{name}" for name in sorted(secrets))
    writable = "".join(f"ReadWritePaths=-{quoted(each)}\n" for each in folders)
    return UNIT.format(
        head=layout.HEAD, home=layout.HOME, state=layout.STATE, config=layout.CONFIG, run=layout.RUN, name=layout.NAME,
        credentials=shown, memory=memory, folders=writable,
    )  # fmt: skip


def quoted(path: str) -> str:
    """A path as systemd reads it (systemd.syntax(7)): % doubled, in quotes where it has a blank.

    Raises:
        ConfigError: It has a line's end or its like, behind which would be another line of the unit.
    """
    if not path.isprintable():
        raise ConfigError(f"The folder {path!r} has a letter that no unit of systemd can have.", "look at agents.folders.")
    safe = path.replace("\\", "\\\\").replace("%", "%%").replace('"', '\\"')
    return f'"{safe}"' if any(each.isspace() for each in safe) else safe
