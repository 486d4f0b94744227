"""A service whose workers are processes of their own, over a real broker."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from appliance.core.streams.kafka import Access
from appliance.core.tasks.model import WorkerState
from appliance.core.tasks.remote import RemoteWorkers
from appliance.core.tasks.wire import Seal
from appliance.settings import KafkaSettings
from tests.servers.child import Child
from tests.servers.fixtures import Topics
from tests.support import wait_for
from tests.tasks.rig import Rig

KEY = "a-key-of-these-tests"
LEASE: dict[str, Any] = {"lease_seconds": 2.0, "beat_seconds": 0.3}


class FarRig(Rig):
    """The service, and its worker processes."""

    def __init__(self, path: Path, kafka: Topics, **settings: Any) -> None:
        super().__init__(path, **{**LEASE, **settings.pop("service", {})}, **settings)
        self.kafka = kafka
        self.path = path
        self.notes = path / "notes"
        self.workers: dict[str, Child] = {}
        access = Access(KafkaSettings(bootstrap_servers=kafka.bootstrap), "", "test-tasks")
        self.remote = RemoteWorkers(access, self.clock, Seal(KEY.encode()), kafka.prefix + "control", kafka.prefix)
        self.service._ground = dataclasses.replace(self.service._ground, remote=self.remote)

    def launch(self, name: str, limit: int = 3, *, proxied: bool = False, **settings: Any) -> Child:
        """Start a worker."""
        bootstrap = self.kafka.server.bootstrap("PROXIED") if proxied else self.kafka.bootstrap
        given = {
            "name": name, "bootstrap": bootstrap, "key": KEY, "prefix": self.kafka.prefix, "file": str(self.notes),
            "settings": {**LEASE, "limit": limit, **settings},
        }  # fmt: skip
        child = Child(self.path / f"{name}.log")
        child.spawn(
            [sys.executable, "-m", "tests.tasks.child", json.dumps(given)], lambda: True,
            env={"PYTHONPATH": str(Path(__file__).parents[2])},
        )  # fmt: skip
        self.workers[name] = child
        return child

    async def ready(self, *names: str) -> None:
        """Return when these workers are known and live."""

        def live() -> bool:
            members = self.desk.roster.members
            return all(name in members and members[name].worker.state is WorkerState.ready for name in names)

        await wait_for(live, 30.0, f"{names} are ready")

    def noted(self, what: str = "") -> list[dict[str, Any]]:
        """What the workers have written down."""
        lines = self.notes.read_bytes().splitlines() if self.notes.exists() else []
        found = [msgspec.json.decode(line) for line in lines]
        return [each for each in found if not what or each["what"] == what]

    def times(self, what: str) -> Counter[str]:
        """How often that is noted of each task."""
        return Counter(each["task"] for each in self.noted(what))


@asynccontextmanager
async def far(path: Path, kafka: Topics, **settings: Any) -> AsyncIterator[FarRig]:
    """A service that runs, with no worker yet."""
    rig = FarRig(path, kafka, **settings)
    rig.store.open()
    await rig.service.start()
    work = asyncio.create_task(rig.service.run())
    try:
        yield rig
    finally:
        work.cancel()
        await asyncio.wait({work})
        for child in rig.workers.values():
            child.kill()
        await rig.service.stop()
        rig.store.close()
        if not work.cancelled():
            work.result()
