"""Widgets of a talk: a message with what stands above and below it; what a model writes is Markdown that grows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.widgets import Markdown, Static

from appliance.core.assistant.model import Said
from appliance.screens import assistant_view as view
from appliance.screens.themes import DARK, Look
from appliance.screens.widgets.lines import Line

if TYPE_CHECKING:
    from textual.widget import Widget


LOOK = """
Transcript { height: 1fr; scrollbar-size: 0 0; padding: 0 1; background: $background; }
.said { height: auto; margin: 0 0 1 0; }
Words { height: auto; width: 1fr; background: $background; }
Prose { padding: 0; background: $background; }
Prose MarkdownBlock { background: $background; color: $foreground; }
Prose MarkdownH1, Prose MarkdownH2, Prose MarkdownH3, Prose MarkdownH4 {
    color: $primary; text-style: bold; content-align: left middle; margin: 0 0 1 0; padding: 0;
}
Prose MarkdownBlockQuote { border-left: solid $primary; margin: 0 0 1 0; padding: 0 1; }
Prose MarkdownFence { margin: 0 0 1 0; border-left: solid $primary; }
Prose MarkdownFence > Label { padding: 0 1; }
"""
"""Of the page, in Textual's CSS: signs and colours that a Linux console has."""
LONGEST = 20_000
"""Characters of one answer that are shown: laying out more of them would hold up every console."""
CUT = "Only its first characters are shown; x writes all into a file."


class Prose(Markdown):
    """Markdown with signs that every console has; nothing in it opens anything."""

    BULLETS = ["• ", "– ", "· ", "• ", "– "]  # noqa: RUF012 as the base declares it


class Words(Static):
    """Lines of roles, wrapped where there is no room."""

    def __init__(self, lines: Sequence[Line], classes: str = "") -> None:
        super().__init__("", markup=False, classes=classes)
        self._lines = tuple(lines)

    @property
    def look(self) -> Look:
        """The session's look."""
        return getattr(self.app, "look", DARK)

    def on_mount(self) -> None:
        """Show them."""
        self.update(view.styled(self._lines, self.look))

    def set_lines(self, lines: Sequence[Line]) -> None:
        """Show others; equal ones paint nothing."""
        if tuple(lines) != self._lines:
            self._lines = tuple(lines)
            self.update(view.styled(self._lines, self.look))
            self.display = bool(self._lines)


class Message(Vertical):
    """One message.

    Args:
        said: It; of an answer on its way what is there of it.
        name: Who says it.
        console: The terminal is a plain one.
    """

    def __init__(self, said: Said, name: str, *, console: bool) -> None:
        super().__init__(classes="said")
        self._said = said
        self._who = name
        self._plain = console
        self._length = 0
        """Characters of the answer so far."""

    def compose(self) -> ComposeResult:
        """Head, text, foot."""
        yield Words([view.head(self._said, self._who)])
        if self._said.role == "user":
            yield Words(view.question(self._said), classes="question")
        else:
            yield Prose(view.markdown(self._take(self._said.text), console=self._plain), open_links=False)
            yield Words((), classes="cut")
        below = Words(view.foot(self._said), classes="foot")
        below.display = bool(view.foot(self._said))
        yield below

    async def append(self, text: str) -> None:
        """More of the answer; only its last block is painted anew."""
        if shown := self._take(text):
            await self.query_one(Prose).append(view.markdown(shown, console=self._plain))
        if not shown or len(shown) < len(text):
            self.query_one(".cut", Words).set_lines([((CUT, "warn"),)])

    def _take(self, text: str) -> str:
        """As much as there is room for."""
        shown = text[: max(0, LONGEST - self._length)]
        self._length += len(text)
        return shown

    def on_mount(self) -> None:
        """Tell of what was cut."""
        if self._length > LONGEST:
            self.query_one(".cut", Words).set_lines([((CUT, "warn"),)])

    def set_foot(self, lines: Sequence[Line]) -> None:
        """Show other lines below it."""
        self.query_one(".foot", Words).set_lines(lines)


class Transcript(VerticalScroll, inherit_bindings=False):
    """The messages; it follows what is written until the reader scrolls."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "scroll_up", show=False), Binding("down", "scroll_down", show=False),
        Binding("pageup", "page_up", show=False), Binding("pagedown,space", "page_down", show=False),
        Binding("home", "scroll_home", show=False), Binding("end", "scroll_end", show=False),
    ]  # fmt: skip

    async def show(self, widgets: Sequence[Widget], *, at_end: bool) -> None:
        """Show these alone, from their begin or at their end."""
        self.anchor(False)
        await self.remove_children()
        for widget in widgets:  # one after the other: other consoles are painted meanwhile
            await self.mount(widget)
        self.anchor(at_end)

    async def add(self, *widgets: Widget) -> None:
        """Show these too, and go there."""
        await self.mount_all(widgets)
        self.anchor()
