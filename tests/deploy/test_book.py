"""What is on disk between two steps is enough to go on, and is bounded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from appliance.core.clock import SystemClock
from appliance.core.deploy.book import DeployBook
from appliance.core.deploy.model import Rollout, Strategy, Version
from appliance.core.store import Store


@pytest.fixture
def book(tmp_path: Path) -> Iterator[DeployBook]:
    store = Store(tmp_path / "appliance.sqlite")
    store.open()
    yield DeployBook(store, SystemClock())
    store.close()


def version(number: int) -> Version:
    return Version("web", 0, str(number), 1.0, "alice", "")


@pytest.mark.parametrize("strategy", [Strategy.blue_green, Strategy.canary])
async def test_whoever_is_killed_right_after_the_order_gives_the_new_version_no_traffic(
    book: DeployBook, strategy: Strategy
) -> None:
    _, first = await book.order(version(1), 2, Rollout("a", "web", 0, 0, strategy, "alice", 1.0))
    assert first.shares == {}
    await book.keep_rollout(msgspec.structs.replace(first, ended=2.0))
    await book.order(version(2), 2, Rollout("b", "web", 1, 0, strategy, "alice", 1.0))
    found = await book.live("web")
    assert found is not None
    assert found.shares == {1: 100.0, 2: 0.0}


async def test_events_of_services_that_are_gone_are_bounded_together(book: DeployBook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.core.deploy.book.EVENTS", 10)
    await book.order(version(1), 2, Rollout("a", "web", 0, 0, Strategy.rolling, "alice", 1.0))
    for number in range(6):
        await book.note("web", "operator", str(number))
    for name in ("one", "two", "three"):
        for number in range(6):
            await book.note(name, "operator", str(number))
        await book.forget(name)
    kept = [event.text for name in ("one", "two", "three") for event in await book.events(name, 100)]
    assert kept == ["5", "4", "3", "2", "5", "4", "3", "2", "1", "0"]
    assert len(await book.events("web", 100)) == 6
