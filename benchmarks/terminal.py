"""A real appliance on a pseudo-terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path
from types import TracebackType

import psutil

from appliance.errors import ApplianceError
from appliance.verbs.client import SocketClient

BYTECODE = Path(tempfile.gettempdir()) / f"prime-spark-bytecode-{os.getuid()}"
"""Kept between starts, as an installed program's is, whatever the environment of whoever measures says."""


class OnTerminal:
    """A program on an 80 x 24 terminal of its own, from start to SIGTERM.

    Args:
        command: What to run.
        home: PRIME_SPARK_HOME of it.
    """

    def __init__(self, command: list[str], home: Path) -> None:
        self.command = command
        self.home = home

    def __enter__(self) -> OnTerminal:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        env = {**os.environ, "PRIME_SPARK_HOME": str(self.home), "TERM": "xterm-256color", "COLORTERM": "truecolor"}
        env["PYTHONPYCACHEPREFIX"] = str(BYTECODE)
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        self.began = time.perf_counter()
        self.process = subprocess.Popen(self.command, stdin=slave, stdout=slave, stderr=slave, env=env, start_new_session=True)
        os.close(slave)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.process.terminate()
        while self.process.poll() is None:
            self.read(0.05)
        os.close(self.master)

    def read(self, seconds: float) -> bytes:
        """What it writes within some seconds, or nothing."""
        ready, _, _ = select.select([self.master], [], [], seconds)
        try:
            return os.read(self.master, 65536) if ready else b""
        except OSError:  # it closed the terminal
            return b""

    def until(self, text: bytes, limit: float = 20.0) -> float:
        """Seconds since the start until it has written a text. Raises TimeoutError."""
        seen = b""
        while time.perf_counter() - self.began < limit:
            seen += self.read(0.02)
            if text in seen:
                return time.perf_counter() - self.began
        raise TimeoutError(f"{self.command[0]} did not write {text!r} within {limit:g} s")

    def drain(self, seconds: float) -> None:
        """Read for some seconds."""
        ends = time.perf_counter() + seconds
        while time.perf_counter() < ends:
            self.read(0.1)

    def idle(self, seconds: float) -> tuple[float, float]:
        """(percent of one core, RSS in MB) over some seconds."""
        process = psutil.Process(self.process.pid)
        before, began = process.cpu_times(), time.perf_counter()
        self.drain(seconds)
        after = process.cpu_times()
        used = after.user + after.system - before.user - before.system
        return 100 * used / (time.perf_counter() - began), process.memory_info().rss / 1e6

    def services_up(self) -> float:
        """Seconds since the start until every service was tried."""
        client = SocketClient(self.home / "run/api.sock")
        while True:
            self.read(0.01)
            try:
                if all(each["phase"] not in {"waiting", "starting"} for each in client.invoke("service.list", {})):
                    return time.perf_counter() - self.began
            except ApplianceError:
                continue


def appliance(home: Path, *verb: str) -> OnTerminal:
    """This appliance, set up, with a free SSH port."""
    (home / "config.toml").write_text("[ssh]\nport = 0\n")
    return OnTerminal([str(Path(sys.executable).with_name("prime-spark")), *verb], home)


def new_home() -> tempfile.TemporaryDirectory[str]:
    """A directory that goes away."""
    return tempfile.TemporaryDirectory(prefix="spark-bench-")
