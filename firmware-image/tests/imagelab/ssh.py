"""Logins over SSH by OpenSSH's client: commands, and programs on a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import threading
import time
from pathlib import Path
from types import TracebackType

from imagelab.run import run
from imagelab.screen import Screen

OPTIONS = {
    "BatchMode": "yes",
    "StrictHostKeyChecking": "accept-new",
    "ConnectTimeout": "20",
    "ServerAliveInterval": "15",
    "LogLevel": "ERROR",
    "IdentitiesOnly": "yes",
    "PasswordAuthentication": "no",
}


class RefusedError(AssertionError):
    """The login, or the command, failed."""


class Login:
    """Somebody with a key.

    Args:
        home: A directory of theirs: the key and the hosts that they know.
        user: Their name on the machines.
    """

    def __init__(self, home: Path, user: str) -> None:
        self.home, self.user = home, user
        self.key = home / "key"
        home.mkdir(parents=True, exist_ok=True)
        if not self.key.exists():
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"{user}@example.net", "-f", str(self.key))

    @property
    def public(self) -> str:
        """The line of authorized_keys."""
        return self.key.with_suffix(".pub").read_text().strip()

    def command(self, port: int, *words: str) -> list[str]:
        """OpenSSH's client, started with nothing of this machine's own configuration."""
        known = self.home / "known_hosts"
        options = [f"-o{key}={value}" for key, value in (OPTIONS | {"UserKnownHostsFile": str(known)}).items()]
        return ["ssh", "-F", "none", "-i", str(self.key), *options, "-p", str(port), *words]

    def forget(self) -> None:
        """Forget the hosts that were met: the ports are other machines' now."""
        (self.home / "known_hosts").unlink(missing_ok=True)

    def try_run(self, port: int, line: str, limit: float = 120.0, stdin: bytes | None = None) -> tuple[int, str, str]:
        """A command's code, output and errors; code 255 is a login that failed."""
        command = self.command(port, f"{self.user}@127.0.0.1", line)
        done = subprocess.run(command, capture_output=True, check=False, timeout=limit, input=stdin or b"")
        return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")

    def run(self, port: int, line: str, limit: float = 120.0, stdin: bytes | None = None) -> str:
        """A command's output. Raises RefusedError where it does not end with 0."""
        code, out, errors = self.try_run(port, line, limit, stdin)
        if code:
            raise RefusedError(f"{line} ended with {code}\n{out}{errors}")
        return out

    def wait(self, port: int, line: str = "true", limit: float = 300.0) -> str:
        """A command's output as soon as it ends with 0. Raises RefusedError with the last fault after `limit` seconds."""
        ends = time.monotonic() + limit
        while True:
            try:
                return self.run(port, line, limit=60)
            except (RefusedError, subprocess.TimeoutExpired) as error:
                if time.monotonic() > ends:
                    raise RefusedError(f"not within {limit:g} s: {error}") from error
                time.sleep(1)

    def terminal(self, port: int, *words: str, columns: int = 80, lines: int = 24) -> SshTerminal:
        """A login with a terminal, for `with`."""
        return SshTerminal(self.command(port, "-tt", f"{self.user}@127.0.0.1", *words), columns, lines)


class SshTerminal:
    """A program at the other end of an SSH connection, on a screen of its own."""

    def __init__(self, command: list[str], columns: int, lines: int) -> None:
        self._command, self._size = command, (lines, columns)
        self.screen = Screen(self._type, columns, lines)

    def __enter__(self) -> Screen:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", *self._size, 0, 0))
        env = os.environ | {"TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
        self._process = subprocess.Popen(
            self._command, stdin=slave, stdout=slave, stderr=slave, env=env, start_new_session=True
        )
        os.close(slave)
        self._stop = threading.Event()
        self._reader = threading.Thread(target=self._read, name="ssh", daemon=True)
        self._reader.start()
        return self.screen

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait(10)
        self._stop.set()
        self._reader.join(10)
        os.close(self._master)

    def _type(self, data: bytes) -> None:
        os.write(self._master, data)

    def _read(self) -> None:
        while not self._stop.is_set():
            ready, _, _ = select.select([self._master], [], [], 0.2)
            try:
                data = os.read(self._master, 65536) if ready else None
            except OSError:  # the other side closed it
                data = b""
            if data is not None:
                self.screen.feed(data)
            if data == b"":
                return
