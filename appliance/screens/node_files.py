"""The files of a machine: its folders, a text to look at, copies to and from here."""

from __future__ import annotations

import posixpath
import stat
from typing import TYPE_CHECKING, Any

import msgspec

from appliance.core.fleet.model import FileInfo
from appliance.core.model import JobStatus
from appliance.errors import ApplianceError, InvalidArgumentsError
from appliance.screens import fleet_calls as calls
from appliance.screens import format as f
from appliance.screens.entries import value_lines
from appliance.screens.inference_acts import ask_for, follow
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
BESIDE = 6
"""Cells of the dialog beside its text."""


class View(msgspec.Struct, frozen=True):
    """A part of a file, as `fleet.read-file` has it."""

    path: str
    size: int
    taken: int
    text: str
    binary: bool = False
    more: bool = False


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
        elif found is not None and found.is_folder:
            self.go(path)
        elif found is not None and found.link_to:
            target = posixpath.normpath(posixpath.join(self.path, found.link_to))
            self._page.spark.flows.start(self._follow(target), "link")
        elif found is not None:
            self._page.spark.flows.start(self._view(path), "file")

    async def _follow(self, target: str) -> None:
        """Where a link leads: a folder, or a file."""
        try:
            await self._page.console.invoke("fleet.files", calls.one(self._page.name_of, path=target))
        except InvalidArgumentsError:
            await self._view(target)
        else:
            self.go(target)

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
        part = msgspec.convert(msgspec.to_builtins(answer), View)
        title = f"{self._page.name_of}:{path}, {f.size(part.size)}"
        await self._page.spark.flows.read(title, text_lines(part, max(1, self._page.size.width - BESIDE)))

    async def _put(self) -> None:
        aim = posixpath.join(self.path, "")
        await self._copy("fleet.put", f"Put a file of this machine onto {self._page.name_of}", {"target": aim})

    async def _get(self) -> None:
        source = posixpath.join(self.path, self._grid.key)
        await self._copy("fleet.get", f"Get a file of {self._page.name_of} onto this machine", {"source": source})

    async def _copy(self, action: str, title: str, present: dict[str, Any]) -> None:
        """Ask for both ends; the copy goes on as a job while keys go on working."""
        page = self._page
        job = await ask_for(page, action, title, ("source", "target", "limit_kib"), calls.on([page.name_of]), present)
        if job is not None:
            page.say(f"{job.name}: under way; 4 Jobs shows how far")
            page.run_worker(self._await(job), name="copy", group="copy", exit_on_error=False)

    async def _await(self, job: JobStatus) -> None:
        await follow(self._page, job)
        if self._page.is_attached:
            self.go(self.path)


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


def text_lines(part: View, width: int) -> list[Line]:
    """A text that was read, as far as it was read; what is none says so."""
    if part.binary:
        return [((f" This is no text ({f.size(part.size)}). e gets it onto this machine.", "muted"),)]
    lines = value_lines(part.text.split("\n"), width)
    if part.more:
        told = f" Only the first {f.size(part.taken)} of {f.size(part.size)} are shown; e gets all of it."
        return [((told, "warn"),), (), *lines]
    return lines or [((" an empty file", "muted"),)]
