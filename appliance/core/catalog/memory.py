"""Actions on the tiered memory."""

from __future__ import annotations

import asyncio
import functools
from typing import Annotated, Any, Literal

from pydantic import Field

from appliance.core.actions import Action, Invocation, NoParams, Params
from appliance.core.catalog.memory_values import Form, check_tags, entry_row, given, lines_of, shown
from appliance.core.memory import codec
from appliance.core.memory.keys import parse
from appliance.core.memory.listing import Query
from appliance.core.memory.memory import Memory
from appliance.core.memory.model import Durability, EntryStat, Record
from appliance.core.memory.service import MemoryService
from appliance.core.memory.tier import Searchable
from appliance.core.model import Role
from appliance.core.state import LiveState, Section
from appliance.errors import AbsentError, NotFoundError

KeyText = Annotated[str, Field(min_length=1, max_length=100_000, description="NAMESPACE:KEY, or KEY in the namespace default")]

TagText = Annotated[str, Field(max_length=64)]


class Key(Params):
    """One key."""

    key: KeyText


class Getting(Key):
    """One key, and in which form its value is given."""

    form: Form = Field("value", description="value: as JSON has it, bytes in Base64; text: for people; raw: all in Base64")


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
    tags: list[TagText] = Field([], max_length=32, description="A tag, without commas; again for each further one")


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

    async def get(_: Invocation, params: Getting) -> dict[str, Any]:
        return await asyncio.to_thread(shown, await found(params.key), params.form)

    async def show(_: Invocation, params: Key) -> list[str]:
        return await asyncio.to_thread(lines_of, await found(params.key))

    query = functools.partial(Action, query=True, role=Role.viewer, positional=("key",))
    return [
        query("memory.get", "Read a value", get, params=Getting),
        query("memory.show", "Show a value as lines: JSON laid out, text, or a hexdump", show, params=Key),
        *_lists(service, state),
        *_writes(memory),
        *_moves(memory),
    ]


def _writes(memory: Memory) -> list[Action]:
    async def keep(_: Invocation, params: Setting) -> dict[str, Any]:
        namespace, key = parse(params.key)
        check_tags(*params.tags)
        value = await given(params.value, params.json_text, params.file)
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
        check_tags(params.tag)
        page = await memory.scan(Query(**params.model_dump()))
        return {"entries": [entry_row(each, service.parts.clock.wall()) for each in page.entries], "cursor": page.cursor}

    async def stat(_: Invocation, params: Key) -> EntryStat:
        return await memory.stat(*reversed(parse(params.key)))

    async def namespaces(_: Invocation, __: NoParams) -> list[dict[str, Any]]:
        return [{"namespace": name, "keys": keys, "size": size} for name, keys, size in await memory.namespaces()]

    async def status(_: Invocation, __: NoParams) -> Any:
        return state.get(Section.memory).value

    async def search(_: Invocation, params: Search) -> Any:
        check_tags(*params.tags)
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
