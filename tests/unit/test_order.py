"""The order of the tests: what is named there is there, and belongs together where it has to."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.order import FIRST, KAFKA, last_users

TESTS = Path(__file__).parents[1]
TOGETHER = {"lab", "kafka", "serial", "backup"}


def test_what_begins_first_is_there() -> None:
    names = {"_".join(path.relative_to(TESTS).with_suffix("").parts) for path in TESTS.rglob("test_*.py")}
    assert sorted(set(FIRST) - TOGETHER - names) == []
    assert len(set(FIRST)) == len(FIRST)


def test_a_broker_is_ended_after_the_last_test_that_wants_it(request: pytest.FixtureRequest) -> None:
    items = request.session.items
    for name, last in last_users(items).items():
        assert name in KAFKA
        assert not any(name in getattr(item, "fixturenames", ()) for item in items[items.index(last) + 1 :])
