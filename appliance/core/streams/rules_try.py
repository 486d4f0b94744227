"""A rule over a few events at hand, without Kafka: the windows that it would give, by the same functions."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from appliance.core.analytics.model import Aggregation
from appliance.core.streams import rules_functions as functions
from appliance.core.streams.rules import Kind, Rule
from appliance.core.streams.rules_events import BadMessageError, Closed, Reader, Sample, read
from appliance.core.streams.rules_sliding import Span, slide
from appliance.errors import RuleError


class Trial(NamedTuple):
    """What a rule would have given."""

    windows: list[Closed]
    events: int
    """That the rule is about."""
    late: int
    """That came after their last window had closed."""
    errors: dict[str, int]
    """Messages that could not be used, by reason."""


class _Arrival(NamedTuple):
    sample: Sample
    newest: int
    """Event time of its group when it had arrived, milliseconds."""


def attempt(rule: Rule, bodies: Iterable[bytes], keys: Mapping[int, str] | None = None) -> Trial:
    """Apply a rule to messages in the order of their arrival, and close every window at the end.

    Args:
        rule: A checked one.
        bodies: Envelopes as JSON.
        keys: Key by number of the message, where there are any.
    """
    reader, errors = Reader(rule), Counter[str]()
    groups: dict[tuple[str, str], list[_Arrival]] = defaultdict(list)
    events = late = 0
    for number, body in enumerate(bodies):
        try:
            sample = reader.sample(*read(body, (keys or {}).get(number, "")))
        except RuleError as error:
            errors[error.reason if isinstance(error, BadMessageError) else error.message] += 1
            continue
        if sample is None:
            continue
        events += 1
        arrivals = groups[sample.group, sample.device]
        newest = max(sample.time_ms, arrivals[-1].newest if arrivals else 0)
        if is_late(rule, sample.time_ms, newest):
            late += 1
            arrivals.append(_Arrival(sample._replace(time_ms=-1), newest))
        else:
            arrivals.append(_Arrival(sample, newest))
    found = [
        closed for arrivals in groups.values() for closed in _windows(rule, [a for a in arrivals if a.sample.time_ms >= 0])
    ]
    return Trial(sorted(found, key=lambda one: (one.end_ms, one.group)), events, late, dict(errors))


def is_late(rule: Rule, moment: int, newest: int) -> bool:
    """Whether all windows of an event are closed already. Times in milliseconds."""
    size, closed = rule.window.size_ms, newest - rule.lateness_ms
    if rule.window.kind is Kind.session:
        return moment < closed - size
    if rule.window.kind is Kind.sliding:
        return moment < closed - size
    step = rule.window.step_ms
    return moment - moment % step + size <= closed


def _windows(rule: Rule, arrivals: Sequence[_Arrival]) -> Iterable[Closed]:
    if rule.window.kind is Kind.sliding:
        yield from _sliding(rule, arrivals)
        return
    ranges = _sessions(arrivals, rule.window.size_ms) if rule.window.kind is Kind.session else _fixed(rule, arrivals)
    for (start, end), samples in ranges.items():
        yield Closed(rule, samples[0].group, samples[0].device, start, end, _value(rule, samples), len(samples))


def _fixed(rule: Rule, arrivals: Sequence[_Arrival]) -> dict[tuple[int, int], list[Sample]]:
    size, step = rule.window.size_ms, rule.window.step_ms
    found: dict[tuple[int, int], list[Sample]] = defaultdict(list)
    for sample, newest in arrivals:
        start = sample.time_ms - sample.time_ms % step
        while start > sample.time_ms - size and start >= 0:
            if start + size > newest - rule.lateness_ms:
                found[start, start + size].append(sample)
            start -= step
    return found


def _sliding(rule: Rule, arrivals: Sequence[_Arrival]) -> Iterator[Closed]:
    """One window ends at each event that is not late for it, and takes what comes until it is closed."""
    size, lateness = rule.window.size_ms, rule.lateness_ms
    ends = sorted({one.sample.time_ms for one in arrivals if one.sample.time_ms >= one.newest - lateness})
    spans = [
        Span(max(one.sample.time_ms, one.newest - lateness), one.sample.time_ms + size, one.sample.value) for one in arrivals
    ]
    for end, value, events in slide(rule, spans, ends):
        first = arrivals[0].sample
        yield Closed(rule, first.group, first.device, max(0, end - size), end, value, events)


def _sessions(arrivals: Sequence[_Arrival], gap: int) -> dict[tuple[int, int], list[Sample]]:
    found: list[list[Sample]] = []
    for sample in sorted((one.sample for one in arrivals), key=lambda each: each.time_ms):
        if found and sample.time_ms - found[-1][-1].time_ms <= gap:
            found[-1].append(sample)
        else:
            found.append([sample])
    return {(each[0].time_ms, each[-1].time_ms + 1): each for each in found}


def _value(rule: Rule, samples: Sequence[Sample]) -> Any:
    if rule.function is Aggregation.percentile:
        return functions.percentile([one.value for one in samples if one.value is not None], rule.percentile)
    state = functions.start(rule.function)
    for sample in samples:
        state = functions.add(rule.function, state, sample.value)
    return functions.result(rule.function, state)
