"""What the record of an operation says after an end and after a kill; and its order, whatever fails."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.core.fleet.operations.model import Stage
from appliance.core.fleet.operations.operation import Way
from tests.fleet.ops.local import Fleet, journal, values
from tests.fleet.ops.rig import Rig, folders, known, states
from tests.support import wait_for

NAMES = ["a", "b", "c", "d"]


@pytest.fixture(autouse=True)
def own_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    known(monkeypatch)


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return folders(tmp_path / "nodes", *NAMES)


async def test_the_end_of_the_appliance_interrupts_it(tmp_path: Path, fleet: Fleet) -> None:
    rig = Rig(tmp_path, fleet, fleet)
    await rig.start()
    (fleet.root / "b/hang").touch()
    planned = await rig.service.plan("rig.set", {"value": "new"}, ["all"], Way(soak=0.0, parallel=1), "alice")
    await rig.service.apply(planned.operation_id, "alice")
    await wait_for(lambda: "do b" in journal(fleet))
    await rig.stop()
    rig = Rig(tmp_path, fleet, fleet)
    await rig.start()
    ended = rig.service.all()[0]
    assert (ended.stage, states(ended)) == (Stage.interrupted, {"a": "ok", "b": "unknown", "c": "skipped", "d": "skipped"})
    assert journal(fleet) == ["do a", "do b"]
    await rig.stop()


async def test_after_a_kill_the_record_says_what_was_done_where_and_takes_it_back(tmp_path: Path) -> None:
    fleet = folders(tmp_path / "nodes", "a", "b", "c")
    for name in ("b", "c"):
        (fleet.root / name / "hang").touch()
    (fleet.root / "a/value").write_text("old\n")
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.fleet.ops.killed", str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    try:
        operation_id = (await child.stdout.readline()).decode().strip()
        await wait_for(lambda: len(journal(fleet)) == 3, 20.0)
    finally:
        child.kill()
        await child.wait()
        for name in ("b", "c"):
            (fleet.root / name / "hang").unlink()
    rig = Rig(tmp_path, fleet, fleet)
    await rig.start()
    ended = await rig.service.get(operation_id)
    assert (ended.stage, states(ended)) == (Stage.interrupted, {"a": "ok", "b": "unknown", "c": "unknown"})
    assert rig.locks.holder("a") is None
    await rig.service.undo(operation_id, "bob")
    back = await rig.service.wait(operation_id)
    assert (back.stage, states(back)) == (Stage.undone, dict.fromkeys("abc", "undone"))
    assert values(fleet) == {"a": "old"}
    assert journal(fleet)[-1] == "undo a"
    await rig.stop()


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    bad=st.sets(st.integers(0, 5)), dead=st.sets(st.integers(0, 5)), canary=st.integers(0, 3), parallel=st.integers(1, 4),
    most=st.integers(0, 2),
)  # fmt: skip
async def test_whatever_fails_the_order_holds(
    tmp_path_factory: pytest.TempPathFactory, bad: set[int], dead: set[int], canary: int, parallel: int, most: int
) -> None:
    root, names = tmp_path_factory.mktemp("order"), [f"n{index}" for index in range(6)]
    fleet = folders(root / "nodes", *names)
    for index in bad:
        (fleet.root / names[index] / "bad").touch()
    rig = Rig(root, fleet, fleet)
    await rig.start()
    way = Way(canary=canary, soak=0.0, parallel=parallel, max_failures=most, limit=20.0)
    planned = await rig.service.plan("rig.set", {"value": "new"}, ["all"], way, "alice")
    fleet.dead.update(names[index] for index in dead)
    await rig.service.apply(planned.operation_id, "alice")
    ended = await rig.service.wait(planned.operation_id)
    fleet.dead.clear()
    did = [line.split()[1] for line in journal(fleet) if line.startswith("do ")]
    back = [line.split()[1] for line in journal(fleet) if line.startswith("undo ")]
    live = [name for index, name in enumerate(names) if index not in dead]
    failing = [name for name in did if int(name[1:]) in bad]
    assert not set(did) & {names[index] for index in dead}
    assert set(did[:canary]) == set(live[: len(did[:canary])])  # those that go first are the first that answer
    if canary and set(live[:canary]) & set(failing):
        assert set(did) <= set(live[:canary])  # none of the rest was touched
    if ended.stage is Stage.completed:
        assert len(failing) <= most
        assert set(did) == set(live)
        assert not back
    elif did:
        assert ended.stage is Stage.undone
        assert sorted(back) == sorted(did)
        order = {run.node: run.started or 0.0 for run in ended.runs}
        assert [order[name] for name in back] == sorted((order[name] for name in back), reverse=True)
        assert not values(fleet)
    assert len(failing) <= most + max(parallel, canary)
    await rig.stop()
