"""Models as rows and lines: versions, what they do, splits, drift, offers, the newest benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from appliance.core.inference.status import Drift, InferenceStatus, Served, SplitRow, VersionRow
from appliance.core.model import JobState, JobStatus
from appliance.screens import format as f
from appliance.screens.glyphs import Glyphs
from appliance.screens.inference_view import share
from appliance.screens.themes import Role
from appliance.screens.tiers import count
from appliance.screens.widgets.charts import badge, meter
from appliance.screens.widgets.grid import Cell, Column, Row
from appliance.screens.widgets.lines import Line, Piece

VERSIONS = (
    Column("model", 16), Column("version", 8), Column("stage", 10), Column("serves", 10), Column("task", 14, least=100),
    Column("asked", 5, "right"), Column("err", 4, "right"), Column("p50", 5, "right"), Column("p95 ms", 6, "right", 100),
    Column("files", 14, least=120), Column("size", 9, "right", 130), Column("drift"),
)  # fmt: skip
OFFERS = (Column("when", 8), Column("offer", 20), Column("state", 13), Column("note"))
STAGES: Mapping[str, Role] = {"Production": "ok", "Staging": "warn"}
BAD_OFFERS = frozenset({"refused", "failed", "rolled back"})
LEAD = 10
"""Cells of the names of figures."""


def key_of(row: VersionRow) -> str:
    """name@version."""
    return f"{row.name}@{row.version}"


def version_rows(status: InferenceStatus, glyphs: Glyphs) -> list[Row]:
    """A row a version."""
    splits = {split.name: split for split in status.splits}
    return [Row(key_of(row), _cells(row, splits.get(row.name), glyphs)) for row in status.models]


def _cells(row: VersionRow, split: SplitRow | None, glyphs: Glyphs) -> tuple[Cell, ...]:
    served = row.served
    return (
        (f"{glyphs.bad} {row.name}" if row.error else row.name, "bad" if row.error else "text"),
        row.version,
        (row.stage, STAGES.get(row.stage, "muted")),
        _serves(row, split, glyphs),
        (row.task or f.NONE, "muted"),
        (count(served.requests), "text" if served.requests else "muted"),
        (share(served.error_rate).replace(" ", ""), "bad" if served.error_rate else "muted"),
        f.ms(served.p50_ms),
        f.ms(served.p95_ms),
        (" ".join(row.kinds) or f.NONE, "muted"),
        (f.size(row.size), "muted"),
        _drift_cell(row, glyphs),
    )


def _serves(row: VersionRow, split: SplitRow | None, glyphs: Glyphs) -> Cell:
    if split is not None and split.candidate == row.version:
        return (f"{split.mode} {split.percent:.0f}%", "accent")
    if row.active:
        return (f"{glyphs.ok} active", "ok")
    return ("previous", "muted") if row.previous else ("no", "muted")


def _drift_cell(row: VersionRow, glyphs: Glyphs) -> Cell:
    if row.error:
        return (row.error, "bad")
    drift = row.drift
    if drift is None:
        return (f.NONE, "muted")
    if drift.state == "gathering":
        return (f"new {drift.baseline}/{drift.needed}", "muted")
    index = max((value for value in (drift.labels, drift.scores) if value is not None), default=None)
    if index is None:
        return (f"watch {drift.window}/{drift.needed}", "muted")
    told = f"{index:.2f}"
    return (f"{glyphs.warn} drifted {told}", "warn") if drift.state == "drifted" else (f"{glyphs.ok} {told}", "ok")


def _line(name: str, text: str, role: Role = "text") -> Line:
    return ((f" {name:<{LEAD}}", "muted"), (text, role))


def version_lines(row: VersionRow, split: SplitRow | None, glyphs: Glyphs) -> list[Line]:
    """All of a version: what is wrong with it first.

    Args:
        row: The version.
        split: Of its name, where requests are divided.
        glyphs: Of the session.
    """
    lines: list[Line] = [((f" {key_of(row)}", "title"), (f"  {row.task or f.NONE}, {f.counted(row.labels, 'label')}", "text"))]
    if row.error:
        lines += [_line("wrong", f"{glyphs.bad} {row.error}", "bad"), _line("next", row.next_step, "accent")]
    role: Role = "bad" if row.tested.startswith("failed") else "text" if row.tested else "muted"
    lines.append(_line("self-test", row.tested or "none yet; v proves the version", role))
    lines.append(_line("served", _served(row.served)))
    if split is not None:
        lines += split_lines(split, glyphs)
    if row.drift is not None:
        lines += drift_lines(row.drift, glyphs)
    added = f"{f.clock(row.added)}, {f.since(row.added)} ago" if row.added else "it lay there already"
    kept = "can be removed here" if row.removable else "comes with the appliance, stays"
    files = f"{' '.join(row.kinds) or f.NONE}, {f.size(row.size)}"
    lines += [_line("files", files), _line("added", f"{added}; {kept}", "muted")]
    lines += [_line("from", row.origin or row.directory or f.NONE, "muted"), _line("licence", row.licence or f.NONE, "muted")]
    return lines


def _served(served: Served, nothing: str = "nothing in this run of the appliance") -> str:
    if not served.requests:
        return nothing
    times = f"p50 {f.ms(served.p50_ms)}, p95 {f.ms(served.p95_ms)} ms"
    return f"{f.counted(served.requests, 'request')}, {f.counted(served.errors, 'error')} ({share(served.error_rate)}), {times}"


def split_lines(split: SplitRow, glyphs: Glyphs) -> list[Line]:
    """How two versions of a name compare."""
    lines: list[Line] = [
        _line(split.mode, f"{split.percent:g} % to {split.candidate}, since {f.since(split.since)}", "accent"),
        _line(f" {split.active}"[:LEAD], _served(split.of_active, "nothing since then")),
        _line(f" {split.candidate}"[:LEAD], _served(split.of_candidate, "nothing since then")),
    ]
    if split.mode == "shadow":
        skipped = f", {split.skipped} skipped" if split.skipped else ""
        lines.append(_line(" agree", f"{share(split.agreement)} of {split.compared} compared{skipped}"))
    if split.mode == "canary":
        part = min(1.0, split.of_candidate.requests / split.wanted) if split.wanted else None
        told = f" {split.of_candidate.requests} of {split.wanted}, by {f.clock(split.until)}"
        lines.append(((f" {'judged':<{LEAD}}", "muted"), *meter(part, 12, glyphs, warn=2, bad=2), (told, "text")))
    return [*lines, *([_line(" verdict", split.verdict)] if split.verdict else [])]


def drift_lines(drift: Drift, glyphs: Glyphs) -> list[Line]:
    """How far the findings moved."""
    if drift.state == "gathering":
        part = drift.baseline / drift.needed if drift.needed else None
        told = f" baseline {drift.baseline} of {drift.needed} requests"
        return [((f" {'drift':<{LEAD}}", "muted"), *meter(part, 12, glyphs, warn=2, bad=2), (told, "text"))]
    role: Role = "warn" if drift.state == "drifted" else "ok"
    sign = glyphs.warn if drift.state == "drifted" else glyphs.ok
    index = ", ".join(f"{name} {_index(value)}" for name, value in (("labels", drift.labels), ("scores", drift.scores)))
    moved = f"; most: {drift.most}" if drift.most else ""
    return [
        _line(
            "drift", f"{sign} {drift.state}: {index} of {drift.limit:g}; {drift.window} of {drift.needed} requests{moved}", role
        )
    ]


def _index(value: float | None) -> str:
    return f.NONE if value is None else f"{value:.2f}"


def store_pieces(status: InferenceStatus, glyphs: Glyphs) -> list[Piece]:
    """How many versions there are, the room that they take, and what went to make room."""
    names = len({row.name for row in status.models})
    part = status.models_bytes / status.models_limit if status.models_limit else None
    newest = f": {status.dropped_models[0]}" if status.dropped_models else ""
    return [
        (f" {len(status.models)} versions of {names} models", "text"),
        ("  own: ", "muted"), *meter(part, 12, glyphs),
        (f" {f.size(status.models_bytes)} of {f.size(status.models_limit or None)}", "text"),
        (f"  serves by default: {status.model or f.NONE}", "text"),
        (f"  gone to make room {len(status.dropped_models)}{newest}", "warn" if status.dropped_models else "muted"),
    ]  # fmt: skip


def bench_lines(jobs: Sequence[JobStatus], glyphs: Glyphs) -> list[Line]:
    """The newest benchmarks: one that runs with its progress, those that ended with their figures."""
    found = [job for job in jobs if job.name.startswith("bench ")]
    lines: list[Line] = []
    for job in found[:3]:
        sign, role = badge(job.state.value, glyphs)
        lines.append(((f" {job.name[6:]} ", "title"), (f" {sign}", role), (f"  {f.clock(job.ended or job.created)}", "muted")))
        if job.state is JobState.running:
            lines.append(
                (
                    (" ", "text"),
                    *meter(job.progress, 24, glyphs, warn=2, bad=2),
                    (f" {share(job.progress)} {job.message}", "text"),
                )
            )
        if job.error:
            lines.append(_line("why", job.error, "bad"))
        if isinstance(job.result, dict):
            lines += _figures(job.result)
        lines.append(())
    return lines[:-1] or [((" none lately: b measures the version under the cursor", "muted"),)]


def _figures(told: Mapping[str, Any]) -> list[Line]:
    def times(name: str) -> str:
        return " / ".join(f.ms(told.get(f"{name}_p{part}_ms")) for part in (50, 95, 99)) + " ms"

    devices = ", ".join(f"{name} {number}" for name, number in (told.get("devices") or {}).items())
    return [
        _line("speed", f"{told.get('per_second', f.NONE)}/s with {told.get('parallel', f.NONE)} at a time", "accent"),
        _line("in all", f"p50/95/99 {times('total')}"),
        _line("device", f"p50/95/99 {times('device')}"),
        _line("requests", f"{told.get('requests', f.NONE)}: {devices or f.NONE}"),
        _line("input", str(told.get("input", f.NONE)), "muted"),
    ]


def offer_rows(offers: Sequence[Mapping[str, Any]], glyphs: Glyphs) -> list[Row]:
    """A row for each model that was offered over models.updates, the newest change first."""
    return [
        Row(
            each["offer"],
            (
                (f.clock(each["changed"] or each["time"]), "muted"), f"{each['model']}@{each['version']}",
                (f"{glyphs.bad} {each['state']}" if each["state"] in BAD_OFFERS else each["state"],
                 "bad" if each["state"] in BAD_OFFERS else "accent"),
                (each["note"], "text"),
            ),
        )
        for each in offers
    ]  # fmt: skip
