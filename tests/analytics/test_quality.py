"""What is wrong with incoming readings is told once, with its end; a clock that is set is no gap."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from appliance.core.analytics import checks
from appliance.core.analytics.quality import FORGET, SERIES, Judge
from appliance.core.analytics.quality_service import EVENTS, QualityService
from appliance.core.bus import Bus
from appliance.core.events import Event, HostMetrics, Noted
from appliance.core.state import LiveState, Section
from tests.support import ManualClock


class Kept:
    """A journal in memory."""

    def __init__(self) -> None:
        self.events: list[Noted] = []

    async def append(self, event: Event) -> int:
        assert isinstance(event, Noted)
        self.events.append(event)
        return len(self.events)

    def names(self) -> list[str]:
        """Events as "name state"."""
        return [f"{each.event} {each.attributes.get('state', '')}".strip() for each in self.events]


class Rig:
    """The service with a clock that the test moves."""

    def __init__(self) -> None:
        self.clock, self.kept = ManualClock(), Kept()
        self.state = LiveState(self.clock)
        self.service = QualityService("pc", Bus(self.kept), self.state, self.clock)

    def event(self, value: float = 1.0, metric: str = "m", behind: float = 0.0) -> HostMetrics:
        return HostMetrics(time=self.clock.wall() - behind, metrics={metric: value})

    async def readings(self, count: int, make: Callable[[], HostMetrics] | None = None) -> None:
        """One every ten seconds."""
        for _ in range(count):
            self.clock.move(10)
            await self.service.take([(make or self.event)()])
            await self.service.look()

    def open(self) -> list[str]:
        return [each.check for each in self.state.get(Section.quality).value]


@pytest.fixture
async def rig() -> Rig:
    found = Rig()
    await found.service.start()
    return found


async def test_good_readings_are_not_told(rig: Rig) -> None:
    await rig.readings(50)
    assert (rig.kept.names(), rig.open()) == ([], [])


async def test_a_gap_begins_once_and_ends(rig: Rig) -> None:
    await rig.readings(10)
    last = rig.clock.wall()
    for _ in range(20):
        rig.clock.move(10)
        await rig.service.look()
    assert (rig.kept.names(), rig.open()) == (["quality.gap began"], ["gap"])
    assert rig.kept.events[0].attributes["since"] == last
    await rig.readings(1)
    assert (rig.kept.names(), rig.open()) == (["quality.gap began", "quality.gap ended"], [])
    assert rig.kept.events[1].attributes["until"] == rig.clock.wall()


async def test_a_metric_that_is_gone_leaves_nothing_open(rig: Rig) -> None:
    def bad() -> HostMetrics:
        return HostMetrics(time=rig.clock.wall() - 600, metrics={"x_usage": 200.0})

    await rig.readings(10, bad)
    event = bad()
    await rig.service.take([event, event])
    await rig.readings(3, lambda: HostMetrics(time=rig.clock.wall(), metrics={"other": 1.0}))
    assert sorted(rig.open()) == ["duplicate", "late", "out_of_range"]
    rig.clock.move(100)
    await rig.service.look()
    rig.clock.move(FORGET)
    await rig.service.look()
    assert rig.open() == []
    told = sorted(each for each in rig.kept.names() if "gone" in each)
    assert told == [f"quality.{check} gone" for check in ("duplicate", "gap", "late", "out_of_range")]
    assert not any("ended" in each for each in rig.kept.names())  # nothing came back


async def test_a_machine_that_stands_still_is_one_gap_with_one_end(rig: Rig) -> None:
    def many() -> HostMetrics:
        return HostMetrics(time=rig.clock.wall(), metrics={f"m{index}": 1.0 for index in range(25)})

    await rig.readings(10, many)
    rig.clock.move(60)
    await rig.service.look()
    assert len(rig.open()) == 25
    await rig.readings(1, many)
    assert (rig.kept.names(), rig.open()) == (["quality.gap began", "quality.gap ended"], [])
    assert rig.kept.events[0].attributes["metric"] == "25 metrics"
    assert rig.kept.events[1].attributes["metrics"] == sorted(f"m{index}" for index in range(25))


async def test_what_is_told_to_begin_is_told_to_end(rig: Rig) -> None:
    names = [f"m{index}_usage" for index in range(EVENTS + 10)]
    await rig.service.take([HostMetrics(time=rig.clock.wall(), metrics=dict.fromkeys(names, 200.0))])
    for _ in range(3):
        rig.clock.move(1)
        await rig.service.take([HostMetrics(time=rig.clock.wall(), metrics=dict.fromkeys(names, 2.0))])
    assert rig.open() == []
    began = {each.attributes["metric"] for each in rig.kept.events if each.attributes["state"] == "began"}
    ended = {each.attributes["metric"] for each in rig.kept.events if each.attributes["state"] == "ended"}
    assert (len(began), ended) == (EVENTS, began)


@pytest.mark.parametrize("seconds", [7200.0, -7200.0, 3.0])
async def test_a_clock_that_is_set_is_told_as_that(rig: Rig, seconds: float) -> None:
    await rig.readings(10)
    rig.clock.move(10)
    on_its_way = rig.event()
    rig.clock.wall_now += seconds
    await rig.service.take([on_its_way])
    await rig.readings(10)
    assert rig.kept.names() == ["quality.clock_stepped"]
    assert rig.kept.events[0].attributes["seconds"] == seconds


async def test_late_and_future_readings(rig: Rig) -> None:
    await rig.readings(3, lambda: rig.event(behind=600))
    assert rig.open() == ["late"]
    assert rig.state.get(Section.quality).value[0].count == 3
    await rig.readings(3)
    await rig.readings(1, lambda: rig.event(behind=-600))
    assert rig.kept.names() == ["quality.late began", "quality.late ended", "quality.late began"]
    assert "future" in rig.kept.events[2].attributes["detail"]


async def test_duplicates_by_id_and_by_moment(rig: Rig) -> None:
    await rig.readings(3)
    rig.clock.move(10)
    event = rig.event()
    await rig.service.take([event, event])
    assert rig.kept.events[0].attributes["detail"] == "the same event came again"
    await rig.readings(21)
    assert rig.open() == []
    rig.clock.move(10)
    await rig.service.take([rig.event(1.0), rig.event(2.0)])
    assert rig.open() == ["duplicate"]
    tagged = [HostMetrics(time=rig.clock.wall(), metrics={"t": 1.0}, tags={"tier": tier}) for tier in "ab"]
    await rig.service.take(tagged)
    assert rig.open() == ["duplicate"]  # two tiers are two series


@pytest.mark.parametrize(
    ("metric", "value", "bad"),
    [
        ("cpu_usage", 100.0, False), ("cpu_usage", 100.1, True), ("memory_percent", -1.0, True), ("battery_level", 101.0, True),
        ("temperature_c", 126.0, True), ("temperature_c", -10.0, False), ("net_tx_bytes", -1.0, True), ("x_total", -1.0, True),
        ("anything", -1e12, False), ("anything", float("nan"), True), ("process_cpu", 180.0, False),
        ("room_temperature", 300.0, True),
    ],
)  # fmt: skip
async def test_values_that_cannot_be(rig: Rig, metric: str, value: float, bad: bool) -> None:
    await rig.service.take([rig.event(value, metric)])
    assert rig.open() == (["out_of_range"] if bad else [])


async def test_events_are_limited_and_counted_and_findings_are_all_there(rig: Rig) -> None:
    await rig.service.take([HostMetrics(time=rig.clock.wall(), metrics={f"m{index}_usage": 200.0 for index in range(100)})])
    assert len(rig.kept.events) == EVENTS
    assert len(rig.open()) == 100
    rig.clock.move(61)
    await rig.service.take([rig.event(-1.0, "other_usage")])
    assert rig.kept.events[-1].attributes["held_back_before"] == 100 - EVENTS


def test_what_is_watched_is_bounded() -> None:
    judge = Judge("pc")
    for index in range(SERIES + 50):
        judge.take(HostMetrics(time=1.0, metrics={f"m{index}_usage": 500.0}), 1.0, 1.0)
    assert judge.forgotten == 50
    assert len(judge.findings()) == SERIES


def test_the_usual_interval_is_the_middle_one() -> None:
    assert checks.usual([0, 1, 2, 3, 4, 5]) is None
    assert checks.usual([0, 1, 2, 3, 4, 5, 100, 101]) == 1
    assert checks.gap([0, 1, 2, 3, 4, 5, 6, 7], 12) == ""
    assert checks.gap([0, 1, 2, 3, 4, 5, 6, 7], 14) != ""
