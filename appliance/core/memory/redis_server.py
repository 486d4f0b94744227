"""A private redis-server on a UNIX socket, for machines where none is configured: it lives and dies with the appliance."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from pathlib import Path

from appliance.core.model import Health, HealthReport
from appliance.errors import AbsentError, TierUnavailableError

READY = 5.0
"""Seconds until its socket must be there."""


def installed() -> str | None:
    """The program, or None where Redis is not installed."""
    return shutil.which("redis-server")


class RedisServer:
    """The child process (implements ports.Service).

    Args:
        socket: Where it listens; only this user can reach it.
        max_memory: As Redis has it, such as "2gb".
        policy: maxmemory-policy.
    """

    name = "redis"
    summary = "Runs a private redis-server as tier 1 of the memory"
    depends: tuple[str, ...] = ()

    def __init__(self, socket: Path, max_memory: str, policy: str) -> None:
        self._socket = socket
        self._max_memory = max_memory
        self._policy = policy
        self._process: asyncio.subprocess.Process | None = None
        self._said: asyncio.Task[None] | None = None
        self._last = ""

    async def start(self) -> None:
        """Start it, and wait for its socket.

        Raises:
            AbsentError: Redis is not installed.
            TierUnavailableError: It ended, or was not ready in time.
        """
        program = installed()
        if program is None:
            raise AbsentError(
                "redis-server is not installed; tier 1 is a part of this process.", "sudo apt-get install redis-server"
            )
        self._socket.unlink(missing_ok=True)
        self._process = await asyncio.create_subprocess_exec(
            *tied_to_us(), program, *self._options(), stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT, start_new_session=True, cwd=self._socket.parent,
        )  # fmt: skip
        self._said = asyncio.create_task(self._listen(self._process))
        try:
            async with asyncio.timeout(READY):
                while not self._socket.exists():
                    if self._process.returncode is not None:
                        raise self._ended()
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise TierUnavailableError(f"redis-server was not ready within {READY:g} s: {self._last}", "see the log.") from None

    def _options(self) -> list[str]:
        return [
            "--port", "0", "--unixsocket", self._socket.name, "--unixsocketperm", "700", "--save", "", "--appendonly", "no",
            "--daemonize", "no", "--maxmemory", self._max_memory, "--maxmemory-policy", self._policy,
            "--maxmemory-samples", "10", "--logfile", "", "--lazyfree-lazy-eviction", "yes",
        ]  # fmt: skip

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        """Read what it says, so that its pipe never fills; the last line tells why it ended."""
        if process.stdout is not None:
            async for line in process.stdout:
                self._last = line.decode(errors="replace").strip()[:200]

    async def run(self) -> None:
        """Wait for its end, which is a failure. Raises TierUnavailableError."""
        if self._process is not None:
            await self._process.wait()
            raise self._ended()

    def _ended(self) -> TierUnavailableError:
        code = self._process.returncode if self._process is not None else None
        return TierUnavailableError(f"redis-server ended with {code}: {self._last}", "it is started again by itself.")

    async def stop(self) -> None:
        """End it."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.terminate()
            try:
                async with asyncio.timeout(2.0):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        if self._said is not None:
            self._said.cancel()
            self._said = None
        with contextlib.suppress(OSError):
            self._socket.unlink(missing_ok=True)

    async def health(self) -> HealthReport:
        """Whether the process lives; the memory asks it more."""
        if self._process is None or self._process.returncode is not None:
            return HealthReport(Health.unhealthy, "redis-server is not running", "it is started again by itself.")
        return HealthReport(Health.healthy, f"process {self._process.pid}, at most {self._max_memory}, {self._policy}")


def tied_to_us() -> list[str]:
    """The command that makes a child end with this process, kill -9 included (prctl(2), PR_SET_PDEATHSIG; in util-linux)."""
    program = shutil.which("setpriv")
    return [program, "--pdeathsig", "KILL", "--"] if program else []
