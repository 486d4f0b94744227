"""The files of a machine: its folders, a text to look at, copies to and from here."""

from __future__ import annotations

import posixpath
import stat
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from appliance.core.fleet.model import FileInfo
from appliance.errors import ApplianceError
from appliance.screens import fleet_calls as calls
from appliance.screens import format as f
from appliance.screens.entries import value_lines
from appliance.screens.inference_acts import ask_for
from appliance.screens.themes import Role
from appliance.screens.widgets.grid import Column, Grid, Row
from appliance.screens.widgets.lines import Line

if TYPE_CHECKING:
    from appliance.screens.node import Node

FILES = (
    Column("name"), Column("size", 10, "right"), Column("rights", 10), Column("owner", 11, least=100),
    Column("changed", 11, "right"),
)  # fmt: skip
ABOVE = ".."


class Folder:
    """The folder of a machine that is open on its page.

    Args:
        page: Its page.
    """

    def __init__(self, page: Node) -> None:
        self._page = page
        self.path = "/"
        self.stamp = f.Stamp()
        self._files: tuple[FileInfo, ...] = ()
        self._reading = False

    @property
    def note(self) -> str:
        """Which folder, how many names, how old."""
        return f"{self.path}, {f.counted(len(self._files), 'name')}, {f.age(self.stamp.age)}"

    @property
    def _grid(self) -> Grid:
        return self._page.query_one("#files", Grid)

    def open(self) -> None:
        """Read the folder, where it was not read yet."""
        if self.stamp.at is None and not self._reading:
            self.go(self.path)

    def go(self, path: str) -> None:
        """Read another folder."""
        self._reading = True
        self._page.run_worker(self._read(path), name="files", group="files", exclusive=True, exit_on_error=False)

    async def _read(self, path: str) -> None:
        try:
            found = await self._page.console.invoke("fleet.files", calls.one(self._page.name_of, path=path))
        except ApplianceError as error:
            if self.stamp.at is None:
                self._grid.set_empty(str(error))
            self._page.say(str(error), "bad")
        else:
            files = msgspec.convert(msgspec.to_builtins(found), tuple[FileInfo, ...])
            before, self.path, self._files = self.path, path, files
            self.stamp.set()
            self._show(posixpath.basename(before) if posixpath.dirname(before) == path else "")
        finally:
            self._reading = False

    def _show(self, at: str) -> None:
        grid = self._grid
        ordered = sorted(self._files, key=lambda each: (not each.is_folder, name_of(each)))
        rows = [file_row(each) for each in ordered]
        if self.path != "/":
            rows.insert(0, Row(ABOVE, (ABOVE, "", "", "", "")))
        grid.set_empty("an empty folder")
        grid.set_rows(rows)
        keys = [row.key for row in rows]
        grid.move_to(keys.index(at) if at in keys else 0)
        self._page.refresh_all()

    def _named(self, name: str) -> FileInfo | None:
        return next((each for each in self._files if name_of(each) == name), None)

    def choose(self, name: str) -> None:
        """Open a folder, or look at a file."""
        path, found = posixpath.join(self.path, name), self._named(name)
        if name == ABOVE:
            self.go(posixpath.dirname(self.path))
        elif found is not None and (found.is_folder or (found.link_to is not None and name_of(found).endswith("/"))):
            self.go(path)
        elif found is not None:
            self._page.spark.flows.start(self._view(path), "file")

    def do(self, what: str) -> None:
        """One of the keys of the panel."""
        if what == "above":
            if self.path != "/":
                self.go(posixpath.dirname(self.path))
            return
        flow = {"put": self._put, "get": self._get}[what]
        self._page.spark.flows.start(flow(), what)

    async def _view(self, path: str) -> None:
        answer = await self._page.console.invoke("fleet.read-file", calls.one(self._page.name_of, path=path))
        lines = text_lines(msgspec.to_builtins(answer), max(1, self._page.size.width - 6))
        await self._page.spark.flows.read(f"{self._page.name_of}:{path}", lines)

    async def _put(self) -> None:
        present = {"target": posixpath.join(self.path, "")}
        title = f"Put a file onto {self._page.name_of}"
        done = await ask_for(
            self._page, "fleet.put", title, ("source", "target"), calls.on([self._page.name_of]), present=present
        )  # fmt: skip
        if done is not None:
            self._tell(done)
            self.go(self.path)

    async def _get(self) -> None:
        name = self._grid.key
        present = {"source": posixpath.join(self.path, name)}
        title = f"Get a file of {self._page.name_of}"
        done = await ask_for(
            self._page, "fleet.get", title, ("source", "target"), calls.on([self._page.name_of]), present=present
        )  # fmt: skip
        if done is not None:
            self._tell(done)

    def _tell(self, done: Any) -> None:
        told = msgspec.to_builtins(done)
        self._page.say(str(told))


def name_of(file: FileInfo) -> str:
    """Without its folder."""
    return posixpath.basename(file.path.rstrip("/"))


def file_row(file: FileInfo) -> Row:
    """One name."""
    name = name_of(file)
    shown = f"{name}/" if file.is_folder else f"{name} → {file.link_to}" if file.link_to is not None else name
    role: Role = "accent" if file.is_folder else "text"
    size = "" if file.is_folder else f.size(file.size)
    return Row(
        name,
        ((shown, role), size, (stat.filemode(file.mode), "muted"), (f"{file.owner}:{file.group}", "muted"),
         (f.clock(file.modified), "muted")),
    )  # fmt: skip


def text_lines(answer: dict[str, Any], width: int) -> list[Line]:
    """A file that was read, or why it cannot be looked at."""
    lines: Sequence[Line] = value_lines(str(answer.get("text", "")).split("\n"), width)
    return list(lines)
