"""WireGuard in a process: wireguard-go, or boringtun where that is installed.

The process is in a session of its own and outlives the appliance: a restart does not drop the tunnel, which is found again by
its socket. (Under systemd that needs KillMode=process in the appliance's unit; else the tunnel is made anew after a restart.)
It ends with its interface. What it says goes to a sealed file in memory: it cannot grow, and nobody need read it.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from appliance.errors import AbsentError, TunnelError
from appliance.hw.wireguard import uapi
from appliance.hw.wireguard.faults import RIGHT, wrapped
from appliance.hw.wireguard.space import Space

SOCKETS = Path("/var/run/wireguard")
"""Where wireguard-go and boringtun make theirs; wg(8) looks there too."""
TUN = Path("/dev/net/tun")
START_SECONDS, END_SECONDS = 5.0, 3.0
SAID_BYTES = 2**14


class Program(NamedTuple):
    """A program that can carry an interface."""

    name: str
    backend: str
    options: tuple[str, ...]
    environ: dict[str, str]


PROGRAMS = (
    Program("wireguard-go", "wireguard-go", ("-f",), {"LOG_LEVEL": "error"}),
    Program("boringtun-cli", "boringtun", ("-f", "--disable-drop-privileges", "-v", "error"), {}),
)
"""In the order in which they are tried."""


def installed() -> tuple[Program, str] | None:
    """The first program that is installed, with its path."""
    for program in PROGRAMS:
        if path := shutil.which(program.name):
            return program, path
    return None


def has_tun() -> bool:
    """Whether there is a TUN device."""
    return TUN.exists()


class Userspace:
    """The process of one interface."""

    def __init__(self, name: str, space: Space, sockets: Path = SOCKETS) -> None:
        self.name, self._space = name, space
        self.path = sockets / f"{name}.sock"
        self._child: int | None = None

    async def backend(self) -> str:
        """Which program carries the interface; empty where none does. Raises TunnelError where we may not ask."""
        self.reap()
        pid = await self._pid()
        if pid is None:
            return ""
        return _backend_of(pid)

    async def start(self) -> str:
        """Start the process and wait until it answers; the program's name.

        Raises:
            AbsentError: There is none to start, or no TUN device.
            TunnelError: It did not start, with what it said.
        """
        found = installed()
        if found is None:
            raise AbsentError("No program here carries WireGuard in user space.", "sudo apt-get install wireguard-go")
        if not has_tun():
            raise AbsentError(f"There is no {TUN}, which {found[0].name} needs.", "sudo modprobe tun")
        program, path = found
        said = _bounded_file(f"{program.name}-{self.name}")
        try:
            await asyncio.to_thread(_clear, self.path)
            self._child = await self._space.run(self._spawner(program, path, said))
            await self._answers(program, said)
        except OSError as error:
            raise wrapped(f"start {program.name} for {self.name}", error) from None
        finally:
            os.close(said)
        return program.backend

    async def stop(self) -> None:
        """End the process, by force where it hangs, and remove its socket."""
        pid = await self._pid()
        if pid is not None and pid not in {0, 1, os.getpid()}:  # 0: one of another PID namespace
            for number, seconds in ((signal.SIGTERM, END_SECONDS), (signal.SIGCONT, 0.0), (signal.SIGKILL, END_SECONDS)):
                _signal(pid, number)
                if seconds and await self._ended(pid, seconds):
                    break
        self.reap()
        self.path.unlink(missing_ok=True)

    def reap(self) -> None:
        """Take leave of a process that we started and that ended."""
        if self._child is not None:
            with contextlib.suppress(ChildProcessError):
                if os.waitpid(self._child, os.WNOHANG)[0] == 0:
                    return
            self._child = None

    async def _pid(self) -> int | None:
        """Who listens on the socket, as the kernel knows; None where nobody does."""
        try:
            return await asyncio.to_thread(_listener, self.path)
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except OSError as error:
            raise TunnelError(f"The socket of {self.name} cannot be used: {error.strerror}.", RIGHT) from None

    def _spawner(self, program: Program, path: str, said: int) -> Callable[[], int]:
        environ = {"PATH": os.environ.get("PATH", os.defpath), **program.environ}
        null, out = (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0), [(os.POSIX_SPAWN_DUP2, said, fd) for fd in (1, 2)]

        def spawn() -> int:
            return os.posix_spawn(
                path, [program.name, *program.options, self.name], environ,
                file_actions=[null, *out], setsid=True, setsigdef=[signal.SIGPIPE, signal.SIGINT],
            )  # fmt: skip

        return spawn

    async def _answers(self, program: Program, said: int) -> None:
        try:
            async with asyncio.timeout(START_SECONDS):
                while self._child is not None:
                    with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                        await uapi.ask(self.path, "get=1\n", START_SECONDS)
                        return
                    await asyncio.sleep(0.004)
                    self.reap()
        except TimeoutError:
            if self._child is not None:
                _signal(self._child, signal.SIGKILL)
                await self._ended(self._child, END_SECONDS)
            self.reap()
            raise TunnelError(f"{program.name} made no socket for {self.name} within {START_SECONDS:g} s.", RIGHT) from None
        words = _last_words(said)
        raise TunnelError(f"{program.name} ended at once: {words or 'it said nothing'}.", RIGHT)

    async def _ended(self, pid: int, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while _alive(pid):
                    await asyncio.sleep(0.005)
                    self.reap()
                return True
        return False


def _listener(path: Path) -> int:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(1.0)
        sock.connect(str(path))
        pid, _, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return int(pid)


def _backend_of(pid: int) -> str:
    """By the process's name; wireguard-go for one that nobody knows. Empty where it ended."""
    with contextlib.suppress(OSError):
        return "boringtun" if "boringtun" in Path(f"/proc/{pid}/comm").read_text() else "wireguard-go"
    return ""


def _clear(path: Path) -> None:
    """Make room for a socket. Raises TunnelError where the directory may not be written: the program would hide that."""
    path.parent.mkdir(mode=0o755, exist_ok=True)
    if not os.access(path.parent, os.W_OK):
        user = os.geteuid()
        raise TunnelError(
            f"The directory {path.parent} of the tunnels' sockets may not be written by this user (uid {user}).",
            f"sudo chown {user} {path.parent}, or RuntimeDirectory=wireguard in the appliance's unit.",
        )
    path.unlink(missing_ok=True)


def _bounded_file(name: str) -> int:
    """A file in memory that cannot grow; writes beyond its end fail, which the program ignores."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, SAID_BYTES)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
    return fd


def _last_words(fd: int) -> str:
    text = os.pread(fd, SAID_BYTES, 0).rstrip(b"\0").decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith(("│", "┌", "└"))]
    return lines[-1] if lines else ""


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
