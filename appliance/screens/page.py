"""What every page is: it subscribes while it is seen, shows sections of the live state, and says what its keys do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.message import Message
from textual.screen import Screen
from textual.timer import Timer
from textual.widget import Widget

from appliance.core.console import Console
from appliance.core.state import Section, Watch
from appliance.screens.chrome import HELP, Footer, Header
from appliance.screens.themes import Role
from appliance.screens.widgets.grid import Grid
from appliance.screens.widgets.lines import LineView

if TYPE_CHECKING:
    from appliance.screens.app import SparkApp

COMMON = (HELP, (":", "Commands"), ("q", "Quit"))
ALWAYS = frozenset({Section.services, Section.alerts, Section.sessions, Section.setup})  # the battery: by the clock's tick
"""Sections that the header shows."""


class StateChanged(Message):
    """Sections of the live state have other values."""

    def __init__(self, sections: frozenset[Section]) -> None:
        super().__init__()
        self.sections = sections

    def can_replace(self, message: Message) -> bool:
        """Two of them waiting are one with all sections."""
        if isinstance(message, StateChanged):
            self.sections |= message.sections
            return True
        return False


class Page(Screen[None]):
    """Base of the pages.

    Attributes:
        page: Its name in the tabs.
        sections: What it shows of the live state.
        keys: What its own keys do, for the footer and the help.
        needs: Key → the action that it invokes: it is not offered to whoever may not.
        inner: It belongs to the tab of another page, from which it is reached.
    """

    page: ClassVar[str] = ""
    sections: ClassVar[frozenset[Section]] = frozenset()
    keys: ClassVar[tuple[tuple[str, str], ...]] = ()
    needs: ClassVar[Mapping[str, str]] = MappingProxyType({})
    inner: ClassVar[bool] = False
    AUTO_FOCUS = "Grid"

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console
        self._watch: Watch | None = None
        self._timer: Timer | None = None

    @property
    def spark(self) -> SparkApp:
        """The App, with its own type."""
        from appliance.screens.app import SparkApp

        if not isinstance(self.app, SparkApp):
            raise TypeError("a page belongs to the console's App")
        return self.app

    def compose(self) -> ComposeResult:
        """Header, the page's own widgets, footer."""
        yield Header(self.console, self.page)
        yield from self.body()
        yield Footer((*self.offered(), *COMMON))

    def offered(self) -> tuple[tuple[str, str], ...]:
        """The page's own keys that do something for this reader."""
        allowed = self.console.allowed() if self.needs else frozenset()
        return tuple((key, text) for key, text in self.keys if key not in self.needs or self.needs[key] in allowed)

    def body(self) -> Iterable[Widget]:
        """The page's own widgets."""
        return ()

    def show(self, sections: frozenset[Section]) -> None:
        """Show these sections' values; all of the page's own on resume."""

    def show_ages(self) -> None:
        """Called each second while the page is seen."""

    def on_screen_resume(self) -> None:
        """The page is seen from now on."""
        self.console.show(self.page, self.size.width, self.size.height)
        if self._watch is None:
            self._watch = self.console.watch(self.sections | ALWAYS, self._post)
        if self._timer is None:
            self._timer = self.set_interval(1.0, self._tick, name="ages")
        self.refresh_all()

    def on_screen_suspend(self) -> None:
        """The page is not seen any more."""
        self.unsubscribe()

    def on_unmount(self) -> None:
        """The page ends."""
        self.unsubscribe()

    def unsubscribe(self) -> None:
        """Wake no more."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        if self._timer is not None:
            self._timer.stop()
            self._timer = None

    def refresh_all(self) -> None:
        """Show everything as it is now."""
        self.query_one(Header).update_from_state()
        self.show(self.sections)
        self.show_ages()

    def _post(self, changed: frozenset[Section]) -> None:
        """Hand a change over to the UI loop; called on the core's thread."""
        self.post_message(StateChanged(changed))

    def on_state_changed(self, message: StateChanged) -> None:
        """Show what changed."""
        if self._watch is None:
            return
        if message.sections & ALWAYS:
            self.query_one(Header).update_from_state()
        if shown := message.sections & self.sections:
            self.show(shown)

    def _tick(self) -> None:
        self.query_one(Header).update_from_state()
        self.query_one(Footer).tick()
        self.show_ages()

    def to_top(self) -> None:
        """To the first line of what has the focus."""
        if isinstance(self.focused, Grid):
            self.focused.action_to(0)
        elif isinstance(self.focused, LineView):
            self.focused.scroll_lines(0)

    def say(self, text: str, role: Role = "text") -> None:
        """Show a message in the footer."""
        self.query_one(Footer).say(text, role)
