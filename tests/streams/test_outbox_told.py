"""What the outbox tells of itself: its health, and its counts, are true while things go wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.core.model import Health
from appliance.core.streams.keeper import RECENT
from appliance.core.streams.model import DeadLetter, Message, Priority, Refused
from appliance.errors import StoreError
from tests.streams.outbox_rig import Rig, running
from tests.support import wait_for


async def test_health_is_degraded_while_nothing_goes_out_though_the_link_is_up(tmp_path: Path) -> None:
    async with running(Rig(tmp_path)) as rig:
        assert (await rig.outbox.health()).health is Health.healthy
        rig.broker.up = False  # a topic without a leader, a missing right: the link itself stays up
        rig.outbox.link(True)
        await rig.put("note", *range(50))
        await wait_for(lambda: rig.outbox._sender.down)
        report = await rig.outbox.health()
        assert report.health is Health.degraded
        assert "No broker answers" in report.reason
        assert "50 events" in report.reason
        assert report.next_step == "look at the network."
        rig.up()
        await rig.drained()
        assert (await rig.outbox.health()).health is Health.healthy


async def test_health_is_degraded_while_paused(tmp_path: Path) -> None:
    async with running(Rig(tmp_path)) as rig:
        await rig.outbox.pause()
        await rig.put("note", *range(3))
        report = await rig.outbox.health()
        assert report.health is Health.degraded
        assert "paused: 3 events" in report.reason
        assert "resume" in report.next_step
        await rig.outbox.resume()
        await rig.drained()
        assert (await rig.outbox.health()).health is Health.healthy


async def test_no_class_pays_for_a_lower_one_that_is_being_read(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.capacity = 200
    await rig.open()
    await rig.put("health", *range(20))
    await rig.put("note", *range(80))
    await rig.put("result", *range(100))
    await rig.journal.reserve(Priority.normal)
    await rig.put("result", *range(100, 110))
    assert rig.journal.dropped == 0  # it waits until the sender has said what it took
    rig.journal.hold(Priority.normal, 0)
    await rig.put("result", 110)
    assert {each.name: count for each, count in rig.journal.dropped_by.items() if count} == {"normal": 11}
    await rig.stop()


async def test_a_class_that_could_not_be_read_is_not_reserved_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise StoreError("The disk does not answer.", "look at it.")

    rig = Rig(tmp_path)
    rig.capacity = 100
    async with running(rig):
        with monkeypatch.context() as patch:
            patch.setattr(rig.journal, "stored", fail)
            await rig.put("result", *range(100))
            await wait_for(lambda: rig.outbox._sender.error)
            await rig.put("result", *range(100, 110))
            assert rig.journal.dropped == 10


async def test_what_another_reader_missed_is_not_dropped_by_kafka(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.capacity = 100
    async with running(rig):
        rig.journal.join("analytics")  # it lags
        for number in range(150):
            await rig.put("note", number)
            await wait_for(lambda number=number: len(rig.broker.stored) > number)  # type: ignore[misc]
        status = await rig.drained()
        assert (status.sent, status.dropped, status.classes[1].dropped) == (150, 0, 0)
        assert rig.journal.dropped == sum(rig.journal.dropped_of("analytics").values()) == 50
        assert (await rig.outbox.health()).health is Health.healthy
        rig.down()
        await rig.put("note", *range(150, 290))
        assert (await rig.outbox.status()).dropped == 40
    async with running(rig):
        assert (await rig.outbox.status()).dropped == 40
        assert rig.journal.dropped_of("analytics")[Priority.high] == 190
        await rig.journal.forget("analytics")
        assert not any(rig.journal.dropped_of("analytics").values())
    await rig.open()
    assert not any(rig.journal.dropped_of("analytics").values())
    await rig.stop()


async def test_letters_of_one_origin_take_no_room_of_anothers(tmp_path: Path) -> None:
    async with running(Rig(tmp_path, dead_letters=20)) as rig:
        letters = rig.outbox.letters
        message = Message("m", "analytics.events", b"k", b"x", Priority.high, 1.0)
        await letters.add_messages("outbox", [Refused(message, "too large")] * 15, 1.0)
        assert (await rig.outbox.health()).health is Health.healthy
        for number in range(50):
            letter = DeadLetter(letter_id=f"j{number}", time=1.0, origin="updates", topic="t", key="", reason="junk", size=1)
            await letters.add(letter, b"x")
        assert len(await letters.list(100, "outbox")) == 15
        assert len(await letters.list(100, "updates")) == 20
        status, report = await rig.outbox.status(), await rig.outbox.health()
        assert (status.dead, status.dead_dropped, status.dropped) == (35, 30, 0)
        assert report.health is Health.degraded
        assert "30 letters given up" in report.reason
        assert report.details["letters_dropped"] == 30
        rig.clock.move(RECENT + 1)
        assert (await rig.outbox.health()).health is Health.healthy
    async with running(rig):
        assert (await rig.outbox.status()).dead_dropped == 30
        assert (await rig.outbox.health()).health is Health.healthy
