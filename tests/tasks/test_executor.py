"""The worker's side: orders that come twice or late, errors without a form, messages that nobody can read."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from appliance.core.tasks.executor import Executor
from appliance.core.tasks.wire import Order, Result, Seal
from appliance.errors import StreamError, TaskError
from tests.support import wait_for
from tests.tasks.rig import Echo, running

HEAD = b'{"v":1,"id":"a","timestamp":"t","source":"e","device_id":"d","type":"task.order","signature":"x","data":'


@pytest.mark.parametrize("body", [HEAD + b"[" * 200_000, HEAD.replace(b'"a"', b'"\xff"') + b"1}"])
def test_what_cannot_be_decoded_is_refused_as_everything_else_is(body: bytes) -> None:
    with pytest.raises(StreamError, match="no envelope"):
        Seal(b"k" * 20).open(body)


class Odd(Echo):
    async def run(self, payload: Any, order: Order) -> Any:
        raise TaskError("no file is called \udcff", final=True)


async def test_an_error_that_has_no_form_in_utf_8_ends_its_task_all_the_same(tmp_path: Path) -> None:
    async with running(tmp_path, handlers=[Odd()]) as rig:
        assert "no file is called" in (await rig.ended(await rig.submit())).reason


class Told:
    """A report that hears all at once."""

    def __init__(self) -> None:
        self.results: list[Result] = []

    async def begun(self, _: object) -> bool:
        return True

    async def ended(self, told: Result) -> None:
        self.results.append(told)

    async def returned(self, _: object) -> None: ...


def order(executor: Executor, **more: Any) -> Order:
    values: dict[str, Any] = {
        "task_id": "t",
        "type": "echo",
        "priority": 2,
        "payload": {},
        "attempt": 1,
        "worker": "w",
        "lease": 1,
        "lease_s": 20.0,
        "beat": 1,
        "limit_s": 60.0,
        "session": executor.session,
    }
    return Order(**{**values, **more})


async def test_an_order_that_comes_twice_is_carried_out_once() -> None:
    echo, told = Echo(), Told()
    executor = Executor("w", {"echo": echo}, 2, 16, told)
    executor.take(order(executor))
    await wait_for(lambda: told.results)
    executor.take(order(executor))
    await asyncio.sleep(0)
    assert executor.figures.stale == 1
    executor.take(order(executor, lease=2))
    await wait_for(lambda: len(told.results) == 2)
    assert len(echo.seen) == 2


async def test_the_time_in_the_reserve_counts_for_the_deadline() -> None:
    echo, told = Echo(), Told()
    executor = Executor("w", {"echo": echo}, 1, 16, told)
    executor.take(order(executor, payload={"wait": True}))
    executor.take(order(executor, task_id="late", left_s=0.01, payload={"n": "late"}))
    await asyncio.sleep(0.02)
    echo.gate.set()
    await wait_for(lambda: len(told.results) == 2)
    assert echo.seen == ["t"]
    assert "deadline" in told.results[1].error
