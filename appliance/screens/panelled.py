"""Pages with panels below: one of them is seen at a time, all of them where there is room."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import ClassVar, Protocol

from textual.binding import Binding, BindingType

from appliance.core.console import Console
from appliance.screens.chrome import Footer
from appliance.screens.page import COMMON, Page
from appliance.screens.widgets.grid import Grid

ALL = "all"
"""Class of a page that has room for every panel."""


class Doing(Protocol):
    """What the page's own keys start."""

    def do(self, what: str) -> None:
        """Start it, by its name."""

    def open(self, panel: str, key: str) -> None:
        """Show all of what the cursor is on in a table."""


def own_keys(keys: Iterable[tuple[str, str]]) -> list[BindingType]:
    """(keys, what they do) as bindings of `action_do`."""
    return [Binding(key, f"do('{what}')", show=False) for key, what in keys]


class Panelled(Page):
    """Base of those pages.

    Attributes:
        titles: Of the panels, by their names, in their order.
        homes: Widget → the panels with which it is seen where not all of them are.
        lists: Panel → the widget that has the focus while it is open; nothing where none has.
        room: Cells and lines from which all panels are seen.
        acts: What the page's own keys do.
    """

    titles: ClassVar[Mapping[str, str]] = MappingProxyType({})
    homes: ClassVar[Mapping[str, frozenset[str]]] = MappingProxyType({})
    lists: ClassVar[Mapping[str, str]] = MappingProxyType({})
    room: ClassVar[tuple[int, int]] = (110, 36)
    acts: Doing
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "panel(1)", show=False), Binding("shift+tab", "panel(-1)", show=False),
    ]  # fmt: skip

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.panel = next(iter(self.titles))

    def on_resize(self) -> None:
        """Lay it out anew."""
        width, height = self.room
        self.set_class(self.size.width >= width and self.size.height >= height, ALL)
        self.lay_out()
        self.call_after_refresh(self.refresh_all)

    def lay_out(self) -> None:
        """Show the panel that is open; all where there is room."""
        everything = self.has_class(ALL)
        for name, panels in self.homes.items():
            self.query_one(f"#{name}").display = everything or self.panel in panels
        following = self.titles[self.next_panel()]
        keys = [(key, following if key == "Tab" else text) for key, text in self.offered()]
        self.query_one(Footer).set_keys([*keys, *COMMON])

    def next_panel(self, by: int = 1) -> str:
        """The panel after the open one."""
        names = list(self.titles)
        return names[(names.index(self.panel) + by) % len(names)]

    def action_panel(self, by: int) -> None:
        """To the next panel."""
        self.open_panel(self.next_panel(by))

    def open_panel(self, name: str) -> None:
        """Show a panel and go there."""
        self.panel = name
        self.lay_out()
        wanted = self.lists.get(name, "")
        self.set_focus(self.query_one(f"#{wanted}") if wanted else None)
        self.call_after_refresh(self.refresh_all)

    def on_grid_chosen(self, message: Grid.Chosen) -> None:
        """Show all of what the cursor is on."""
        self.acts.open(message.grid.id or "", message.key)

    def action_do(self, what: str) -> None:
        """One of the page's own keys."""
        self.acts.do(what)
