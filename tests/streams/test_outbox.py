"""The outbox: what goes out in which order, over ring, disk, failures and restarts."""

from __future__ import annotations

import itertools
from pathlib import Path

from appliance.core.events import EVENT_TYPES
from appliance.core.streams.model import Priority
from tests.streams.outbox_rig import KINDS, TOPICS, Rig, running
from tests.support import wait_for


def test_all_types_of_a_topic_go_the_same_way() -> None:
    ordered = sorted(EVENT_TYPES.values(), key=lambda cls: cls.topic)
    for topic, group in itertools.groupby(ordered, key=lambda cls: cls.topic):
        assert len({(cls.priority, cls.durable) for cls in group}) == 1, topic
    known = {cls.topic: cls.priority.name for cls in ordered}
    assert known.items() >= {
        "analytics.events": "high", "edge.ai.inference": "normal", "edge.telemetry": "low", "system.health": "critical",
    }.items()  # fmt: skip


async def test_everything_arrives_once_and_in_order(tmp_path: Path) -> None:
    async with running(Rig(tmp_path)) as rig:
        for number in range(200):
            for kind in KINDS:
                await rig.put(kind, number)
        status = await rig.drained()
        for kind in KINDS:
            assert rig.broker.numbers(TOPICS[kind]) == list(range(200))
        assert (len(rig.broker.stored), status.sent, status.dropped) == (800, 800, 0)
        assert {each.key for each in rig.broker.stored} == {b"pc"}
        assert (status.oldest_s, status.eta_s, status.retry_s, status.error) == (None, 0.0, None, "")
        assert blocks(rig) == 0


def blocks(rig: Rig) -> int:
    return sum(total.messages for total in rig.outbox._spill.totals.values())


async def test_a_high_class_overtakes_a_low_one(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    await rig.open()
    for kind in ("telemetry", "result", "note", "health"):
        await rig.put(kind, *range(30))
    rig.run()
    await rig.drained()
    assert [each.priority for each in rig.broker.stored] == sorted(each.priority for each in rig.broker.stored)
    assert len(rig.broker.stored) == 120
    await rig.stop()


async def test_an_outage_brings_the_ring_to_disk_and_costs_nothing(tmp_path: Path) -> None:
    async with running(Rig(tmp_path)) as rig:
        rig.down()
        await rig.put("telemetry", *range(500))
        await rig.put("note", *range(50))
        assert blocks(rig) == 0
        rig.clock.move(61)
        await wait_for(lambda: blocks(rig) == 500)
        status = await rig.outbox.status()
        assert (status.waiting, status.classes[3].on_disk, status.classes[3].in_memory) == (550, 500, 0)
        assert status.error
        assert status.oldest_s is not None
        assert status.oldest_s >= 61
        await rig.put("telemetry", *range(500, 600))
        rig.up()
        await rig.drained()
        assert rig.broker.numbers("edge.telemetry") == list(range(600))
        assert rig.broker.numbers("analytics.events") == list(range(50))
        assert blocks(rig) == 0


async def test_what_is_in_memory_goes_to_disk_when_asked_for(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    async with running(rig):
        rig.down()
        await rig.put("telemetry", *range(500))
        await rig.outbox.to_disk()
        assert (blocks(rig), (await rig.outbox.status()).classes[3].in_memory) == (500, 0)
        await rig.crash()
        await rig.open()
        rig.run()
        rig.up()
        await rig.drained()
        assert rig.broker.numbers("edge.telemetry") == list(range(500))


async def test_a_stop_in_order_keeps_what_is_in_memory(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.broker.up = False
    for life in range(4):
        async with running(rig):
            rig.outbox.link(False)
            await rig.put("telemetry", *range(life * 100, life * 100 + 100))
            if life % 2:
                calls = rig.broker.calls
                rig.outbox.link(True)  # a try that fails: its messages are the head of the lane
                await wait_for(lambda calls=calls: rig.broker.calls > calls)  # type: ignore[misc]
    rig.broker.up = True
    async with running(rig):
        await rig.drained()
    assert rig.broker.numbers("edge.telemetry") == list(range(400))
    assert len(rig.broker.stored) == 400


async def test_a_half_sent_block_goes_on_where_it_was(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    async with running(rig):
        rig.down()
        await rig.put("telemetry", *range(2500))
    sent = 0

    def stop_after_the_first(_: object) -> bool:
        nonlocal sent
        sent += 1
        rig.broker.up = sent <= 1000
        return False

    rig.broker.refuse, rig.broker.up = stop_after_the_first, True
    async with running(rig):
        await wait_for(lambda: not rig.broker.up)
        assert len(rig.broker.stored) == 1000
    rig.broker.refuse, rig.broker.up = lambda _: False, True
    async with running(rig):
        await rig.drained()
    assert [*rig.broker.numbers("edge.telemetry")] == list(range(2500))
    assert len(rig.broker.stored) == 2500


async def test_what_was_sent_is_not_sent_again_after_a_stop(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    async with running(rig):
        await rig.put("note", *range(20))
        await rig.put("health", *range(20))
        await rig.drained()
    async with running(rig):
        await rig.put("note", 20)
        await rig.drained()
    assert rig.broker.numbers("analytics.events") == list(range(21))
    assert len(rig.broker.stored) == 41


async def test_a_failure_after_half_keeps_the_order(tmp_path: Path) -> None:
    async with running(Rig(tmp_path)) as rig:
        rig.broker.half = True
        rig.down()
        await rig.put("telemetry", *range(100))
        await rig.put("note", *range(100))
        rig.clock.move(1)
        rig.outbox._wake()
        await wait_for(lambda: len(set(rig.broker.stored)) >= 50)
        rig.up()
        await rig.drained()
        assert rig.broker.numbers("edge.telemetry") == list(range(100))
        assert rig.broker.numbers("analytics.events") == list(range(100))


async def test_a_pause_is_kept_over_a_restart(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    async with running(rig):
        await rig.outbox.pause()
        await rig.put("note", 1)
    async with running(rig):
        await rig.put("telemetry", 1)
        status = await rig.outbox.status()
        assert (status.paused, status.waiting, rig.broker.calls) == (True, 2, 0)
        await rig.outbox.resume()
        await rig.drained()
    assert len(rig.broker.stored) == 2


async def test_the_patience_doubles_and_ends_with_the_first_success(tmp_path: Path) -> None:
    async with running(Rig(tmp_path)) as rig:
        rig.broker.up = False
        await rig.put("note", 1)

        async def later() -> bool:
            rig.clock.move(30)
            rig.outbox._wake()
            return rig.outbox._sender._patience[Priority.high].failures >= 4

        await wait_for(later)
        await rig.put("telemetry", 1)
        await wait_for(lambda: rig.outbox._sender._patience[Priority.low].failures)
        status = await rig.outbox.status()
        assert status.retry_s is not None
        assert "No broker" in status.error
        rig.broker.up = True
        rig.clock.move(0)
        rig.outbox._sender._patience[Priority.low].due = (
            rig.clock.monotonic() + 50
        )  # it would wait, but for the other's success
        rig.outbox._sender._patience[Priority.high].due = 0
        rig.outbox._wake()
        await rig.drained()
        assert (await rig.outbox.status()).retry_s is None
