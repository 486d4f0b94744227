"""The life of alerts: pure, without clocks or disks of its own.

Every text is one that is true in the alert's state, and every change carries its moment and whoever made it.

ok → pending → firing → (acknowledged | silenced) → resolved. What holds again within the cooldown is pending until the
cooldown has ended: nobody is called again, and nobody is told that all is well.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from appliance.core.alerts.rules import Reading, Rule
from appliance.core.model import AlertState, AlertStatus, RuleStatus

ACTIVE = frozenset({AlertState.firing, AlertState.acknowledged, AlertState.silenced})
WORST = (AlertState.firing, AlertState.acknowledged, AlertState.silenced, AlertState.pending)
"""States in which a rule holds, the worst first."""

GRACE = 120.0
"""Seconds after a start in which an alert of before is not over because nothing is known of its subject yet."""


class Silence(msgspec.Struct, frozen=True):
    """A rule that shall not raise its voice for a while."""

    rule: str
    until: float
    by: str


class Engine:
    """Holds all alerts; times are given by the caller (seconds, monotonic for durations, wall for people)."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = tuple(rules)
        self.alerts: dict[str, AlertStatus] = {}
        self.silences: dict[str, Silence] = {}
        self._since: dict[str, float] = {}
        self._quiet: dict[str, float] = {}
        self._restored: dict[str, float] = {}
        self._seen: dict[str, tuple[AlertState, str]] = {}

    def evaluate(self, rule: Rule, readings: list[Reading], now: float, wall: float) -> list[AlertStatus]:
        """Take a rule's readings; returns the alerts whose state changed."""
        changed = [self._judge(rule, reading, now, wall) for reading in readings if reading.value is not None]
        seen = {f"{rule.name}:{reading.subject}" for reading in readings}
        self._restored = {key: until for key, until in self._restored.items() if key not in seen and until > now}
        gone = [
            key
            for key, alert in self.alerts.items()
            if alert.rule == rule.name and key not in seen and key not in self._restored
        ]
        changed += [self._clear(key, rule, now, wall, f"{self.alerts[key].subject} is not there any more") for key in gone]
        self._seen[rule.name] = self._rule_state(rule, readings)
        return [alert for alert in changed if alert is not None]

    def _judge(self, rule: Rule, reading: Reading, now: float, wall: float) -> AlertStatus | None:
        key = f"{rule.name}:{reading.subject}"
        if reading.value is None or not rule.holds(reading.value):
            return self._clear(key, rule, now, wall, rule.verdict(reading, resolved=True))
        alert = self.alerts.get(key)
        if alert is None or alert.state is AlertState.resolved:
            self._since[key] = now
            alert = AlertStatus(key, rule.name, reading.subject, rule.severity, AlertState.pending, "", since=wall)
        quiet = self._quiet.get(key, now) > now
        due = now - self._since.setdefault(key, now) >= rule.for_seconds and not quiet
        state = self._raised(rule, alert, wall) if due else AlertState.pending
        note = " (it was resolved lately; quiet for its cooldown)" if quiet else ""
        silence = self.silence_of(rule.name, wall)
        return self._keep(
            alert, state, wall, message=rule.told(rule.verdict(reading)) + note, value=reading.value, threshold=rule.threshold,
            silenced_until=silence.until if silence else 0.0, silenced_by=silence.by if silence else "",
        )  # fmt: skip

    def silence_of(self, rule: str, wall: float) -> Silence | None:
        """The silence of a rule; None where it is not silenced (any more)."""
        silence = self.silences.get(rule)
        return silence if silence is not None and silence.until > wall else None

    def silence(self, silence: Silence, wall: float) -> list[AlertStatus]:
        """Keep a rule quiet; returns its active alerts as they are now."""
        self.silences[silence.rule] = silence
        return [
            self._put(alert, AlertState.silenced, wall, silence.by, silenced_until=silence.until, silenced_by=silence.by)
            for alert in self._active(silence.rule)
        ]

    def unsilence(self, rule: str, who: str, wall: float) -> list[AlertStatus]:
        """Let a rule speak again; returns its active alerts as they are now."""
        self.silences.pop(rule, None)
        return [self._put(alert, _seen(alert), wall, who, silenced_until=0.0, silenced_by="") for alert in self._active(rule)]

    def _active(self, rule: str) -> list[AlertStatus]:
        return [alert for alert in self.alerts.values() if alert.rule == rule and alert.state in ACTIVE]

    def _raised(self, rule: Rule, alert: AlertStatus, wall: float) -> AlertState:
        return AlertState.silenced if self.silence_of(rule.name, wall) else _seen(alert)

    def _clear(self, key: str, rule: Rule, now: float, wall: float, message: str) -> AlertStatus | None:
        alert = self.alerts.get(key)
        if alert is None or alert.state is AlertState.resolved:
            return None
        if alert.state is AlertState.pending:
            del self.alerts[key]
            return None
        self._quiet[key] = now + rule.cooldown_seconds
        return self._keep(
            alert, AlertState.resolved, wall, message=rule.told(message), resolved_at=wall,
            acknowledged_by="", silenced_until=0.0, silenced_by="",
        )  # fmt: skip

    def _keep(self, alert: AlertStatus, state: AlertState, wall: float, **fields: object) -> AlertStatus | None:
        """Put an alert as the rule sees it; returns it where that is a change of state."""
        before = self.alerts.get(alert.alert_id)
        if before is None or before.state is not state:
            return self._put(alert, state, wall, "", **fields)
        self.alerts[alert.alert_id] = msgspec.structs.replace(alert, **fields)
        return None

    def _put(self, alert: AlertStatus, state: AlertState, wall: float, who: str, **fields: object) -> AlertStatus:
        after = msgspec.structs.replace(alert, state=state, changed=wall, changed_by=who, **fields)
        self.alerts[alert.alert_id] = after
        return after

    def acknowledge(self, alert_id: str, who: str, wall: float) -> AlertStatus | None:
        """Mark an active alert as seen by somebody (a silenced one stays silenced); None where no such alert is active."""
        alert = self.alerts.get(alert_id)
        if alert is None or alert.state not in ACTIVE:
            return None
        state = alert.state if alert.state is AlertState.silenced else AlertState.acknowledged
        return self._put(alert, state, wall, who, acknowledged_by=who)

    def forget_resolved(self, before: float) -> None:
        """Drop alerts that resolved before this wall time."""
        old = [key for key, alert in self.alerts.items() if alert.state is AlertState.resolved and alert.resolved_at < before]
        for key in old:
            del self.alerts[key]

    def restore(self, alert: AlertStatus, now: float, wall: float) -> AlertStatus:
        """Take up an alert of an earlier run: it goes on as what it was, or ends where its rule is evaluated no more."""
        rule = next((rule for rule in self.rules if rule.name == alert.rule and rule.enabled), None)
        if rule is not None:
            self._since[alert.alert_id] = now - rule.for_seconds
            self._restored[alert.alert_id] = now + GRACE
        elif alert.state is not AlertState.resolved:
            message = f"its rule is disabled now; it last said: {alert.message}"
            return self._put(alert, AlertState.resolved, wall, "", resolved_at=wall, message=message)
        self.alerts[alert.alert_id] = alert
        return alert

    def rule_statuses(self, wall: float) -> tuple[RuleStatus, ...]:
        """Every rule with what it last saw, and its silence."""
        return tuple(self._status_of(rule, self.silence_of(rule.name, wall)) for rule in self.rules)

    def _status_of(self, rule: Rule, silence: Silence | None) -> RuleStatus:
        state, reason = self._seen.get(rule.name, (AlertState.no_data, "not evaluated yet"))
        if not rule.enabled:
            state, reason = AlertState.no_data, "disabled in the settings"
        until, by = (silence.until, silence.by) if silence else (0.0, "")
        return RuleStatus(rule.name, rule.summary, rule.severity, state, reason, rule.enabled, until, by)

    def _rule_state(self, rule: Rule, readings: list[Reading]) -> tuple[AlertState, str]:
        known = [reading for reading in readings if reading.value is not None]
        if not known:
            return AlertState.no_data, readings[0].message if readings else "nothing to measure"
        holding = [alert for alert in self.alerts.values() if alert.rule == rule.name and alert.state in WORST]
        if holding:
            worst = min(holding, key=lambda alert: WORST.index(alert.state))
            return worst.state, worst.message.removeprefix(f"{rule.summary}: ")
        return AlertState.ok, rule.well or "; ".join(rule.verdict(reading) for reading in known[:3])


def _seen(alert: AlertStatus) -> AlertState:
    """What an alert is that nobody silenced."""
    return AlertState.acknowledged if alert.acknowledged_by else AlertState.firing
