"""The only place that knows where files lie.

PRIME_SPARK_HOME=DIR puts everything under DIR; beside it PRIME_SPARK_CONFIG=FILE and PRIME_SPARK_RUN=DIR (sockets) name two
places of their own, and PRIME_SPARK_SYSTEM=DIR the machine's identity, which our image has. Without it root uses the
directories of the Filesystem Hierarchy Standard, other users those of the XDG Base Directory specification.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

BOOT_CONFIG = Path("/boot/firmware/prime-spark-settings.toml")  # prime-spark.toml is the first-boot file, whose form is another
SYSTEM_CONFIG = Path("/etc/prime-spark/config.toml")


@dataclass(frozen=True)
class Paths:
    """Where the appliance keeps things."""

    config: Path
    """Configuration file."""
    boot_config: Path | None
    """Configuration on the boot partition, editable on any computer; None under PRIME_SPARK_HOME."""
    data: Path
    """Databases, models, secrets, and the lock."""
    run: Path
    """Sockets."""
    logs: Path
    system: Path | None = None
    """What the machine itself is called, reached and entered by; only on our image."""

    @property
    def database(self) -> Path:
        """SQLite: accounts, audit, jobs, outbox."""
        return self.data / "appliance.sqlite"

    @property
    def analytics(self) -> Path:
        """DuckDB: metrics and results."""
        return self.data / "analytics.duckdb"

    @property
    def streams(self) -> Path:
        """SQLite: what waits for Kafka, and dead letters."""
        return self.data / "streams.sqlite"

    @property
    def memory(self) -> Path:
        """The tiered memory's part on the local disk."""
        return self.data / "memory"

    @property
    def exports(self) -> Path:
        """Answers that were written into files."""
        return self.data / "exports"

    @property
    def files(self) -> Path:
        """Files on their way to and from nodes, which operators may use."""
        return self.data / "files"

    @property
    def redis_socket(self) -> Path:
        """Of the private redis-server."""
        return self.run / "redis.sock"

    @property
    def models(self) -> Path:
        """Models that the operator added."""
        return self.data / "models"

    @property
    def secrets(self) -> Path:
        """Files of mode 0600."""
        return self.data / "secrets"

    @property
    def host_key(self) -> Path:
        """The SSH server's key."""
        return self.secrets / "ssh_host_ed25519_key"

    @property
    def audit_mark(self) -> Path:
        """How far the audit log had come; outside the database."""
        return self.secrets / "audit.mark"

    @property
    def lock(self) -> Path:
        """Held by the running appliance; says its process id. Beside what it guards: `run` differs between logins."""
        return self.data / "appliance.lock"

    @property
    def api_socket(self) -> Path:
        """REST over a UNIX socket."""
        return self.run / "api.sock"

    @property
    def console_socket(self) -> Path:
        """Where further local terminals attach."""
        return self.run / "console.sock"

    @property
    def log_file(self) -> Path:
        """The newest log file."""
        return self.logs / "prime-spark.log"

    def make(self) -> None:
        """Create the directories; private to this user, also where they were there before. Raises OSError."""
        for directory in (self.data, self.run, self.logs):
            make_private(directory)


def make_private(directory: Path) -> None:
    """Make a directory of mode 0700, or take the rights of others away from the one that is there. Raises OSError."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if directory.stat().st_mode & 0o077:
        directory.chmod(0o700)


def find(environ: Mapping[str, str] | None = None, *, root: bool | None = None) -> Paths:
    """The paths for this environment and user."""
    env = os.environ if environ is None else environ
    if env.get("PRIME_SPARK_HOME"):
        home = Path(env["PRIME_SPARK_HOME"]).expanduser().absolute()
        config = Path(env.get("PRIME_SPARK_CONFIG") or home / "config.toml")
        system = Path(env["PRIME_SPARK_SYSTEM"]) if env.get("PRIME_SPARK_SYSTEM") else None
        return Paths(config, None, home / "data", Path(env.get("PRIME_SPARK_RUN") or home / "run"), home / "logs", system)
    if os.geteuid() == 0 if root is None else root:
        return Paths(
            SYSTEM_CONFIG, BOOT_CONFIG, Path("/var/lib/prime-spark"), Path("/run/prime-spark"), Path("/var/log/prime-spark")
        )
    user = Path(env.get("HOME", "~")).expanduser()
    config = Path(env.get("XDG_CONFIG_HOME") or user / ".config") / "prime-spark/config.toml"
    data = Path(env.get("XDG_DATA_HOME") or user / ".local/share") / "prime-spark"
    state = Path(env.get("XDG_STATE_HOME") or user / ".local/state") / "prime-spark"
    run = Path(env.get("XDG_RUNTIME_DIR") or state) / "prime-spark"
    return Paths(config, BOOT_CONFIG, data, run, state)


def socket_address(path: Path) -> str:
    """The path as an address for a UNIX socket, also where it is longer than sun_path's 107 bytes (unix(7)).

    For a long path a descriptor of its directory is opened, and stays open for this process's life.
    """
    if len(os.fsencode(path)) <= 107:
        return str(path)
    descriptor = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    return f"/proc/self/fd/{descriptor}/{path.name}"
