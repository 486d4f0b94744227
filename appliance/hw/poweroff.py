"""Halts this machine, by systemd or what stands in for it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import Sequence

from appliance.errors import AbsentError, ApplianceError, DeviceError

LIMIT = 10.0
"""Seconds for one command."""
STEP = "run the appliance as root, or allow its user org.freedesktop.login1.power-off in a polkit rule (docs/power.md has one)."
CAN = (
    "busctl", "--system", "call", "org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager",
    "CanPowerOff",
)  # fmt: skip
"""Asks logind (org.freedesktop.login1(5)) whether this user may: it answers `s "yes"`."""


class Poweroff:
    """This machine (implements ports.Host).

    Args:
        path: Where commands are looked for; None for the environment's PATH.
    """

    def __init__(self, path: str | None = None) -> None:
        self._path = path

    async def missing(self) -> str:
        """Why it cannot be halted from here."""
        try:
            self._command()
            await self._allowed()
        except ApplianceError as error:  # also a busctl that cannot be run, or does not answer
            return str(error)
        return ""

    async def halt(self) -> str:
        """Begin the halt. Raises AbsentError, DeviceError."""
        command = self._command()
        await self._allowed()
        status, said = await _ran(command)
        if status:
            raise DeviceError(f"{command[0]} did not halt this machine: {said or f'exit status {status}'}.", STEP)
        return f"{' '.join(command)} was carried out"

    def _command(self) -> Sequence[str]:
        """The one of systemd where it runs, else the plain one."""
        if os.path.isdir("/run/systemd/system") and (found := shutil.which("systemctl", path=self._path)):  # noqa: PTH112
            return (found, "poweroff")
        if found := shutil.which("poweroff", path=self._path):
            return (found,)
        raise AbsentError("This machine has neither a running systemd nor poweroff.", "install one, or halt it by hand.")

    async def _allowed(self) -> None:
        if os.geteuid() == 0:
            return
        asker = shutil.which(CAN[0], path=self._path)
        answer = (await _ran((asker, *CAN[1:])))[1] if asker is not None else ""
        if '"yes"' not in answer:
            raise AbsentError("This user may not halt this machine.", STEP)


async def _ran(command: Sequence[str]) -> tuple[int, str]:
    """Exit status, and what it said. Raises DeviceError."""
    pipe, none = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    try:
        child = await asyncio.create_subprocess_exec(*command, stdin=none, stdout=pipe, stderr=asyncio.subprocess.STDOUT)
    except OSError as error:
        raise DeviceError(f"{command[0]} cannot be run: {error.strerror}.", STEP) from error
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
