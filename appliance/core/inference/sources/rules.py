"""Event rules: an object of these labels, in this zone, for so long; then an event, and quiet for the cooldown.

All times are of the monotonic clock: a step of the other one neither raises nor hides an event.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from appliance.core.inference.sources.definition import Rule, Zone
from appliance.core.inference.sources.tracking import Seen
from appliance.core.inference.sources.zones import anchor, contains

GRACE = 1.0
"""Seconds for which a track may be out of the zone, or unseen, and still count as there."""


@dataclass(frozen=True)
class Hit:
    """A rule's condition has come true for a track.

    Attributes:
        rule: Which.
        seen: The track, in the frame in which it came true.
        seconds: How long it has been there.
    """

    rule: Rule
    seen: Seen
    seconds: float


@dataclass
class _Stay:
    entered: float
    last: float
    told: bool = False


class Rules:
    """The rules of one source, over its tracks.

    Args:
        zones: By which the rules say where.
        rules: What is told.
        gap: Seconds that usually lie between two frames; a stay survives two of them missing.
    """

    def __init__(self, zones: Sequence[Zone], rules: Sequence[Rule], gap: float = 0.0) -> None:
        self._zones = {zone.name: zone for zone in zones}
        self._rules = tuple(rules)
        self._grace = max(GRACE, 3 * gap)
        self._stays: dict[tuple[str, int], _Stay] = {}
        self._quiet: dict[str, float] = {}
        """Rule → when its cooldown ends."""
        self._suppressed = 0

    def begin_anew(self) -> None:
        """The tracks' numbers begin anew: nobody has been anywhere yet. Cooldowns go on."""
        self._stays.clear()

    def zones_of(self, tracks: Sequence[Seen], width: int, height: int) -> dict[int, tuple[str, ...]]:
        """Track → names of the zones it is in."""
        return {seen.track_id: self._inside(seen, width, height) for seen in tracks}

    def _inside(self, seen: Seen, width: int, height: int) -> tuple[str, ...]:
        return tuple(
            name for name, zone in self._zones.items() if contains(zone.points, *anchor(seen.box, width, height, zone.anchor))
        )

    def take_suppressed(self) -> int:
        """How many events were not told because of a cooldown, since this was asked last."""
        taken, self._suppressed = self._suppressed, 0
        return taken

    def update(self, tracks: Sequence[Seen], where: Mapping[int, tuple[str, ...]], now: float) -> list[Hit]:
        """What has come true with this frame.

        Args:
            tracks: In the frame.
            where: As `zones_of` has it.
            now: Monotonic seconds.
        """
        hits = [
            hit
            for rule in self._rules
            for seen in tracks
            if _wanted(rule, seen, where[seen.track_id]) and (hit := self._stay(rule, seen, now)) is not None
        ]
        self._stays = {name: stay for name, stay in self._stays.items() if now - stay.last <= self._grace}
        return hits

    def _stay(self, rule: Rule, seen: Seen, now: float) -> Hit | None:
        stay = self._stays.get((rule.name, seen.track_id))
        if stay is None or now - stay.last > self._grace:
            stay = self._stays[rule.name, seen.track_id] = _Stay(now, now)
        stay.last = now
        if stay.told or now - stay.entered < rule.seconds:
            return None
        stay.told = True
        if now < self._quiet.get(rule.name, now):
            self._suppressed += 1
            return None
        self._quiet[rule.name] = now + rule.cooldown
        return Hit(rule, seen, now - stay.entered)


def _wanted(rule: Rule, seen: Seen, zones: tuple[str, ...]) -> bool:
    box = seen.box
    return (not rule.labels or box.label in rule.labels) and box.score >= rule.score and (not rule.zone or rule.zone in zones)
