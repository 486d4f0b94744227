"""What is told now: groups of alerts that wait, have news, or are told again. Pure: without clocks or disks of its own.

It compares what is so with what each channel was told, as Alertmanager does: so nothing is forgotten over a restart, and
whatever was over before anybody was told of it raises no voice.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from appliance.core.alerts.channels.model import CHANNEL_RULE, Note, Notice
from appliance.core.alerts.channels.routing import ESCALATION, Route, labels_of, ways
from appliance.core.alerts.engine import ACTIVE
from appliance.core.model import AlertState, AlertStatus, Severity

GROUPS = 500
"""Most groups at one time; alerts of further ones share one."""
OVERFLOW = ("overflow", "true")
Key = tuple[str, str]
"""(channel, group key)"""
Still = Callable[[str, Severity], bool]
"""Whether a channel keeps still about a severity now."""


@dataclass
class Told:
    """What a channel was told of a group.

    Attributes:
        route: Its name.
        group: The group's labels.
        notes: By alert, as it was told that they fire.
        at: When, on the monotonic clock.
    """

    route: str
    group: dict[str, str]
    notes: dict[str, Note]
    at: float


@dataclass
class Group:
    """Alerts that fire and go one way together."""

    route: Route
    labels: dict[str, str]
    since: float
    alerts: dict[str, AlertStatus] = field(default_factory=dict)


class Planner:
    """Decides what is told.

    Args:
        routes: In their order.
        device: This machine's name.
        tells_end: Channels that are told when an alert is over.
    """

    def __init__(self, routes: Iterable[Route], device: str, tells_end: Iterable[str]) -> None:
        self.routes = tuple(routes)
        self.told: dict[Key, Told] = {}
        self._device = device
        self._tells_end = frozenset(tells_end)
        self._by_name = {route.name: route for route in self.routes}
        self._since: dict[str, float] = {}
        self._overs: dict[str, Note] = {}
        self._first: dict[str, float] = {}

    def due(self, alerts: Iterable[AlertStatus], still: Still, now: float, wall: float) -> list[Notice]:
        """What is to be told now; `done` is called with each that was taken over.

        Args:
            alerts: All that are known, those that ended lately with them.
            still: Quiet hours.
            now: Monotonic clock.
            wall: Wall clock.
        """
        known = {alert.alert_id: alert for alert in alerts}
        live = {key: alert for key, alert in known.items() if alert.state in ACTIVE}
        self._since = {key: self._since.get(key, now - _age(alert, wall)) for key, alert in live.items()}
        self._overs = {key: note for key, note in self._overs.items() if key not in live}
        groups = self._groups(live.values(), now)
        keys = dict.fromkeys((channel, key) for key, group in groups.items() for channel in group.route.channels)
        found = []
        for key in (*keys, *(each for each in self.told if each not in keys)):
            notice = self._look(key, groups.get(key[1]), known, live, still, now, wall)
            if notice is not None:
                found.append(notice)
        return found

    def done(self, notice: Notice, now: float) -> Told | None:
        """A message was taken over: its channel is told. Returns what it knows now; None where nothing of the group fires."""
        key = (notice.channel, notice.group_key)
        before = self.told.pop(key, None)
        ended = {note.alert_id for note in notice.resolved}
        notes = {**(before.notes if before else {}), **{note.alert_id: note for note in notice.firing}}
        notes = {name: note for name, note in notes.items() if name not in ended}
        told = {name for each in self.told.values() for name in each.notes}
        self._overs = {name: note for name, note in self._overs.items() if name in told}
        if not notes:
            return None
        self.told[key] = Told(notice.route, notice.group, notes, now)
        return self.told[key]

    def of_route(self, route: Route, alerts: Iterable[AlertStatus]) -> tuple[str, ...]:
        """Active alerts that go a way, whether they are told or not."""
        active = (alert for alert in alerts if alert.state in ACTIVE)
        return tuple(each.alert_id for each in active if route in ways(self.routes, self._labels(each), each.severity))

    def _labels(self, alert: AlertStatus) -> dict[str, str]:
        return labels_of(alert, self._device)

    def _groups(self, live: Iterable[AlertStatus], now: float) -> dict[str, Group]:
        found: dict[str, Group] = {}
        for alert in live:
            if alert.state is not AlertState.firing:
                continue
            labels = self._labels(alert)
            for route in ways(self.routes, labels, alert.severity):
                if now - self._since[alert.alert_id] < route.after:
                    continue
                key, group = self._key(route, labels)
                since = self._first.setdefault(key, now)
                found.setdefault(key, Group(route, group, since)).alerts[alert.alert_id] = alert
        known = {key for _, key in self.told}
        self._first = {key: since for key, since in self._first.items() if key in found or key in known}
        return found

    def _key(self, route: Route, labels: dict[str, str]) -> tuple[str, dict[str, str]]:
        group = {name: labels[name] for name in sorted(route.group_by)}
        key = group_key(route.name, group)
        if key not in self._first and len(self._first) >= GROUPS:
            group = dict([OVERFLOW])
            key = group_key(route.name, group)
        return key, group

    def _look(
        self, key: Key, group: Group | None, known: dict[str, AlertStatus], live: dict[str, AlertStatus], still: Still,
        now: float, wall: float,
    ) -> Notice | None:  # fmt: skip
        channel, told = key[0], self.told.get(key)
        wanted = {
            name: self._note(alert)
            for name, alert in (group.alerts.items() if group else ())
            if not still(channel, alert.severity) and not (alert.rule == CHANNEL_RULE and alert.subject == channel)
        }
        before = told.notes if told else {}
        ended = self._ended(key, before, known, live, still, wall)
        if told is None:
            if group is None or not wanted or now - group.since < group.route.wait:
                return None
            why = "escalated" if group.route.name.endswith(ESCALATION) else "new"
            return Notice(channel, group.route.name, key[1], group.labels, tuple(wanted.values()), why)
        route = self._by_name.get(told.route)
        news, since = bool(ended or wanted.keys() - before.keys()), now - told.at
        if news and (route is None or since >= route.interval):
            why = "changed"
        elif wanted and route is not None and since >= route.repeat:
            why = "repeated"
        else:
            return None
        goes_on = {name: note for name, note in before.items() if name in live}
        notes = (*{**goes_on, **wanted}.values(), *ended)
        return Notice(channel, told.route, key[1], told.group, notes, why)

    def _ended(
        self, key: Key, before: dict[str, Note], known: dict[str, AlertStatus], live: dict[str, AlertStatus], still: Still,
        wall: float,
    ) -> list[Note]:  # fmt: skip
        gone = [note for name, note in before.items() if name not in live]
        if key[0] not in self._tells_end:
            for note in gone:
                del before[note.alert_id]
            if gone and not before:
                del self.told[key]
            return []
        overs = [self._overs.setdefault(note.alert_id, _over(note, known.get(note.alert_id), wall)) for note in gone]
        return [note for note in overs if not still(key[0], note.severity)]

    def _note(self, alert: AlertStatus) -> Note:
        annotations = {"summary": alert.message}
        numbers = {"value": alert.value, "threshold": alert.threshold}
        annotations.update({name: f"{number:g}" for name, number in numbers.items() if number is not None})
        return Note(alert.alert_id, alert.severity, self._labels(alert), annotations, alert.since)


def _age(alert: AlertStatus, wall: float) -> float:
    """Seconds that an alert has been as it is, as far as the wall clock is to be believed."""
    return min(max(0.0, wall - alert.changed), 86400.0) if alert.changed else 0.0


def _over(note: Note, alert: AlertStatus | None, wall: float) -> Note:
    resolved = alert is not None and alert.state is AlertState.resolved
    ends = alert.resolved_at if alert is not None and resolved else wall
    summary = alert.message if alert is not None and resolved else note.annotations.get("summary", "")
    annotations = {**note.annotations, "summary": summary}
    annotations.pop("value", None)
    return Note(note.alert_id, note.severity, note.labels, annotations, note.starts, max(ends, 1.0))


def group_key(route: str, group: dict[str, str]) -> str:
    """What a group is known by, in Alertmanager's form."""
    inner = ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in sorted(group.items()))
    return f'{{}}/{{route="{route}"}}:{{{inner}}}'
