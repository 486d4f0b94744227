"""A wall clock that is wrong for a while removes nothing; one that was set, or runs steadily, does."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from appliance.core.memory.nas import MARKER, NasReplica
from appliance.core.memory.trust import ClockTrust
from tests.memory.rig import MIB, Rig, running
from tests.support import ManualClock

YEARS = 10 * 365 * 86400.0


def unset(rig: Rig, tmp_path: Path) -> Path:
    """Nobody has set the clock yet: the file that would be touched then."""
    rig.parts.trust.mark = tmp_path / "synchronized"
    return rig.parts.trust.mark


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(Rig(tmp_path / "memory")) as rig:
        unset(rig, tmp_path)
        await rig.service.sweep()
        yield rig


async def there(rig: Rig, key: str = "k") -> bool:
    """Whether the disk knows it."""
    return await rig.parts.edge.row("default", key) is not None


async def test_a_jump_of_the_clock_removes_nothing_until_it_proves_right(rig: Rig) -> None:
    await rig.memory.set("k", b"v", ttl=86400)
    await rig.memory.set("deleted", b"v")
    right = rig.clock.wall_now
    rig.clock.wall_now += YEARS
    await rig.service.sweep()
    rig.hot.forget_all()
    assert await rig.memory.get("k") is None
    rig.clock.move(300)
    await rig.service.sweep()
    rig.clock.wall_now = right
    rig.parts.absent.clear()
    rig.hot.forget_all()
    assert await rig.memory.get("k") == b"v"
    rig.clock.wall_now += YEARS
    await rig.service.sweep()
    rig.clock.move(601)
    await rig.service.sweep()
    assert not await there(rig)


async def test_a_clock_that_was_set_is_believed_at_once(rig: Rig, tmp_path: Path) -> None:
    await rig.memory.set("k", b"v", ttl=60)
    rig.clock.wall_now += 7200
    await rig.service.sweep()
    assert await there(rig)
    unset(rig, tmp_path).touch()
    await rig.service.sweep()
    assert not await there(rig)


async def test_a_wrong_date_at_the_start_removes_nothing(tmp_path: Path) -> None:
    clock = ManualClock()
    async with running(Rig(tmp_path / "memory", clock=clock)) as rig:
        await rig.memory.set("k", b"v", ttl=86400)
        await rig.service.sweep()
    wrong = ManualClock(clock.wall_now + YEARS)
    rig = Rig(tmp_path / "memory", clock=wrong)
    unset(rig, tmp_path)
    async with running(rig):
        await rig.service.sweep()
        assert await there(rig)
    async with running(Rig(tmp_path / "memory", clock=clock)) as rig:
        assert await rig.memory.get("k") == b"v"
        rig.clock.move(86401)
        await rig.service.sweep()
        assert not await there(rig)


async def test_what_seems_to_have_expired_is_delivered_while_the_clock_is_not_believed(tmp_path: Path) -> None:
    mount = tmp_path / "mount"
    mount.mkdir()
    rig = Rig(tmp_path / "memory", [NasReplica(mount, "pc", MIB)])
    unset(rig, tmp_path)
    async with running(rig):
        await rig.memory.set("k", b"v", ttl=60)
        rig.clock.wall_now += YEARS
        (mount / MARKER).touch()
        await rig.delivered()
        assert await there(rig)
        rig.clock.wall_now -= YEARS
        await rig.memory.evict("k", tier=2)
        assert await rig.memory.get("k") == b"v"


def test_each_touch_of_the_mark_counts_once(tmp_path: Path) -> None:
    clock, mark = ManualClock(), tmp_path / "synchronized"
    mark.touch()
    trust = ClockTrust(clock, mark)
    assert trust.believed()
    clock.wall_now -= 7200
    assert not trust.believed()
    os.utime(mark, ns=(1, 1))
    assert trust.believed()
    clock.wall_now += 7200
    assert not trust.believed()
    clock.move(600)
    assert trust.believed()
