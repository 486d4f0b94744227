"""All units of a node: what was loaded, what is started at boot, and how the node goes down."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

from tests.lab.inside.journal import Journal
from tests.lab.inside.processes import Processes, name_of, send
from tests.lab.inside.service import Service, StartError
from tests.lab.inside.unitfile import Folders, UnitError, UnitFile, full_name

BOOT = "multi-user.target"
GRACE = 5.0
"""Seconds that services have to end when the node goes down."""


class Manager:
    """The units.

    Args:
        folders: Their files.
        boot: This boot's id.
    """

    def __init__(self, folders: Folders, boot: str) -> None:
        self.folders, self.journal = folders, Journal(boot)
        self.services: dict[str, Service] = {}
        self.processes = Processes()
        self.down: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """"poweroff" or "reboot", once somebody wants it."""
        self.planned: asyncio.TimerHandle | None = None
        self.booted = time.time()

    def said(self, unit: str, name: str, pid: int, text: str) -> None:
        """Keep a line."""
        self.journal.write(unit, name if pid == 1 else name_of(pid) or name, pid, text)

    def load(self, name: str) -> Service:
        """A unit, read from its files where it was not yet."""
        name = full_name(name)
        if name in self.services:
            return self.services[name]
        file = self._read(name)
        if file.name in self.services:
            return self.services[file.name]
        made = Service(file, self.processes, self.said)
        if file.path:
            self.services[file.name] = made
        return made

    def _read(self, name: str) -> UnitFile:
        try:
            return self.folders.load(name)
        except (UnitError, OSError) as error:
            self.said(name, "systemd", 1, f"{name}: {error}")
            return UnitFile(name, None)

    def reload(self) -> None:
        """Read all files again; units that are gone and do not run are forgotten."""
        for name, service in list(self.services.items()):
            service.file = self._read(name)
            if service.file.path is None and service.active in ("inactive", "failed"):
                del self.services[name]

    async def start(self, name: str, *, asked: frozenset[str] = frozenset()) -> None:
        """Start a unit and what it needs. Raises StartError."""
        service = self.load(name)
        if service.file.masked:
            raise StartError(f"Unit {service.name} is masked.")
        for need in service.file.words("Requires", "Unit") + service.file.words("BindsTo", "Unit"):
            if need not in asked and not need.endswith((".target", ".slice", ".mount", ".socket")):
                await self.start(need, asked=asked | {service.name})
        await service.start()

    async def boot(self) -> None:
        """Start what is enabled; units that are to come after others wait for those."""
        wanted = {self.load(name).name for name in self.folders.enabled_for(BOOT)}
        begun: dict[str, asyncio.Task[None]] = {}

        async def after_its_turn(name: str) -> None:
            before = [begun[each] for each in self.load(name).file.words("After", "Unit") if each in begun and each != name]
            if before:
                await asyncio.wait(before)
            await self.start(name)

        for name in wanted:
            begun[name] = asyncio.create_task(after_its_turn(name))
        for name, task in begun.items():
            try:
                await task
            except StartError as error:
                self.said(name, "systemd", 1, f"Failed to start {name}: {error}")

    def schedule(self, what: str, delay: float) -> None:
        """Go down after so many seconds; replaces an earlier plan."""
        self.cancel()
        self.planned = asyncio.get_running_loop().call_later(delay, self._go, what)

    def cancel(self) -> None:
        """Forget that plan."""
        if self.planned is not None:
            self.planned.cancel()
            self.planned = None

    def _go(self, what: str) -> None:
        if not self.down.done():
            self.down.set_result(what)

    async def end(self) -> None:
        """Stop all services, then everything else."""
        running = [service.stop() for service in self.services.values() if service.active in ("active", "activating")]
        if running:
            tasks = [asyncio.ensure_future(each) for each in running]
            await asyncio.wait(tasks, timeout=GRACE)
        for number, seconds in ((signal.SIGTERM, 0.5), (signal.SIGKILL, 2.0)):
            ends = time.monotonic() + seconds
            send(others(), number)
            while others() and time.monotonic() < ends:
                self.processes.reap()
                await asyncio.sleep(0.01)


def others() -> list[int]:
    """Every process but this one."""
    return [int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit() and entry.name != "1"]


def boot_id() -> str:
    """Of this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
