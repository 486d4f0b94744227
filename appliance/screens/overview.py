"""Overview: the host with its past, services, alerts, devices and queues at a glance."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widget import Widget

from appliance.core.console import Console
from appliance.core.model import Health, HostSample
from appliance.core.state import Section
from appliance.errors import ApplianceError
from appliance.screens import format as f
from appliance.screens.host import host_lines
from appliance.screens.page import Page
from appliance.screens.rows import ACTIVE_ALERTS, alert_cells, device_lines, queue_lines, service_cells
from appliance.screens.widgets.charts import columns, nice_range, resample
from appliance.screens.widgets.grid import Column, Grid, Row
from appliance.screens.widgets.lines import Line, LineView

METRICS = (
    ("cpu_usage", "CPU %"),
    ("memory_usage", "Memory %"),
    ("temperature_c", "Temperature °C"),
    ("load_1m", "Load"),
    ("net_rx_rate", "Net in B/s"),
    ("net_tx_rate", "Net out B/s"),
)
WORST = (Health.unhealthy, Health.degraded, Health.healthy, Health.absent)
"""Order of the services: what needs a look stands on top."""
RANGES = ((1 / 6, "10 min", ""), (1.0, "1 h", "minute"), (24.0, "24 h", "minute"), (168.0, "7 d", "hour"))
"""(hours, words, bucket of the roll-up; "" is the live readings)."""
EVERY = 30
"""Seconds between two reads of the past while the page is seen."""


class Overview(Page):
    """The first page."""

    page = "overview"
    sections = frozenset({Section.host, Section.trends, Section.services, Section.alerts, Section.devices, Section.queues})
    keys = (("m", "Metric"), ("t", "Time range"), ("Tab", "Next panel"))
    BINDINGS: ClassVar[list[BindingType]] = [Binding("m", "metric", show=False), Binding("t", "range", show=False)]

    _metric = 0
    _range = 0
    _history: tuple[tuple[float, float], ...] = ()
    _note = ""
    _ticks = 0

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.stamp = f.Stamp()

    def body(self) -> Iterable[Widget]:
        """Two panels above, two columns below."""
        with Horizontal(id="upper"):
            yield LineView("Host", id="host")
            yield LineView("Trend", id="trend")
        with Horizontal(id="lower"):
            yield Grid(
                (Column("service", 10), Column("health", 11), Column("reason")), "Services", id="services", empty="starting"
            )
            with Vertical(id="side"):
                yield Grid((Column("alert"), Column("state", 14), Column("for", 7)), "Alerts", id="alerts", empty="no alerts")
                yield LineView("Devices", id="devices")
                yield LineView("Queues", id="queues")

    def on_resize(self) -> None:
        """More room for the plot on tall terminals."""
        self.set_class(self.size.height >= 40, "tall")
        self.call_after_refresh(self.refresh_all)

    def show(self, sections: frozenset[Section]) -> None:
        """Show what changed."""
        if Section.host in sections or Section.trends in sections:
            self._show_host()
            self._show_trend()
        get = self.console.get
        if Section.services in sections:
            worst_first = sorted(get(Section.services).value or (), key=lambda status: WORST.index(status.health))
            rows = [Row(status.name, service_cells(status, self.spark.glyphs)) for status in worst_first]
            self.query_one("#services", Grid).set_rows(rows)
        if Section.alerts in sections:
            alerts = [alert for alert in get(Section.alerts).value or () if alert.state in ACTIVE_ALERTS]
            self.query_one("#alerts", Grid).set_rows([Row(a.alert_id, alert_cells(a, self.spark.glyphs)) for a in alerts])
        if Section.devices in sections:
            devices = self.query_one("#devices", LineView)
            devices.set_lines(
                device_lines(get(Section.devices).value or (), devices.inner_width, devices.inner_height, self.spark.glyphs)
            )
        if Section.queues in sections:
            queues = self.query_one("#queues", LineView)
            queues.set_lines(queue_lines(get(Section.queues).value or (), queues.inner_height))

    def show_ages(self) -> None:
        """Every panel says how old it is."""
        for name in ("host", "services", "alerts", "devices", "queues"):
            self.query_one(f"#{name}", LineView).set_note(f.age(self.console.age(Section(name))))
        self._show_trend_age()
        self._ticks += 1
        if self._ticks % EVERY == 0:
            self.refresh_history()

    def _show_trend_age(self) -> None:
        past = self.stamp.age if RANGES[self._range][2] else self.console.age(Section.trends)
        self.query_one("#trend", LineView).set_note(f.age(past))

    def _show_host(self) -> None:
        sample = self.console.get(Section.host).value
        panel = self.query_one("#host", LineView)
        if not isinstance(sample, HostSample):
            panel.set_lines([((" not read yet", "muted"),)])
            return
        trends = self.console.get(Section.trends).value or {}
        panel.set_lines(host_lines(sample, trends, panel.inner_width, panel.inner_height, self.spark.glyphs))

    def _show_trend(self) -> None:
        metric, label = METRICS[self._metric]
        hours, words, bucket = RANGES[self._range]
        panel = self.query_one("#trend", LineView)
        panel.box_title = f"{label}, {words}"
        panel.repaint(0)
        now = time.time()
        points = self._history if bucket else (self.console.get(Section.trends).value or {}).get(metric, ())
        width, height = max(1, panel.inner_width - 8), max(1, panel.inner_height - 1)
        values = resample(points, now - hours * 3600, now, width)
        low, high = (0.0, 100.0) if "%" in label else nice_range(values)
        chart = columns(values, height, low, high, self.spark.glyphs)
        marks = {0: number(high), height // 2: number((low + high) / 2), height - 1: number(low)}
        lines: list[Line] = [((f"{marks.get(row, ''):>6} ", "muted"), (chart[row], "spark")) for row in range(height)]
        last = f.NONE if not points else number(points[-1][1])
        foot = f"{words} ago".ljust(max(0, width - len(last) - 6)) + f"now {last}"
        panel.set_lines(
            [*lines, (("       ", "muted"), (foot if points else self._note or "no readings in this time", "muted"))]
        )

    def action_metric(self) -> None:
        """The next metric."""
        self._metric = (self._metric + 1) % len(METRICS)
        self._changed()

    def action_range(self) -> None:
        """The next range of time."""
        self._range = (self._range + 1) % len(RANGES)
        self._changed()

    def _changed(self) -> None:
        self._history, self._note, self.stamp.at = (), "reading", None
        self._show_trend_age()
        self.refresh_history()
        self._show_trend()

    def refresh_history(self) -> None:
        """Read the roll-ups of the plot's metric."""
        if RANGES[self._range][2]:
            self.run_worker(self._read_history(), name="history", group="history", exclusive=True, exit_on_error=False)

    async def _read_history(self) -> None:
        hours, _, bucket = RANGES[self._range]
        args: dict[str, Any] = {"metric": METRICS[self._metric][0], "hours": hours, "bucket": bucket}
        try:
            found = await self.console.invoke("metric.history", args)
        except ApplianceError as error:
            self._history, self._note, self.stamp.at = (), error.message, None
        else:
            self._history, self._note = tuple((at, value) for at, value in found["points"]), "no readings in this time"
            self.stamp.set()
        self._show_trend_age()
        self._show_trend()


def number(value: float) -> str:
    """A value at an axis."""
    for limit, divisor, unit in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if abs(value) >= limit:
            return f"{value / divisor:.1f}{unit}"
    return f"{value:.0f}" if abs(value) >= 10 or value == int(value) else f"{value:.2f}"
