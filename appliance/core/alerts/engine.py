"""The life of alerts: pure, without clocks or disks of its own.

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
        self._seen: dict[str, tuple[AlertState, str]] = {}

    def evaluate(self, rule: Rule, readings: list[Reading], now: float, wall: float) -> list[AlertStatus]:
        """Take a rule's readings; returns the alerts whose state changed."""
        changed = [self._judge(rule, reading, now, wall) for reading in readings if reading.value is not None]
        seen = {f"{rule.name}:{reading.subject}" for reading in readings}
        gone = [key for key, alert in self.alerts.items() if alert.rule == rule.name and key not in seen]
        changed += [self._clear(key, rule, now, wall, "its subject is gone") for key in gone]
        self._seen[rule.name] = self._rule_state(rule, readings)
        return [alert for alert in changed if alert is not None]

    def _judge(self, rule: Rule, reading: Reading, now: float, wall: float) -> AlertStatus | None:
        key = f"{rule.name}:{reading.subject}"
        if reading.value is None or not rule.holds(reading.value):
            return self._clear(key, rule, now, wall, reading.message)
        alert = self.alerts.get(key)
        if alert is None or alert.state is AlertState.resolved:
            self._since[key] = now
            alert = AlertStatus(key, rule.name, reading.subject, rule.severity, AlertState.pending, "", since=wall)
        quiet = self._quiet.get(key, now) > now
        due = now - self._since.setdefault(key, now) >= rule.for_seconds and not quiet
        state = self._raised(rule, alert, wall) if due else AlertState.pending
        message = f"{rule.summary}: {reading.message}" + (" (it was resolved lately; quiet for its cooldown)" if quiet else "")
        return self._keep(
            alert, state, message=message, value=reading.value, threshold=rule.threshold,
            silenced_until=self.silenced_until(rule.name, wall),
        )  # fmt: skip

    def silenced_until(self, rule: str, wall: float) -> float:
        """Until when (wall clock) a rule is silenced; 0 where it is not."""
        silence = self.silences.get(rule)
        return silence.until if silence is not None and silence.until > wall else 0.0

    def _raised(self, rule: Rule, alert: AlertStatus, wall: float) -> AlertState:
        if self.silenced_until(rule.name, wall):
            return AlertState.silenced
        return AlertState.acknowledged if alert.acknowledged_by else AlertState.firing

    def _clear(self, key: str, rule: Rule, now: float, wall: float, message: str) -> AlertStatus | None:
        alert = self.alerts.get(key)
        if alert is None or alert.state is AlertState.resolved:
            return None
        if alert.state is AlertState.pending:
            del self.alerts[key]
            return None
        self._quiet[key] = now + rule.cooldown_seconds
        return self._keep(
            alert,
            AlertState.resolved,
            message=f"{rule.summary}: {message}",
            resolved_at=wall,
            acknowledged_by="",
            silenced_until=0.0,
        )

    def _keep(self, alert: AlertStatus, state: AlertState, **fields: object) -> AlertStatus | None:
        before = self.alerts.get(alert.alert_id)
        after = msgspec.structs.replace(alert, state=state, **fields)
        self.alerts[alert.alert_id] = after
        return after if before is None or before.state is not state else None

    def acknowledge(self, alert_id: str, who: str) -> AlertStatus | None:
        """Mark a firing alert as seen by somebody; None where no such alert is firing."""
        alert = self.alerts.get(alert_id)
        if alert is None or alert.state not in ACTIVE:
            return None
        self.alerts[alert_id] = msgspec.structs.replace(alert, state=AlertState.acknowledged, acknowledged_by=who)
        return self.alerts[alert_id]

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
        elif alert.state is not AlertState.resolved:
            alert = msgspec.structs.replace(
                alert, state=AlertState.resolved, resolved_at=wall, message=f"{alert.message} (its rule is disabled now)"
            )
        self.alerts[alert.alert_id] = alert
        return alert

    def rule_statuses(self) -> tuple[RuleStatus, ...]:
        """Every rule with what it last saw."""
        return tuple(self._status_of(rule) for rule in self.rules)

    def _status_of(self, rule: Rule) -> RuleStatus:
        if not rule.enabled:
            return RuleStatus(rule.name, rule.summary, rule.severity, AlertState.no_data, "disabled in the settings", False)
        state, reason = self._seen.get(rule.name, (AlertState.no_data, "not evaluated yet"))
        return RuleStatus(rule.name, rule.summary, rule.severity, state, reason)

    def _rule_state(self, rule: Rule, readings: list[Reading]) -> tuple[AlertState, str]:
        if not any(reading.value is not None for reading in readings):
            return AlertState.no_data, readings[0].message if readings else "nothing to measure"
        holding = [alert for alert in self.alerts.values() if alert.rule == rule.name and alert.state in WORST]
        if holding:
            worst = min(holding, key=lambda alert: WORST.index(alert.state))
            return worst.state, worst.message
        return AlertState.ok, "; ".join(reading.message for reading in readings[:3])
