"""The order of an operation: some first, a while of watching, the rest, and back; and what the record says after a kill."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from appliance.core.fleet.model import Node
from appliance.core.fleet.operations.model import RunState, Stage
from appliance.core.fleet.operations.operation import Way
from appliance.core.fleet.operations.record import KeptRun
from appliance.core.state import Section
from appliance.errors import ConflictError, DiskFullError, InvalidArgumentsError, NotFoundError, PreconditionError
from tests.fleet.ops.local import Fleet, journal, values
from tests.fleet.ops.rig import QUICK, Rig, SetValue, folders, known, states
from tests.support import ManualClock, wait_for

NAMES = ["a", "b", "c", "d"]


@pytest.fixture(autouse=True)
def own_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    known(monkeypatch)


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return folders(tmp_path / "nodes", *NAMES)


@pytest.fixture
async def rig(tmp_path: Path, fleet: Fleet) -> AsyncIterator[Rig]:
    made = Rig(tmp_path, fleet, fleet)
    await made.start()
    yield made
    await made.stop()


async def test_one_goes_first_and_the_rest_follows(rig: Rig, fleet: Fleet) -> None:
    planned = await rig.service.plan("rig.set", {"value": "new"}, ["all"], QUICK, "alice")
    assert planned.stage is Stage.planned
    assert {run.diff for run in planned.runs} == {"- none\n+ new"}
    assert planned.undoable
    assert not journal(fleet)
    await rig.service.apply(planned.operation_id, "alice", plan_hash=planned.plan_hash)
    ended = await rig.service.wait(planned.operation_id)
    assert (ended.stage, states(ended)) == (Stage.completed, dict.fromkeys(NAMES, "ok"))
    assert [run.node for run in ended.runs if run.canary] == ["a"]
    assert journal(fleet)[0] == "do a"
    assert values(fleet) == dict.fromkeys(NAMES, "new")
    assert rig.state.get(Section.operations).value[0].operation_id == ended.operation_id
    assert rig.events[0]["stage"] == "completed"
    again = await rig.service.plan("rig.set", {"value": "new"}, ["all"], QUICK, "alice")
    assert (again.stage, set(states(again).values())) == (Stage.completed, {"unchanged"})


async def test_a_plan_that_two_apply_at_once_is_carried_out_once(
    rig: Rig, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SetValue, "own_machine", lambda _: "set")
    planned = await rig.service.plan("rig.set", {"value": "new"}, ["a"], QUICK, "alice")
    asked = asyncio.Event()

    async def own(name: str) -> bool:
        await asked.wait()
        return False

    monkeypatch.setattr(rig.service, "_ground", dataclasses.replace(rig.ground, own=own))
    both = [asyncio.create_task(rig.service.apply(planned.operation_id, who)) for who in ("alice", "bob")]
    await asyncio.sleep(0)
    asked.set()
    told = await asyncio.gather(*both, return_exceptions=True)
    assert [type(each) for each in told if isinstance(each, Exception)] == [ConflictError]
    await rig.service.wait(planned.operation_id)
    assert journal(fleet) == ["do a"]


async def test_a_first_one_that_fails_stops_it_and_is_taken_back(rig: Rig, fleet: Fleet) -> None:
    (fleet.root / "a/bad").touch()
    ended = await rig.done("rig.set", ["all"], value="new")
    assert (ended.stage, states(ended)) == (Stage.undone, {"a": "undone", "b": "skipped", "c": "skipped", "d": "skipped"})
    assert journal(fleet) == ["do a", "undo a"]
    assert not values(fleet)


@pytest.mark.parametrize("changes", [False, True])
async def test_a_first_one_that_falls_ill_while_it_is_watched_is_taken_back(
    rig: Rig, fleet: Fleet, monkeypatch: pytest.MonkeyPatch, changes: bool
) -> None:
    """Also where what was changed is another way by itself then, as a service is that fell."""
    monkeypatch.setattr("appliance.core.fleet.operations.carry.WATCH", 0.1)
    way = msgspec.structs.replace(QUICK, soak=30.0)
    planned = await rig.service.plan("rig.set", {"value": "new"}, ["all"], way, "alice")
    await rig.service.apply(planned.operation_id, "alice")
    await wait_for(lambda: rig.service.all()[0].stage is Stage.soaking)
    assert rig.service.all()[0].soak_until is not None
    if changes:
        (fleet.root / "a/value").write_text("fallen\n")
    (fleet.root / "a/ill").touch()
    ended = await rig.service.wait(planned.operation_id)
    assert (ended.stage, states(ended)["a"]) == (Stage.undone, "undone")
    assert "ill" in ended.reason
    assert not values(fleet)
    assert journal(fleet) == ["do a", "undo a"]


async def test_going_back_is_in_reverse_and_says_what_stays(rig: Rig, fleet: Fleet) -> None:
    (fleet.root / "c/bad").touch()
    (fleet.root / "b/stuck").touch()
    ended = await rig.done("rig.set", ["all"], Way(canary=1, soak=0.0, parallel=1, limit=20.0), value="new")
    assert journal(fleet) == ["do a", "do b", "do c", "undo c", "undo b", "undo a"]
    assert (ended.stage, states(ended)) == (Stage.failed, {"a": "undone", "b": "undo failed", "c": "undone", "d": "skipped"})
    assert "not taken back on 1 of 3 (b: " in ended.reason
    (fleet.root / "b/stuck").unlink()
    await rig.service.undo(ended.operation_id, "bob")
    assert (await rig.service.wait(ended.operation_id)).stage is Stage.undone
    assert not values(fleet)
    with pytest.raises(ConflictError, match="changed nothing, or all of it"):
        await rig.service.undo(ended.operation_id, "bob")


async def test_a_node_that_does_not_answer_is_not_failed(rig: Rig, fleet: Fleet) -> None:
    fleet.dead.add("a")
    planned = await rig.service.plan("rig.set", {"value": "new"}, ["all"], QUICK, "alice")
    assert states(planned)["a"] == "unreachable"
    fleet.dead.add("b")
    await rig.service.apply(planned.operation_id, "alice")
    ended = await rig.service.wait(planned.operation_id)
    assert ended.stage is Stage.completed
    assert states(ended) == {"a": "unreachable", "b": "unreachable", "c": "ok", "d": "ok"}
    assert "2 unreachable" in ended.reason
    assert [run.node for run in ended.runs if run.canary] == ["c"]


async def test_a_link_that_is_cut_in_the_midst_is_unknown_and_never_failed(rig: Rig, fleet: Fleet) -> None:
    (fleet.root / "a/hang").touch()
    planned = await rig.service.plan("rig.set", {"value": "new"}, ["all"], QUICK, "alice")
    await rig.service.apply(planned.operation_id, "alice")
    await wait_for(lambda: journal(fleet) == ["do a"] and fleet.running["a"].returncode is None)
    fleet.cut("a")
    ended = await rig.service.wait(planned.operation_id)
    assert ended.stage is Stage.failed
    assert states(ended) == {"a": "undo failed", "b": "skipped", "c": "skipped", "d": "skipped"}
    assert "a, which went first, unknown" in ended.reason
    fleet.dead.clear()
    (fleet.root / "a/hang").unlink()
    await rig.service.undo(ended.operation_id, "alice")
    assert states(await rig.service.wait(ended.operation_id))["a"] == "undone"


async def test_a_command_that_hangs_is_ended_and_unknown(rig: Rig, fleet: Fleet) -> None:
    (fleet.root / "a/hang").touch()
    ended = await rig.done("rig.set", ["a", "b"], Way(canary=1, soak=0.0, undo=False, limit=0.5), value="new")
    assert states(ended) == {"a": "unknown", "b": "skipped"}
    assert "within 0.5 s" in ended.runs[0].reason
    assert "nothing was taken back" in ended.reason


async def test_two_operators_cannot_work_on_one_node(rig: Rig, fleet: Fleet) -> None:
    (fleet.root / "a/hang").touch()
    first = await rig.service.plan("rig.set", {"value": "one"}, ["a", "b"], QUICK, "alice")
    second = await rig.service.plan("rig.set", {"value": "two"}, ["b", "c"], QUICK, "bob")
    await rig.service.apply(first.operation_id, "alice")
    with pytest.raises(ConflictError, match="b is busy: alice is at it") as caught:
        await rig.service.apply(second.operation_id, "bob")
    assert first.operation_id in caught.value.next_step
    (fleet.root / "a/hang").unlink()
    await rig.service.wait(first.operation_id)


async def test_a_plan_does_not_hold_where_a_node_changed_since(rig: Rig, fleet: Fleet) -> None:
    first = await rig.service.plan("rig.set", {"value": "one"}, ["all"], QUICK, "alice")
    await rig.done("rig.set", ["b"], value="two")
    with pytest.raises(ConflictError, match="something changed on b"):
        await rig.service.apply(first.operation_id, "alice")
    assert journal(fleet) == ["do b"]
    with pytest.raises(ConflictError, match="no plan any more"):
        await rig.service.apply(first.operation_id, "alice")


async def test_a_plan_is_not_applied_unseen_or_late(tmp_path: Path, fleet: Fleet) -> None:
    clock = ManualClock()
    rig = Rig(tmp_path, fleet, fleet, clock)
    await rig.start()
    planned = await rig.service.plan("rig.set", {"value": "one"}, ["all"], QUICK, "alice")
    with pytest.raises(ConflictError, match="another plan"):
        await rig.service.apply(planned.operation_id, "alice", plan_hash="0" * 64)
    clock.move(601)
    with pytest.raises(ConflictError, match="older than 10 minutes"):
        await rig.service.apply(planned.operation_id, "alice")
    assert (await rig.service.get(planned.operation_id[-6:])).stage is Stage.cancelled
    await rig.stop()


async def test_stopping_it_takes_back_what_was_changed(rig: Rig, fleet: Fleet) -> None:
    (fleet.root / "b/hang").touch()
    planned = await rig.service.plan("rig.set", {"value": "new"}, ["all"], Way(soak=0.0, parallel=1), "alice")
    await rig.service.apply(planned.operation_id, "alice")
    await wait_for(lambda: "do b" in journal(fleet))
    ended = await rig.service.cancel(planned.operation_id, "bob")
    assert (ended.stage, states(ended)) == (Stage.undone, {"a": "undone", "b": "undone", "c": "skipped", "d": "skipped"})
    assert "bob stopped it" in ended.reason
    with pytest.raises(ConflictError, match="has ended"):
        await rig.service.cancel(planned.operation_id, "bob")


async def test_where_a_begin_cannot_be_kept_nothing_is_done_and_what_was_done_is_taken_back(
    rig: Rig, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = rig.ground.book.run

    async def full(operation_id: str, run: KeptRun) -> None:
        if run.run.node == "b" and run.run.state is RunState.running:
            raise DiskFullError("No room to write store.db.")
        await keep(operation_id, run)

    monkeypatch.setattr(rig.ground.book, "run", full)
    ended = await rig.done("rig.set", ["all"], Way(soak=0.0, parallel=1, limit=20.0), value="new")
    assert (ended.stage, states(ended)) == (Stage.undone, {"a": "undone", "b": "skipped", "c": "skipped", "d": "skipped"})
    assert "No room" in ended.reason
    assert journal(fleet) == ["do a", "undo a"]


async def test_what_somebody_else_changed_since_is_not_taken_back(rig: Rig, fleet: Fleet) -> None:
    ended = await rig.done("rig.set", ["a", "b"], value="new")
    (fleet.root / "a/value").write_text("of somebody else\n")
    await rig.service.undo(ended.operation_id, "alice")
    back = await rig.service.wait(ended.operation_id)
    assert states(back) == {"a": "undo failed", "b": "undone"}
    assert values(fleet) == {"a": "of somebody else"}
    await rig.service.undo(ended.operation_id, "alice", force=True)
    assert (await rig.service.wait(ended.operation_id)).stage is Stage.undone


async def test_conditions_leave_a_node_out(rig: Rig, fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet.put(Node(name="a", host="127.0.0.1", enabled=False))
    monkeypatch.setattr("tests.fleet.ops.rig.SetValue.room", {"/": 1 << 60})
    planned = await rig.service.plan("rig.set", {"value": "new"}, ["a", "b"], QUICK, "alice")
    assert planned.stage is Stage.failed
    assert "maintenance" in planned.runs[0].reason
    assert "MiB are free at /" in planned.runs[1].reason
    rig.power = "the UPS is at 9 %"
    monkeypatch.setattr("tests.fleet.ops.rig.SetValue.heavy", True)
    planned = await rig.service.plan("rig.set", {"value": "new"}, ["c"], QUICK, "alice")
    assert "the UPS is at 9 %" in planned.runs[0].reason


async def test_the_own_machine_is_ended_only_where_that_is_confirmed(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fleet.ops.rig.SetValue.own_machine", lambda _: "rebooted")
    rig.own.add("b")
    planned = await rig.service.plan("rig.set", {"value": "new"}, ["all"], QUICK, "alice")
    with pytest.raises(PreconditionError, match="b is the machine that this appliance runs on"):
        await rig.service.apply(planned.operation_id, "alice")
    await rig.service.apply(planned.operation_id, "alice", own_machine=True)
    assert (await rig.service.wait(planned.operation_id)).stage is Stage.completed


async def test_a_command_streams_host_by_host_and_its_output_is_bounded(rig: Rig, fleet: Fleet) -> None:
    way = Way(canary=0, soak=0.0, parallel=4, max_failures=10, undo=False)
    (fleet.root / "b/bad").touch()
    command = 'echo "I am $(basename "$NODE")"; echo wrong >&2; [ ! -e bad ] || exit 7'
    ended = await rig.done("run", ["all"], way, command=command)
    assert (ended.stage, ended.reason) == (Stage.completed, "3 ok, 1 failed")
    assert [run.exit_status for run in ended.runs] == [0, 7, 0, 0]
    for name in NAMES:
        part = await rig.service.output(ended.operation_id, name)
        assert sorted(part.text.splitlines()) == sorted([f"I am {name}", "wrong"])
        assert part.ended
    ended = await rig.done("run", ["a"], way, command="yes 0123456789 | head -c 3000000; echo; printf end")
    part = await rig.service.output(ended.operation_id, "a", 0, 200_000)
    assert part.text.startswith("0123456789\n")
    assert (part.after, ended.runs[0].last) == (0, "end")
    rest = await rig.service.output(ended.operation_id, "a", part.next, 200_000)
    assert rest.dropped == ended.runs[0].dropped > 2_000_000
    assert rest.text.endswith("end\n")
    assert rest.ended


async def test_output_can_be_followed_while_it_comes(rig: Rig, fleet: Fleet) -> None:
    (fleet.root / "a/hang").touch()
    planned = await rig.service.plan(
        "run", {"command": "echo first; while [ -e hang ]; do sleep 0.02; done; echo second"}, ["a"], QUICK, "alice"
    )
    await rig.service.apply(planned.operation_id, "alice")

    async def said() -> str:
        return (await rig.service.output(planned.operation_id, "a")).text

    await wait_for(said)
    part = await rig.service.output(planned.operation_id, "a")
    assert (part.text, part.ended) == ("first\n", False)
    await wait_for(lambda: rig.state.get(Section.operations).value[0].runs[0].last == "first")
    (fleet.root / "a/hang").unlink()
    await rig.service.wait(planned.operation_id)
    part = await rig.service.output(planned.operation_id, "a", part.next)
    assert (part.text, part.ended) == ("second\n", True)


async def test_what_is_wrong_is_said_before_anything_is_done(rig: Rig) -> None:
    with pytest.raises(InvalidArgumentsError, match="value"):
        await rig.service.plan("rig.set", {}, ["all"], QUICK, "alice")
    with pytest.raises(InvalidArgumentsError, match="did you mean run"):
        await rig.service.plan("rum", {}, ["all"], QUICK, "alice")
    with pytest.raises(NotFoundError):
        await rig.service.plan("run", {"command": "true"}, ["nobody"], QUICK, "alice")
    with pytest.raises(NotFoundError, match="No operation"):
        await rig.service.get("none-of-these")
