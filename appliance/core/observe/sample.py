"""The values that a scrape is made of."""

from __future__ import annotations

from typing import NamedTuple

Labels = tuple[tuple[str, str], ...]
"""(name, value) of each label."""


class Sample(NamedTuple):
    """One number."""

    name: str
    kind: str
    """"counter" or "gauge"."""
    help: str
    value: float
    labels: Labels = ()


class Mark(NamedTuple):
    """One observation that stands for a bucket, with the trace that it belongs to."""

    trace_id: str
    value: float
    time: float
    """Wall clock, seconds since the epoch."""


class Bucket(NamedTuple):
    """How many observations there were up to a limit."""

    limit: float
    """Infinite for the last one."""
    upto: int
    """All up to the limit, those of lower buckets among them."""
    mark: Mark | None = None


class Distribution(NamedTuple):
    """One histogram of one set of labels."""

    name: str
    help: str
    buckets: tuple[Bucket, ...]
    total: float | None
    """Sum of all observations; None where nobody added them up."""
    labels: Labels = ()
