"""Who else is connected: every open console, as one line in the header and as a live dialog."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical

from appliance.core.console import Console
from appliance.core.model import SessionInfo
from appliance.core.state import Section
from appliance.screens import format as f
from appliance.screens.dialogs import Dialog
from appliance.screens.widgets.grid import Column, Grid, Row


def company(sessions: Sequence[SessionInfo], own: str) -> str:
    """The others by name: "with bob, eve x2"; "" where nobody else is here.

    Args:
        sessions: All open consoles.
        own: The id of the reader's.
    """
    names = Counter(session.user for session in sessions if session.session_id != own)
    shown = [name if count == 1 else f"{name} x{count}" for name, count in names.items()]
    return f"with {', '.join(shown)}" if shown else ""


def row_of(session: SessionInfo, own: str) -> Row:
    """One console as a row; a reader who never pressed a key is idle since the console opened."""
    cells = (
        (session.user, "accent" if session.session_id == own else "text"),
        session.role.value,
        (session.via, "muted"),
        (session.origin or "this machine", "muted"),
        session.screen or f.NONE,
        (f"{session.columns}x{session.rows}", "muted"),
        f.since(session.since),
        f.since(session.active or session.since),
        ("you", "accent") if session.session_id == own else "",
    )
    return Row(session.session_id, cells)  # type: ignore[arg-type]


class People(Dialog):
    """The dialog: looks again every second while it is open."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("q,w,enter", "cancel", show=False)]

    def __init__(self, console: Console) -> None:
        super().__init__(classes="wide")
        self._spark = console

    def compose(self) -> ComposeResult:
        """A table that fills the screen."""
        columns = (
            Column("user", 10),
            Column("role", 8),
            Column("via", 7),
            Column("from"),
            Column("page", 9),
            Column("size", 8, least=100),
            Column("open", 6, "right"),
            Column("idle", 6, "right"),
            Column("", 3),
        )
        with Vertical(id="box") as box:
            box.border_title = "Who is connected"
            box.border_subtitle = "Esc to leave"
            yield Grid(columns, id="list", empty="nobody")

    def on_mount(self) -> None:
        """Show all, and go on looking."""
        self._look()
        self.set_interval(1.0, self._look, name="people")

    def _look(self) -> None:
        sessions: Sequence[SessionInfo] = self._spark.get(Section.sessions).value or ()
        own = self._spark.session_id
        self.query_one(Grid).set_rows([row_of(session, own) for session in sessions])
