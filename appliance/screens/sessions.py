"""Sessions: who is logged in where, and the tokens of programs."""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType
from typing import ClassVar

from textual.binding import BindingType
from textual.widget import Widget
from textual.widgets import Input

from appliance.core.access.model import ApiSession, ApiToken
from appliance.core.console import Console
from appliance.core.model import SessionInfo
from appliance.core.state import Section
from appliance.screens import sessions_view as view
from appliance.screens.filtering import Filtering, narrowed
from appliance.screens.lookups import Lookups
from appliance.screens.panelled import Panelled, own_keys
from appliance.screens.sessions_acts import Acts
from appliance.screens.widgets.grid import Grid

LOGINS, TOKENS, USERS = "api.session-list", "api.token-list", "user.list"


class Sessions(Panelled, Lookups, Filtering):
    """Consoles and logins above, tokens below."""

    page = "sessions"
    asked = (LOGINS, TOKENS, USERS)
    titles = MappingProxyType({"open": "Logged in", "tokens": "Tokens of programs"})
    homes = MappingProxyType({name: frozenset({name}) for name in titles})
    lists = MappingProxyType({name: name for name in titles})
    room = (80, 36)
    sections = frozenset({Section.sessions})
    keys = (
        ("Tab", "Next panel"), ("d", "End"), ("l", "End all of its user"), ("n", "New token"), ("/", "Filter"),
        ("Enter", "All"),
    )  # fmt: skip
    needs = MappingProxyType({
        "Tab": LOGINS, "d": "session.close", "l": "user.log-out", "n": "api.token-create", "/": LOGINS, "Enter": LOGINS,
    })  # fmt: skip
    AUTO_FOCUS = "#open"
    BINDINGS: ClassVar[list[BindingType]] = own_keys((("d,delete", "end"), ("l", "log-out"), ("n", "create")))

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.acts: Acts = Acts(self)
        self._text = self._goal = ""

    def body(self) -> Iterable[Widget]:
        """The filter, two tables."""
        yield Input(placeholder="words that a row must have; Enter keeps the filter, Esc clears it", id="filter")
        yield Grid(view.OPEN, self.titles["open"], id="open", empty="reading")
        yield Grid(view.TOKENS, self.titles["tokens"], id="tokens", empty="reading")

    @property
    def consoles(self) -> tuple[SessionInfo, ...]:
        """At the machine and over SSH; nothing for a reader who may not know."""
        return () if self.refused else tuple(self.console.get(Section.sessions).value or ())

    @property
    def logins(self) -> tuple[ApiSession, ...]:
        """Of the API."""
        return tuple(self.answers.get(LOGINS, ()))

    @property
    def tokens(self) -> tuple[ApiToken, ...]:
        """Of programs."""
        return tuple(self.answers.get(TOKENS, ()))

    @property
    def chosen(self) -> tuple[str, str]:
        """(panel, key of the row under its cursor)."""
        focused = self.focused
        grid = focused if isinstance(focused, Grid) else self.query_one(f"#{self.panel}", Grid)
        return grid.id or "", grid.key

    def show(self, sections: frozenset[Section]) -> None:
        """Consoles come and go."""
        if Section.sessions in sections:
            self.found()

    def found(self) -> None:
        """Show who is there, or why that is not told."""
        roles = {user.name: user.role for user in self.answers.get(USERS, ())}
        fits = f"nothing fits /{self._text}: Esc clears the filter" if self._text else ""
        rows = {
            "open": view.open_rows(self.consoles, self.logins, roles, self.console.session_id),
            "tokens": view.token_rows(self.tokens),
        }
        for name, empty in (("open", "nobody is logged in"), ("tokens", "no token yet; n makes one")):
            grid = self.query_one(f"#{name}", Grid)
            grid.set_empty(self.problem or (fits or empty if self.answers else "reading"))
            grid.set_rows(narrowed(rows[name], self._text))
            grid.set_note("" if self.refused else self.note(self._text))
        tokens = self.query_one("#tokens", Grid)
        keys = [row.key for row in tokens.rows]
        if self._goal in keys:
            tokens.move_to(keys.index(self._goal))
            self._goal = ""

    def choose(self, token: str) -> None:
        """Show a token that was just made."""
        self._goal = token
        self.open_panel("tokens")
        self.look()

    def show_ages(self) -> None:
        """How long everything lasts."""
        super().show_ages()
        self.found()

    @property
    def filter_text(self) -> str:
        """See Filtering."""
        return self._text

    def filtered(self, text: str) -> None:
        """See Filtering."""
        self._text = text
        self.found()

    def leave_filter(self) -> None:
        """See Filtering."""
        self.query_one(f"#{self.panel}").focus()
