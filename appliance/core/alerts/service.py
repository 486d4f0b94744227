"""Evaluates the alert rules at an interval, keeps alerts across restarts, and tells of every change."""

from __future__ import annotations

import asyncio
import logging
import sqlite3

import msgspec

from appliance.core.alerts.engine import ACTIVE, Engine, Silence
from appliance.core.bus import Bus
from appliance.core.events import Noted
from appliance.core.figures import counted
from appliance.core.model import AlertState, AlertStatus, Health, HealthReport
from appliance.core.ports import Clock
from appliance.core.state import LiveState, Section
from appliance.core.store import Store
from appliance.errors import ApplianceError, ConflictError, NotFoundError

log = logging.getLogger(__name__)

INTERVAL = 2.0
SHOWN = 3600.0
"""Seconds that a resolved alert stays on the screen."""
HISTORY = 10_000
"""Changes kept on disk."""


class AlertService:
    """Alerts (implements ports.Service)."""

    name = "alerts"
    summary = "Evaluates the alert rules and keeps their history"
    depends: tuple[str, ...] = ("store",)

    def __init__(self, engine: Engine, store: Store, bus: Bus, state: LiveState, clock: Clock) -> None:
        self._engine = engine
        self._store = store
        self._bus = bus
        self._state = state
        self._clock = clock
        self._error: ApplianceError | None = None
        self._evaluated = 0.0

    async def start(self) -> None:
        """Bring back alerts and silences of earlier runs."""
        alerts = await self._store.read(lambda connection: connection.execute("SELECT body FROM alerts").fetchall())
        for (body,) in alerts:
            alert = msgspec.json.decode(body, type=AlertStatus)
            restored = self._engine.restore(alert, self._clock.monotonic(), self._clock.wall())
            if restored.state is not alert.state:
                await self._changed(restored)
        rows = await self._store.read(lambda connection: connection.execute("SELECT rule, until, by FROM silences").fetchall())
        self._engine.silences = {rule: Silence(rule, until, by) for rule, until, by in rows}
        self._show()

    async def run(self) -> None:
        """Evaluate until cancelled."""
        while True:
            await self.evaluate()
            await asyncio.sleep(INTERVAL)

    async def stop(self) -> None:
        """Nothing is held."""

    async def health(self) -> HealthReport:
        """Unhealthy when rules are not evaluated or changes are not kept."""
        if self._error is not None:
            return HealthReport(Health.unhealthy, f"a change is not on disk: {self._error.message}", self._error.next_step)
        if self._evaluated and self._clock.monotonic() - self._evaluated > 10 * INTERVAL:
            return HealthReport(Health.unhealthy, "the rules were not evaluated lately", "see the log.")
        active = sum(alert.state in ACTIVE for alert in self._engine.alerts.values())
        return HealthReport(Health.healthy, f"{len(self._engine.rules)} rules, {counted(active, 'active alert')}")

    async def evaluate(self) -> None:
        """Take all readings once; keep and tell what changed."""
        now, wall = self._clock.monotonic(), self._clock.wall()
        changed: list[AlertStatus] = []
        for rule in self._engine.rules:
            if rule.enabled:
                changed += self._engine.evaluate(rule, rule.measure(self._state), now, wall)
        self._engine.forget_resolved(wall - SHOWN)
        self._evaluated = now
        await self._all_changed(changed)

    async def acknowledge(self, alert_id: str, who: str) -> AlertStatus:
        """Mark an alert as seen. Raises NotFoundError."""
        alert = self._engine.acknowledge(alert_id, who, self._clock.wall())
        if alert is None:
            raise NotFoundError(f"No active alert is called {alert_id!r}.", "list them with `prime-spark alert list`.")
        await self._keep(alert)
        self._show()
        return alert

    async def silence(self, rule: str, seconds: float, who: str) -> Silence:
        """Keep a rule quiet for some seconds. Raises NotFoundError."""
        if rule not in {known.name for known in self._engine.rules}:
            raise NotFoundError(f"No alert rule is called {rule!r}.", "list them with `prime-spark alert rules`.")
        silence = Silence(rule, self._clock.wall() + seconds, who)
        row = (silence.rule, silence.until, silence.by)
        await self._store.write(
            lambda connection: connection.execute(
                "INSERT INTO silences (rule, until, by) VALUES (?, ?, ?) "
                "ON CONFLICT (rule) DO UPDATE SET until = excluded.until, by = excluded.by",
                row,
            )
        )
        await self._all_changed(self._engine.silence(silence, self._clock.wall()))
        await self.evaluate()
        return silence

    async def unsilence(self, rule: str, who: str) -> None:
        """Let a rule speak again. Raises ConflictError where it was not silenced."""
        if self._engine.silence_of(rule, self._clock.wall()) is None:
            raise ConflictError(f"The rule {rule!r} is not silenced.", "there is nothing to do.")
        await self._store.write(lambda connection: connection.execute("DELETE FROM silences WHERE rule = ?", (rule,)))
        await self._all_changed(self._engine.unsilence(rule, who, self._clock.wall()))
        await self.evaluate()

    async def history(self, limit: int, before: int | None = None) -> list[AlertStatus]:
        """The last changes, newest first, each with its number, its moment and who made it.

        Args:
            limit: Most of them.
            before: Only changes with a lower number.
        """
        rows = await self._store.read(
            lambda connection: connection.execute(
                "SELECT seq, time, body FROM alert_history WHERE ?1 IS NULL OR seq < ?1 ORDER BY seq DESC LIMIT ?2",
                (before, limit),
            ).fetchall()
        )
        return [
            msgspec.structs.replace(msgspec.json.decode(body, type=AlertStatus), seq=seq, changed=moment)
            for seq, moment, body in rows
        ]

    async def _all_changed(self, alerts: list[AlertStatus]) -> None:
        for alert in alerts:
            await self._changed(alert)
        self._show()

    async def _changed(self, alert: AlertStatus) -> None:
        if alert.state is AlertState.pending:
            return
        log.log(
            logging.WARNING if alert.state is AlertState.firing else logging.INFO,
            "alert %s %s: %s",
            alert.alert_id,
            alert.state.value,
            alert.message,
        )
        await self._keep(alert)
        attributes = {"alert": alert.alert_id, "state": alert.state.value, "message": alert.message, "value": alert.value,
                      "by": alert.changed_by}  # fmt: skip
        try:
            await self._bus.publish(
                Noted(time=self._clock.wall(), event="alert.changed", severity=alert.severity.value, attributes=attributes)
            )
        except ApplianceError as error:
            self._error = error

    async def _keep(self, alert: AlertStatus) -> None:
        body, moment = msgspec.json.encode(alert), alert.changed

        def write(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO alerts (alert_id, body) VALUES (?, ?) ON CONFLICT (alert_id) DO UPDATE SET body = excluded.body",
                (alert.alert_id, body),
            )
            seq = connection.execute("INSERT INTO alert_history (time, body) VALUES (?, ?)", (moment, body)).lastrowid or 0
            connection.execute("DELETE FROM alert_history WHERE seq <= ?", (seq - HISTORY,))

        try:
            await self._store.write(write)
            self._error = None
        except ApplianceError as error:
            self._error = error
            log.error("the alert %s is not kept: %s", alert.alert_id, error.message)

    def _show(self) -> None:
        order = sorted(self._engine.alerts.values(), key=lambda alert: (alert.state not in ACTIVE, -alert.since))
        self._state.put(Section.alerts, tuple(order))
        self._state.put(Section.rules, self._engine.rule_statuses(self._clock.wall()))
