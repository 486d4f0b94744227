"""Lifecycle: the system in its two slots, and what is newer; what is backed up where, when proved, what is in no backup."""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType
from typing import ClassVar

from textual.binding import BindingType
from textual.containers import Horizontal
from textual.widget import Widget

from appliance.core.console import Console
from appliance.core.lifecycle.backup.model import BackupStatus, Snapshot
from appliance.core.lifecycle.update.model import UpdateStatus
from appliance.core.model import ServiceStatus
from appliance.core.state import Section
from appliance.screens import lifecycle_system as system
from appliance.screens import lifecycle_text as text
from appliance.screens import lifecycle_view as view
from appliance.screens.lifecycle_acts import Acts
from appliance.screens.panelled import ALL, Panelled, own_keys
from appliance.screens.values import wrap
from appliance.screens.widgets.grid import Grid
from appliance.screens.widgets.lines import Line, LineView

MOST_HEAD, LEAST_HEAD = 10, 6
"""Lines about targets: most, and most on a screen that has few."""
BELOW = 16
"""Lines of a screen that are for the rest of it."""
BRIEF = 3
"""Lines about the system where the backups are open."""
GAPS, TALL = 10, 30
"""Lines of what is in no backup, beside the backups, on a screen that has so many."""
SLOTS = ("slot-a", "slot-b")
SYSTEM_KEYS = frozenset("cibsp")


class Lifecycle(Panelled):
    """The system above, its two slots; the targets of backups, the backups, what is in none of them."""

    page = "lifecycle"
    sections = frozenset({Section.backup, Section.update, Section.services})
    titles = MappingProxyType({"backups": "Backups", "system": "System", "gaps": "In no backup"})
    homes = MappingProxyType({
        "system": frozenset({"backups", "system"}), "slots": frozenset({"system"}), "head": frozenset({"backups"}),
        "snapshots": frozenset({"backups"}), "gaps": frozenset({"backups", "gaps"}),
    })  # fmt: skip
    lists = MappingProxyType({"backups": "snapshots"})
    room = (110, 40)
    keys = (
        ("Tab", "Next panel"), ("r", "Back up"), ("v", "Prove"), ("R", "Restore"), ("e", "Export"), ("K", "Recovery key"),
        ("l", "Look"), ("d", "Remove"), ("c", "Check"), ("i", "Install"), ("b", "Go back"), ("s", "Restart"),
        ("p", "Read slots again"), ("Enter", "All"),
    )  # fmt: skip
    needs = MappingProxyType({
        "r": "backup.run", "v": "backup.verify", "R": "backup.restore", "e": "backup.export", "K": "backup.key",
        "l": "backup.list", "d": "backup.forget", "c": "update.check", "i": "update.install", "b": "update.rollback",
        "s": "update.reboot", "p": "update.verify",
    })  # fmt: skip
    AUTO_FOCUS = "#snapshots"
    BINDINGS: ClassVar[list[BindingType]] = own_keys((
        ("r", "run"), ("v", "verify"), ("R,upper_r", "restore"), ("e", "export"), ("K,upper_k", "key"), ("l", "look"),
        ("d,delete", "forget"), ("c", "check"), ("i", "install"), ("b", "back"), ("s", "restart"), ("p", "prove"),
    ))  # fmt: skip

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.acts: Acts = Acts(self)

    def body(self) -> Iterable[Widget]:
        """The system, its slots; the targets, the backups, the gaps."""
        yield LineView("System", id="system")
        with Horizontal(id="slots"):
            for name in SLOTS:
                yield LineView("Slot", id=name)
        yield LineView("Backups go to", id="head")
        yield Grid(
            view.SNAPSHOTS, "Backups", id="snapshots", empty="no backup is known yet: r makes one, l looks at the targets"
        )
        yield LineView(self.titles["gaps"], id="gaps", counts=True)

    def offered(self) -> tuple[tuple[str, str], ...]:
        """The keys of the panel that is open; of both where both are seen."""
        if self.has_class(ALL):
            return super().offered()
        own = {"system": SYSTEM_KEYS, "backups": frozenset(key for key, _ in self.keys) - SYSTEM_KEYS}
        shown = own.get(self.panel, frozenset()) | {"Tab"}
        return tuple(each for each in super().offered() if each[0] in shown)

    @property
    def status(self) -> BackupStatus | None:
        """Of the backups, as it is now."""
        found = self.console.get(Section.backup).value
        return found if isinstance(found, BackupStatus) else None

    @property
    def update(self) -> UpdateStatus | None:
        """Of the updates, as it is now."""
        found = self.console.get(Section.update).value
        return found if isinstance(found, UpdateStatus) else None

    @property
    def chosen(self) -> Snapshot | None:
        """The backup under the cursor."""
        key = self.query_one("#snapshots", Grid).key
        return next((each for each in text.snapshots(self.status) if f"{each.target}/{each.id}" == key), None)

    def service(self, name: str) -> ServiceStatus | None:
        """One of the services."""
        found: tuple[ServiceStatus, ...] = self.console.get(Section.services).value or ()
        return next((each for each in found if each.name == name), None)

    def show(self, sections: frozenset[Section]) -> None:
        """Show what is now."""
        self._show_system()
        if self.has_class(ALL) or self.panel != "system":
            self._show_backups()

    def lay_out(self) -> None:
        """Show the panel that is open; slots only where there are some."""
        super().lay_out()
        self._show_system()

    def _show_system(self) -> None:
        brief = not self.has_class(ALL) and self.panel != "system"
        told = self._fit(system.lines(self.update, self.service("update"), keys=True, brief=brief, glyphs=self.spark.glyphs))
        self._put("#system", _cut(told, BRIEF) if brief else told)
        self.query_one("#slots").display = not brief and bool(self.update and self.update.booted and self.update.slots)
        if self.update is None or brief:
            return
        found = [(each, system.slot_lines(each, self.update, keys=True)) for each in self.update.slots]
        width = max(1, self.size.width // 2 - 2)
        shown = [[part for line in lines for part in wrap(line, width)] for _, lines in found]
        self.query_one("#slots").styles.height = max(map(len, shown), default=0) + 2
        for name, (slot, _), lines in zip(SLOTS, found, shown, strict=False):
            box = self.query_one(f"#{name}", LineView)
            box.box_title = system.slot_title(slot, self.update)
            box.set_lines(lines)
            box.repaint(0)

    def _show_backups(self) -> None:
        status = self.status
        most = MOST_HEAD if self.has_class(ALL) else max(LEAST_HEAD, min(MOST_HEAD, self.size.height - BELOW))
        self._put("#head", text.fitted(status, self.service("backup"), self.size.width - 2, most))
        grid = self.query_one("#snapshots", Grid)
        grid.set_empty(
            "no backup is known yet: r makes one, l looks at the targets"
            if status is not None and status.targets
            else "nothing is backed up: there is no target; e writes a backup into a file"
        )
        grid.set_rows(view.rows(status))
        gaps = self.query_one("#gaps", LineView)
        gaps.display = self.has_class(ALL) or self.panel == "gaps" or self.size.height >= TALL
        missing = self._fit(text.gap_lines(status.gaps if status is not None else ()))
        beside = max(GAPS, min(len(missing) + 2, self.size.height // 4))
        gaps.styles.height = "1fr" if self.panel == "gaps" and not self.has_class(ALL) else beside
        gaps.set_lines(missing)

    def _put(self, name: str, lines: list[Line]) -> None:
        """Lines into a box that is as high as they are."""
        box = self.query_one(name, LineView)
        box.styles.height = len(lines) + 2
        box.set_lines(lines)

    def _fit(self, lines: list[Line]) -> list[Line]:
        return [part for line in lines for part in wrap(line, max(1, self.size.width - 2))]

    def show_ages(self) -> None:
        """How long ago, and how long until."""
        self.show(self.sections)

    def on_grid_chosen(self, _: Grid.Chosen) -> None:
        """All of one backup."""
        self.acts.do("open")


def _cut(lines: list[Line], most: int) -> list[Line]:
    """So many lines; the last one says where there are more."""
    if len(lines) <= most:
        return lines
    *kept, last = lines[:most]
    return [*kept, (*last, (" … (Tab: System)", "muted"))]
