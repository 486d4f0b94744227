"""Actions on the synchronisation of edge and cloud, and on conflicts."""

from __future__ import annotations

import asyncio
import functools
from typing import Any, Literal

import msgspec
from pydantic import Field

from appliance.core.actions import Action, Invocation, NoParams, Params
from appliance.core.catalog.memory_values import as_json, lines_of
from appliance.core.jobs import JobHandle, Jobs
from appliance.core.memory import diff, merge
from appliance.core.memory.conflicts import seen
from appliance.core.memory.ledger import OpenConflict, Waiting
from appliance.core.memory.model import Kind, Meta, Record
from appliance.core.memory.service import MemoryService
from appliance.core.memory.sync import SyncRun
from appliance.core.memory.tier import Replica
from appliance.core.model import JobStatus, Role
from appliance.errors import AbsentError, InvalidArgumentsError

EDITED = 256 * 1024
"""Bytes; a larger value is not for an editor on a terminal."""
SHORTEST = 4
"""Characters of a conflict's id that are enough."""


class ConflictId(Params):
    """One conflict."""

    conflict_id: str = Field(min_length=1, max_length=64, description="Id of the conflict, or its last characters (4 at least)")


class Resolution(Params):
    """What the operator decides."""

    conflict_id: str = Field(min_length=1, max_length=64, description="Id of the conflict, or its last characters (4 at least)")
    keep: Literal["mine", "theirs", "both", "merged", "value"] = Field(
        description="mine (the edge's), theirs (the cloud's), both (theirs beside mine), merged (three-way), or the value given"
    )
    value: str | None = Field(None, max_length=1_000_000, description="With keep=value: the text to keep")
    seen: str | None = Field(
        None, max_length=64, description="As `sync conflict` told it: refused where either side has changed since"
    )


query = functools.partial(Action, query=True, role=Role.viewer)


def sync_actions(service: MemoryService, jobs: Jobs) -> list[Action]:
    """Edge and cloud: synchronise, and settle conflicts."""
    return [*_running(service, jobs), *_settling(service)]


def _running(service: MemoryService, jobs: Jobs) -> list[Action]:
    async def run(call: Invocation, _: NoParams) -> JobStatus:
        if not shared(service):
            raise AbsentError(
                "No cloud tier is configured: there is nothing to synchronise with.", "set s3.endpoint or documents.url."
            )

        async def work(handle: JobHandle) -> list[SyncRun]:
            handle.report(None, f"synchronising with {', '.join(tier.name for tier in shared(service))}")
            runs = await service.synchroniser.run_all()
            handle.report(None, "; ".join(told(run) for run in runs))
            if failed := [run for run in runs if run.error]:
                handle.fail(" ".join(fault(run) for run in failed))
            return runs

        return await jobs.submit("sync", call.actor.name, work)

    async def status(_: Invocation, __: NoParams) -> dict[str, Any]:
        owed = await service.parts.ledger.counts()
        return {
            "tiers": [tier.name for tier in shared(service)],
            "runs": list(service.synchroniser.runs.values()),
            "interval_s": service.synchroniser.interval,
            "owed": {tier: debts.waiting for tier, debts in owed.items()},
            "conflicts_detected": service.settler.detected,
            "conflicts_resolved": service.settler.resolved,
        }

    return [
        Action("sync.run", "Synchronise with the cloud now", run, brief=lambda job: f"job {job.job_id[-6:]} {job.state.value}"),
        query("sync.status", "Show the newest synchronisation of each cloud tier", status),
    ]


def _settling(service: MemoryService) -> list[Action]:
    settler = service.settler

    async def find(conflict_id: str) -> OpenConflict:
        check_id(conflict_id)
        return await settler.find(conflict_id)

    async def conflicts(_: Invocation, __: NoParams) -> list[dict[str, Any]]:
        return [await _row(service, each, each.theirs) for each in await service.parts.ledger.conflicts()]

    async def conflict(_: Invocation, params: ConflictId) -> dict[str, Any]:
        return await _compared(service, await find(params.conflict_id))

    async def resolve(_: Invocation, params: Resolution) -> dict[str, Any]:
        check_id(params.conflict_id)
        value = None if params.value is None else params.value.encode()
        if params.keep == "value" and value is not None:
            await _check_json(service, await find(params.conflict_id), value)
        kept = await settler.resolve(params.conflict_id, params.keep, value, params.seen)
        return {"conflict_id": params.conflict_id, "kept": kept}

    return [
        query("sync.conflicts", "List conflicts that wait for a decision", conflicts),
        query("sync.conflict", "Compare both sides of a conflict", conflict, params=ConflictId, positional=("conflict_id",)),
        Action("sync.resolve", "Decide a conflict", resolve, params=Resolution, positional=("conflict_id", "keep")),
    ]


def shared(service: MemoryService) -> list[Replica]:
    """The cloud tiers."""
    return [tier for tier in service.parts.replicas.tiers.values() if tier.shared]


def told(run: SyncRun) -> str:
    """One run in a few words."""
    if run.error:
        return f"{run.tier} failed"
    waits = f", {run.waiting} conflict{'s' * (run.waiting != 1)} to decide: sync conflicts" if run.waiting else ""
    return f"{run.tier}: pushed {run.pushed}, pulled {run.pulled}{waits}"


def fault(run: SyncRun) -> str:
    """Why a run failed, and what to do now."""
    step = f" Next: {run.next_step}" if run.next_step else ""
    named = "" if run.error.startswith(run.tier) else f"{run.tier}: "
    return f"{named}{run.error.rstrip('.')}.{step}"


def check_id(conflict_id: str) -> None:
    """Refuse too little of an id. Raises InvalidArgumentsError."""
    if len(conflict_id) < SHORTEST:
        raise InvalidArgumentsError(
            f"{conflict_id!r} is too little of a conflict's id.",
            f"give its last {SHORTEST} characters at least; `prime-spark sync conflicts` lists them.",
        )


async def _row(service: MemoryService, each: Waiting | OpenConflict, theirs: Meta | None) -> dict[str, Any]:
    """One conflict; `theirs` is None where the note of it is damaged."""
    row = await service.parts.edge.by_number(each.entry)
    mine = None if row is None else row.meta
    either = theirs or mine
    damaged = "The disk's note of their version is damaged; the next synchronisation fetches it again."
    return {
        "conflict_id": each.conflict_id, "key": "" if either is None else f"{either.namespace}:{either.key}", "tier": each.tier,
        "detected": each.detected,
        "mine_device": mine.device if mine else "", "mine_modified": mine.modified if mine else None,
        "theirs_device": theirs.device if theirs else "", "theirs_modified": theirs.modified if theirs else None,
        "reason": each.reason if theirs else damaged, "seen": None if theirs is None else seen(mine, theirs),
    }  # fmt: skip


async def _check_json(service: MemoryService, each: OpenConflict, value: bytes) -> None:
    """Refuse what is no JSON for a key that holds JSON. Raises InvalidArgumentsError."""
    found = await service.parts.edge.record(each.entry)
    if found is None or found[0].meta.kind is not Kind.json:
        return
    await asyncio.to_thread(as_json, value.decode())


async def _compared(service: MemoryService, each: OpenConflict) -> dict[str, Any]:
    """Both sides of a conflict, line beside line, with the base, the clean merge, and the text that an editor begins with."""
    found = await service.parts.edge.record(each.entry)
    base = await service.parts.ledger.base(each.tier, each.entry)
    mine = found[1] if found else None
    told = seen(found[0].meta if found else None, each.theirs.meta)

    def work() -> dict[str, Any]:
        texts = [_text(record) for record in (mine, each.theirs, base)]
        merged = merge.merge_records(base, mine, each.theirs) if mine is not None else None
        joined = None if merged is None or merged.value is None or mine is None else _joined(mine, merged)
        rows = diff.side_by_side(texts[0], texts[1], texts[2] if base is not None else None)
        return {
            "rows": [msgspec.to_builtins(row) for row in rows],
            "mine_deleted": mine is not None and mine.meta.deleted, "theirs_deleted": each.theirs.meta.deleted,
            "base": None if base is None else texts[2].split("\n"), "mergeable": joined is not None,
            "merged": None if joined is None else _text(joined).split("\n"),
            "unmergeable": "" if merged is None else merged.why or ", ".join(clash or "/" for clash in merged.clashes),
            "editable": _editable(joined or mine), "kind": (mine or each.theirs).meta.kind.value,
        }  # fmt: skip

    return {**await _row(service, each, each.theirs.meta), **await asyncio.to_thread(work), "seen": told}


def _joined(mine: Record, merged: merge.Merged) -> Record:
    meta = msgspec.structs.replace(mine.meta, kind=merged.kind, deleted=merged.deleted)
    return Record(meta, merged.value or b"")


def _editable(record: Record | None) -> str | None:
    """The value as text for an editor; None where it is none, or too large."""
    if record is None or len(record.value) > EDITED:
        return None
    return diff.laid_out(record.meta.kind, record.value)


def _text(record: Record | None) -> str:
    if record is None:
        return ""
    return "(deleted)" if record.meta.deleted else "\n".join(lines_of(record))
