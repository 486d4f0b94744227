"""Which alerts go to which channels, and when those are quiet. Pure: times are given."""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from appliance.core.alerts.channels.model import RANK
from appliance.core.model import AlertStatus, Severity
from appliance.settingalerts import AlertRoute, AlertSettings, QuietHours, split_matcher

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
NODE_RULES = frozenset({"node", "node-cpu", "node-memory", "node-disk", "node-clock", "agent"})
"""Rules whose subject is a node; that of node-service begins with one."""
ESCALATION = "/escalation"
"""Behind a route's name: its second half."""


def labels_of(alert: AlertStatus, device: str) -> dict[str, str]:
    """What an alert is told apart by."""
    node = device
    if alert.rule in NODE_RULES:
        node = alert.subject
    elif alert.rule == "node-service":
        node = alert.subject.partition(" ")[0]
    return {
        "alertname": alert.rule, "device": device, "node": node, "severity": alert.severity.value, "subject": alert.subject,
    }  # fmt: skip


@dataclass(frozen=True)
class Matcher:
    """One condition on a label."""

    label: str
    holds: Callable[[str], bool]

    @classmethod
    def of(cls, text: str) -> Matcher:
        """From its text. Raises SettingError."""
        label, operator, value = split_matcher(text)
        wanted = not operator.startswith("!")
        if "~" in operator:
            pattern = re.compile(value)
            return cls(label, lambda given: (pattern.fullmatch(given) is not None) is wanted)
        return cls(label, lambda given: (given == value) is wanted)


@dataclass(frozen=True)
class Route:
    """Where alerts go, and how they are gathered.

    Attributes:
        name: Of the settings; of an escalation with its ending.
        channels: Who is told.
        severity: The lowest that goes this way.
        matchers: All must hold.
        group_by: Labels that alerts of one message have in common.
        wait: Seconds that the first message of a group waits.
        interval: Least seconds between two with news.
        repeat: Seconds until it is told again.
        after: Seconds that an alert must have been firing, unacknowledged.
        last: Later routes are not looked at.
    """

    name: str
    channels: tuple[str, ...]
    severity: Severity = Severity.info
    matchers: tuple[Matcher, ...] = ()
    group_by: tuple[str, ...] = ("alertname",)
    wait: float = 10.0
    interval: float = 120.0
    repeat: float = 14_400.0
    after: float = 0.0
    last: bool = False

    def takes(self, labels: Mapping[str, str], severity: Severity) -> bool:
        """Whether such an alert goes this way."""
        return RANK[severity] >= RANK[self.severity] and all(each.holds(labels[each.label]) for each in self.matchers)


def routes_of(settings: AlertSettings) -> tuple[Route, ...]:
    """The routes of the settings, each escalation behind its own; one for all where none is set."""
    if not settings.routes:
        return (Route("default", tuple(settings.channels)),) if settings.channels else ()
    return tuple(route for name, wanted in settings.routes.items() for route in _routes(name, wanted))


def _routes(name: str, wanted: AlertRoute) -> Iterable[Route]:
    matchers = tuple(Matcher.of(text) for text in wanted.match)
    told = (wanted.severity, matchers, wanted.group_by)
    if wanted.escalate_minutes is not None:
        yield Route(
            name + ESCALATION, wanted.escalate_to, *told, 0.0, wanted.group_interval_seconds, wanted.repeat_seconds,
            60.0 * wanted.escalate_minutes,
        )  # fmt: skip
    yield Route(
        name, wanted.channels, *told, wanted.group_wait_seconds, wanted.group_interval_seconds, wanted.repeat_seconds, 0.0,
        wanted.last,
    )  # fmt: skip


def ways(routes: Iterable[Route], labels: Mapping[str, str], severity: Severity) -> list[Route]:
    """The routes that an alert takes, those of escalations with them."""
    found = []
    for route in routes:
        if route.takes(labels, severity):
            found.append(route)
            if route.last:
                break
    return found


class Quiet:
    """Quiet hours.

    Args:
        hours: By name, as they are set.
    """

    def __init__(self, hours: Mapping[str, QuietHours]) -> None:
        self._hours = tuple((each, zoneinfo.ZoneInfo(each.time_zone) if each.time_zone else None) for each in hours.values())

    def holds(self, channel: str, severity: Severity, wall: float) -> bool:
        """Whether a channel keeps still about an alert of that severity now."""
        return any(
            (not each.channels or channel in each.channels)
            and (each.passes == "nothing" or RANK[severity] < RANK[Severity(each.passes)])
            and _within(each, datetime.fromtimestamp(wall, UTC).astimezone(zone))
            for each, zone in self._hours
        )


def _within(hours: QuietHours, now: datetime) -> bool:
    time, today = f"{now:%H:%M}", now.weekday()
    if hours.begin < hours.end:
        return hours.begin <= time < hours.end and _on(hours, today)
    return (time >= hours.begin and _on(hours, today)) or (time < hours.end and _on(hours, today - 1))


def _on(hours: QuietHours, day: int) -> bool:
    return not hours.days or DAYS[day % 7] in hours.days
