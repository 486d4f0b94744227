"""Lifecycle: what is backed up where, when that was proved, what is in no backup."""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType
from typing import ClassVar

from textual.binding import BindingType
from textual.widget import Widget

from appliance.core.console import Console
from appliance.core.lifecycle.backup.model import BackupStatus, Snapshot
from appliance.core.model import ServiceStatus
from appliance.core.state import Section
from appliance.screens import lifecycle_text as text
from appliance.screens import lifecycle_view as view
from appliance.screens.lifecycle_acts import Acts
from appliance.screens.page import Page
from appliance.screens.panelled import own_keys
from appliance.screens.values import wrap
from appliance.screens.widgets.grid import Grid
from appliance.screens.widgets.lines import Line, LineView

MOST_HEAD = 10
"""Lines about targets."""


class Lifecycle(Page):
    """Targets above, the backups, what is in none of them."""

    page = "lifecycle"
    sections = frozenset({Section.backup, Section.services})
    keys = (
        ("r", "Back up"), ("v", "Prove"), ("R", "Restore"), ("e", "Export"), ("K", "Recovery key"), ("l", "Look"),
        ("d", "Remove"), ("Enter", "All"),
    )  # fmt: skip
    needs = MappingProxyType({
        "r": "backup.run", "v": "backup.verify", "R": "backup.restore", "e": "backup.export", "K": "backup.key",
        "l": "backup.list", "d": "backup.forget",
    })  # fmt: skip
    AUTO_FOCUS = "#snapshots"
    BINDINGS: ClassVar[list[BindingType]] = own_keys((
        ("r", "run"), ("v", "verify"), ("R,upper_r", "restore"), ("e", "export"), ("K,upper_k", "key"), ("l", "look"),
        ("d,delete", "forget"),
    ))  # fmt: skip

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.acts = Acts(self)

    def body(self) -> Iterable[Widget]:
        """The targets, the backups, the gaps."""
        yield LineView("Backups go to", id="head")
        yield Grid(
            view.SNAPSHOTS, "Backups", id="snapshots", empty="no backup is known yet: r makes one, l looks at the targets"
        )
        yield LineView("In no backup", id="gaps")

    @property
    def status(self) -> BackupStatus | None:
        """As it is now."""
        found = self.console.get(Section.backup).value
        return found if isinstance(found, BackupStatus) else None

    @property
    def chosen(self) -> Snapshot | None:
        """The backup under the cursor."""
        key = self.query_one("#snapshots", Grid).key
        return next((each for each in text.snapshots(self.status) if f"{each.target}/{each.id}" == key), None)

    def show(self, sections: frozenset[Section]) -> None:
        """Show what is now."""
        status = self.status
        services: tuple[ServiceStatus, ...] = self.console.get(Section.services).value or ()
        service = next((each for each in services if each.name == "backup"), None)
        shown = self._fit(text.head(status, service))[:MOST_HEAD]
        head = self.query_one("#head", LineView)
        head.styles.height = len(shown) + 1
        head.set_lines(shown)
        grid = self.query_one("#snapshots", Grid)
        grid.set_empty(
            "no backup is known yet: r makes one, l looks at the targets"
            if status is not None and status.targets
            else "nothing is backed up: there is no target; e writes a backup into a file"
        )
        grid.set_rows(view.rows(status))
        self.query_one("#gaps", LineView).set_lines(self._fit(text.gap_lines(status.gaps if status is not None else ())))

    def _fit(self, lines: list[Line]) -> list[Line]:
        return [part for line in lines for part in wrap(line, max(1, self.size.width - 2))]

    def show_ages(self) -> None:
        """How long ago, and how long until."""
        self.show(self.sections)

    def on_resize(self) -> None:
        """Lay it out anew."""
        self.call_after_refresh(self.refresh_all)

    def on_grid_chosen(self, _: Grid.Chosen) -> None:
        """All of one backup."""
        self.acts.do("open")

    def action_do(self, what: str) -> None:
        """One of the page's own keys."""
        self.acts.do(what)
