"""What a memory may answer: every write numbered, and for each appliance and key the oldest one that it may still show."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

NOTHING: Any = "(nothing)"


@dataclass
class Write:
    """One write of a key.

    Attributes:
        number: In the order of all writes; 0 for "never written".
        value: NOTHING for a deletion.
        expires: On the wall clock.
        expires_monotonic: On the other clock, which tier 1 goes by.
        writer: The appliance.
        lived_until: The latest wall clock since it was written.
        overtaken: Appliances that have shown another one of several that were written at once: this one came before it.
        dead: Appliances that have seen it expired: they must never show it again.
    """

    number: int
    value: Any
    expires: float | None = None
    expires_monotonic: float | None = None
    writer: str = ""
    lived_until: float = 0.0
    dead: set[str] = field(default_factory=set)
    overtaken: set[str] = field(default_factory=set)


@dataclass
class Known:
    """What one appliance may show of one key: writes from a number on."""

    floor: int = 0
    durable: int = 0


@dataclass
class Model:
    """All keys and appliances."""

    writes: dict[str, list[Write]] = field(default_factory=dict)
    known: dict[tuple[str, str], Known] = field(default_factory=dict)
    cloud: dict[str, int] = field(default_factory=dict)
    number: int = 0

    def written(self, key: str) -> list[Write]:
        """All writes of a key, with "never" as the first."""
        return self.writes.setdefault(key, [Write(0, NOTHING)])

    def at(self, device: str, key: str) -> Known:
        """What an appliance may show of a key."""
        return self.known.setdefault((device, key), Known())

    def begin(self, key: str, value: Any, device: str, wall: float, monotonic: float, ttl: float | None = None) -> Write:
        """A write begins: from now on it may be seen."""
        self.number += 1
        ends = (None, None) if ttl is None else (wall + ttl, monotonic + ttl)
        write = Write(self.number, value, *ends, device, wall)
        self.written(key).append(write)
        return write

    def refused(self, key: str, write: Write) -> None:
        """It was told that nothing is kept: it must never be seen."""
        self.written(key).remove(write)

    def acknowledge(self, key: str, write: Write, durable: bool, cloud: bool = False) -> None:
        """It must be seen from now on, by its writer."""
        known = self.at(write.writer, key)
        known.floor = max(known.floor, write.number)
        if durable:
            known.durable = known.floor
        if cloud:
            self.cloud[key] = max(self.cloud.get(key, 0), write.number)

    def tick(self, wall: float) -> None:
        """The clock moved."""
        for writes in self.writes.values():
            for write in writes:
                write.lived_until = max(write.lived_until, wall)

    def see(self, device: str, key: str, found: Any, wall: float, monotonic: float) -> None:
        """An appliance showed something: check it, and hold it to that. Raises AssertionError."""
        known = self.at(device, key)
        possible = [write for write in self.written(key) if write.number >= known.floor]
        fits = [write for write in possible if _shows(write, device, found, wall, monotonic)]
        assert fits, f"{device} shows {key} as {short(found)}; it may be one of {[_told(write) for write in possible]}"
        known.floor = min(write.number for write in fits)
        if len(possible) == 1 and found is NOTHING and possible[0].value is not NOTHING:
            possible[0].dead.add(device)

    def crashed(self, device: str) -> None:
        """What only its tier 1 had may be gone."""
        for (name, _), known in self.known.items():
            if name == device:
                known.floor = known.durable

    def flushed(self, device: str) -> None:
        """What it shows is on its disk."""
        for (name, _), known in self.known.items():
            if name == device:
                known.durable = known.floor

    def synchronised(self, device: str) -> None:
        """What it has is in the cloud, and what the cloud had it has."""
        self.flushed(device)
        for key in self.writes:
            known = self.at(device, key)
            newest = max(known.floor, self.cloud.get(key, 0))
            known.floor = known.durable = self.cloud[key] = newest


def _shows(write: Write, device: str, found: Any, wall: float, monotonic: float) -> bool:
    if device in write.overtaken:
        return False
    if device in write.dead or write.value is NOTHING:
        return found is NOTHING
    if found is NOTHING:
        return write.expires is not None and write.expires <= write.lived_until
    if type(found) is not type(write.value) or found != write.value:
        return False
    if write.expires is None or write.expires_monotonic is None:
        return True
    return wall < write.expires or monotonic < write.expires_monotonic


def _told(write: Write) -> str:
    return f"#{write.number} by {write.writer}: {short(write.value)}, expires {write.expires}, dead at {sorted(write.dead)}"


def short(value: Any) -> str:
    """A value in an error message."""
    text = repr(value)
    return text if len(text) < 60 else f"{text[:40]}… ({len(value)})"
