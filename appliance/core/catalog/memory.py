"""Actions on the tiered memory and its synchronisation."""

from __future__ import annotations

import asyncio
import base64
import functools
from typing import Annotated, Any, Literal

import msgspec
from pydantic import Field

from appliance.core.actions import Action, Invocation, NoParams, Params
from appliance.core.jobs import JobHandle, Jobs
from appliance.core.memory import codec, diff, merge
from appliance.core.memory.conflicts import seen
from appliance.core.memory.keys import parse
from appliance.core.memory.ledger import OpenConflict, Waiting
from appliance.core.memory.listing import Query
from appliance.core.memory.memory import Memory
from appliance.core.memory.model import Durability, EntryStat, Kind, Meta, Record
from appliance.core.memory.service import MemoryService
from appliance.core.memory.tier import Replica, Searchable
from appliance.core.model import JobStatus, Role
from appliance.core.state import LiveState, Section
from appliance.errors import AbsentError, InvalidArgumentsError, NotFoundError

SHOWN_LINES = 2000
"""Lines of a value that are shown."""
LAID_OUT = 4 * 1024 * 1024
"""Bytes; a larger JSON value is shown as it is."""
EDITED = 256 * 1024
"""Bytes; a larger value is not for an editor on a terminal."""

KeyText = Annotated[str, Field(min_length=1, max_length=1200, description="NAMESPACE:KEY, or KEY in the namespace default")]

TagText = Annotated[str, Field(max_length=64)]


class Key(Params):
    """One key."""

    key: KeyText


class Setting(Params):
    """A value to keep."""

    key: KeyText
    value: str | None = Field(None, max_length=1_000_000, description="The value as text")
    json_text: str | None = Field(None, max_length=1_000_000, description="The value as JSON, instead of text")
    file: str | None = Field(
        None,
        max_length=4 * codec.LARGEST // 3 + 4,
        description="The value as bytes in Base64, instead of text; on the command line: a file to read",
        json_schema_extra={"contentEncoding": "base64"},
    )
    ttl: float | None = Field(None, gt=0, description="Seconds until it is gone; never without it")
    durability: Literal["memory", "edge", "cloud"] = Field("edge", description="Where it must be before this returns")
    tags: list[TagText] = Field([], max_length=32, description="Tags")


class Listed(Params):
    """Which keys."""

    namespace: str | None = Field(None, max_length=63, description="Only this namespace")
    prefix: str = Field("", max_length=1024, description="Only keys that begin with it")
    search: str = Field("", max_length=1024, description="Only keys that have it somewhere")
    tag: str | None = Field(None, max_length=64, description="Only entries with this tag")
    limit: int = Field(100, ge=1, le=1000, description="Most rows")
    cursor: str = Field("", max_length=1200, description="Where the page before ended")


class Eviction(Params):
    """What leaves which tier."""

    key: KeyText
    tier: Literal[1, 2] = Field(1, description="1: tier 1 alone; 2: the local disk as well")


class Search(Params):
    """Full text in documents."""

    text: str = Field(min_length=1, max_length=1000, description='Words, "phrases", -without, or')
    namespace: str | None = Field(None, max_length=63, description="Only this namespace")
    tags: list[TagText] = Field([], max_length=32, description="Only documents with all of these tags")
    limit: int = Field(20, ge=1, le=200, description="Most rows")


class ConflictId(Params):
    """One conflict."""

    conflict_id: str = Field(min_length=4, max_length=64, description="Id of the conflict, or its last characters (4 at least)")


class Resolution(Params):
    """What the operator decides."""

    conflict_id: str = Field(min_length=4, max_length=64, description="Id of the conflict, or its last characters (4 at least)")
    keep: Literal["mine", "theirs", "both", "merged", "value"] = Field(
        description="mine (the edge's), theirs (the cloud's), both (theirs beside mine), merged (three-way), or the value given"
    )
    value: str | None = Field(None, max_length=1_000_000, description="With keep=value: the text to keep")
    seen: str | None = Field(
        None, max_length=64, description="As `sync conflict` told it: refused where either side has changed since"
    )


def memory_actions(service: MemoryService, state: LiveState) -> list[Action]:
    """Values: read, keep, list, move between tiers."""
    memory = service.memory

    async def found(text: str) -> Record:
        namespace, key = parse(text)
        looked = await memory.read(key, namespace)
        if looked.record is None:
            unasked = f" {', '.join(looked.unasked)} could not be asked." if looked.unasked else ""
            raise NotFoundError(f"There is no {namespace}:{key}.{unasked}", "list keys with `prime-spark memory list`.")
        return looked.record

    async def get(_: Invocation, params: Key) -> dict[str, Any]:
        return await asyncio.to_thread(shown, await found(params.key))

    async def show(_: Invocation, params: Key) -> list[str]:
        return await asyncio.to_thread(lines_of, await found(params.key))

    query = functools.partial(Action, query=True, role=Role.viewer, positional=("key",))
    return [
        query("memory.get", "Read a value", get, params=Key),
        query("memory.show", "Show a value as lines: JSON laid out, text, or a hexdump", show, params=Key),
        *_lists(service, state),
        *_writes(memory),
        *_moves(memory),
    ]


def _writes(memory: Memory) -> list[Action]:
    async def keep(_: Invocation, params: Setting) -> dict[str, Any]:
        namespace, key = parse(params.key)
        value = await _given(params)
        await memory.set(
            key, value, namespace=namespace, ttl=params.ttl, durability=Durability(params.durability), tags=params.tags
        )
        return {"key": f"{namespace}:{key}", "durability": params.durability}

    async def delete(_: Invocation, params: Key) -> dict[str, Any]:
        namespace, key = parse(params.key)
        unasked = (await memory.look_up(key, namespace)).unasked
        existed = await memory.delete(key, namespace)
        if not existed and not unasked:
            raise NotFoundError(f"There is no {namespace}:{key}.", "list keys with `prime-spark memory list`.")
        return {"key": f"{namespace}:{key}", "deleted": True, "not_asked": list(unasked)}

    return [
        Action("memory.set", "Keep a value", keep, params=Setting, positional=("key", "value")),
        Action("memory.delete", "Delete a key in every tier", delete, params=Key, positional=("key",)),
    ]


def _lists(service: MemoryService, state: LiveState) -> list[Action]:
    memory = service.memory

    async def listing(_: Invocation, params: Listed) -> dict[str, Any]:
        page = await memory.scan(Query(**params.model_dump()))
        return {"entries": [entry_row(each, service.parts.clock.wall()) for each in page.entries], "cursor": page.cursor}

    async def stat(_: Invocation, params: Key) -> EntryStat:
        return await memory.stat(*reversed(parse(params.key)))

    async def namespaces(_: Invocation, __: NoParams) -> list[dict[str, Any]]:
        return [{"namespace": name, "keys": keys, "size": size} for name, keys, size in await memory.namespaces()]

    async def status(_: Invocation, __: NoParams) -> Any:
        return state.get(Section.memory).value

    async def search(_: Invocation, params: Search) -> Any:
        documents = service.parts.replicas.tiers.get("documents")
        if not isinstance(documents, Searchable):
            raise AbsentError("Full-text search is done by the documents tier, which is not configured.", "set documents.url.")
        return await documents.search(params.text, params.tags, params.namespace or "", params.limit)

    query = functools.partial(Action, query=True, role=Role.viewer, positional=("key",))
    return [
        query("memory.stat", "Show which tiers hold a key, and what is known of it", stat, params=Key),
        query("memory.list", "List keys and where they lie", listing, params=Listed, positional=()),
        query("memory.namespaces", "List namespaces with their size", namespaces, positional=()),
        query("memory.status", "Show the tiers: health, size, hits, times, what is owed", status, positional=()),
        query("memory.search", "Search documents by their text", search, params=Search, positional=("text",)),
    ]


def _moves(memory: Memory) -> list[Action]:
    async def promote(_: Invocation, params: Key) -> EntryStat:
        return await memory.promote(*reversed(parse(params.key)))

    async def pin(_: Invocation, params: Key) -> EntryStat:
        return await memory.pin(*reversed(parse(params.key)))

    async def unpin(_: Invocation, params: Key) -> EntryStat:
        return await memory.pin(*reversed(parse(params.key)), pinned=False)

    async def evict(_: Invocation, params: Eviction) -> EntryStat:
        return await memory.evict(*reversed(parse(params.key)), tier=params.tier)

    key = functools.partial(Action, params=Key, positional=("key",))
    return [
        key("memory.promote", "Bring a value into every faster tier", promote),
        key("memory.pin", "Keep a value on the local disk whatever happens", pin),
        key("memory.unpin", "Let a pinned value go its way again", unpin),
        key("memory.evict", "Take a value out of a fast tier; another one must hold it", evict, params=Eviction),
    ]


def sync_actions(service: MemoryService, jobs: Jobs) -> list[Action]:
    """Edge and cloud: synchronise, and settle conflicts."""
    settler = service.settler

    async def run(call: Invocation, _: NoParams) -> JobStatus:
        if not shared(service):
            raise AbsentError(
                "No cloud tier is configured: there is nothing to synchronise with.", "set s3.endpoint or documents.url."
            )

        async def work(handle: JobHandle) -> Any:
            handle.report(0.0, "synchronising")
            return await service.synchroniser.run_all()

        return await jobs.submit("sync", call.actor.name, work)

    async def status(_: Invocation, __: NoParams) -> dict[str, Any]:
        owed = await service.parts.ledger.counts()
        return {
            "tiers": [tier.name for tier in shared(service)],
            "runs": list(service.synchroniser.runs.values()),
            "interval_s": service.synchroniser.interval,
            "owed": {tier: debts.waiting for tier, debts in owed.items()},
            "conflicts_detected": settler.detected,
            "conflicts_resolved": settler.resolved,
        }

    async def conflicts(_: Invocation, __: NoParams) -> list[dict[str, Any]]:
        return [await _row(service, each, each.theirs) for each in await service.parts.ledger.conflicts()]

    async def conflict(_: Invocation, params: ConflictId) -> dict[str, Any]:
        return await _compared(service, await settler.find(params.conflict_id))

    async def resolve(_: Invocation, params: Resolution) -> dict[str, Any]:
        value = None if params.value is None else params.value.encode()
        if params.keep == "value" and value is not None:
            await _check_json(service, await settler.find(params.conflict_id), value)
        kept = await settler.resolve(params.conflict_id, params.keep, value, params.seen)
        return {"conflict_id": params.conflict_id, "kept": kept}

    query = functools.partial(Action, query=True, role=Role.viewer)
    return [
        Action("sync.run", "Synchronise with the cloud now", run, brief=lambda job: f"job {job.job_id[-6:]} {job.state.value}"),
        query("sync.status", "Show the newest synchronisation of each cloud tier", status),
        query("sync.conflicts", "List conflicts that wait for a decision", conflicts),
        query("sync.conflict", "Compare both sides of a conflict", conflict, params=ConflictId, positional=("conflict_id",)),
        Action("sync.resolve", "Decide a conflict", resolve, params=Resolution, positional=("conflict_id", "keep")),
    ]


def shared(service: MemoryService) -> list[Replica]:
    """The cloud tiers."""
    return [tier for tier in service.parts.replicas.tiers.values() if tier.shared]


def shown(record: Record) -> dict[str, Any]:
    """A value for people and JSON: JSON as itself, text as text, anything else in Base64 (RFC 4648)."""
    meta = record.meta
    text = merge.as_text(record.value)
    value: Any
    if meta.kind.value == "json":
        encoding, value = "json", msgspec.json.decode(record.value)
    elif text is not None:
        encoding, value = "text", text
    else:
        encoding, value = "base64", base64.b64encode(record.value).decode()
    return {
        "key": f"{meta.namespace}:{meta.key}", "kind": meta.kind.value, "encoding": encoding, "value": value, "size": meta.size,
        "modified": meta.modified, "expires": meta.expires, "tags": list(meta.tags), "checksum": meta.checksum,
    }  # fmt: skip


def entry_row(entry: EntryStat, now: float) -> dict[str, Any]:
    """One row of a listing."""
    meta = entry.meta
    return {
        "key": f"{meta.namespace}:{meta.key}", "kind": meta.kind.value, "size": meta.size,
        "tiers": [copy.tier for copy in entry.copies if copy.state == "held"],
        "owed": [copy.tier for copy in entry.copies if copy.state == "owed"],
        "unknown": [copy.tier for copy in entry.copies if copy.state == "unknown"],
        "age_s": max(0.0, now - meta.modified), "ttl_s": None if meta.expires is None else max(0.0, meta.expires - now),
        "pinned": entry.pinned, "hits": entry.hits, "tags": list(meta.tags), "checksum": meta.checksum[:12],
        "device": meta.device,
    }  # fmt: skip


async def _given(params: Setting) -> Any:
    """The one value that was given. Raises InvalidArgumentsError."""
    given = [name for name in ("value", "json_text", "file") if getattr(params, name) is not None]
    if len(given) != 1:
        raise InvalidArgumentsError("Give the value once: as text, as --json-text, or as --file.", "see --help.")
    if params.value is not None:
        return params.value.encode()
    if params.json_text is not None:
        return _json(params.json_text)
    return await asyncio.to_thread(_decoded, str(params.file))


def _json(text: str) -> msgspec.Raw:
    """JSON as it was written. Raises InvalidArgumentsError."""
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidArgumentsError(f"That is no JSON: {error}.", "put texts into double quotes.") from error
    return msgspec.Raw(text.strip().encode())


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise InvalidArgumentsError(f"The file's bytes are no Base64: {error}.", "encode them as RFC 4648 has it.") from error


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
    try:
        msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidArgumentsError(f"That is no JSON: {error}.", "put texts into double quotes.") from error


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


def lines_of(record: Record) -> list[str]:
    """A value as lines that any terminal can show."""
    kind = record.meta.kind if len(record.value) <= LAID_OUT else Kind.bytes
    return list(diff.as_lines(kind, record.value, SHOWN_LINES))
