"""Tier 2 on a real network share that hangs, fills, turns read-only and goes away under writers."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from appliance.core.events import new_id
from appliance.core.memory import codec, files
from appliance.core.memory.eviction import Room
from appliance.core.memory.keys import key_id
from appliance.core.memory.lane import Lane
from appliance.core.memory.model import Durability, Kind, Meta, Record
from appliance.core.memory.nas import NasReplica
from appliance.core.model import Health
from appliance.errors import TierUnavailableError
from tests.memory.rig import MIB, Rig, running
from tests.servers.nas import MARKER, Nas, detach
from tests.support import wait_for

WITHIN = 3.5
"""Seconds in which a fault must show."""


def with_nas(nas: Nas, home: Path, room: Room | None = None) -> Rig:
    """A memory with the share below its disk."""
    return Rig(home, [NasReplica(nas.path, "pc", 64 * MIB)], room=room)


async def shows(rig: Rig, health: Health, told: str = "") -> None:
    """Wait until the tier is shown so, and the memory as a whole tells of it."""

    async def so() -> bool:
        async with asyncio.timeout(3.0):
            whole = await rig.service.health()
        report = rig.parts.replicas.reports["nas"]
        return report.health is health and told in report.reason and f"nas {health.value}" in whole.reason

    await wait_for(so, WITHIN, f"nas is {health.value}; it is {rig.parts.replicas.reports['nas']}")


def value(seed: int, size: int = 100_000) -> bytes:
    """What zstd cannot make smaller."""
    return random.Random(seed).randbytes(size)


def files_below(path: Path) -> list[Path]:
    """Every file, the marker and the disk's name apart."""
    return [each for each in path.rglob("*") if each.is_file() and each.name not in {MARKER, ".identity"}]


def values_below(path: Path) -> list[Path]:
    """Every value's file."""
    return [each for each in path.rglob("*") if each.is_file() and not each.name.startswith(".")]


def record(key: str, data: bytes) -> Record:
    """A version of its own."""
    meta = Meta(
        namespace="default", key=key, kind=Kind.bytes, version=new_id().replace("-", ""), size=len(data),
        checksum=codec.checksum(Kind.bytes, data),
    )  # fmt: skip
    return Record(meta, data)


@pytest.fixture
async def rig(nas: Nas, tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(with_nas(nas, tmp_path / "memory")) as rig:
        await shows(rig, Health.healthy)
        yield rig


async def test_everything_lies_on_the_nas_too(rig: Rig, nas: Nas) -> None:
    await rig.memory.set_many({"a": value(1), "b": {"x": 1}, "../c": b""})
    await rig.delivered()
    assert len(files_below(nas.backing)) == 3
    assert [copy.tier for copy in (await rig.memory.stat("a")).copies] == ["memory", "disk", "nas"]
    await rig.memory.delete("a")
    await rig.delivered()
    assert len(files_below(nas.backing)) == 2


async def test_what_was_evicted_comes_from_the_nas(nas: Nas, tmp_path: Path) -> None:
    async with running(with_nas(nas, tmp_path / "memory", Room(MIB))) as rig:
        for index in range(30):
            await rig.memory.set(f"k{index}", value(index))
            await rig.delivered()
        assert (await rig.parts.edge.totals()).evictions > 0
        rig.hot.forget_all()
        for index in range(30):
            assert await rig.memory.get(f"k{index}") == value(index)
        assert (await rig.parts.edge.totals()).stored <= MIB


async def test_unmounted_under_a_writer_nothing_goes_below_the_mount_point(rig: Rig, nas: Nas) -> None:
    expected = {}
    for index in range(20):
        expected[f"k{index}"] = value(index, 300_000)
        await rig.memory.set(f"k{index}", expected[f"k{index}"])
        if index == 10:
            await asyncio.to_thread(nas.unmount)
    await shows(rig, Health.absent, "not mounted")
    assert list(nas.path.iterdir()) == []
    await wait_for(lambda: rig.shown("nas").next_step, WITHIN)
    await rig.memory.delete("k0")
    del expected["k0"]
    rig.hot.forget_all()
    assert await rig.memory.get_many(["k0", *expected]) == expected
    owed = (await rig.parts.ledger.counts())["nas"].waiting
    assert owed >= 9
    assert list(nas.path.iterdir()) == []
    await asyncio.to_thread(nas.remount)
    await shows(rig, Health.healthy)
    await rig.delivered()
    await wait_for(lambda: len(files_below(nas.backing)) == 19)


async def test_what_a_killed_writer_left_half_written_goes_with_the_next_write_there(nas: Nas, tmp_path: Path) -> None:
    async with running(with_nas(nas, tmp_path / "memory")) as rig:
        await rig.memory.set("k", b"value")
        await rig.delivered()
    (held,) = values_below(nas.backing)
    half = held.with_name(f".{held.name}.0123456789abcdef.part")
    half.write_bytes(b"PS")
    async with running(with_nas(nas, tmp_path / "memory")) as rig:
        await rig.memory.set("k", b"another")
        await rig.delivered()
        assert files_below(nas.backing) == [held]
        assert await rig.memory.get("k") == b"another"


async def test_an_unmounted_nas_at_the_start_is_absent_until_it_comes(nas: Nas, tmp_path: Path) -> None:
    await asyncio.to_thread(nas.unmount)
    async with running(with_nas(nas, tmp_path / "memory")) as rig:
        await rig.memory.set("k", value(1))
        await shows(rig, Health.absent)
        assert await rig.memory.get("k") == value(1)
        assert list(nas.path.iterdir()) == []
        await asyncio.to_thread(nas.remount)
        await shows(rig, Health.healthy)
        await rig.delivered()
    assert len(files_below(nas.backing)) == 1


async def test_without_its_marker_it_is_not_believed(rig: Rig, nas: Nas) -> None:
    (nas.backing / MARKER).unlink()
    await rig.memory.set("k", value(1))
    await shows(rig, Health.absent, MARKER)
    assert files_below(nas.backing) == []
    (nas.backing / MARKER).touch()
    await shows(rig, Health.healthy)
    await rig.delivered()
    assert len(files_below(nas.backing)) == 1


async def test_a_hung_nas_hangs_nothing_else(rig: Rig, nas: Nas) -> None:
    await rig.memory.set_many({"here": value(1), "far": value(2)})
    await rig.delivered()
    await rig.memory.evict("far", tier=2)
    await asyncio.to_thread(nas.hang)
    far = asyncio.create_task(rig.memory.get("far"))
    longest, ends = 0.0, time.monotonic() + 2.0
    while time.monotonic() < ends:
        began = time.monotonic()
        rig.hot.forget_all()
        assert await rig.memory.get("here") == value(1)
        await rig.memory.set("new", value(3))
        await asyncio.sleep(0)
        longest = max(longest, time.monotonic() - began)
    assert longest < 2.0
    await shows(rig, Health.unhealthy, "hangs")
    with pytest.raises(TierUnavailableError):
        await far
    with pytest.raises(TierUnavailableError):
        await rig.memory.get("far")
    await asyncio.to_thread(nas.resume)
    await shows(rig, Health.healthy)
    assert await rig.memory.get("far") == value(2)
    await rig.delivered()


async def test_a_share_that_hung_is_used_again_once_it_is_mounted_anew(rig: Rig, nas: Nas) -> None:
    """Its server is gone for good: the threads that wait for it never come back."""
    await rig.memory.set("k", value(1))
    await rig.delivered()
    await asyncio.to_thread(nas.hang)
    hung, nas.child._process = nas.child._process, None
    assert hung is not None
    try:
        await rig.memory.set("k", value(2))
        await shows(rig, Health.unhealthy, "hangs")
        detach(nas.path)  # umount -l
        await shows(rig, Health.absent)
        await asyncio.to_thread(nas.remount)
        await shows(rig, Health.healthy)
        await rig.delivered()
        await rig.memory.evict("k", tier=2)
        assert await rig.memory.get("k") == value(2)
    finally:
        hung.kill()
        hung.wait()


async def test_a_write_that_was_given_up_lands_over_nothing_newer(tmp_path: Path) -> None:
    mount, slow = tmp_path / "mount", threading.Event()
    mount.mkdir()
    (mount / MARKER).touch()
    nas = NasReplica(mount, "pc", MIB)
    older, newer = (record("k", each) for each in (b"older", b"newer"))
    await nas.open()
    reached = threading.Event()

    def hang(allowed: Callable[[], None]) -> None:
        with files.directory(mount) as root:

            def wait() -> None:
                reached.set()
                slow.wait(20)
                allowed()

            files.write(root, nas._path("default", "k"), codec.encode(older), wait)

    late = asyncio.create_task(nas._lane.run(hang, 0.1))
    with pytest.raises(TierUnavailableError, match="hangs"):
        await late
    assert reached.is_set()
    with pytest.raises(TierUnavailableError):
        await nas.put(newer, "")
    worker = nas._lane._worker
    assert worker is not None
    worker._seen = "another mount"
    assert await nas.put(newer, "") is None
    assert [each.name for each in mount.rglob("*.part")] == []
    slow.set()
    await wait_for(lambda: worker.stuck() is None)
    assert await nas.get("default", "k") == newer
    await nas.close()


async def test_a_lane_that_was_closed_under_a_call_that_hangs_works_again() -> None:
    lane, ends = Lane("nas"), threading.Event()
    with pytest.raises(TierUnavailableError):
        await lane.run(lambda _: ends.wait(20), 0.05)
    lane.close()
    assert [await lane.run(lambda _: 1, 5.0), await lane.run(lambda _: 2, 5.0)] == [1, 2]
    ends.set()
    assert await lane.run(lambda _: 3, 5.0) == 3
    lane.close()


async def test_a_hung_nas_holds_up_no_stop(nas: Nas, tmp_path: Path) -> None:
    rig = with_nas(nas, tmp_path / "memory")
    await rig.start()
    await rig.memory.set("k", value(1))
    await asyncio.to_thread(nas.hang)
    await rig.memory.set("k", value(2))
    await shows(rig, Health.unhealthy)
    async with asyncio.timeout(10.0):
        await rig.stop()
    await asyncio.to_thread(nas.resume)


async def test_a_read_only_nas_is_told_and_gets_what_it_is_owed(rig: Rig, nas: Nas) -> None:
    await rig.memory.set("k", value(1))
    await rig.delivered()
    await asyncio.to_thread(nas.read_only)
    await shows(rig, Health.unhealthy, "read-only")
    await rig.memory.set("k", value(2))
    assert await rig.memory.get("k") == value(2)
    await asyncio.to_thread(nas.read_only, False)
    await shows(rig, Health.healthy)
    await rig.delivered()
    assert (await rig.memory.evict("k", tier=2)).stored == 0
    assert await rig.memory.get("k") == value(2)


async def test_a_read_only_nas_is_looked_at_without_writing_or_scanning(rig: Rig, nas: Nas) -> None:
    await rig.memory.set("k", value(1))
    await rig.delivered()
    await asyncio.to_thread(nas.read_only)
    await shows(rig, Health.unhealthy, "read-only")
    seeded, met = [], []
    ledger = rig.parts.ledger
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger, "seed", lambda *given: seeded.append(given))
        patch.setattr(ledger, "met", lambda *given: met.append(given))
        reports = rig.parts.replicas.reports
        for _ in range(2):
            before = reports["nas"]
            await wait_for(lambda before=before: reports["nas"] is not before)
    assert (seeded, met) == ([], [])
    await asyncio.to_thread(nas.read_only, False)
    await shows(rig, Health.healthy)


async def test_a_large_index_is_seeded_though_that_takes_longer_than_a_probe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount = tmp_path / "mount"
    mount.mkdir()
    (mount / MARKER).touch()
    rig = Rig(tmp_path / "memory")
    async with running(rig):
        await rig.memory.set_many({f"k{index}": b"x" for index in range(1500)})
    monkeypatch.setattr("appliance.core.memory.service.ANSWER", 0.2)
    rig = Rig(tmp_path / "memory", [NasReplica(mount, "pc", MIB)])
    seed, calls = rig.parts.ledger.seed, []

    async def slow(tier: str, takes: Callable[[Meta], bool]) -> int:
        calls.append(tier)
        await asyncio.sleep(0.3)  # longer than a probe may take
        return await seed(tier, takes)

    monkeypatch.setattr(rig.parts.ledger, "seed", slow)
    async with running(rig):
        await wait_for(lambda: rig.parts.replicas.reports["nas"].health is Health.healthy)
        await rig.delivered()
        assert (len(values_below(mount)), calls) == (1500, ["nas"])


async def test_a_full_nas_still_takes_what_makes_room(rig: Rig, nas: Nas) -> None:
    await rig.memory.set_many({"old": value(1, 2 * MIB), "small": b"x"})
    await rig.delivered()
    await asyncio.to_thread(nas.fill)
    await rig.memory.set("new", value(2, MIB))
    await shows(rig, Health.unhealthy, "no room")
    assert await rig.memory.get("new") == value(2, MIB)
    assert not [path for path in files_below(nas.backing) if path.name.endswith(".part")]
    await rig.memory.delete("old")
    with (nas.backing / ".filler").open("r+b") as filler:
        filler.truncate(os.fstat(filler.fileno()).st_size - 65_536)  # room for a probe, and no more
    await shows(rig, Health.healthy)
    await rig.delivered()
    rig.hot.forget_all()
    assert await rig.memory.get("old") is None
    assert await rig.memory.get("new") == value(2, MIB)


async def test_a_new_disk_finds_everything_on_the_nas(nas: Nas, tmp_path: Path) -> None:
    expected = {"a": value(1), "b": {"x": [1]}, "c": b""}
    async with running(with_nas(nas, tmp_path / "memory")) as rig:
        await shows(rig, Health.healthy)
        await rig.memory.set_many(expected, tags=["t"])
        await rig.memory.set("gone", value(4))
        await rig.delivered()
        await rig.memory.delete("gone")
        await rig.delivered()
    shutil.rmtree(tmp_path / "memory")
    async with running(with_nas(nas, tmp_path / "memory")) as rig:
        await shows(rig, Health.healthy)
        assert await rig.memory.get_many([*expected, "gone"]) == expected
        found = await rig.memory.stat("a")
        assert found.meta.tags == ("t",)
        assert [copy.tier for copy in found.copies] == ["memory", "disk", "nas"]


async def test_what_expired_or_was_deleted_while_it_was_away_does_not_come_back_with_it(rig: Rig, nas: Nas) -> None:
    await rig.memory.set_many({"brief": value(1), "covered": value(2)}, ttl=3600)
    await rig.memory.set_many({"deleted": value(3), "replaced": value(4)})
    await rig.delivered()
    await asyncio.to_thread(nas.unmount)
    await shows(rig, Health.absent)
    await rig.memory.set("replaced", value(5), ttl=60, durability=Durability.memory)
    await rig.memory.flush()
    await rig.memory.delete("deleted")
    rig.clock.move(4000)
    rig.hot.forget_all()
    keys = ["brief", "covered", "deleted", "replaced"]
    assert await rig.memory.get_many(keys[:1] + keys[2:]) == {}
    rig.clock.wall_now -= 3900
    await asyncio.to_thread(nas.remount)
    rig.parts.replicas.reports["nas"] = await rig.parts.replicas.tiers["nas"].health()
    assert await rig.memory.get_many(keys[:1] + keys[2:]) == {}
    await rig.delivered()
    assert await rig.memory.get_many(keys[:1] + keys[2:]) == {}


async def test_a_bit_flipped_on_the_nas_is_told_and_never_given(rig: Rig, nas: Nas) -> None:
    await rig.memory.set("k", value(1))
    await rig.delivered()
    await rig.memory.evict("k", tier=2)
    (file,) = files_below(nas.backing)
    data = bytearray(file.read_bytes())
    data[5000] ^= 4
    file.write_bytes(data)
    rig.hot.forget_all()
    with pytest.raises(Exception, match="is lost"):
        await rig.memory.get("k")
    await rig.memory.delete("k")
    await rig.memory.set("k", b"again")
    await rig.delivered()
    assert await rig.memory.get("k") == b"again"


async def test_an_empty_disk_in_the_nas_place_gets_everything(tmp_path: Path) -> None:
    """Another disk under the same mount point, with a marker of its own: what the first one held is owed again."""
    mount = tmp_path / "mount"
    mount.mkdir()
    (mount / MARKER).touch()
    async with running(Rig(tmp_path / "memory", [NasReplica(mount, "pc", MIB)])) as rig:
        await rig.memory.set_many({f"k{index}": b"x" for index in range(5)})
        await rig.delivered()
        mount.rename(tmp_path / "first")
        await wait_for(lambda: rig.parts.replicas.reports["nas"].health is Health.absent)
        mount.mkdir()
        (mount / MARKER).touch()
        await wait_for(lambda: rig.parts.replicas.reports["nas"].health is Health.healthy)
        await rig.delivered()
        assert len(values_below(mount)) == 5


def swap(mount: Path, aside: Path, instead: Path | None = None) -> None:
    """Another disk takes the place of the one that is mounted, within a moment."""
    if instead is None:
        instead = aside.parent / "new"
        instead.mkdir()
        (instead / MARKER).touch()
    mount.rename(aside)
    instead.rename(mount)


async def test_disks_that_take_turns_bring_no_deleted_value_back(tmp_path: Path) -> None:
    """Each change is so quick that no probe sees the mount point empty."""
    mount, first, second = tmp_path / "mount", tmp_path / "first", tmp_path / "second"
    mount.mkdir()
    (mount / MARKER).touch()
    async with running(Rig(tmp_path / "memory", [NasReplica(mount, "pc", MIB)])) as rig:
        await rig.memory.set_many({"gone": b"old", "changed": b"old", "kept": b"old"})
        await rig.memory.set("brief", b"old", ttl=100)
        await rig.delivered()
        swap(mount, first)
        await wait_for(lambda: len(values_below(mount)) == 4)
        await rig.delivered()
        await rig.memory.delete("gone")
        await rig.memory.set("changed", b"new")
        rig.clock.move(200)
        await rig.service.sweep()
        await rig.delivered()
        assert (len(values_below(mount)), len(values_below(first))) == (2, 4)
        rig.clock.move(31 * 86400)
        await rig.service.sweep()
        swap(mount, second, first)
        await wait_for(lambda: len(values_below(mount)) == 2)
        await rig.delivered()
    shutil.rmtree(tmp_path / "memory")
    async with running(Rig(tmp_path / "memory", [NasReplica(mount, "pc", MIB)])) as rig:
        wanted = ["gone", "changed", "kept", "brief"]
        assert await rig.memory.get_many(wanted) == {"changed": b"new", "kept": b"old"}


async def test_a_disk_that_nobody_has_met_is_not_written_to(tmp_path: Path) -> None:
    mount = tmp_path / "mount"
    mount.mkdir()
    (mount / MARKER).touch()
    nas = NasReplica(mount, "pc", MIB)
    await nas.open()
    assert (await nas.health()).health is Health.healthy
    swap(mount, tmp_path / "first")
    with pytest.raises(TierUnavailableError, match="another disk"):
        await nas.purge("default", "k", "v")
    assert (await nas.health()).health is Health.unhealthy
    await nas.open()
    with pytest.raises(TierUnavailableError, match="another disk"):
        await nas.purge("default", "k", "v")
    assert (await nas.health()).health is Health.healthy
    await nas.purge("default", "k", "v")
    await nas.close()


def small(nas: Nas, home: Path, limit: int = 600_000) -> Rig:
    """A memory that may take so many bytes on the share."""
    return Rig(home, [NasReplica(nas.path, "pc", 64 * MIB)], nas_room=Room(limit, 0.9, 0.6))


async def test_the_least_used_leave_a_nas_at_its_limit(nas: Nas, tmp_path: Path) -> None:
    async with running(small(nas, tmp_path / "memory")) as rig:
        await shows(rig, Health.healthy)
        for number in range(9):
            await rig.memory.set(f"k{number}", value(number))
            await rig.delivered()
        there = [number for number in range(9) if nas_has(nas, f"k{number}")]
        assert there == list(range(9 - len(there), 9)), "the newest ones"
        assert 3 <= len(there) <= 5
        assert sum(each.stat().st_size for each in values_below(nas.path)) <= 600_000
        await rig.service._count(rig.parts.replicas.tiers["nas"])
        await rig.service.show()
        shown = rig.shown("nas")
        assert (shown.limit, shown.evictions, shown.entries) == (600_000, 9 - len(there), len(there))
        for number in range(9):
            assert await rig.memory.get(f"k{number}") == value(number)


def nas_has(nas: Nas, key: str) -> bool:
    """Whether a key's value lies on the share."""
    name = key_id("default", key)
    return any(each.name == name for each in values_below(nas.path))


async def test_what_left_the_nas_is_not_brought_back_by_a_restart(nas: Nas, tmp_path: Path) -> None:
    async with running(small(nas, tmp_path / "memory")) as rig:
        await shows(rig, Health.healthy)
        for number in range(9):
            await rig.memory.set(f"k{number}", value(number))
        await rig.delivered()
    before = sorted(values_below(nas.path))
    async with running(small(nas, tmp_path / "memory")) as rig:
        await shows(rig, Health.healthy)
        await wait_for(lambda: not rig.service._unseeded)
        await rig.delivered()
        assert sorted(values_below(nas.path)) == before
        await rig.memory.set("k0", b"new")
        await rig.delivered()
        assert nas_has(nas, "k0"), "a new version is another matter"


async def test_a_last_copy_never_leaves_the_nas(nas: Nas, tmp_path: Path) -> None:
    async with running(small(nas, tmp_path / "memory")) as rig:
        await shows(rig, Health.healthy)
        for number in range(4):
            await rig.memory.set(f"k{number}", value(number))
        await rig.delivered()
        for number in range(4):
            await rig.memory.evict(f"k{number}", tier=2)
        for number in range(4, 9):
            await rig.memory.set(f"k{number}", value(number))
        await rig.delivered()
        assert all(nas_has(nas, f"k{number}") for number in range(4))
        rig.hot.forget_all()
        for number in range(9):
            assert await rig.memory.get(f"k{number}") == value(number)


async def test_a_damaged_copy_on_the_disk_keeps_the_one_on_the_nas(nas: Nas, tmp_path: Path) -> None:
    async with running(small(nas, tmp_path / "memory")) as rig:
        await shows(rig, Health.healthy)
        await rig.memory.set("k0", value(0))
        await rig.delivered()
        (local,) = files_below(tmp_path / "memory" / "files")
        data = bytearray(local.read_bytes())
        data[-1] ^= 1
        local.write_bytes(data)
        for number in range(1, 9):
            await rig.memory.set(f"k{number}", value(number))
        await rig.delivered()
        assert nas_has(nas, "k0")
        assert not nas_has(nas, "k1")
        rig.hot.forget_all()
        assert await rig.memory.get("k0") == value(0)
