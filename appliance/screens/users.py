"""Users: accounts with role, second factor, lock, last login, and what each has open."""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType
from typing import ClassVar

from textual.binding import BindingType
from textual.widget import Widget
from textual.widgets import Input

from appliance.core.access.accounts import Account
from appliance.core.console import Console
from appliance.screens import users_view as view
from appliance.screens.filtering import Filtering, narrowed
from appliance.screens.lookups import Lookups
from appliance.screens.panelled import ALL, own_keys
from appliance.screens.users_acts import Acts
from appliance.screens.values import wrap
from appliance.screens.widgets.grid import Grid
from appliance.screens.widgets.lines import LineView

ASKED = "user.accounts"
TALL, SHORT = 36, 16
"""Lines from which the panel below is larger, and from which it is there at all."""


class Users(Lookups, Filtering):
    """The accounts, and below what is known of the one under the cursor."""

    page = "users"
    asked = (ASKED,)
    keys = (
        ("n", "Add"), ("r", "Role"), ("p", "Password"), ("t", "2nd factor"), ("u", "Unlock"), ("l", "Log out"),
        ("d", "Remove"), ("/", "Filter"), ("Enter", "All"),
    )  # fmt: skip
    needs = MappingProxyType({
        "n": "user.add", "r": "user.set-role", "p": "user.set-password", "u": "user.unlock", "l": "user.log-out",
        "d": "user.remove", "/": ASKED, "Enter": ASKED,
    })  # fmt: skip
    AUTO_FOCUS = "#accounts"
    BINDINGS: ClassVar[list[BindingType]] = own_keys((
        ("n", "add"), ("r", "role"), ("p", "password"), ("t", "factor"), ("u", "unlock"), ("l", "log-out"),
        ("d,delete", "remove"),
    ))  # fmt: skip

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.acts = Acts(self)
        self._text = self._goal = ""

    def body(self) -> Iterable[Widget]:
        """The filter, the table, what is known of one."""
        yield Input(placeholder="words that a row must have; Enter keeps the filter, Esc clears it", id="filter")
        yield Grid(view.ACCOUNTS, "Users", id="accounts", empty="reading")
        yield LineView("Account", id="facts")

    @property
    def accounts(self) -> tuple[Account, ...]:
        """As they were last read."""
        return tuple(self.answers.get(ASKED, ()))

    @property
    def account(self) -> Account | None:
        """The one under the cursor."""
        key = self.query_one("#accounts", Grid).key
        return next((each for each in self.accounts if each.name == key), None)

    def found(self) -> None:
        """Show the accounts, or why there are none."""
        grid = self.query_one("#accounts", Grid)
        fits = f"nothing fits /{self._text}: Esc clears the filter" if self._text else "no account"
        grid.set_empty(self.problem or (fits if self.answers else "reading"))
        rows = view.account_rows(self.accounts, self.stamp.age, self.spark.glyphs)
        grid.set_rows(narrowed(rows, self._text))
        keys = [row.key for row in grid.rows]
        if self._goal in keys:
            grid.move_to(keys.index(self._goal))
            self._goal = ""
        grid.set_note(self.note(self._text) if not self.refused else "")
        self._show_one()

    def choose(self, name: str) -> None:
        """Put the cursor on an account that was just made: the next key is meant for it."""
        self._goal = name
        self.look()

    def _show_one(self) -> None:
        panel = self.query_one("#facts", LineView)
        lines = view.fact_lines(self.account, self.stamp.age)
        panel.set_lines([part for line in lines for part in wrap(line, max(1, panel.inner_width - 1))])

    def show_ages(self) -> None:
        """Locks run out while one looks."""
        super().show_ages()
        if self.answers:
            self.found()

    def on_resize(self) -> None:
        """Lay it out anew."""
        self.set_class(self.size.height >= TALL, ALL)
        self.query_one("#facts").display = self.size.height >= SHORT
        self.call_after_refresh(self.refresh_all)

    def on_grid_selected(self) -> None:
        """Another account."""
        self._show_one()

    def on_grid_chosen(self, message: Grid.Chosen) -> None:
        """All of an account."""
        self.acts.open(message.key)

    def action_do(self, what: str) -> None:
        """One of the page's own keys."""
        self.acts.do(what)

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
        self.query_one("#accounts", Grid).focus()
