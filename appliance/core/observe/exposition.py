"""Numbers as Prometheus reads them: its text format, or OpenMetrics with exemplars where the scrape asks for that."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from appliance.core.observe import figures
from appliance.core.observe.meter import Meter
from appliance.core.observe.sample import Bucket, Distribution, Sample
from appliance.core.state import LiveState

if TYPE_CHECKING:
    from prometheus_client.core import Metric


class Scrape(NamedTuple):
    """What one scrape gets, not written yet."""

    samples: tuple[Sample, ...]
    distributions: tuple[Distribution, ...]

    def written(self, accept: str = "") -> tuple[bytes, str]:
        """(body, content type) in the form that the header Accept asks for; takes milliseconds, and may do so in a thread."""
        from prometheus_client import CollectorRegistry
        from prometheus_client.exposition import choose_encoder

        registry = CollectorRegistry()
        registry.register(_Collector(self))
        encode, kind = choose_encoder(accept)
        return encode(registry), kind


def scrape(state: LiveState, told: Iterable[Sample], meter: Meter | None) -> Scrape:
    """Look at everything, quickly; on the core loop.

    Args:
        state: The live state.
        told: Numbers that the caller has of it already.
        meter: What is counted where it happens; None where nothing is.
    """
    samples, distributions = [*told, *figures.samples(state)], list(figures.distributions(state))
    if meter is not None:
        samples += meter.samples()
        distributions += meter.distributions()
    return Scrape(tuple(samples), tuple(distributions))


class _Collector:
    """Implements prometheus_client.registry.Collector."""

    def __init__(self, found: Scrape) -> None:
        self._found = found

    def collect(self) -> Iterator[Metric]:
        """Families of samples with the same name."""
        from prometheus_client.core import Metric

        families: dict[str, Metric] = {}
        for sample in self._found.samples:
            # A counter's name ends in _total by rule; the owner's panels have some that do not.
            counter = sample.kind == "counter" and sample.name.endswith("_total")
            name = sample.name.removesuffix("_total") if counter else sample.name
            family = families.get(sample.name)
            if family is None:
                family = families[sample.name] = Metric(name, sample.help, "counter" if counter else "gauge")
            family.add_sample(sample.name, dict(sample.labels), sample.value)
        for each in self._found.distributions:
            if each.name not in families:
                families[each.name] = Metric(each.name, each.help, "histogram")
            _add(families[each.name], each)
        yield from families.values()


def _add(family: Metric, each: Distribution) -> None:
    from prometheus_client.core import Exemplar

    labels = dict(each.labels)
    for bucket in each.buckets:
        mark = bucket.mark
        exemplar = Exemplar({"trace_id": mark.trace_id}, mark.value, mark.time) if mark is not None else None
        limit = "+Inf" if math.isinf(bucket.limit) else str(float(bucket.limit))
        family.add_sample(f"{each.name}_bucket", {**labels, "le": limit}, bucket.upto, exemplar=exemplar)
    last: Bucket = each.buckets[-1]
    if each.total is not None:
        family.add_sample(f"{each.name}_count", labels, last.upto)
        family.add_sample(f"{each.name}_sum", labels, each.total)
