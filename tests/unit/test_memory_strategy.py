"""Every strategy on every case."""

from __future__ import annotations

import json
import math

import pytest

from appliance.core.memory.codec import checksum
from appliance.core.memory.model import Kind, Meta, Record
from appliance.core.memory.strategy import AHEAD, Strategy, decide

NOW = 1_800_000_000.0


def record(value: bytes, age: float = 60.0, *, kind: Kind = Kind.json, tags: str = "", deleted: bool = False) -> Record:
    meta = Meta(
        namespace="n",
        key="k",
        kind=kind,
        version=f"v{age}",
        checksum=checksum(kind, value, deleted=deleted),
        size=len(value),
        modified=NOW - age,
        tags=tuple(tags.split()),
        deleted=deleted,
    )
    return Record(meta, value)


BASE = record(b'{"a":1,"b":1}', 1000)
MINE = record(b'{"a":2,"b":1}', 20)
THEIRS = record(b'{"a":1,"b":2}', 10)
CLASHING = record(b'{"a":3,"b":1}', 10)
GONE = record(b"", 10, deleted=True)

CASES = {
    "equal": (BASE, MINE, record(MINE.value, 1)),
    "equal without a base": (None, MINE, record(MINE.value, 1)),
    "both deleted": (BASE, GONE, record(b"", 5, deleted=True)),
    "only mine changed": (BASE, MINE, record(BASE.value, 1)),
    "only theirs changed": (BASE, record(BASE.value, 1), THEIRS),
    "only mine deleted": (BASE, GONE, BASE),
    "only theirs deleted": (BASE, BASE, GONE),
    "only tags of mine": (BASE, record(BASE.value, 20, tags="x"), BASE),
    "fields apart, theirs later": (BASE, MINE, THEIRS),
    "fields apart, mine later": (BASE, record(MINE.value, 5), THEIRS),
    "fields apart, a tie": (BASE, record(MINE.value, 10), THEIRS),
    "same field, mine later": (BASE, record(MINE.value, 5), CLASHING),
    "no base, theirs later": (None, MINE, THEIRS),
    "theirs deleted later": (BASE, MINE, GONE),
    "mine deleted, theirs later": (BASE, record(b"", 20, deleted=True), THEIRS),
    "theirs has mine's change": (BASE, MINE, record(b'{"b":2,"a":2}', 10)),
    "mine has theirs' change": (BASE, record(b'{"b":2,"a":2}', 20), THEIRS),
    "mine from the future": (BASE, record(MINE.value, -AHEAD - 1), THEIRS),
    "theirs from the future": (BASE, MINE, record(THEIRS.value, -AHEAD - 1)),
    "theirs just not from the future": (BASE, MINE, record(THEIRS.value, -AHEAD)),
    "mine without a time": (BASE, record(MINE.value, NOW), THEIRS),
    "theirs with a broken time": (BASE, MINE, record(THEIRS.value, math.nan)),
}
# case: latest_wins, cloud_wins, edge_wins, merge, manual
EXPECTED = {
    "equal": "same same same same same",
    "equal without a base": "same same same same same",
    "both deleted": "same same same same same",
    "only mine changed": "mine mine mine mine mine",
    "only theirs changed": "theirs theirs theirs theirs theirs",
    "only mine deleted": "mine mine mine mine mine",
    "only theirs deleted": "theirs theirs theirs theirs theirs",
    "only tags of mine": "mine mine mine mine mine",
    "fields apart, theirs later": "theirs theirs mine merged manual",
    "fields apart, mine later": "mine theirs mine merged manual",
    "fields apart, a tie": "theirs theirs mine merged manual",
    "same field, mine later": "mine theirs mine manual manual",
    "no base, theirs later": "theirs theirs mine manual manual",
    "theirs deleted later": "theirs theirs mine manual manual",
    "mine deleted, theirs later": "theirs theirs mine manual manual",
    "theirs has mine's change": "theirs theirs mine theirs manual",
    "mine has theirs' change": "theirs theirs mine mine manual",
    "mine from the future": "manual theirs mine merged manual",
    "theirs from the future": "manual theirs mine merged manual",
    "theirs just not from the future": "theirs theirs mine merged manual",
    "mine without a time": "manual theirs mine merged manual",
    "theirs with a broken time": "manual theirs mine merged manual",
}
TABLE = [
    (case, strategy, action)
    for case, actions in EXPECTED.items()
    for strategy, action in zip(("latest_wins", "cloud_wins", "edge_wins", "merge", "manual"), actions.split(), strict=True)
]


def test_the_table_is_whole() -> None:
    assert CASES.keys() == EXPECTED.keys()
    assert [strategy.value for strategy in Strategy] == ["latest_wins", "cloud_wins", "edge_wins", "merge", "manual"]


@pytest.mark.parametrize(("case", "strategy", "action"), TABLE)
def test_every_strategy_on_every_case(case: str, strategy: str, action: str) -> None:
    decision = decide(Strategy(strategy), *CASES[case], NOW)
    assert decision.action == action
    assert (decision.merged is not None) == (action == "merged")
    assert decision.reason.endswith(".")


def test_a_merge_carries_the_fields_of_the_new_version() -> None:
    merged = decide(Strategy.merge, BASE, record(MINE.value, tags="x"), record(THEIRS.value, tags="y"), NOW).merged
    assert merged is not None
    assert (merged.value, merged.kind, merged.tags, merged.expires) == (b'{"a":2,"b":2}', Kind.json, ("x", "y"), None)


def test_tags_alone_make_a_merge_of_equal_values() -> None:
    decision = decide(Strategy.merge, BASE, record(BASE.value, tags="x"), record(BASE.value, tags="y"), NOW)
    assert decision.merged is not None
    assert (decision.action, decision.merged.value, decision.merged.tags) == ("merged", BASE.value, ("x", "y"))


def test_an_unclean_merge_names_the_places() -> None:
    decision = decide(Strategy.merge, BASE, MINE, CLASHING, NOW)
    assert decision.clashes == ("/a",)
    assert decision.reason == "It cannot be merged: both sides changed the same fields (/a)."


def test_a_reason_stays_short_and_printable() -> None:
    sides = (json.dumps({f"f{number}\n": value for number in range(12)}).encode() for value in (1, 2, 3))
    decision = decide(Strategy.merge, *(record(side) for side in sides), NOW)
    assert len(decision.clashes) == 12
    assert "and 7 more" in decision.reason
    assert decision.reason.isprintable()


def test_reasons_say_who_and_by_how_much() -> None:
    assert "cloud's version is 10.000 s newer" in decide(Strategy.latest_wins, BASE, MINE, THEIRS, NOW).reason
    assert "tie" in decide(Strategy.latest_wins, *CASES["fields apart, a tie"], NOW).reason
    future = decide(Strategy.latest_wins, BASE, record(MINE.value, -48 * 3600), THEIRS, NOW)
    assert "the edge's version is dated 48.0 h in the future" in future.reason
    assert "the cloud's version has no time" in decide(Strategy.latest_wins, *CASES["theirs with a broken time"], NOW).reason


def test_a_checksum_that_is_not_known_is_made_up_for_by_the_value() -> None:
    bare = [
        Record(Meta(namespace="n", key="k", kind=Kind.json, version="v", modified=NOW), value) for value in (b"1", b"1", b"2")
    ]
    assert decide(Strategy.manual, None, bare[0], bare[1], NOW).action == "same"
    assert decide(Strategy.manual, None, bare[0], bare[2], NOW).action == "manual"
