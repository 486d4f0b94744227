"""What operations on agents stand on: this appliance's release, what each machine is told, and the workers' signs of life."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from appliance.core.agents import needs, setup
from appliance.core.agents.payload import Payload, Release, build, libraries_key, release
from appliance.core.agents.target import Target, own
from appliance.core.agents.wheelhouse import Cache
from appliance.core.state import LiveState, Section
from appliance.core.tasks.model import TasksStatus, TransportStatus, Worker, WorkerState
from appliance.errors import AbsentError
from appliance.settings import Settings

LOOK = 0.2
"""Seconds between two looks for a sign of life."""
MIB = 1 << 20


class Depot:
    """One for the appliance; for the core loop.

    Args:
        settings: This appliance's.
        secrets: tasks.key and kafka.password by name; blocks.
        state: Where the workers are seen (Section.tasks).
        folder: Where archives are kept.
        issue: Signs certificates for agents.
    """

    def __init__(
        self, settings: Settings, secrets: Callable[[], dict[str, str]], state: LiveState, folder: Path,
        issue: setup.Issue | None = None,
    ) -> None:  # fmt: skip
        self.settings = settings
        self._secrets, self._issue = secrets, issue
        self._state = state
        self._cache = Cache(folder, settings.agents.cache_mib * MIB)
        self._release: Release | None = None
        self._making = asyncio.Lock()

    async def release(self) -> Release:
        """What is installed. Raises AbsentError where a library is missing here."""
        async with self._making:
            if self._release is None:
                self._release = await asyncio.to_thread(lambda: release(needs.closure(own())))
            return self._release

    async def setup(self, node: str) -> setup.Setup:
        """What the agent of a machine is told. Raises ConfigError, StoreError."""
        return await asyncio.to_thread(lambda: setup.make(node, self.settings, self._secrets(), self._issue))

    async def libraries(self, target: Target) -> str:
        """The key of the libraries on a kind of machine. Raises AbsentError."""
        return await asyncio.to_thread(libraries_key, target)

    async def payload(self, target: Target, note: Callable[[str], None], *, there: bool = False) -> tuple[Payload, str]:
        """The archive for a kind of machine, and how its libraries come: "sent", "index" or "there".

        Args:
            target: The machine.
            note: Told where the way is another one than was tried first.
            there: The libraries lie there already.

        Raises:
            AbsentError: What is needed is not in reach; DiskFullError.
        """
        made, how = await self.release(), self.settings.agents.libraries
        async with self._making:  # many machines of one kind: made once
            if there:
                return await asyncio.to_thread(build, made, target, self._cache, there=True), "there"
            if how != "index":
                try:
                    return await asyncio.to_thread(build, made, target, self._cache), "sent"
                except AbsentError as error:
                    if how == "wheels":
                        raise
                    note(f"{error.message} Its own package index is tried.")
            return await asyncio.to_thread(build, made, target, self._cache, index=True), "index"

    @property
    def transport(self) -> TransportStatus:
        """How signs of life would come."""
        status = self._tasks()
        return TransportStatus() if status is None else status.transport

    def session(self, node: str) -> str:
        """The present life of a machine's worker; empty where none was heard of."""
        worker = self.worker(node)
        return worker.session if worker is not None else ""

    def worker(self, node: str) -> Worker | None:
        """What is known of a machine's worker."""
        status = self._tasks()
        return next((each for each in status.workers if each.name == node and not each.local), None) if status else None

    async def joined(self, node: str, before: str, check: Callable[[], Awaitable[None]]) -> Worker | None:
        """Wait until a worker in another life than `before` gives its sign of life; None where none came in time.

        Args:
            node: Its name.
            before: Session.
            check: Called every few seconds; raises where waiting is of no use any more.
        """
        loop = asyncio.get_running_loop()
        ends = loop.time() + self.settings.agents.join_seconds
        look = loop.time() + 3.0
        while loop.time() < ends:
            worker = self.worker(node)
            if worker is not None and worker.session not in {"", before} and worker.state is WorkerState.ready:
                return worker
            if loop.time() >= look:
                await check()
                look = loop.time() + 3.0
            await asyncio.sleep(LOOK)
        return None

    def _tasks(self) -> TasksStatus | None:
        found: TasksStatus | None = self._state.get(Section.tasks).value
        return found
