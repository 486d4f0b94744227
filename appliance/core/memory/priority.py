"""In which order what is owed to a tier goes out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

URGENT = frozenset({"metrics", "telemetry"})
URGENT_FACTOR = 2.0
LARGE = 10 * 1024 * 1024
"""Bytes; a larger one goes later."""
LARGE_FACTOR = 0.5
FRESH = 3600.0
"""Seconds; a younger one goes sooner."""
FRESH_FACTOR = 1.5


class Owed(Protocol):
    """What waits to be delivered."""

    @property
    def namespace(self) -> str:
        """Of the key."""

    @property
    def tags(self) -> tuple[str, ...]:
        """Of the version."""

    @property
    def size(self) -> int:
        """Bytes of the value, uncompressed."""

    @property
    def modified(self) -> float:
        """Wall clock of the write, seconds since the epoch."""

    @property
    def since(self) -> float:
        """From when on it waits: any clock, the same for all."""


Item = TypeVar("Item", bound=Owed)


def score(namespace: str, tags: Iterable[str], size: int, modified: float, now: float) -> float:
    """How soon it should go: 1.0 for a plain one, more for sooner.

    Args:
        namespace: "metrics" and "telemetry", and those that begin with one of them and a dot, count twice.
        tags: One of the same two words counts the same; namespace and tag together do not count four times.
        size: Bytes of the value; above 10 MiB it counts half.
        modified: Wall clock of the write; less than an hour from now (on either side: clocks differ) counts 1.5 times.
        now: Wall clock, seconds since the epoch.
    """
    value = 1.0
    if namespace.partition(".")[0] in URGENT or not URGENT.isdisjoint(tags):
        value *= URGENT_FACTOR
    if size > LARGE:
        value *= LARGE_FACTOR
    if abs(now - modified) < FRESH:
        value *= FRESH_FACTOR
    return value


def order(items: Iterable[Item], now: float) -> list[Item]:
    """The items, highest score first; among equals the one that waits longest, then as they came."""
    return sorted(items, key=lambda item: (-score(item.namespace, item.tags, item.size, item.modified, now), item.since))
