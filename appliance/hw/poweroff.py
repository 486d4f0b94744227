"""Halts this machine, or starts it again, by systemd or what stands in for it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import Sequence

from appliance.errors import AbsentError, ApplianceError, DeviceError

LIMIT = 10.0
"""Seconds for one command."""
LOGIN = "org.freedesktop.login1"
ASK = ("busctl", "--system", "call", LOGIN, "/org/freedesktop/login1", f"{LOGIN}.Manager")
"""Asks logind (org.freedesktop.login1(5)) whether this user may: it answers `s "yes"`."""


def _step(may: str) -> str:
    return f"run the appliance as root, or allow its user {LOGIN}.{may} in a polkit rule (docs/power.md has one)."


class Poweroff:
    """This machine (implements ports.Host).

    Args:
        path: Where commands are looked for; None for the environment's PATH.
    """

    def __init__(self, path: str | None = None) -> None:
        self._order = _Order(path, "poweroff", "halt", "CanPowerOff", "power-off")

    async def missing(self) -> str:
        """Why it cannot be halted from here."""
        return await self._order.missing()

    async def halt(self) -> str:
        """Begin the halt. Raises AbsentError, DeviceError."""
        return await self._order.give()


class Restart:
    """This machine, to be started again (implements ports.Restarter).

    Args:
        path: Where commands are looked for; None for the environment's PATH.
    """

    def __init__(self, path: str | None = None) -> None:
        self._order = _Order(path, "reboot", "restart", "CanReboot", "reboot")

    async def missing(self) -> str:
        """Why it cannot be started again from here."""
        return await self._order.missing()

    async def restart(self) -> str:
        """Begin the restart. Raises AbsentError, DeviceError."""
        return await self._order.give()


class _Order:
    """One of logind's orders."""

    def __init__(self, path: str | None, verb: str, does: str, can: str, may: str) -> None:
        self._path, self._verb, self._does, self._can, self._step = path, verb, does, can, _step(may)

    async def missing(self) -> str:
        try:
            self._command()
            await self._allowed()
        except ApplianceError as error:  # also a busctl that cannot be run, or does not answer
            return str(error)
        return ""

    async def give(self) -> str:
        command = self._command()
        await self._allowed()
        status, said = await _ran(command, self._step)
        if status:
            raise DeviceError(f"{command[0]} did not {self._does} this machine: {said or f'exit status {status}'}.", self._step)
        return f"{' '.join(command)} was carried out"

    def _command(self) -> Sequence[str]:
        """The one of systemd where it runs, else the plain one."""
        if os.path.isdir("/run/systemd/system") and (found := shutil.which("systemctl", path=self._path)):  # noqa: PTH112
            return (found, self._verb)
        if found := shutil.which(self._verb, path=self._path):
            return (found,)
        step = f"install one, or {self._does} it by hand."
        raise AbsentError(f"This machine has neither a running systemd nor {self._verb}.", step)

    async def _allowed(self) -> None:
        if os.geteuid() == 0:
            return
        asker = shutil.which(ASK[0], path=self._path)
        answer = (await _ran((asker, *ASK[1:], self._can), self._step))[1] if asker is not None else ""
        if '"yes"' not in answer:
            raise AbsentError(f"This user may not {self._does} this machine.", self._step)


async def _ran(command: Sequence[str], step: str) -> tuple[int, str]:
    """Exit status, and what it said. Raises DeviceError."""
    pipe, none = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    try:
        child = await asyncio.create_subprocess_exec(*command, stdin=none, stdout=pipe, stderr=asyncio.subprocess.STDOUT)
    except OSError as error:
        raise DeviceError(f"{command[0]} cannot be run: {error.strerror}.", step) from error
    try:
        said, _ = await asyncio.wait_for(child.communicate(), LIMIT)
    except TimeoutError as error:
        raise DeviceError(f"{command[0]} did not end within {LIMIT:g} s.", "look at this machine; see the log.") from error
    finally:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()
    return child.returncode or 0, said.decode(errors="replace").strip()[:300]
