"""The lines that every page has: header with tabs, and the footer with keys or the newest message."""

from __future__ import annotations

import time
from collections.abc import Sequence

from textual import events

from appliance.core.console import Console
from appliance.core.model import AlertState, Health
from appliance.core.power.model import Phase, PowerStatus, Supply
from appliance.core.state import Section
from appliance.screens import format as f
from appliance.screens.people import company
from appliance.screens.tabs import tab_line
from appliance.screens.themes import Role
from appliance.screens.values import wrap
from appliance.screens.widgets.lines import Line, LineView, Piece, width_of

HELP = ("?", "Help")
MESSAGE_TIME = 8.0
"""Seconds that a message stays in the footer."""


class Header(LineView):
    """Name, health, alerts, who is here, the time; below it the tabs."""

    def __init__(self, console: Console, page: str) -> None:
        super().__init__(role="bar")
        self.spark = console
        self._page = page

    def update_from_state(self) -> None:
        """Show what is now."""
        self.set_lines([self._bar(), self._tabs()])

    def _bar(self) -> Line:
        setup = self.spark.get(Section.setup).value or {}
        sessions = self.spark.get(Section.sessions).value or ()
        actor = self.spark.actor
        left: list[Piece] = [
            (" Prime Spark ", "bar-key"),
            (f"{setup.get('host_name', '')}  ", "bar"),
            *self._health(),
            *self._alerts(),
            *self._battery(),
        ]
        me, now = f"{actor.name} {actor.role.name}", time.strftime("%H:%M:%S")
        here = f"{len(sessions)} console{'s' if len(sessions) != 1 else ''}"
        names = company(sessions, self.spark.session_id) or here
        forms = (f"{me}  {names}  {now} ", f"{me}  {here}  {now} ", f"{here}  {now[:5]} ", f"{now[:5]} ")
        room = self.size.width - width_of(tuple(left))
        who = next((form for form in forms if width_of(((form, "bar"),)) < room), forms[-1])
        return (*left, (" " * max(0, room - width_of(((who, "bar"),))), "bar"), (who, "bar"))

    def _health(self) -> list[Piece]:
        statuses = self.spark.get(Section.services).value or ()
        shown: list[Piece] = []
        signs: tuple[tuple[Health, str], ...] = (
            (Health.healthy, self.glyphs.ok),
            (Health.degraded, self.glyphs.warn),
            (Health.unhealthy, self.glyphs.bad),
        )
        for health, sign in signs:
            count = sum(status.health is health for status in statuses)
            if count:
                shown.append((f"{sign} {count} {health.value}  " if self.size.width >= 120 else f"{sign} {count}  ", "bar"))
        return shown

    def _alerts(self) -> list[Piece]:
        alerts = self.spark.get(Section.alerts).value or ()
        firing = sum(alert.state is AlertState.firing for alert in alerts)
        return [(f" {firing} ALERT{'S' if firing != 1 else ''} ", "sim")] if firing else []

    def _battery(self) -> list[Piece]:
        """What is left while the UPS feeds from its battery, also where it fell silent then; nothing on mains, or unknown."""
        power = self.spark.get(Section.power).value
        if not isinstance(power, PowerStatus) or power.supply is Supply.mains:
            return []
        if power.supply is Supply.unknown and power.phase in {Phase.grid, Phase.unknown}:
            return []
        return [(" ", "bar"), (f" BATTERY {f.percent(power.percent)} ", "sim")]

    def _tabs(self) -> Line:
        return tuple((tab.text, self._role_of(tab.page)) for tab in tab_line(self._page, self.size.width))

    def _role_of(self, page: str) -> Role:
        return "tab-on" if page == self._page else "tab"

    def on_resize(self) -> None:
        """Lay it out anew."""
        self.update_from_state()

    def on_click(self, event: events.Click) -> None:
        """A click on a tab."""
        if event.y != 1:
            return
        right = 0
        for tab in tab_line(self._page, self.size.width):
            right += width_of(((tab.text, "tab"),))
            if event.x < right:
                work = f"app.show('{tab.page}')" if tab.page else "app.go"
                self.app.run_worker(self.app.run_action(work), name="tab", exit_on_error=False)
                return


class Footer(LineView):
    """Keys of the page; a message takes their place for a while."""

    def __init__(self, keys: Sequence[tuple[str, str]]) -> None:
        super().__init__(role="bar")
        self._keys = tuple(keys)
        self._until = 0.0

    def on_resize(self) -> None:
        """Show the keys."""
        if time.monotonic() >= self._until:
            self.show_keys()

    def set_keys(self, keys: Sequence[tuple[str, str]]) -> None:
        """Other keys hold now."""
        self._keys = tuple(keys)
        if time.monotonic() >= self._until:
            self.show_keys()

    def show_keys(self) -> None:
        """The keys, as many as fit; the one that tells of all others is always there."""
        pieces: list[Piece] = []
        for key, text in fitting(self._keys, self.size.width):
            pieces += [(f" {key}", "bar-key"), (f" {text} ", "bar")]
        self._show([tuple(pieces)])

    def _show(self, lines: Sequence[Line]) -> None:
        """As many lines as it takes: no message is cut off."""
        self.styles.height = len(lines)
        self.set_lines(lines)

    def say(self, text: str, role: Role) -> None:
        """Show a message."""
        sign = {"ok": self.glyphs.ok, "bad": self.glyphs.bad, "warn": self.glyphs.warn}.get(role, "")
        self._until = time.monotonic() + MESSAGE_TIME
        said: Line = ((f" {sign} " if sign else " ", "bar-key"), (" ".join(text.split()), "bar"))
        self._show(wrap(said, max(1, self.size.width - 1)))

    def tick(self) -> None:
        """Put the keys back when a message has been there long enough."""
        if self._until and time.monotonic() >= self._until:
            self._until = 0.0
            self.show_keys()


def fitting(keys: Sequence[tuple[str, str]], width: int) -> list[tuple[str, str]]:
    """The first keys that fit, and Help at their end where others do not."""

    def length(some: Sequence[tuple[str, str]]) -> int:
        return sum(len(key) + len(text) + 3 for key, text in some)

    if length(keys) <= width:
        return list(keys)
    last = [key for key in keys if key == HELP]
    shown = [key for key in keys if key != HELP]
    while shown and length([*shown, *last]) > width:
        shown.pop()
    return [*shown, *last]
