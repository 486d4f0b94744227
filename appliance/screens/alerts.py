"""Alerts: acknowledge, silence, history; the rules and what each last saw; the channels and what they delivered."""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widget import Widget

from appliance.core.alerts.channels.model import ChannelsStatus, Delivery
from appliance.core.model import AlertStatus, RuleStatus
from appliance.core.state import Section
from appliance.screens import format as f
from appliance.screens.page import Page
from appliance.screens.widgets.charts import badge
from appliance.screens.widgets.grid import Column, Grid, Row
from appliance.screens.widgets.lines import Line


class Alerts(Page):
    """Alerts above, rules below, and the channels where there are any."""

    page = "alerts"
    sections = frozenset({Section.alerts, Section.rules, Section.channels})
    keys = (
        ("a", "Acknowledge"),
        ("s", "Silence"),
        ("u", "Unsilence"),
        ("h", "History"),
        ("d", "Deliveries"),
        ("t", "Test"),
        ("Enter", "All of it"),
        ("Tab", "Rules"),
    )
    needs = MappingProxyType({"a": "alert.acknowledge", "s": "alert.silence", "u": "alert.unsilence", "t": "alert.test"})
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "acknowledge", show=False), Binding("s", "silence", show=False), Binding("u", "unsilence", show=False),
        Binding("h", "history", show=False), Binding("d", "deliveries", show=False), Binding("t", "test", show=False),
    ]  # fmt: skip

    def body(self) -> Iterable[Widget]:
        """Three tables, the last one hidden while no channel is configured."""
        yield Grid(
            (Column("alert", 20), Column("severity", 8), Column("state", 14), Column("since", 11), Column("what")),
            "Alerts",
            id="alerts",
            empty="no alerts",
        )
        yield Grid(
            (Column("rule", 14), Column("state", 14), Column("severity", 8), Column("what it last saw")), "Rules", id="rules"
        )
        channels = Grid(
            (Column("channel", 14), Column("state", 14), Column("waits", 5), Column("kind", 8), Column("how it is")),
            "Channels",
            id="channels",
        )
        channels.display = False
        yield channels

    def show(self, sections: frozenset[Section]) -> None:
        """Show what changed."""
        glyphs = self.spark.glyphs
        if Section.alerts in sections:
            alerts = self.console.get(Section.alerts).value or ()
            self.query_one("#alerts", Grid).set_rows(
                [
                    Row(
                        a.alert_id,
                        (a.alert_id, a.severity.value, badge(a.state.value, glyphs), (f.clock(a.since), "muted"), told(a)),
                    )
                    for a in alerts
                ]
            )
        if Section.rules in sections:
            rules = self.console.get(Section.rules).value or ()
            self.query_one("#rules", Grid).set_rows(
                [
                    Row(
                        r.rule,
                        (
                            r.rule,
                            badge(r.state.value, glyphs),
                            (r.severity.value, "muted"),
                            (f"{silence(r)}{r.summary}: {r.reason}", "text"),
                        ),
                    )
                    for r in rules
                ]
            )

        if Section.channels in sections:
            self._show_channels()

    def _show_channels(self) -> None:
        status = self._channels()
        grid = self.query_one("#channels", Grid)
        grid.display = bool(status.channels)
        glyphs = self.spark.glyphs
        grid.set_rows(
            [
                Row(
                    each.name,
                    (
                        each.name,
                        badge(each.health.value, glyphs),
                        (str(each.waiting), "text"),
                        (each.kind, "muted"),
                        (f"{'quiet hours: ' if each.quiet else ''}{each.reason}", "text"),
                    ),
                )
                for each in status.channels
            ]
        )

    def _channels(self) -> ChannelsStatus:
        return self.console.get(Section.channels).value or ChannelsStatus((), ())

    def show_ages(self) -> None:
        """How old the tables are."""
        for name in ("alerts", "rules", "channels"):
            self.query_one(f"#{name}", Grid).set_note(f.age(self.console.age(Section(name))))

    def on_grid_chosen(self, message: Grid.Chosen) -> None:
        """Show all of an alert, a rule or a channel."""
        if message.grid.id == "channels":
            found = next((each for each in self._channels().channels if each.name == message.key), None)
            if found is not None:
                self.spark.flows.start(self.spark.flows.show(message.key, found), "channel")
            return
        alerts = self.console.get(Section.alerts).value or ()
        rules = self.console.get(Section.rules).value or ()
        known = (
            {alert.alert_id: alert for alert in alerts} if message.grid.id == "alerts" else {rule.rule: rule for rule in rules}
        )
        if (what := known.get(message.key)) is not None:
            self.spark.flows.start(self.spark.flows.show(message.key, what), "alert")

    def _rule(self) -> str:
        rules = self.query_one("#rules", Grid)
        return rules.key if rules.has_focus else self.query_one("#alerts", Grid).key.partition(":")[0]

    def action_acknowledge(self) -> None:
        """Acknowledge the alert under the cursor."""
        key = self.query_one("#alerts", Grid).key
        if key:
            self.spark.flows.start(
                self.spark.flows.do("alert.acknowledge", {"alert_id": key}, f"{key} is acknowledged"), "acknowledge"
            )

    def action_silence(self) -> None:
        """Silence a rule for an hour."""
        if rule := self._rule():
            self.spark.flows.start(
                self.spark.flows.do("alert.silence", {"rule": rule, "minutes": 60}, f"{rule} is silent for 60 min"), "silence"
            )

    def action_unsilence(self) -> None:
        """Let a rule speak again."""
        if rule := self._rule():
            self.spark.flows.start(self.spark.flows.do("alert.unsilence", {"rule": rule}, f"{rule} speaks again"), "unsilence")

    def action_deliveries(self) -> None:
        """Show what went out by the channels."""
        self.spark.flows.start(self._deliveries(), "deliveries")

    async def _deliveries(self) -> None:
        found: list[Delivery] = await self.console.invoke("alert.deliveries", {"limit": 200})
        lines: list[Line] = [
            (
                (f"{f.clock(each.created):<12}", "muted"),
                (f"{each.channel:<12} ", "text"),
                (f"{each.state.value:<10}", "accent"),
                (f"{each.title}: {each.answer or 'no answer yet'}", "text"),
            )
            for each in found
        ]
        await self.spark.flows.read("Messages to channels", lines or [(("none yet", "muted"),)])

    def action_test(self) -> None:
        """Try the channel under the cursor."""
        if key := self.query_one("#channels", Grid).key:
            self.spark.flows.start(self._test(key), "test")

    async def _test(self, name: str) -> None:
        self.spark.flows.say(f"{name} is being tried")
        done: Delivery = await self.spark.flows.invoke("alert.test", {"channel": name})
        self.spark.flows.say(f"{name} took it: {done.answer}")

    def action_history(self) -> None:
        """Show past changes."""
        self.spark.flows.start(self._history(), "history")

    async def _history(self) -> None:
        past = await self.console.invoke("alert.history", {"limit": 200})
        lines: list[Line] = [
            (
                (f"{f.clock(alert.changed):<12}", "muted"),
                (f"{alert.alert_id:<22}", "text"),
                (f"{alert.state.value:<14}", "accent"),
                (f"by {alert.changed_by}: {alert.message}" if alert.changed_by else alert.message, "text"),
            )
            for alert in past
        ]
        await self.spark.flows.read("Past changes of alerts", lines or [(("none yet", "muted"),)])


def told(alert: AlertStatus) -> str:
    """The message, who has seen it, and who silenced it."""
    seen = f"seen by {alert.acknowledged_by}: " if alert.acknowledged_by else ""
    return f"{silence(alert)}{seen}{alert.message}"


def silence(what: AlertStatus | RuleStatus) -> str:
    """Until when something is silenced, and by whom; empty where it is not."""
    return f"silenced until {f.clock(what.silenced_until)} by {what.silenced_by}: " if what.silenced_until else ""
