"""The order of what is owed."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.core.memory.priority import LARGE, order, score

NOW = 1_800_000_000.0


class Item(msgspec.Struct, frozen=True):
    namespace: str = "default"
    tags: tuple[str, ...] = ()
    size: int = 1
    modified: float = NOW - 7200
    since: float = 0.0


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (Item(), 1.0),
        (Item("metrics"), 2.0),
        (Item("telemetry"), 2.0),
        (Item("metrics.cpu"), 2.0),
        (Item("metrics-old"), 1.0),
        (Item("my.metrics"), 1.0),
        (Item(tags=("a", "telemetry")), 2.0),
        (Item("metrics", ("telemetry", "metrics")), 2.0),
        (Item(size=LARGE), 1.0),
        (Item(size=LARGE + 1), 0.5),
        (Item(modified=NOW), 1.5),
        (Item(modified=NOW - 3599), 1.5),
        (Item(modified=NOW - 3600), 1.0),
        (Item(modified=NOW + 5), 1.5),
        (Item(modified=NOW + 86400), 1.0),
        (Item("metrics", size=LARGE + 1, modified=NOW), 1.5),
    ],
)
def test_scores(item: Item, expected: float) -> None:
    assert score(item.namespace, item.tags, item.size, item.modified, NOW) == expected


def test_ten_mebibytes() -> None:
    assert LARGE == 10_485_760


def test_the_order() -> None:
    urgent, fresh, large = Item("metrics", since=9), Item(modified=NOW, since=8), Item(size=LARGE + 1, since=0)
    early, late = Item(since=1), Item(since=2)
    assert order([late, large, fresh, early, urgent], NOW) == [urgent, fresh, early, late, large]


items = st.builds(
    Item,
    st.sampled_from(("default", "metrics", "models")),
    st.sampled_from(((), ("telemetry",))),
    st.sampled_from((0, LARGE, LARGE + 1)),
    st.sampled_from((NOW - 9000, NOW - 10)),
    st.integers(0, 3).map(float),
)


@given(st.lists(items))
def test_nothing_is_lost_and_nothing_overtakes(waiting: list[Item]) -> None:
    ordered = order(iter(waiting), NOW)
    assert sorted(map(repr, ordered)) == sorted(map(repr, waiting))
    scores = [score(item.namespace, item.tags, item.size, item.modified, NOW) for item in ordered]
    for (one, first), (other, second) in itertools.pairwise(zip(scores, ordered, strict=True)):
        assert one > other or (one == other and first.since <= second.since)
