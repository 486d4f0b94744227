"""VPN: the tunnel, every peer with its state and traffic, and what is known of the one under the cursor."""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widget import Widget

from appliance.core.console import Console
from appliance.core.state import Section
from appliance.core.vpn.status import PeerStatus, VpnStatus
from appliance.screens import format as f
from appliance.screens import vpn_view as view
from appliance.screens.page import Page
from appliance.screens.streams_view import flow
from appliance.screens.values import wrap
from appliance.screens.vpn_acts import Acts
from appliance.screens.widgets.grid import Grid
from appliance.screens.widgets.lines import LineView

TALL, WIDE = 36, 110
"""Lines and cells from which everything is seen."""
MOST_HEAD = 4
"""Lines about the tunnel itself."""


class Vpn(Page):
    """The tunnel above, its peers, and below what is known of one of them."""

    page = "vpn"
    sections = frozenset({Section.vpn})
    keys = (
        ("x", "Explain"), ("n", "Add"), ("e", "File, code"), ("s", "On/off"), ("c", "Change"), ("o", "New keys"),
        ("p", "Set up its machine"), ("d", "Remove"), ("r", "Reconcile"), ("Enter", "All"),
    )  # fmt: skip
    needs = MappingProxyType({
        "n": "vpn.peer-add", "e": "vpn.peer-export", "s": "vpn.peer-disable", "c": "vpn.peer-change", "o": "vpn.peer-rotate",
        "p": "vpn.peer-provision", "d": "vpn.peer-remove", "r": "vpn.reconcile",
    })  # fmt: skip
    AUTO_FOCUS = "#peers"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(key, f"do('{what}')", show=False)
        for key, what in (
            ("x", "explain"), ("n", "add"), ("e", "export"), ("s", "switch"), ("c", "change"), ("o", "rotate"),
            ("p", "provision"), ("d,delete", "remove"), ("r", "reconcile"),
        )
    ]  # fmt: skip

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.acts = Acts(self)
        self._chosen = ""
        """A peer that the cursor goes to as soon as it is there."""

    def body(self) -> Iterable[Widget]:
        """The tunnel, its peers, a line about what is wrong, what is known of one."""
        yield LineView(id="tunnel")
        yield Grid(view.PEERS, "Peers", id="peers", empty="no peer yet: n adds one; its file or code brings it in")
        yield LineView(id="trouble")
        with Horizontal(id="below"):
            yield LineView("Peer", id="facts")
            yield LineView("Brought back", id="attempts")

    @property
    def status(self) -> VpnStatus | None:
        """None until it was read."""
        found = self.console.get(Section.vpn).value
        return found if isinstance(found, VpnStatus) else None

    @property
    def peer(self) -> PeerStatus | None:
        """The one under the cursor."""
        key, status = self.query_one("#peers", Grid).key, self.status
        return next((each for each in status.peers if each.name == key), None) if status is not None else None

    def choose(self, name: str) -> None:
        """Put the cursor on a peer that was just added: the next key is meant for it."""
        self._chosen = name
        self._show_rows()
        self._show_peer()

    def show(self, sections: frozenset[Section]) -> None:
        """Show what is now."""
        head = self.query_one("#tunnel", LineView)
        room = max(1, self.size.width - 1)
        lines = [part for line in view.head_lines(self.status) for part in wrap(line, room)][:MOST_HEAD]
        head.styles.height = len(lines)
        head.set_lines(lines)
        self._show_rows()
        self._show_peer()

    def _show_rows(self) -> None:
        status = self.status
        rows = view.peer_rows(status.peers if status is not None else (), self._age, self.spark.glyphs)
        grid = self.query_one("#peers", Grid)
        grid.set_rows(rows)
        there = [row.key for row in rows]
        if self._chosen in there:  # what was added is shown a moment later
            grid.move_to(there.index(self._chosen))
            self._chosen = ""

    @property
    def _age(self) -> float | None:
        return self.console.age(Section.vpn)

    def _show_peer(self) -> None:
        peer, trouble = self.peer, self.query_one("#trouble", LineView)
        lines = [] if peer is None else flow(view.trouble(peer), max(1, self.size.width))
        trouble.styles.height = len(lines)
        trouble.set_lines(lines)
        facts, tried = self.query_one("#facts", LineView), self.query_one("#attempts", LineView)
        if peer is None:
            facts.set_lines([])
            tried.set_lines([])
            return
        for panel, told in ((facts, view.fact_lines(peer, self._age, self.spark.glyphs)), (tried, view.attempt_lines(peer))):
            panel.set_lines([part for line in told for part in wrap(line, max(1, panel.inner_width - 1))])

    def show_ages(self) -> None:
        """How old everything is."""
        age = f.age(self._age)
        for name in ("peers", "facts", "attempts"):
            self.query_one(f"#{name}", LineView).set_note(age)
        self._show_rows()

    def on_resize(self) -> None:
        """Lay it out anew."""
        self.set_class(self.size.width >= WIDE and self.size.height >= TALL, "all")
        self.query_one("#attempts").display = self.size.width >= WIDE
        self.call_after_refresh(self.refresh_all)

    def on_grid_selected(self, message: Grid.Selected) -> None:
        """Another peer."""
        if message.grid.id == "peers":
            self._show_peer()

    def on_grid_chosen(self, message: Grid.Chosen) -> None:
        """Show all of what the cursor is on."""
        self.acts.open(message.key)

    def action_do(self, what: str) -> None:
        """One of the page's own keys."""
        self.acts.do(what)
