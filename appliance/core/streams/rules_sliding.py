"""Sliding windows over events at hand: from one window to the next, only what enters and what leaves is worked out."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from appliance.core.analytics.model import Aggregation
from appliance.core.streams import rules_functions as functions
from appliance.core.streams.rules import Rule


class Span(NamedTuple):
    """The windows that hold one value: those that end from `first` to `last`, milliseconds, both inclusive."""

    first: int
    last: int
    value: float | None


class _Held(Protocol):
    """The values of the window that is looked at, by the number of their span."""

    def enter(self, number: int, value: float | None) -> None: ...

    def leave(self, number: int, value: float | None) -> None: ...

    def result(self) -> float | int | None: ...


class _Tree:
    """States joined in pairs up to the state of all: a value comes or goes by joining one path anew."""

    def __init__(self, function: Aggregation, room: int) -> None:
        self._function = function
        self._room = room
        self._nodes = [functions.start(function)] * (2 * room)

    def enter(self, number: int, value: float | None) -> None:
        self._set(number, functions.add(self._function, functions.start(self._function), value))

    def leave(self, number: int, _: float | None) -> None:
        self._set(number, functions.start(self._function))

    def _set(self, number: int, state: functions.State) -> None:
        place = number + self._room
        self._nodes[place] = state
        while place > 1:
            place //= 2
            self._nodes[place] = functions.join(self._function, self._nodes[2 * place], self._nodes[2 * place + 1])

    def result(self) -> float | int | None:
        return functions.result(self._function, self._nodes[1])


class _Ordered:
    """Values in order, for percentiles."""

    def __init__(self, percent: float) -> None:
        self._percent = percent
        self._values: list[float] = []

    def enter(self, _: int, value: float | None) -> None:
        if value is not None:
            bisect.insort(self._values, value)

    def leave(self, _: int, value: float | None) -> None:
        if value is not None:
            del self._values[bisect.bisect_left(self._values, value)]

    def result(self) -> float | int | None:
        return functions.percentile_of(self._values, self._percent)


def slide(rule: Rule, spans: Sequence[Span], ends: Sequence[int]) -> Iterator[tuple[int, float | int | None, int]]:
    """For each end of a window, in order: the end, the window's value, and how many values it has.

    Args:
        rule: Says by which function.
        spans: What there is.
        ends: Milliseconds, ascending.
    """
    percentile = rule.function is Aggregation.percentile
    held: _Held = _Ordered(rule.percentile) if percentile else _Tree(rule.function, max(1, len(spans)))
    numbers = [number for number, span in enumerate(spans) if span.first <= span.last]
    entering = sorted(numbers, key=lambda number: spans[number].first)
    leaving = sorted(numbers, key=lambda number: spans[number].last)
    came = went = 0
    for end in ends:
        while came < len(entering) and spans[entering[came]].first <= end:
            held.enter(entering[came], spans[entering[came]].value)
            came += 1
        while went < came and spans[leaving[went]].last < end:
            held.leave(leaving[went], spans[leaving[went]].value)
            went += 1
        yield end, held.result(), came - went
