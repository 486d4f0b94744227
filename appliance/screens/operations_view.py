"""Operations as rows and lines: what is done, how far it is on every machine, and what it would change there."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from appliance.core.fleet.operations.model import NodeRun, OperationStatus, RunState, Stage
from appliance.screens import format as f
from appliance.screens.glyphs import Glyphs
from appliance.screens.themes import Role
from appliance.screens.widgets.grid import Cell, Column, Row
from appliance.screens.widgets.lines import Line, Piece

OPERATIONS = (
    Column("what"), Column("stage", 13), Column("nodes", 7, "right"), Column("by", 8, least=96), Column("begun", 11, "right"),
)  # fmt: skip
RUNS = (
    Column("", 1), Column("machine", 14), Column("state", 13), Column("exit", 4, "right"), Column("took", 7, "right"),
    Column("lines", 6, "right", 96), Column("last line, or why"),
)  # fmt: skip
CANARY = "c"
"""Before a machine that goes first."""
STAGES: Mapping[Stage, tuple[str, Role]] = MappingProxyType({
    Stage.planned: ("none", "accent"), Stage.canary: ("warn", "accent"), Stage.soaking: ("warn", "accent"),
    Stage.rest: ("warn", "accent"), Stage.undoing: ("warn", "warn"), Stage.completed: ("ok", "ok"),
    Stage.failed: ("bad", "bad"), Stage.undone: ("warn", "warn"), Stage.cancelled: ("none", "muted"),
    Stage.interrupted: ("bad", "bad"),
})  # fmt: skip
RUN_STATES: Mapping[RunState, tuple[str, Role]] = MappingProxyType({
    RunState.waiting: ("none", "muted"), RunState.running: ("warn", "accent"), RunState.ok: ("ok", "ok"),
    RunState.unchanged: ("ok", "muted"), RunState.failed: ("bad", "bad"), RunState.unreachable: ("bad", "warn"),
    RunState.unknown: ("warn", "warn"), RunState.skipped: ("none", "muted"), RunState.undone: ("warn", "warn"),
    RunState.undo_failed: ("bad", "bad"),
})  # fmt: skip
"""State → name of its sign, colour."""
LOOK = ".logs"
"""Ends the kinds that only follow something."""
UNDER_WAY = frozenset({Stage.canary, Stage.soaking, Stage.rest, Stage.undoing})
ENDED = frozenset({Stage.completed, Stage.failed, Stage.undone, Stage.cancelled, Stage.interrupted})
OPEN = frozenset({RunState.waiting, RunState.running})
"""States of a machine that something still comes for."""


def operation_rows(operations: Sequence[OperationStatus], glyphs: Glyphs) -> list[Row]:
    """A row each, in the order that they come in: newest first. A look into a log that has ended is no history."""
    told = [each for each in operations if not (each.kind.endswith(LOOK) and each.stage in ENDED)]
    return [Row(each.operation_id, _operation(each, glyphs)) for each in told]


def _operation(operation: OperationStatus, glyphs: Glyphs) -> tuple[Cell, ...]:
    done = sum(run.state not in OPEN for run in operation.runs)
    counted = "" if operation.stage is Stage.planned else f"{done}/{len(operation.runs)}"
    return (
        operation.title, stage(operation.stage, glyphs), counted, (operation.owner, "muted"),
        (f.clock(operation.started or operation.created), "muted"),
    )  # fmt: skip


def stage(value: Stage, glyphs: Glyphs) -> Piece:
    """Where an operation stands, as sign and word."""
    sign, role = STAGES[value]
    return f"{getattr(glyphs, sign)} {value.value}", role


def run_rows(operation: OperationStatus, glyphs: Glyphs) -> list[Row]:
    """A row a machine: those that go first on top, else in the operation's order."""
    ordered = sorted(operation.runs, key=lambda run: not run.canary)
    return [Row(run.node, _run(run, operation, glyphs)) for run in ordered]


def _run(run: NodeRun, operation: OperationStatus, glyphs: Glyphs) -> tuple[Cell, ...]:
    sign, role = RUN_STATES[run.state]
    took = None if run.started is None else (run.ended or time.time()) - run.started
    said: Cell = (run.reason, role) if run.reason else run.last
    if operation.stage is Stage.planned:
        said = (run.reason, "warn") if run.reason else gist(run.diff)
    return (
        (CANARY if run.canary else "", "warn"), run.node, (f"{getattr(glyphs, sign)} {run.state.value}", role),
        f.NONE if run.exit_status is None else str(run.exit_status), (f.duration(took), "muted"), (str(run.lines), "muted"),
        said,
    )  # fmt: skip


def gist(diff: str) -> Cell:
    """What would change, in a few words."""
    lines = [line for line in diff.splitlines() if line[:1] in {"+", "-"}]
    if not lines:
        return (diff.splitlines()[0], "muted") if diff else ("nothing to change", "muted")
    more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
    return (f"{(next((line for line in lines if line[0] == '+'), lines[0]))}{more}", "accent")


def head_lines(operation: OperationStatus, now: float, glyphs: Glyphs) -> list[Line]:
    """An operation in a few lines: what, where it stands, what comes next.

    Args:
        operation: It.
        now: Monotonic.
        glyphs: Of the session.
    """
    begun = f"begun {f.clock(operation.started)}" if operation.started else f"planned {f.clock(operation.created)}"
    took = ""
    if operation.started:
        took = f", {'took' if operation.ended else 'for'} {f.span(int((operation.ended or time.time()) - operation.started))}"
    lines: list[Line] = [
        ((f" {operation.title} ", "title"), stage(operation.stage, glyphs)),
        ((f" {counts(operation)}", "text"), (f"   by {operation.owner}, {begun}{took}", "muted")),
    ]
    if operation.reason:
        fell = any(run.exit_status for run in operation.runs)  # else it was taken back by wish
        bad = operation.stage in {Stage.failed, Stage.interrupted} or (operation.stage is Stage.undone and fell)
        lines.append(((f" {operation.reason}", "bad" if bad else "warn"),))
    if following := next_line(operation, now):
        lines.append(((" Next: ", "accent"), (following, "text")))
    return lines


def counts(operation: OperationStatus) -> str:
    """How many machines are in which state."""
    found: dict[RunState, int] = {}
    for run in operation.runs:
        found[run.state] = found.get(run.state, 0) + 1
    if operation.stage is Stage.planned:
        return f.counted(len(operation.runs), "machine")
    return ", ".join(
        f"{many} {state.value}" for state, many in sorted(found.items(), key=lambda each: list(RunState).index(each[0]))
    )


def next_line(operation: OperationStatus, now: float) -> str:
    """What comes next, and what can be done about it."""
    first = [run.node for run in operation.runs if run.canary]
    rest = sum(run.state in OPEN for run in operation.runs if not run.canary)
    if operation.stage is Stage.planned:
        order = f"{', '.join(first[:3])} first, {soak(operation)}then the other {rest}" if first and rest else "all at once"
        return f"y carries it out ({order}); x gives the plan up"
    if operation.stage is Stage.canary:
        after = f" first; the other {rest} only where that goes well" if rest else " is at it"
        return f"{', '.join(first[:3])}{after}. x stops it" if first else "x stops it"
    if operation.stage is Stage.soaking:
        left = "" if operation.soak_until is None else f" {max(0.0, operation.soak_until - now):.0f} s more"
        return f"watched for{left or ' a while'}{f', then the other {rest}' if rest else ''}. x stops it"
    if operation.stage is Stage.rest:
        return "x stops it"
    if operation.undoable and operation.stage in {Stage.completed, Stage.failed, Stage.cancelled, Stage.interrupted}:
        return "u takes back what it changed"
    return ""


def soak(operation: OperationStatus) -> str:
    """How long the first ones are watched."""
    return f"watched for {f.duration(operation.soak)}, " if operation.soak else ""


def diff_lines(text: str) -> list[Line]:
    """Lines with "-" and "+" in the colours of these; the signs say the same."""
    roles: dict[str, Role] = {"+": "ok", "-": "bad", "@": "accent"}
    return [((f" {line}", roles.get(line[:1], "text")),) for line in text.splitlines()]


def run_lines(run: NodeRun, operation: OperationStatus, glyphs: Glyphs) -> list[Line]:
    """All that is known of an operation on one machine but its output."""
    sign, role = RUN_STATES[run.state]
    lines: list[Line] = [
        ((f" {run.node}  ", "title"), (f"{getattr(glyphs, sign)} {run.state.value}", role), (_times(run), "muted")),
    ]
    if run.reason:
        lines.append(((f" {run.reason}", role),))
    if run.dropped:
        lines.append(((f" {f.size(run.dropped)} of its output are not kept", "warn"),))
    undo = run.cannot_undo and f"cannot be taken back: {run.cannot_undo}"
    if undo and (run.state in {RunState.ok, RunState.failed, RunState.unknown} or operation.stage is Stage.planned):
        lines.append(((f" {undo}", "muted"),))
    if run.diff:
        lines += [((" would change:" if run.state is RunState.waiting else " changes:", "muted"),), *diff_lines(run.diff)]
    return lines


def _times(run: NodeRun) -> str:
    if run.started is None:
        return ""
    status = "" if run.exit_status is None else f", exit status {run.exit_status}"
    return f"  {f.clock(run.started)}, {f.span(int((run.ended or time.time()) - run.started))}{status}"
