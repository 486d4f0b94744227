"""The port through which questions reach a store, and what both stores share."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

import msgspec

from appliance.core.analytics.asking import Asked
from appliance.core.analytics.plan import Level, Part
from appliance.core.analytics.shape import Row

log = logging.getLogger(__name__)

TAG_ROWS = 50_000
"""Newest readings of a metric that are looked at for its tags."""
TAG_VALUES = 200
"""Most values of one tag that are told."""


class Span(NamedTuple):
    """What is kept of a metric: seconds since the epoch, to the hour."""

    since: float
    until: float
    readings: int


class AnalyticsStore(Protocol):
    """A store of readings. What it hands over is shaped elsewhere, so that all stores answer alike."""

    @property
    def levels(self) -> tuple[Level, ...]:
        """Its tables: the readings, then ever wider roll-ups."""

    @property
    def name(self) -> str:
        """ "duckdb", "timescaledb" or "postgresql"."""

    async def open(self) -> None:
        """Make sure that it can be asked. Raises ApplianceError."""

    async def close(self) -> None:
        """Let go of what `open` took."""

    async def look(self) -> None:
        """See whether its readings can be asked, at little cost. Raises ApplianceError."""

    async def rows(self, asked: Asked, parts: list[Part]) -> list[Row]:
        """The series of a query, from these pieces. Raises QueryError, and where the store fails."""

    async def count(self, level: Level, metric: str, since: int, until: int) -> int:
        """Readings of a metric that a table knows of between two moments, in microseconds."""

    async def reach(self) -> dict[str, int]:
        """Roll-ups that lag behind the readings → up to which moment they have all, in microseconds."""

    async def metrics(self) -> list[str]:
        """Names of all metrics, sorted."""

    async def devices(self, metric: str | None) -> list[str]:
        """All devices, or those that have a metric; sorted."""

    async def tags(self, metric: str) -> dict[str, list[str]]:
        """Values by the name of their tag, of the newest readings of a metric."""

    async def span(self, metric: str) -> Span | None:
        """What is kept of a metric; None where nothing is."""


def row_of(cells: tuple[Any, ...], labels: int) -> Row:
    """A store's row: labels, starts, lists of numbers. Where nothing was found, all lists are None."""
    return Row(tuple(cells[:labels]), cells[labels] or (), tuple(each or () for each in cells[labels + 1 :]))


def gathered(texts: Iterable[str]) -> dict[str, list[str]]:
    """Tags of many readings, each a JSON object, as values by name."""
    found: dict[str, set[str]] = {}
    for text in texts:
        try:
            tags = msgspec.json.decode(text)
        except msgspec.DecodeError as error:
            log.warning("the tags of a reading are no JSON: %s", error)
            continue
        for name, value in tags.items() if isinstance(tags, dict) else ():
            values = found.setdefault(str(name), set())
            if len(values) < TAG_VALUES:
                values.add(value if isinstance(value, str) else msgspec.json.encode(value).decode())
    return {name: sorted(found[name]) for name in sorted(found)}
