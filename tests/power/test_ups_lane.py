"""The lane of blocking calls: what hangs in it holds its own callers, one thread, and nobody else."""

from __future__ import annotations

import asyncio
import threading

import pytest

from appliance.errors import DeviceStalledError
from appliance.hw.lane import Lane, together
from tests.support import wait_for


def lanes() -> int:
    return sum(thread.name == "lane the bus" for thread in threading.enumerate())


async def test_calls_go_one_after_the_other_in_one_thread() -> None:
    lane = Lane("the bus", "wait.")
    told: list[tuple[int, int]] = []

    def work(number: int) -> int:
        told.append((number, threading.get_ident()))
        return number

    assert await asyncio.gather(*(lane.run(lambda n=n: work(n), 5.0) for n in range(20))) == list(range(20))
    assert [number for number, _ in told] == list(range(20))
    assert len({thread for _, thread in told}) == 1
    lane.close()
    assert await lane.run(lambda: "again", 5.0) == "again"
    lane.close()
    await wait_for(lambda: lanes() == 0)


async def test_what_it_raises_is_raised() -> None:
    lane = Lane("the bus", "wait.")
    for error in (OSError(5, "no"), TimeoutError("its own"), ValueError("x")):

        def fail(error: Exception = error) -> None:
            raise error

        with pytest.raises(type(error)) as refused:
            await lane.run(fail, 5.0)
        assert refused.value is error
        with pytest.raises(type(error)):
            await asyncio.to_thread(lane.run_blocking, fail, 5.0)
    lane.close()


async def test_what_hangs_is_given_up_and_refused_until_it_comes_back() -> None:
    lane, other, free = Lane("the bus", "power it off."), Lane("another", "wait."), threading.Event()
    with pytest.raises(DeviceStalledError, match=r"the bus does not answer within 0\.05 s") as refused:
        await lane.run(free.wait, 0.05)
    assert refused.value.next_step == "power it off."
    for _ in range(5):
        with pytest.raises(DeviceStalledError, match="the bus hangs: an earlier look"):
            await lane.run(lambda: 1, 5.0)
        with pytest.raises(DeviceStalledError, match="the bus hangs: an earlier look"):
            await asyncio.to_thread(lane.run_blocking, lambda: 1, 5.0)
    assert await other.run(lambda: 2, 5.0) == 2
    assert lanes() == 1
    free.set()

    async def serves() -> bool:
        try:
            return await lane.run(lambda: True, 5.0)
        except DeviceStalledError:
            return False

    assert await wait_for(serves)
    lane.close()
    other.close()


async def test_one_that_waits_behind_it_is_not_begun_after_it_was_given_up() -> None:
    lane, free, begun = Lane("the bus", "wait."), threading.Event(), []
    first = asyncio.create_task(lane.run(free.wait, 30.0))
    await asyncio.sleep(0)
    with pytest.raises(DeviceStalledError):
        await lane.run(lambda: begun.append("late"), 0.05)
    waiting = asyncio.create_task(lane.run(lambda: begun.append("cancelled"), 30.0))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    free.set()
    assert await first is True
    await lane.run(lambda: begun.append("next"), 5.0)
    assert begun == ["next"]
    lane.close()


def test_several_lanes_side_by_side() -> None:
    free, met = threading.Event(), threading.Barrier(2)
    lanes = [Lane(f"number {index}", "wait.") for index in range(3)]
    works = [(lanes[0], lambda: met.wait(30) >= 0), (lanes[1], lambda: met.wait(30) >= 0), (lanes[2], free.wait)]
    for said in ("does not answer within 1 s", "hangs"):
        first, second, third = together(works, 1.0)
        assert (first, second) == (True, True)
        assert isinstance(third, DeviceStalledError)
        assert said in third.message
    free.set()
    for lane in lanes:
        lane.close()


async def test_it_blocks_nobody() -> None:
    lane, free = Lane("the bus", "wait."), threading.Event()
    task = asyncio.create_task(lane.run(free.wait, 30.0))
    turns = 0
    while turns < 100:  # the loop goes on while the lane's thread waits
        await asyncio.sleep(0)
        turns += 1
    assert not task.done()
    free.set()
    assert await task
    lane.close()
