"""Callers that go while a version is being added or activated: it is there whole and known, or not at all."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from appliance.core.inference.registry import deciding, intake, shelf
from appliance.errors import ConflictError, ModelError
from tests.inference.registry_rig import Rig, archive, picture, running, write_model
from tests.support import wait_for


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(Rig(tmp_path / "home")) as found:
        yield found


class Gate:
    """A function that waits in its thread until it is let go."""

    def __init__(self, function: Any) -> None:
        self._function = function
        self.reached, self.open = threading.Event(), threading.Event()

    def __call__(self, *wanted: Any) -> Any:
        self.reached.set()
        assert self.open.wait(20)
        return self._function(*wanted)


async def cancelled_at(gate: Gate, work: Any) -> None:
    """Begin it, and go when it has come to the gate; then let it on."""
    task = asyncio.create_task(work)
    await wait_for(gate.reached.is_set)
    task.cancel()
    await asyncio.sleep(0)
    gate.open.set()
    with pytest.raises(asyncio.CancelledError):
        await task


async def nothing_is_staged(rig: Rig) -> None:
    await wait_for(lambda: not rig.parts.registry._tasks and not list((rig.models / shelf.STAGING).iterdir()))


async def test_a_version_whose_caller_goes_at_the_last_moment_is_there_and_known(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(shelf._sync)
    monkeypatch.setattr(shelf, "_sync", gate)
    await cancelled_at(gate, rig.add("1"))
    await wait_for(lambda: "colours@1" in rig.parts.registry.found)
    await nothing_is_staged(rig)
    await rig.parts.deciding.activate("colours", "1")  # every file of it is there
    assert (await rig.service.infer(picture(), "a.png")).boxes[0].label == "red"


async def test_an_archive_whose_caller_goes_while_it_is_unpacked_leaves_nothing(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = archive(write_model(rig.home / "new", "1"), rig.home / "new.tar")
    gate = Gate(intake.unpack)
    monkeypatch.setattr(intake, "unpack", gate)
    await cancelled_at(gate, rig.parts.intake.add(str(path)))
    await nothing_is_staged(rig)
    assert rig.service.status().models == ()
    await rig.add("1")


async def test_what_serves_is_the_same_in_memory_and_on_disk_though_the_caller_went(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rig.serve("1")
    await rig.add("2")
    records = rig.parts.registry.setup.records
    begun, gone, write = asyncio.Event(), asyncio.Event(), records.write

    async def slow(*wanted: Any, **more: Any) -> None:
        begun.set()
        await gone.wait()
        await write(*wanted, **more)

    monkeypatch.setattr(records, "write", slow)
    task = asyncio.create_task(rig.parts.deciding.activate("colours", "2"))
    await begun.wait()
    task.cancel()
    gone.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert rig.parts.registry.names["colours"] == (await records.names())["colours"]
    assert not rig.parts.registry.changing.locked()
    await rig.parts.deciding.activate("colours", "1")
    assert rig.row("1").active


async def test_a_large_directory_is_removed_beside_the_loop(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[bool] = []
    remove = shelf.shutil.rmtree

    def watched(*wanted: Any, **more: Any) -> None:
        threads.append(threading.current_thread() is threading.main_thread())
        remove(*wanted, **more)

    monkeypatch.setattr(shelf.shutil, "rmtree", watched)
    await rig.add("1")
    await rig.parts.deciding.remove("colours", "1")
    assert threads == [False, False]


class Slow:
    """A proof that waits until it is let go."""

    def __init__(self, version: str) -> None:
        self._version, self._examine = version, deciding.examine
        self.reached, self.open = asyncio.Event(), asyncio.Event()

    async def __call__(self, version: Any, *wanted: Any) -> Any:
        if version.manifest.version == self._version:
            self.reached.set()
            await self.open.wait()
        return await self._examine(version, *wanted)


async def test_a_rollback_does_not_wait_for_another_versions_proof(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    await rig.serve("1")
    await rig.serve("2")
    await rig.add("3")
    slow = Slow("3")
    monkeypatch.setattr(deciding, "examine", slow)
    activating = asyncio.create_task(rig.parts.deciding.activate("colours", "3"))
    await slow.reached.wait()
    await rig.parts.deciding.rollback("colours")
    assert rig.row("1").active
    slow.open.set()
    assert (await activating).previous == "1"


async def test_what_was_removed_while_it_was_proven_is_not_activated(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    await rig.serve("1")
    await rig.add("2")
    slow = Slow("2")
    monkeypatch.setattr(deciding, "examine", slow)
    activating = asyncio.create_task(rig.parts.deciding.activate("colours", "2"))
    await slow.reached.wait()
    await rig.parts.deciding.remove("colours", "2")
    slow.open.set()
    with pytest.raises((ConflictError, ModelError)):
        await activating
    assert rig.row("1").active


async def test_a_canary_that_an_operator_ends_while_it_is_proven_does_not_serve(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rig.serve("1")
    await rig.add("2")
    await rig.parts.deciding.split("colours", "2", "canary", 100.0, until=rig.clock.wall() + 100, wanted=3)
    for number in range(3):
        await rig.service.infer(picture(size=40 + number), "a.png")
    slow = Slow("2")
    monkeypatch.setattr(deciding, "examine", slow)
    looking = asyncio.create_task(rig.parts.updating.look("colours"))
    await slow.reached.wait()
    await rig.parts.deciding.end_split("colours")
    slow.open.set()
    await looking
    assert rig.row("1").active
    assert rig.service.status().splits == ()
