"""The order of what waits."""

from __future__ import annotations

import random

from appliance.core.tasks.model import Urgency
from appliance.core.tasks.waiting import Waiting


def test_the_first_ones_are_those_that_are_taken_first() -> None:
    """Over several types, with some taken out and some queued again."""
    chance = random.Random(3)
    for _ in range(50):
        waiting = Waiting(600.0)
        for number in range(200):
            bucket = (chance.choice("abc"), chance.choice(["", "one"]))
            waiting.add(f"t{number}", bucket, chance.choice(list(Urgency)), chance.uniform(0, 3000), number)
        gone = chance.sample(range(200), 60)
        for number in gone:
            assert waiting.remove(f"t{number}")
            assert not waiting.remove(f"t{number}")
        for number in gone[:20]:
            waiting.add(f"t{number}", ("a", ""), Urgency.normal, chance.uniform(0, 3000), number)
        first = waiting.first(30)
        assert len(waiting) == sum(waiting.depths().values()) == 160
        assert [waiting.take(lambda bucket: True) for _ in range(30)] == first
        rest = [waiting.take(lambda bucket: True) for _ in range(131)]
        assert rest[-1] is None
        assert len({*first, *rest[:-1]}) == 160


def test_only_what_somebody_can_serve_is_taken() -> None:
    waiting = Waiting(600.0)
    waiting.add("first", ("a", ""), Urgency.urgent, 0.0, 1)
    waiting.add("second", ("b", ""), Urgency.low, 0.0, 2)
    assert waiting.take(lambda bucket: bucket[0] == "b") == "second"
    assert waiting.take(lambda bucket: bucket[0] == "b") is None
    assert waiting.buckets() == (("a", ""),)
