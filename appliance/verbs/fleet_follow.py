"""Follows an operation on the fleet: every line with its node before it as it comes, then one row for each node."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from appliance.core.printable import printable
from appliance.screens import format as f
from appliance.verbs import render
from appliance.verbs.context import Context
from appliance.verbs.fleet_jobs import UNREACHABLE

EVERY = 0.3
"""Seconds between two looks."""
OVER = frozenset({"completed", "failed", "undone", "cancelled", "interrupted"})
GOOD = frozenset({"ok", "unchanged", "skipped"})
AWAY = frozenset({"unreachable", "unknown"})
COLOURS = ("cyan", "green", "yellow", "magenta", "blue", "bright_cyan", "bright_green", "bright_yellow")
RUN = ("node", "state", "exit", "took", "lines", "reason")
OWN = frozenset({"run", "service.logs", "compose.logs", "container.logs"})
"""Kinds that end with whoever follows them."""


class Follower:
    """One operation on the command line.

    Args:
        context: The command line.
        status: The operation as it was begun.
        live: Its lines are printed as they come.
        save: Folder for each node's output.
    """

    def __init__(self, context: Context, status: dict[str, Any], *, live: bool, save: Path | None = None) -> None:
        self._context = context
        self.status = status
        self._live = live
        self._save = save
        self._width = max((len(run["node"]) for run in status["runs"]), default=0)
        self._after: dict[str, int] = {}
        self._seen: dict[str, tuple[int, str]] = {}
        self.texts: dict[str, list[str]] = {}
        """What is kept of each node's output, where it is not printed as it comes."""

    def to_its_end(self) -> dict[str, Any]:
        """Wait for it; Ctrl-C stops what only runs for its reader, and leaves anything else to go on."""
        for run in self.status["runs"]:
            self._keep(run["node"], "", "w")
        try:
            while True:
                over = self.status["stage"] in OVER
                if over or self._live:
                    self._read_all()
                if over or self.status["stage"] == "planned":
                    break
                time.sleep(EVERY)
                self.status = self._context.client.invoke("fleet.operation", self._id)
        except KeyboardInterrupt:
            self._stopped()
            raise
        return self.status

    @property
    def _id(self) -> dict[str, Any]:
        return {"operation_id": self.status["operation_id"]}

    def _stopped(self) -> None:
        if self.status["kind"] in OWN:
            self._context.client.invoke("fleet.operation-cancel", self._id)
            return
        click.echo(f"it goes on: prime-spark fleet operation {self.status['operation_id'][-8:]}", err=True)

    def _read_all(self) -> None:
        for at, run in enumerate(self.status["runs"]):
            seen = (run["lines"], run["state"])
            if run["lines"] and seen != self._seen.get(run["node"]):
                self._read(run["node"], at)
                self._seen[run["node"]] = seen

    def _read(self, node: str, at: int) -> None:
        while True:
            after = self._after.get(node, 0)
            part = self._context.client.invoke("fleet.operation-output", {**self._id, "node": node, "after": after})
            self._after[node] = part["next"]
            if part["dropped"]:
                self._take(node, at, f"… {f.size(part['dropped'])} were not kept …\n")
            if part["text"]:
                self._take(node, at, part["text"])
            if part["ended"] or part["next"] == after:
                return

    def _take(self, node: str, at: int, text: str) -> None:
        self._keep(node, text)
        if not self._live:
            self.texts.setdefault(node, []).append(text)
            return
        head = f"[{node}]".ljust(self._width + 2)
        head = click.style(head, fg=COLOURS[at % len(COLOURS)]) if self._context.colour else head
        for line in text.removesuffix("\n").split("\n"):
            click.echo(f"{head} {line}", file=self._context.out, color=self._context.colour)

    def _keep(self, node: str, text: str, how: str = "a") -> None:
        """Write a node's output into a file of its own, as it comes. Raises click.FileError."""
        if self._save is None:
            return
        try:
            with (self._save / f"{node}.txt").open(how, encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise click.FileError(str(error.filename or self._save), error.strerror or str(error)) from error


def summary(status: Mapping[str, Any], width: int) -> list[Any]:
    """An operation and its nodes."""
    head = f"{status['title']}: {status['stage']}" + (f": {status['reason']}" if status["reason"] else "")
    blocks: list[Any] = [Text(printable(head))]
    if status["runs"]:
        blocks.append(render.table([_row(run) for run in status["runs"]], RUN))
    diffs = [f"{run['node']}:\n{run['diff']}" for run in status["runs"] if run["diff"] and status["stage"] == "planned"]
    if diffs:
        blocks.append(Text(printable("\n".join(diffs), keep="\n")))
    if status["stage"] == "planned":
        blocks.append(Text(printable(f"next: prime-spark fleet apply {status['operation_id'][-8:]}")))
    return blocks


def _row(run: Mapping[str, Any]) -> dict[str, Any]:
    took = f.NONE if run["started"] is None or run["ended"] is None else f.duration(max(0.0, run["ended"] - run["started"]))
    return {
        "node": run["node"] + (" (first)" if run["canary"] else ""),
        "state": run["state"],
        "exit": f.NONE if run["exit_status"] is None else run["exit_status"],
        "took": took,
        "lines": run["lines"],
        "reason": run["reason"],
    }


def code(status: Mapping[str, Any], *, back: bool = False) -> int:
    """0 where it did well everywhere; 1 where it failed somewhere; 6 where nodes were only not reached.

    Args:
        status: The operation.
        back: It was to be taken back.
    """
    states = {run["state"] for run in status["runs"]}
    if back:
        return 0 if status["stage"] == "undone" else 1
    if states <= GOOD and status["stage"] in {"completed", "planned"}:
        return 0
    return UNREACHABLE if states & AWAY and states <= GOOD | AWAY | {"waiting"} else 1


def operations(rows: Sequence[Mapping[str, Any]], _: int) -> list[Any]:
    """Operations, newest first."""
    shown = [
        {
            "id": each["operation_id"][-8:], "stage": each["stage"], "title": each["title"], "owner": each["owner"],
            "begun": f.clock(each["started"] or each["created"]),
            "ok": f"{sum(run['state'] in GOOD for run in each['runs'])}/{len(each['runs'])}", "reason": each["reason"],
        }
        for each in rows
    ]  # fmt: skip
    return [render.table(shown, ("id", "stage", "title", "ok", "owner", "begun", "reason"))]


def told(rows: Sequence[Mapping[str, Any]], _: int) -> list[Any]:
    """What nodes list, one table each; why one told nothing."""
    blocks: list[Any] = []
    for each in rows:
        if each["error"]:
            blocks.append(Text(printable(f"{each['node']}: {each['error']}"), style="red"))
        elif isinstance(each["rows"], list) and each["rows"] and isinstance(each["rows"][0], dict):
            columns = tuple(each["rows"][0])
            blocks += [Text(printable(each["node"]), style="bold"), render.table(each["rows"], columns)]
        else:
            shown = each["rows"] if each["rows"] not in (None, [], {}) else "nothing"
            blocks.append(Text(printable(f"{each['node']}: {shown}", keep="\n")))
    return blocks


def interactive(context: Context) -> bool:
    """Somebody sits there who can be asked."""
    return not context.client.local and sys.stdin.isatty()


FORMS: Mapping[str, render.Form] = {
    "fleet.operations": operations,
    **{f"fleet.{name}": summary for name in ("plan", "operation", "operation-cancel")},
    **{
        f"fleet.{name}": told
        for name in ("service-list", "container-list", "compose-list", "user-list", "package-list", "key-list", "firewall")
    },
}
