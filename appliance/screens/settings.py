"""Settings: every key, its value, where that comes from; change one."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from types import MappingProxyType
from typing import Any, ClassVar

from rich.cells import cell_len
from textual.binding import Binding, BindingType
from textual.widget import Widget

from appliance.core.console import Console
from appliance.core.printable import printable
from appliance.errors import ApplianceError
from appliance.screens import format as f
from appliance.screens.flows import scalar
from appliance.screens.page import Page
from appliance.screens.widgets.grid import Cell, Column, Grid, Row
from appliance.screens.widgets.lines import Line, LineView


class Settings(Page):
    """All keys."""

    page = "settings"
    keys = (("e", "Change"),)
    needs = MappingProxyType({"e": "config.set"})
    BINDINGS: ClassVar[list[BindingType]] = [Binding("e", "change", show=False)]

    _rows: tuple[dict[str, Any], ...] = ()

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.stamp = f.Stamp()

    def body(self) -> Iterable[Widget]:
        """The table, and the meaning of the key under the cursor."""
        yield Grid(
            (Column("key", 30), Column("value"), Column("default", 0, least=100), Column("from", 0, least=60)),
            "Settings",
            id="settings",
            empty="reading",
        )
        yield LineView("Meaning", id="detail")

    def refresh_all(self) -> None:
        """Read the settings."""
        super().refresh_all()
        self.run_worker(self._read(), name="settings", group="settings", exclusive=True, exit_on_error=False)

    async def _read(self) -> None:
        try:
            self._rows = tuple(await self.console.invoke("config.list"))
        except ApplianceError as error:
            self.query_one(Grid).set_empty(str(error))
            return
        self.stamp.set()
        rows = []
        for row in self._rows:
            changed = row["value"] != row["default"]
            value = (scalar(row["value"]), "accent" if changed else "text")
            rows.append(Row(row["key"], (row["key"], value, (scalar(row["default"]), "muted"), coming(row))))  # type: ignore[arg-type]
        self.query_one(Grid).set_rows(rows)
        self._detail()
        self.show_ages()

    def show_ages(self) -> None:
        """How long ago the settings were read."""
        self.query_one(Grid).set_note(f.age(self.stamp.age))

    def on_grid_selected(self) -> None:
        """Another key."""
        self._detail()

    def _detail(self) -> None:
        row = next((row for row in self._rows if row["key"] == self.query_one(Grid).key), None)
        if row is not None:
            panel = self.query_one("#detail", LineView)
            panel.set_lines(detail(row, panel.inner_width, panel.inner_height))

    def on_grid_chosen(self) -> None:
        """Enter changes too."""
        self.action_change()

    def action_change(self) -> None:
        """Change the key under the cursor."""
        key = self.query_one(Grid).key
        if key:
            self.spark.flows.start(self._change(key), "change")

    async def _change(self, key: str) -> None:
        row = next(row for row in self._rows if row["key"] == key)
        kind = {"type": "string", "description": "", "default": "" if row["value"] is None else scalar(row["value"])}
        done = await self.spark.flows.fill_in("config.set", key, {"value": kind}, [row["meaning"], ""], key=key)
        if done is not None:
            self.say(f"{key} = {done[0]['value']} from the next start on", "ok")
            await self._read()


def coming(row: dict[str, Any]) -> Cell:
    """Where a value comes from; where another one holds from the next start on, that one."""
    if row["next_start"] is None:
        return (row["origin"], "muted")
    return (f"from the next start: {scalar(row['next_start'])} ({row['origin']})", "warn")


def detail(row: dict[str, Any], width: int, height: int) -> list[Line]:
    """All of one key; its value, however long, on as many lines as there are left for it.

    Args:
        row: As `config.list` has it.
        width: Cells for text.
        height: Lines for text.
    """
    env = f"environment variable {row['env']}" if row["env"] else "no environment variable"
    origin = f" {row['origin'] if row['next_start'] is None else 'holds now'}: "
    room = max(1, width - 2)
    first = max(0, room - cell_len(origin))
    value = printable(scalar(row["value"]))
    if cell_len(value) <= first:
        shown: list[Line] = [((origin, "muted"), (value, "accent"))]
    else:
        shown = [((origin, "muted"),), *(((f" {part}", "accent"),) for part in textwrap.wrap(value, room))]
    meaning: list[Line] = [((f" {part}", "text"),) for part in textwrap.wrap(row["meaning"], room)]
    foot: Line = ((f" A change holds from the next start on; {env}.", "muted"),)
    if row["next_start"] is not None:
        foot = ((f" {coming(row)[0]}", "warn"),)
    most = max(1, height - len(meaning) - 1)
    if len(shown) > most:
        shown = [*shown[: most - 1], ((f" … {cell_len(value)} characters in all; Enter shows them", "muted"),)]
    return [*meaning, *shown, foot]
