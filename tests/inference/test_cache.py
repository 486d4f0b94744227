"""Results that are remembered: bounded, by all that they depend on, and never a new measurement of time."""

from __future__ import annotations

from appliance.core.findings import Box
from appliance.core.inference.cache import Entry, Key, ResultCache
from appliance.core.inference.model import Findings
from appliance.core.inference.pipeline import Ran


def key(number: int, **other: object) -> Key:
    return Key(f"{number:064x}", "m@1", "f", 0.3)._replace(**other)


def entry(boxes: int = 1) -> Entry:
    found = Findings(boxes=tuple(Box("bus", 0.5, 1, 2, 3, 4) for _ in range(boxes)))
    return Entry(Ran(found, "cpu", "ONNX Runtime", 5.0, 0.0, "", False), 64, 48)


def test_everything_that_a_result_depends_on_is_in_its_key() -> None:
    cache = ResultCache(10, 1 << 20)
    cache.put(key(1), entry())
    assert cache.get(key(1)) == entry()
    for other in ({"sha256": "0"}, {"model": "m@2"}, {"mark": "g"}, {"threshold": 0.4}):
        assert cache.get(key(1, **other)) is None
    assert (cache.status().hits, cache.status().misses) == (1, 4)


def test_what_was_not_asked_for_the_longest_goes_first() -> None:
    cache = ResultCache(3, 1 << 20)
    for number in (1, 2, 3):
        cache.put(key(number), entry())
    cache.get(key(1))
    cache.put(key(4), entry())
    assert [cache.get(key(number)) is not None for number in (1, 2, 3, 4)] == [True, False, True, True]
    assert (cache.status().entries, cache.status().evicted) == (3, 1)


def test_bytes_are_bounded_and_counted_right_to_the_end() -> None:
    cache = ResultCache(1000, 10_000)
    for number in range(100):
        cache.put(key(number % 30), entry(boxes=1 + number % 7))
        assert cache.status().bytes <= 10_000
    assert 0 < cache.status().entries < 30
    cache.put(key(99), entry(boxes=1000))  # larger than all of it: the others stay
    assert cache.get(key(99)) is None
    assert cache.status().entries > 0
    assert cache.clear() > 0
    assert (cache.status().entries, cache.status().bytes) == (0, 0)


def test_a_version_is_forgotten_alone_and_none_are_kept_where_none_may_be() -> None:
    cache = ResultCache(10, 1 << 20)
    cache.put(key(1), entry())
    cache.put(key(1, model="m@2"), entry())
    assert cache.forget("m@1") == 1
    assert cache.get(key(1, model="m@2")) is not None
    off = ResultCache(0, 1 << 20)
    off.put(key(1), entry())
    assert off.get(key(1)) is None
