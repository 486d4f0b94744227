"""PostgreSQL as an instance of the test's own, never as root."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from tests.servers.child import Server, ServerError
from tests.support import capability, free_port

HOME = Path("/usr/lib/postgresql")  # Debian's: one directory for each major version
USER = "postgres"


def programs() -> Path:
    """The directory of initdb, postgres and createdb of the newest version here; see capability where there is none."""
    found = sorted((each.parent for each in HOME.glob("*/bin/initdb")), key=lambda each: float(each.parent.name))
    capability(bool(found), "PostgreSQL")
    return found[-1]


def servant() -> str | None:
    """The user to run as: PostgreSQL refuses root."""
    return USER if os.geteuid() == 0 else None


def private_directory() -> Path:
    """A new directory that PostgreSQL's user can reach; pytest's own are closed to others. Remove it yourself."""
    directory = Path(tempfile.mkdtemp(prefix="prime-spark-postgres-"))
    directory.chmod(0o711)
    return directory


def make_template(directory: Path) -> Path:
    """An initialised data directory to copy (seconds once, instead of for each server), made in `directory`."""
    template = directory / "template"
    home = private_directory()
    try:
        user = servant()
        if user:
            shutil.chown(home, user, user)
        as_user = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--"] if user else []
        options = ["-A", "trust", "-U", USER, "-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "--wal-segsize=4"]
        command = [*as_user, str(programs() / "initdb"), *options, "-D", str(home / "data")]
        done = subprocess.run(command, capture_output=True, text=True, cwd=home, check=False)
        if done.returncode:
            raise ServerError(f"initdb ended with {done.returncode}\n{done.stdout}{done.stderr}")
        subprocess.run(["mv", str(home / "data"), str(template)], check=True)  # keeps the owner, across file systems too
    finally:
        shutil.rmtree(home)
    return template


class PostgresServer(Server):
    """A postgres on an ephemeral port of loopback.

    Args:
        directory: of its own, reachable by the user postgres where the test runs as root (see private_directory).
        template: what make_template made, or None to initialise.
        fsync: whether commits wait for the disk; off, a test is quicker, and a killed server (not machine) loses nothing.
    """

    def __init__(self, directory: Path, template: Path | None = None, *, fsync: bool = False) -> None:
        super().__init__(directory, "postgres")
        self.template = template
        self.fsync = fsync
        self.data = directory / "data"
        self.port = free_port()

    def dsn(self, database: str = "postgres") -> str:
        """What asyncpg connects to."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start it, after making its data directory the first time; returns when it accepts connections."""
        if not self.data.exists():
            self._make_data()
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "fsync": "on" if self.fsync else "off",
            "max_connections": "50",
            "shared_buffers": "32MB",
            "log_line_prefix": "%m [%p] ",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = [str(programs() / "postgres"), "-D", str(self.data), *options]
        self.child.spawn(command, self._ready, user=servant(), env={"LC_ALL": "C.UTF-8"})

    def _make_data(self) -> None:
        if self.template is None:
            make_template(self.directory).rename(self.data)
        else:
            subprocess.run(["cp", "-a", "--reflink=auto", str(self.template), str(self.data)], check=True)

    def _ready(self) -> bool:
        # The eighth line of this file is what pg_ctl waits for; the first tells it from that of one that was killed.
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0] == str(self.child.pid) and lines[7].strip() == "ready"

    def stop(self) -> None:
        """End it in its "fast" way: connections are closed, all is written."""
        self.child.stop(signal.SIGINT)

    def create_database(self, name: str) -> str:
        """Make an empty database (lower-case letters, digits, underscores) and return its DSN."""
        self._tool("createdb", name)
        return self.dsn(name)

    def drop_database(self, name: str) -> None:
        """Remove a database, with the connections to it."""
        self._tool("dropdb", name, "--force")

    def _tool(self, program: str, name: str, *options: str) -> None:
        if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", name):
            raise ValueError(f"not a plain name of a database: {name!r}")
        where = ["-h", "127.0.0.1", "-p", str(self.port), "-U", USER, "-w"]
        command = [str(programs() / program), *where, *options, name]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        if done.returncode:
            raise ServerError(f"{program} {name}: {done.stderr}\n{self.child.tail()}")
