"""The memory on the local disk and tier 1: what is kept, what is found, what is refused."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance.core.memory import codec, service
from appliance.core.memory.edge import Put
from appliance.core.memory.eviction import Room
from appliance.core.memory.listing import Query
from appliance.core.memory.model import Durability, Record
from appliance.core.memory.nas import MARKER, NasReplica
from appliance.core.model import Health
from appliance.errors import (
    ConflictError,
    CorruptRecordError,
    InvalidArgumentsError,
    NotFoundError,
    StoreError,
    TierAbsentError,
    TierFullError,
)
from tests.memory.rig import MIB, Rig, running
from tests.support import wait_for


def random_bytes(size: int) -> bytes:
    """What zstd cannot make smaller."""
    return random.Random(1).randbytes(size)


VALUES: list[Any] = [b"", b"x", b"\0\xff" * 50_000, "text", "", 0, None, True, 1.5, [1, [2]], {"a": {"b": None}}, "☃" * 40_000]


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(Rig(tmp_path / "memory")) as rig:
        yield rig


def with_share(tmp_path: Path, room: Room | None = None) -> Rig:
    """A memory with a lower tier: a directory that stands for a mounted share."""
    share = tmp_path / "share"
    share.mkdir(exist_ok=True)
    (share / MARKER).touch()
    return Rig(tmp_path / "memory", [NasReplica(share, "pc", 64 * MIB)], room=room)


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[Rig]:
    """A memory with a lower tier that answers."""
    async with running(with_share(tmp_path)) as rig:
        await answers(rig)
        yield rig


async def answers(rig: Rig) -> None:
    """Wait until the lower tier is in use."""
    await wait_for(lambda: "nas" in rig.service._opened and rig.parts.replicas.answers("nas"))


def values_below(directory: Path) -> list[Path]:
    """The files of values."""
    return [each for each in directory.rglob("*") if each.is_file() and not each.name.startswith(".")]


def flip(file: Path) -> None:
    """Turn one bit in the middle round."""
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("durability", [Durability.memory, Durability.edge])
@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:20])
async def test_what_is_set_is_got(rig: Rig, value: Any, durability: Durability) -> None:
    await rig.memory.set("k", value, durability=durability)
    assert await rig.memory.get("k", default="none") == value
    rig.hot.forget_all()
    found = await rig.memory.get("k", default="none")
    assert (found, type(found)) == (value, type(value))


async def test_many_at_once(rig: Rig) -> None:
    values = {f"k{index}": index.to_bytes(2, "big") for index in range(1200)}
    await rig.memory.set_many(values, durability=Durability.memory)
    assert await rig.memory.get_many([*values, "no"]) == values
    await rig.memory.set_many({"j": {"a": 1}, "b": b"1"})
    assert await rig.memory.get_many(["j", "b"]) == {"j": {"a": 1}, "b": b"1"}


async def test_values_of_the_edge_survive_a_crash_and_those_of_memory_are_brought_there(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "memory")
    await rig.start()
    await rig.memory.set("edge", b"1")
    await rig.memory.set("behind", b"2", durability=Durability.memory)
    await wait_for(lambda: not rig.parts.behind.waiting)
    await rig.halt()
    await rig.memory.set("lost", b"3", durability=Durability.memory)
    await rig.memory.set("large", random_bytes(MIB))
    await rig.crash()
    async with running(Rig(tmp_path / "memory")) as again:
        assert await again.memory.get("edge") == b"1"
        assert await again.memory.get("behind") == b"2"
        assert await again.memory.get("lost") is None
        assert await again.memory.get("large") == random_bytes(MIB)
        assert again.service.parts.edge is not rig.parts.edge
        totals = await again.parts.edge.totals()
        assert totals.entries == 3


@pytest.mark.parametrize(
    ("key", "told"),
    [("", "empty"), ("a\0b", "control"), ("a\nb", "control"), ("k" * 1025, "1025 bytes"), ("\ud800", "not valid Unicode")],
)
async def test_keys_that_cannot_be_are_refused(rig: Rig, key: str, told: str) -> None:
    for act in (
        rig.memory.set(key, b""),
        rig.memory.get(key),
        rig.memory.set_many({"good": b"", key: b""}),
        rig.memory.delete(key),
    ):
        with pytest.raises(InvalidArgumentsError, match=told):
            await act
    assert await rig.memory.get("good") is None


@pytest.mark.parametrize("key", ["../../etc/passwd", "/abs", "a/../b", "🦀 🎉", "ключ", "a:b:c", "k" * 1024, ".", "%2e%2e"])
async def test_any_printable_key_is_good_and_stays_in_its_directory(rig: Rig, tmp_path: Path, key: str) -> None:
    await rig.memory.set(key, random_bytes(100_000))
    rig.hot.forget_all()
    assert await rig.memory.get(key) == random_bytes(100_000)
    outside = [path for path in tmp_path.rglob("*") if path.is_file() and tmp_path / "memory" not in path.parents]
    assert outside == []


async def test_wrong_arguments_are_refused_and_change_nothing(rig: Rig) -> None:
    await rig.memory.set("k", b"before")
    calls = [
        rig.memory.set("k", object()),
        rig.memory.set("k", b"x", ttl=0),
        rig.memory.set("k", b"x", ttl=float("inf")),
        rig.memory.set("k", b"x", tags=["\n"]),
        rig.memory.set("k", b"x", namespace="../up"),
        rig.memory.set("k", b"x" * (64 * MIB + 1)),
        rig.memory.set("k", b"x" * (64 * MIB + 1), durability=Durability.memory),
    ]
    for call in calls:
        with pytest.raises(InvalidArgumentsError):
            await call
    with pytest.raises(TierAbsentError, match="No cloud tier"):
        await rig.memory.set("k", b"x", durability=Durability.cloud)
    assert await rig.memory.get("k") == b"before"


async def test_a_value_of_64_mib(rig: Rig) -> None:
    value = bytes(range(256)) * (64 * MIB // 256)
    await rig.memory.set("large", value)
    assert await rig.memory.get("large") == value


async def test_an_expired_value_never_comes_back(rig: Rig) -> None:
    await rig.memory.set("k", b"old")
    await rig.memory.set("k", b"short", ttl=60)
    rig.clock.move(61)
    rig.hot.forget_all()
    assert await rig.memory.get("k") is None
    rig.clock.wall_now -= 86_400
    assert await rig.memory.get("k") is None
    await rig.memory.set("m", b"memory", ttl=60, durability=Durability.memory)
    rig.hot.forget_all()
    assert await rig.memory.get("m") == b"memory"
    rig.clock.move(61)
    assert await rig.memory.get("m") is None
    await rig.memory.flush()
    assert await rig.memory.get("m") is None


async def test_a_sweep_removes_what_has_expired(rig: Rig) -> None:
    await rig.memory.set_many({f"k{index}": random_bytes(70_000) for index in range(5)}, ttl=60)
    rig.clock.move(61)
    await rig.service.sweep()
    assert await rig.parts.edge.totals() == (0, 0, 0)
    assert [path for path in (rig.parts.edge.directory / "files").rglob("*") if path.is_file()] == []


async def test_delete_forgets_and_says_whether_it_was_there(rig: Rig) -> None:
    await rig.memory.set("k", random_bytes(100_000))
    assert await rig.memory.delete("k") is True
    assert await rig.memory.get("k") is None
    assert await rig.memory.delete("k") is False
    await rig.memory.set("k", b"again")
    assert await rig.memory.get("k") == b"again"
    with pytest.raises(NotFoundError):
        await rig.memory.stat("none")


async def test_many_misses_of_one_key_cause_one_fetch(rig: Rig) -> None:
    await rig.memory.set("k", b"value")
    rig.hot.forget_all()
    before = rig.machinery.reader.fetches
    found = await asyncio.gather(*(rig.memory.get("k") for _ in range(1000)))
    assert found == [b"value"] * 1000
    assert rig.machinery.reader.fetches == before + 1


async def test_a_miss_is_remembered_until_somebody_writes(rig: Rig) -> None:
    assert await rig.memory.get("k") is None
    fetches = rig.machinery.reader.fetches
    assert await rig.memory.get("k") is None
    assert rig.machinery.reader.fetches == fetches
    await rig.memory.set("k", b"now", durability=Durability.memory)
    assert await rig.memory.get("k") == b"now"


async def test_a_flipped_bit_in_a_file_is_told_and_never_given(rig: Rig) -> None:
    await rig.memory.set("k", random_bytes(100_000))
    (file,) = [path for path in (rig.parts.edge.directory / "files").rglob("*") if path.is_file()]
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    rig.hot.forget_all()
    with pytest.raises(CorruptRecordError):
        await rig.memory.get("k")
    assert rig.machinery.reader.corrupt == 1
    await rig.memory.set("k", b"mended")
    assert await rig.memory.get("k") == b"mended"


async def test_a_damaged_copy_is_shown_until_it_is_replaced(rig: Rig) -> None:
    await rig.memory.set("k", random_bytes(100_000))
    (file,) = values_below(rig.parts.edge.directory / "files")
    flip(file)
    rig.hot.forget_all()
    with pytest.raises(CorruptRecordError):
        await rig.memory.get("k")
    await wait_for(lambda: rig.shown("disk").health is Health.degraded)
    assert "default:k" in rig.shown("disk").reason
    assert (await rig.service.health()).health is Health.degraded
    assert {copy.tier: copy.state for copy in (await rig.memory.stat("k")).copies}["disk"] == "damaged"
    await rig.memory.set("k", b"mended")
    await wait_for(lambda: rig.shown("disk").health is Health.healthy)
    assert {copy.tier: copy.state for copy in (await rig.memory.stat("k")).copies}["disk"] == "held"


async def test_a_damaged_copy_is_well_again_once_another_tier_has_given_its_own(two: Rig) -> None:
    await two.memory.set("k", random_bytes(100_000))
    await two.delivered()
    (file,) = values_below(two.parts.edge.directory / "files")
    flip(file)
    two.hot.forget_all()
    assert await two.memory.get("k") == random_bytes(100_000)
    assert len(two.parts.edge.damage) == 0


async def test_what_a_tier_holds_is_counted_soon_after_it_got_more(two: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "RECOUNT", 0.1)
    await wait_for(lambda: two.shown("nas").entries == 0)
    await two.memory.set_many({"a": b"1", "b": b"2"})
    await wait_for(lambda: two.shown("nas").entries == 2)


async def test_nothing_is_known_of_what_an_absent_nas_holds(tmp_path: Path) -> None:
    async with running(Rig(tmp_path / "home", [NasReplica(tmp_path / "nothing", "pc", 1 << 20)])) as rig:
        await wait_for(lambda: rig.shown("nas").health is Health.absent)
        await rig.service.show()
        assert (rig.shown("nas").entries, rig.shown("nas").size) == (None, None)


async def test_a_flipped_bit_in_the_database_is_told(rig: Rig) -> None:
    await rig.memory.set("k", b"some value")

    def flip(connection: sqlite3.Connection) -> None:
        (body,) = connection.execute("SELECT body FROM bodies").fetchone()
        connection.execute("UPDATE bodies SET body = ?", (body.replace(b"some value", b"some valve"),))

    await rig.parts.edge.store.write(flip)
    rig.hot.forget_all()
    with pytest.raises(CorruptRecordError):
        await rig.memory.get("k")


async def test_a_full_tier_refuses_and_keeps_what_it_has(tmp_path: Path) -> None:
    async with running(Rig(tmp_path, room=Room(MIB))) as rig:
        await rig.memory.set("a", random_bytes(512_000))
        with pytest.raises(TierFullError, match="nothing in them may go"):
            await rig.memory.set("b", random_bytes(900_000))
        assert await rig.memory.get("b") is None
        assert await rig.memory.get("a") == random_bytes(512_000)


async def test_listing_by_page_prefix_search_tag_and_namespace(rig: Rig) -> None:
    await rig.memory.set_many({f"a{index:02}": index for index in range(25)}, tags=["even"])
    await rig.memory.set_many({"b_%1": 1, "bx%1": 2}, namespace="other", durability=Durability.memory)
    await rig.memory.set("gone", 1, ttl=5)
    rig.clock.move(6)
    seen, cursor = [], ""
    while True:
        page = await rig.memory.scan(Query(limit=10, cursor=cursor))
        seen += [f"{each.meta.namespace}:{each.meta.key}" for each in page.entries]
        if not (cursor := page.cursor):
            break
    assert seen == [*(f"default:a{index:02}" for index in range(25)), "other:b_%1", "other:bx%1"]
    assert [each.meta.key for each in (await rig.memory.scan(Query(prefix="b_"))).entries] == ["b_%1"]
    assert [each.meta.key for each in (await rig.memory.scan(Query(search="X%"))).entries] == ["bx%1"]
    assert len((await rig.memory.scan(Query(tag="even"))).entries) == 25
    assert await rig.memory.namespaces() == [("default", 25, 40), ("other", 2, 2)]


async def test_residency_is_told(rig: Rig) -> None:
    await rig.memory.set("k", b"x")
    assert [copy.tier for copy in (await rig.memory.stat("k")).copies] == ["memory", "disk"]
    await rig.memory.evict("k")
    listed = await rig.memory.scan(Query())
    assert [copy.tier for copy in listed.entries[0].copies] == ["disk"]
    with pytest.raises(ConflictError, match="alone"):
        await rig.memory.evict("k", tier=2)
    assert (await rig.memory.pin("k")).pinned is True
    assert (await rig.memory.pin("k", pinned=False)).pinned is False


async def test_a_database_of_another_program_is_refused(tmp_path: Path) -> None:
    (tmp_path / "memory.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.raises(Exception, match="not a database"):
        await Rig(tmp_path).start()


async def test_the_index_is_right_after_many_operations(rig: Rig) -> None:
    for index in range(200):
        await rig.memory.set(f"k{index % 17}", random_bytes(index * 997 % 90_000))
        if index % 5 == 0:
            await rig.memory.delete(f"k{index % 13}")
    path = rig.parts.edge.store.path
    totals = await rig.parts.edge.totals()
    with sqlite3.connect(path) as connection:
        (stored,) = connection.execute("SELECT sum(stored) FROM entries").fetchone()
        bodies = connection.execute("SELECT sum(length(body)) FROM bodies").fetchone()[0] or 0
    files = sum(file.stat().st_size for file in (rig.parts.edge.directory / "files").rglob("*") if file.is_file())
    assert totals.stored == stored == bodies + files


async def test_a_value_is_read_with_its_own_row_while_it_is_replaced(rig: Rig) -> None:
    """What is read is of one moment: a row beside the next one's value would be taken for damage."""
    await rig.memory.set("k", b"0")
    row = await rig.parts.edge.row("default", "k")
    assert row is not None
    busy = True

    async def write() -> None:
        nonlocal busy
        for number in range(300):
            await rig.memory.set("k", b"%d" % number)
        busy = False

    async def read() -> None:
        while busy:
            assert await rig.parts.edge.record(row.entry) is not None

    await asyncio.gather(write(), *(read() for _ in range(4)))
    assert rig.machinery.reader.corrupt == 0


async def test_a_copy_in_a_tier_that_is_not_configured_any_more_lets_nothing_go(tmp_path: Path) -> None:
    async with running(with_share(tmp_path)) as rig:
        await answers(rig)
        await rig.memory.set("old", random_bytes(600_000))
        await rig.delivered()
    async with running(Rig(tmp_path / "memory", room=Room(MIB, 0.9, 0.5))) as rig:
        with pytest.raises(TierFullError):
            await rig.memory.set("new", random_bytes(600_000))
        rig.hot.forget_all()
        assert await rig.memory.get("old") == random_bytes(600_000)


async def test_what_was_pinned_or_lost_below_meanwhile_does_not_go(two: Rig) -> None:
    await two.memory.set_many({"pinned": b"1", "lost": b"2", "free": b"3"})
    await two.delivered()
    rows = {key: await two.parts.edge.row("default", key) for key in ("pinned", "lost", "free")}
    await two.memory.pin("pinned")
    assert rows["lost"] is not None
    await two.halt()
    await two.parts.edge.lost(rows["lost"], "nas")
    assert {key: row and await two.parts.edge.drop_value(row, ["nas"]) for key, row in rows.items()} == {
        "pinned": False, "lost": False, "free": True,
    }  # fmt: skip


@pytest.mark.parametrize("fault", ["flipped", "gone"])
async def test_a_copy_below_is_looked_at_before_the_local_one_goes(tmp_path: Path, fault: str) -> None:
    async with running(with_share(tmp_path, Room(MIB, 0.9, 0.5))) as rig:
        await answers(rig)
        await rig.memory.set("k", random_bytes(600_000))
        await rig.delivered()
        (file,) = values_below(tmp_path / "share")
        flip(file) if fault == "flipped" else file.unlink()
        with pytest.raises(ConflictError, match="stays"):
            await rig.memory.evict("k", tier=2)
        rig.hot.forget_all()
        assert await rig.memory.get("k") == random_bytes(600_000)
        await rig.delivered()  # it was owed again, so that it may go now
        await rig.memory.set("new", random_bytes(600_000))
        assert [copy.tier for copy in (await rig.memory.stat("k")).copies if copy.tier != "memory"] == ["nas"]
        rig.hot.forget_all()
        assert await rig.memory.get("k") == random_bytes(600_000)


async def test_room_is_not_made_by_copies_that_turn_out_to_be_bad(tmp_path: Path) -> None:
    async with running(with_share(tmp_path, Room(MIB, 0.9, 0.5))) as rig:
        await answers(rig)
        await rig.memory.set("k", random_bytes(600_000))
        await rig.delivered()
        flip(values_below(tmp_path / "share")[0])
        with pytest.raises(TierFullError):
            await rig.memory.set("new", random_bytes(600_000))
        rig.hot.forget_all()
        assert await rig.memory.get("k") == random_bytes(600_000)


async def test_a_damaged_local_copy_is_replaced_from_below(two: Rig) -> None:
    await two.memory.set("k", random_bytes(100_000))
    await two.delivered()
    (file,) = values_below(two.parts.edge.directory / "files")
    flip(file)
    for _ in range(2):
        two.hot.forget_all()
        assert await two.memory.get("k") == random_bytes(100_000)
    assert two.machinery.reader.corrupt == 1


async def test_the_same_version_put_twice_at_once_is_kept_once_and_whole(rig: Rig) -> None:
    """As two look-ups do it that bring one value from below."""
    edge = rig.parts.edge
    await rig.memory.set("k", random_bytes(100_000))
    found = await edge.get("default", "k")
    assert found is not None
    assert found[1] is not None
    for number in range(20):
        record = Record(msgspec.structs.replace(found[1].meta, key=f"other{number}"), found[1].value)
        kept = await asyncio.gather(*(edge.put(Put(record, only_if="")) for _ in range(3)))
        assert sorted(kept) == [[False], [False], [True]]
        assert await edge.get("default", f"other{number}") is not None
    assert len(values_below(edge.directory / "files")) == 21
    await edge.put(Put(found[1], only_if="another"))
    assert await edge.get("default", "k") == found
    rows = [each.name for each in (edge.directory / "files").rglob(".*")]
    assert rows == []


async def test_while_the_disk_fails_nothing_older_is_given(tmp_path: Path) -> None:
    async with running(with_share(tmp_path)) as rig:
        await answers(rig)
        await rig.memory.set("both", random_bytes(100_000))
        await rig.memory.set("newer", b"1" * 70_000 + random_bytes(70_000))
        await rig.delivered()
        await rig.halt()
        await rig.memory.set("newer", b"2" + random_bytes(100_000))
        files = values_below(rig.parts.edge.directory / "files")
        kept = {file: file.read_bytes() for file in files}
        assert len(kept) == 2
        for file in kept:  # reading fails with an error, as of a failing disk
            file.unlink()
            file.mkdir()
        rig.hot.forget_all()
        with pytest.raises(StoreError, match="cannot be read"):
            await rig.memory.get("newer")
        assert await rig.memory.get("both") == random_bytes(100_000)
        for file, data in kept.items():
            file.rmdir()
            file.write_bytes(data)
        assert await rig.memory.get("newer") == b"2" + random_bytes(100_000)


async def test_what_was_delivered_unnoticed_does_not_come_back_after_its_end(tmp_path: Path) -> None:
    async with running(with_share(tmp_path)) as rig:
        await answers(rig)
        await rig.halt()
        await rig.memory.set("k", b"value", ttl=10)
        found = await rig.parts.edge.get("default", "k")
        assert found is not None
        assert found[1] is not None
        await rig.parts.replicas.tiers["nas"].put(found[1], "")  # as if killed before that was written down
        rig.clock.move(20)
        await rig.service.sweep()
        assert await rig.parts.ledger.purges("nas", 10) == [("default", "k", found[0].meta.version)]
        rig.clock.wall_now -= 15
        rig.parts.absent.clear()
        rig.hot.forget_all()
        assert await rig.memory.get("k") is None
        await rig.machinery.deliverers["nas"].deliver_some()
        assert values_below(tmp_path / "share") == []


async def test_what_was_delivered_unnoticed_leaves_a_tier_that_the_next_version_does_not_belong_to(tmp_path: Path) -> None:
    rig = with_share(tmp_path)
    rig.parts.replicas.tiers["nas"] = NasReplica(tmp_path / "share", "pc", 100)
    async with running(rig):
        await answers(rig)
        await rig.halt()
        await rig.memory.set("k", b"small")
        found = await rig.parts.edge.get("default", "k")
        assert found is not None
        assert found[1] is not None
        await rig.parts.replicas.tiers["nas"].put(found[1], "")
        await rig.memory.set("k", b"large" * 100)
        assert await rig.parts.ledger.purges("nas", 10) == [("default", "k", found[0].meta.version)]
        assert await rig.parts.ledger.debts("nas", 10) == []


async def test_a_value_that_finds_no_room_keeps_no_other_one_from_the_disk(tmp_path: Path) -> None:
    async with running(Rig(tmp_path, room=Room(MIB))) as rig:
        await rig.memory.set("a", random_bytes(500_000))
        await rig.halt()
        await rig.memory.set("huge", random_bytes(700_000), durability=Durability.memory)
        small = {f"b{number}": random_bytes(1000) for number in range(200)}
        await rig.memory.set_many(small, durability=Durability.memory)
        await rig.memory.set("large", random_bytes(750_000), durability=Durability.memory)
        with pytest.raises(TierFullError):
            await rig.memory.flush()
        assert set(rig.parts.behind.waiting) == {"default:huge", "default:large"}
        assert await rig.memory.get("huge") == random_bytes(700_000)
        await rig.memory.delete("large")
        await rig.memory.delete("a")
        await rig.memory.flush()
        assert not rig.parts.behind.waiting
        rig.hot.forget_all()
        assert await rig.memory.get_many(["huge", "large", *small]) == {"huge": random_bytes(700_000), **small}


@pytest.mark.parametrize(("waited", "left"), [(3.0, [2.0]), (6.0, [])])
async def test_waiting_makes_no_value_live_longer(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, waited: float, left: list[float]
) -> None:
    given: list[float | None] = []
    set_many = rig.parts.front.set_many

    async def noted(values: dict[str, bytes], ttl: float | None) -> None:
        given.append(ttl)
        await set_many(values, ttl)

    monkeypatch.setattr(rig.parts.front, "set_many", noted)
    async with rig.parts.stripes.writing(["default:k"]):
        task = asyncio.create_task(rig.memory.set("k", b"x", ttl=5))
        await wait_for(lambda: any(lock._waiters for lock in rig.parts.stripes._locks))
        rig.clock.move(waited)
    await task
    assert given == left


async def test_a_value_that_expires_before_it_finds_room_is_gone_and_no_error(tmp_path: Path) -> None:
    async with running(Rig(tmp_path, room=Room(MIB))) as rig:
        await rig.memory.set("k", b"older")
        await rig.memory.set("a", random_bytes(500_000))
        await rig.halt()
        await rig.memory.set("other", random_bytes(700_000), durability=Durability.memory)
        await rig.memory.set("k", random_bytes(700_000), ttl=5, durability=Durability.memory)
        rig.clock.move(6)
        rig.hot.forget_all()
        assert await rig.memory.get("k") is None
        assert set(rig.parts.behind.waiting) == {"default:other"}
        rig.clock.wall_now -= 60  # it never comes back, and neither does what it replaced
        rig.hot.forget_all()
        assert await rig.memory.get("k") is None


async def test_an_unknown_value_that_is_damaged_wherever_it_lies_is_no_missing_one(tmp_path: Path) -> None:
    async with running(with_share(tmp_path)) as rig:
        await answers(rig)
        await rig.memory.set("k", random_bytes(1000))
        await rig.delivered()
    (file,) = values_below(tmp_path / "share")
    flip(file)
    rig = with_share(tmp_path)
    rig.parts.edge.store.path.unlink()
    async with running(rig):
        await answers(rig)
        for _ in range(2):
            with pytest.raises(CorruptRecordError, match="damaged"):
                await rig.memory.get("k", default="none")
        assert rig.machinery.reader.corrupt == 2
        assert await rig.memory.get("other") is None


async def test_what_finds_no_room_on_the_disk_cannot_be_pinned(tmp_path: Path) -> None:
    async with running(with_share(tmp_path, Room(MIB, 0.9, 0.5))) as rig:
        await answers(rig)
        await rig.memory.set("old", random_bytes(500_000))
        await rig.delivered()
        await rig.memory.evict("old", tier=2)
        await rig.memory.set("full", random_bytes(800_000))
        await rig.delivered()
        await rig.memory.pin("full")
        with pytest.raises(TierFullError, match="not pinned"):
            await rig.memory.pin("old")
        assert (await rig.memory.stat("old")).pinned is False
        await rig.memory.pin("full", pinned=False)
        assert (await rig.memory.pin("old")).pinned is True
        assert "disk" in [copy.tier for copy in (await rig.memory.stat("old")).copies]


async def test_what_is_gone_is_no_hit(rig: Rig) -> None:
    await rig.memory.set("deleted", b"1")
    await rig.memory.delete("deleted")
    await rig.memory.set("expired", b"2", ttl=60)
    rig.clock.move(61)
    rig.hot.forget_all()
    await rig.memory.set("there", b"3")
    rig.hot.forget_all()
    stats = rig.machinery.reader.stats
    hits, misses = stats.hits, stats.misses
    for key in ("deleted", "expired", "there", "never"):
        rig.parts.absent.clear()
        await rig.memory.get(key)
    assert (stats.hits - hits, stats.misses - misses) == (1, 3)


async def test_large_values_are_hashed_and_packed_beside_the_loop(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    here = threading.get_ident()
    seen: list[tuple[str, bool]] = []

    def watch(name: str, work: Any) -> None:
        def watched(*args: Any, **more: Any) -> Any:
            seen.append((name, threading.get_ident() == here))
            return work(*args, **more)

        monkeypatch.setattr(codec, name, watched)

    for name in ("checksum", "encode", "decode"):
        watch(name, getattr(codec, name))
    await rig.memory.set("edge", random_bytes(100_000))
    await rig.memory.set("even", bytes(1_000_000))  # a few bytes, once it is packed
    assert (await rig.memory.read("edge")).record is not None
    await rig.halt()
    await rig.memory.set("behind", random_bytes(100_000), durability=Durability.memory)
    rig.hot.forget_all()
    assert await rig.memory.get("behind") == random_bytes(100_000)
    await rig.memory.flush()
    rig.hot.forget_all()
    assert await rig.memory.get_many(["edge", "behind", "even"]) == {
        "edge": random_bytes(100_000), "behind": random_bytes(100_000), "even": bytes(1_000_000),
    }  # fmt: skip
    assert {name for name, _ in seen} == {"checksum", "encode", "decode"}
    assert [name for name, in_loop in seen if in_loop] == []
