"""What hangs holds no action up, and all steps of the appliance's end share one deadline."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest

from appliance import paths
from appliance.core.actions import Action, ActionRegistry, Invocation
from appliance.core.dispatch import Dispatcher
from appliance.core.logs import LogRing
from appliance.core.model import Actor, Role
from appliance.errors import (
    ActionError,
    ConflictError,
    NotAuthorizedError,
    StoreError,
)
from appliance.runtime import Appliance
from appliance.settings import Settings
from tests.support import wait_for

ADMIN = Actor("ada", Role.admin, "socket")
VIEWER = Actor("vic", Role.viewer, "ssh", "10.0.0.7")


class Hanging:
    """An audit whose disk hangs from the nth row on."""

    def __init__(self, good: int) -> None:
        self._good = good

    async def record(self, *_: object) -> None:
        self._good -= 1
        if self._good < 0:
            await asyncio.Event().wait()


async def test_an_audit_that_hangs_hangs_no_action() -> None:
    done: list[int] = []

    async def act(_: Any, __: Any) -> None:
        done.append(1)

    registry = ActionRegistry()
    registry.add(Action("a.act", "A", act))
    with pytest.raises(StoreError, match="took no row"):
        await asyncio.wait_for(Dispatcher(registry, Hanging(0), 0.05).invoke("a.act", {}, ADMIN), 10)
    assert done == []
    with pytest.raises(ActionError, match="was done, but its end is not in the audit"):
        await asyncio.wait_for(Dispatcher(registry, Hanging(1), 0.05).invoke("a.act", {}, ADMIN), 10)
    assert done == [1]
    with pytest.raises(NotAuthorizedError):
        await asyncio.wait_for(Dispatcher(registry, Hanging(0), 0.05).invoke("a.act", {}, VIEWER), 10)


async def test_nothing_is_begun_any_more_once_the_appliance_stops() -> None:
    done: list[str] = []

    async def act(call: Invocation, __: Any) -> None:
        done.append(call.action)

    registry, stopping = ActionRegistry(), asyncio.Event()
    registry.add(Action("a.act", "A", act), Action("a.look", "L", act, query=True))
    dispatcher = Dispatcher(registry, Hanging(9), closed=stopping.is_set)
    await dispatcher.invoke("a.act", {}, ADMIN)
    stopping.set()
    with pytest.raises(ConflictError, match="stopping"):
        await dispatcher.invoke("a.act", {}, ADMIN)
    await dispatcher.invoke("a.look", {}, ADMIN)
    assert done == ["a.act", "a.look"]


class Remaining:
    """A supervisor that notes how many seconds it was left."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def stop(self, deadline: float) -> None:
        self.seconds.append(deadline)


async def test_all_steps_of_the_end_share_one_deadline(tmp_path: Path) -> None:
    """An action and a job that both ignore their cancellation leave the services what remains, never more."""
    where = paths.find({"PRIME_SPARK_HOME": str(tmp_path)})
    where.make()
    appliance = Appliance(Settings(), where, LogRing(), {})
    appliance.store.open()
    gate, begun = asyncio.Event(), []

    async def stubborn(*_: Any) -> None:
        begun.append(1)
        while not gate.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await gate.wait()

    appliance.registry.add(Action("a.act", "A", stubborn))
    acting = asyncio.create_task(appliance.dispatcher.invoke("a.act", {}, ADMIN))
    job = await appliance.jobs.submit("job", "ada", stubborn)
    await wait_for(lambda: len(begun) == 2)
    left = Remaining()
    appliance.supervisor = left  # type: ignore[assignment]
    await asyncio.wait_for(appliance.stop(0.4), 10)
    with pytest.raises(ConflictError, match="stopping"):
        await appliance.dispatcher.invoke("a.act", {}, ADMIN)
    gate.set()
    await asyncio.gather(acting, appliance.jobs.wait(job.job_id), return_exceptions=True)
    await asyncio.to_thread(appliance.store.close)
    assert 0 < left.seconds[0] <= 0.3
