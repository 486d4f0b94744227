"""Streams: the link to Kafka, the outbox, topics, consumer groups, dead letters, window rules."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import msgspec
from textual.binding import BindingType
from textual.containers import Horizontal
from textual.widget import Widget

from appliance.core.console import Console
from appliance.core.state import Section
from appliance.core.streams.model import DeadLetter, LinkState, StreamsStatus
from appliance.errors import ApplianceError
from appliance.screens import format as f
from appliance.screens import streams_letters as letters
from appliance.screens import streams_rules as rules
from appliance.screens import streams_view as view
from appliance.screens.chrome import Footer
from appliance.screens.page import COMMON, Page
from appliance.screens.streams_acts import Acts
from appliance.screens.streams_keys import BINDINGS, HELP, KEYS, PANELS, TITLES
from appliance.screens.widgets.grid import Grid
from appliance.screens.widgets.lines import LineView

EVERY = 10
"""Seconds after which letters and rules are read again though nothing seems to have changed."""
COMMAND_LINES = 2
"""Most lines for commands and offers; `i` shows all of it."""
TALL, WIDE = 36, 110
"""Lines and cells from which all panels stand side by side."""


class Streams(Page):
    """Link and outbox above, one of the panels below; all panels where there is room."""

    page = "streams"
    sections = frozenset({Section.streams})
    keys = HELP
    AUTO_FOCUS = "#topics"
    BINDINGS: ClassVar[list[BindingType]] = list(BINDINGS)

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.acts = Acts(self)
        self.letters: tuple[DeadLetter, ...] = ()
        self.rules: tuple[dict[str, Any], ...] = ()
        self.panel = PANELS[0]
        self._stamps = {"letters": f.Stamp(), "rules": f.Stamp()}
        self._dead = -1
        self._stale = self._reading = False

    def body(self) -> Iterable[Widget]:
        """Two boxes, a line, four panels."""
        with Horizontal(id="above"):
            yield LineView("Link", id="link")
            yield LineView("Outbox", id="outbox")
        yield LineView(id="commands")
        with Horizontal(classes="pair", id="first"):
            yield Grid(view.TOPICS, TITLES["topics"], id="topics", empty="the streams are starting")
            yield Grid(view.GROUPS, TITLES["groups"], id="groups", empty="no consumer group is known")
        with Horizontal(classes="pair", id="second"):
            yield Grid(letters.LETTERS, TITLES["letters"], id="letters", empty="reading")
            yield Grid(rules.RULES, TITLES["rules"], id="rules", empty="reading")

    @property
    def status(self) -> StreamsStatus | None:
        """The streams as they were last seen."""
        status = self.console.get(Section.streams).value
        return status if isinstance(status, StreamsStatus) else None

    @property
    def grid(self) -> Grid:
        """The panel that has the focus."""
        return self.query_one(f"#{self.panel}", Grid)

    def show(self, sections: frozenset[Section]) -> None:
        """Show what is now; read the dead letters again where their number is another one."""
        status = self.status
        if status is None:
            self.query_one("#link", LineView).set_lines([((" not read yet: the streams are starting", "muted"),)])
            return
        self._show_boxes(status)
        topics, groups = self.query_one("#topics", Grid), self.query_one("#groups", Grid)
        topics.set_rows(view.topic_rows(status, self.spark.glyphs))
        groups.set_rows(view.group_rows(status.groups))
        if status.link.state is LinkState.absent:
            topics.set_empty(f"absent: {status.link.reason} {status.link.next_step}")
            groups.set_empty("absent: no Kafka is configured")
        if status.outbox.dead != self._dead:
            self._dead = status.outbox.dead
            self.read()

    def _show_boxes(self, status: StreamsStatus) -> None:
        glyphs, up, wide = self.spark.glyphs, status.link.state is LinkState.up, self.has_class("wide")
        link, outbox = self.query_one("#link", LineView), self.query_one("#outbox", LineView)
        room = max(1, (self.size.width // 2 if wide else self.size.width) - 2)
        link.set_lines(view.flow(view.link_pieces(status.link, glyphs, names=wide), room))
        outbox.set_lines(view.outbox_lines(status.outbox, room, glyphs, link_up=up))
        high = [2 + max(1, len(box.lines)) for box in (link, outbox)]
        self.query_one("#above").styles.height = max(high) if wide else sum(high)
        link.styles.height = "1fr" if wide else high[0]
        outbox.styles.height = "1fr" if wide else high[1]
        title = "Outbox PAUSED" if status.outbox.paused else "Outbox"
        if outbox.box_title != title:
            outbox.box_title = title
            outbox.repaint(0)
        commands, lines = self.query_one("#commands", LineView), view.flow(view.command_pieces(status), self.size.width)
        commands.styles.height = min(COMMAND_LINES, len(lines))
        commands.set_lines(lines)

    def show_ages(self) -> None:
        """How old everything is; read again what nobody tells of."""
        age = f.age(self.console.age(Section.streams))
        for name in ("link", "outbox"):
            self.query_one(f"#{name}", LineView).set_note(age)
        for name in PANELS:
            stamp = self._stamps.get(name)
            self.query_one(f"#{name}", Grid).set_note(self._others(name) + (f.age(stamp.age) if stamp is not None else age))
        if (self._stamps["letters"].age or 0.0) > EVERY:
            self.read()

    def _others(self, name: str) -> str:
        """What the panels hold that are not seen."""
        if self.has_class("all"):
            return ""
        counts = {
            "groups": self._rows("groups"),
            "letters": self._rows("letters"),
            "rules": self._rows("rules"),
            "topics": self._rows("topics"),
        }
        return "Tab: " + ", ".join(f"{TITLES[other].lower()} {counts[other]}" for other in PANELS if other != name) + ", "

    def _rows(self, name: str) -> int:
        return len(self.query_one(f"#{name}", Grid).rows)

    def on_resize(self) -> None:
        """Lay it out anew."""
        self.set_class(self.size.width >= WIDE, "wide")
        self.set_class(self.size.width >= WIDE and self.size.height >= TALL, "all")
        self._arrange()
        self.call_after_refresh(self.refresh_all)

    def _arrange(self) -> None:
        """Show the panel that has the focus; all where there is room."""
        everything = self.has_class("all")
        for name in PANELS:
            self.query_one(f"#{name}").display = everything or name == self.panel
        self.query_one("#first").display = everything or self.panel in {"topics", "groups"}
        self.query_one("#second").display = everything or self.panel in {"letters", "rules"}
        self.query_one(Footer).set_keys([*self.footer_keys(), *COMMON])

    def footer_keys(self) -> tuple[tuple[str, str], ...]:
        """The keys of the panel that has the focus."""
        paused = self.status is not None and self.status.outbox.paused
        return tuple((key, "Resume" if paused and key == "p" else text) for key, text in KEYS[self.panel])

    def action_panel(self, by: int) -> None:
        """To the next panel."""
        self.open_panel(PANELS[(PANELS.index(self.panel) + by) % len(PANELS)])

    def open_panel(self, name: str) -> None:
        """Show a panel and go there."""
        self.panel = name
        self._arrange()
        self.grid.focus()
        self.call_after_refresh(self.show_ages)

    def on_descendant_focus(self) -> None:
        """A click went to another panel."""
        focused = self.focused
        if focused is not None and focused.id in PANELS and focused.id != self.panel:
            self.panel = focused.id
            self._arrange()

    def read(self) -> None:
        """Read dead letters and rules; what changes meanwhile is read afterwards."""
        self._stale = True
        if not self._reading:
            self._reading = True
            self.run_worker(self._read(), name="streams", group="streams", exit_on_error=False)

    async def _read(self) -> None:
        try:
            while self._stale:
                self._stale = False
                self.letters = tuple(await self._listed("letters", "streams.dead-letters", DeadLetter, "no dead letters"))
                self.rules = tuple(await self._listed("rules", "rules.list", dict, "no rules; a adds one"))
                self.query_one("#letters", Grid).set_rows(letters.letter_rows(self.letters))
                self.query_one("#rules", Grid).set_rows(rules.rule_rows(self.rules, self.spark.glyphs))
                self.show_ages()
        finally:
            self._reading = False

    async def _listed(self, name: str, action: str, kind: type[Any], nothing: str) -> list[Any]:
        grid = self.query_one(f"#{name}", Grid)
        try:
            found: list[Any] = msgspec.convert(msgspec.to_builtins(await self.console.invoke(action)), list[kind])  # type: ignore[valid-type]
            grid.set_empty(nothing)
        except ApplianceError as error:
            found = []
            grid.set_empty(str(error))
        self._stamps[name].set()
        return found

    def on_grid_chosen(self, message: Grid.Chosen) -> None:
        """All of what the cursor is on."""
        self.acts.open(message.grid.id or "", message.key)

    def action_do(self, what: str) -> None:
        """Tail, pause, send a command, replay, show all."""
        self.acts.do(what)

    def action_letters(self, what: str, which: str = "") -> None:
        """Send dead letters again, or discard them."""
        if self.panel == "letters":
            self.acts.settle(what, which or self.grid.key)

    def action_rule(self, what: str) -> None:
        """Add, change, switch or try a rule."""
        if self.panel == "rules":
            self.acts.rule(what, self.grid.key)

    def action_drop(self) -> None:
        """Discard the dead letter, or remove the rule, under the cursor."""
        self.action_letters("discard")
        self.action_rule("remove")
