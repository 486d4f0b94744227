"""The memory as its users see it: one name space over Redis, local disk, NAS and cloud."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from appliance.core.memory import codec
from appliance.core.memory.behind import Shared
from appliance.core.memory.beside import beside
from appliance.core.memory.eviction import Evictor
from appliance.core.memory.keys import DEFAULT, LONGEST_KEY, check_key, check_namespace
from appliance.core.memory.listing import Listing, Query
from appliance.core.memory.model import Durability, EntryStat, Kind, Page, Record
from appliance.core.memory.parts import Parts
from appliance.core.memory.reading import Looked, Reader
from appliance.core.memory.stats import TierStats
from appliance.core.memory.values import frame_many, pack, split, unframe, value_of
from appliance.core.memory.writing import Writer
from appliance.errors import (
    ConflictError,
    InvalidArgumentsError,
    MemoryTierError,
    NotFoundError,
    StoreError,
    TierAbsentError,
    TierFullError,
    TierUnavailableError,
)

log = logging.getLogger(__name__)

AT_ONCE = 32
"""Look-ups below tier 1 that one call has under way."""
MISSING: Any = object()
"""Told apart from a stored null."""
Deliver = Callable[[str, str], Awaitable[bool]]


@dataclass(frozen=True)
class Limits:
    """Of values and times.

    Attributes:
        value: Bytes of one value.
        longest_ttl: Seconds.
    """

    value: int
    longest_ttl: float = 10 * 365 * 86400.0


class Memory:
    """Get, set, delete and the rest, at the durability that the caller names.

    Args:
        parts: The tiers.
        reader: Finds what tier 1 does not have.
        writer: Keeps values.
        evictor: Keeps the disk below its limit.
        limits: Of values and times.
        deliver: Brings (namespace, key) to a cloud tier at once; False where a conflict waits for the operator.
    """

    def __init__(
        self, parts: Parts, reader: Reader, writer: Writer, evictor: Evictor, limits: Limits, deliver: Deliver
    ) -> None:
        self._parts = parts
        self._front = parts.front
        self._reader = reader
        self._writer = writer
        self._behind = parts.behind
        self._evictor = evictor
        self.limits = limits
        self._deliver = deliver
        self._listing = Listing(parts)
        self.stats = TierStats()
        """Of the memory as a whole."""

    async def get(self, key: str, namespace: str = DEFAULT, default: Any = None) -> Any:
        """The value: bytes, or what JSON carries; `default` where there is none.

        Raises:
            InvalidArgumentsError: No such key can be.
            TierUnavailableError: It lies only where nobody answers now.
            CorruptRecordError: Every copy of it is damaged.
            StoreError: The local disk fails, and no other tier has it.
        """
        began = time.perf_counter()
        framed = await self._front.get(f"{check_namespace(namespace)}:{key}")
        if framed is not None:
            self._count(began, hits=1)
            return unframe(framed)
        looked = await self.look_up(key, namespace)
        self._count(began, hits=int(looked.record is not None), misses=int(looked.record is None))
        return default if looked.record is None else value_of(looked.record.meta.kind, looked.record.value)

    def _count(self, began: float, hits: int = 0, misses: int = 0) -> None:
        stats = self.stats
        stats.times.append(time.perf_counter() - began)
        stats.hits += hits
        stats.misses += misses

    async def look_up(self, key: str, namespace: str = DEFAULT) -> Looked:
        """As `get` below tier 1, with the tiers that could not be asked."""
        name = f"{check_namespace(namespace)}:{check_key(key)}"
        held = self._behind.waiting.get(name)
        if held is not None:
            framed, shared = held
            (record,) = await self._writer.records([(shared, key, *split(framed))])
            if not record.meta.expired(self._parts.clock.wall()):
                return Looked(record)
            if not await self._writer.end(name, held):
                return Looked(None)
        return await self._reader.find(namespace, key)

    async def read(self, key: str, namespace: str = DEFAULT) -> Looked:
        """As `get`, with all that is known of the version. Raises as `get`."""
        began = time.perf_counter()
        framed = await self._front.get(f"{check_namespace(namespace)}:{key}")
        row = await self._parts.edge.row(namespace, key) if framed is not None else None
        if framed is not None and row is not None and not row.meta.deleted:
            kind, value = split(framed)
            if await beside(len(value), lambda: codec.checksum(kind, value)) == row.meta.checksum:
                self._count(began, hits=1)
                return Looked(Record(row.meta, value))
        looked = await self.look_up(key, namespace)
        self._count(began, hits=int(looked.record is not None), misses=int(looked.record is None))
        return looked

    async def get_many(self, keys: Sequence[str], namespace: str = DEFAULT) -> dict[str, Any]:
        """The values of those keys that there are. Raises as `get`."""
        began = time.perf_counter()
        prefix = check_namespace(namespace) + ":"
        framed = await self._front.get_many([prefix + key for key in keys])
        found = {key: unframe(value) for key, value in zip(keys, framed, strict=True) if value is not None}
        if len(found) < len(keys):
            missing = list(dict.fromkeys(key for key in keys if key not in found))
            for start in range(0, len(missing), AT_ONCE):
                part = missing[start : start + AT_ONCE]
                looked = await asyncio.gather(*(self.look_up(key, namespace) for key in part))
                records = zip(part, (each.record for each in looked), strict=True)
                found |= {key: value_of(record.meta.kind, record.value) for key, record in records if record is not None}
        self._count(began, len(found), len(keys) - len(found))
        return found

    async def set(
        self, key: str, value: Any, *, namespace: str = DEFAULT, ttl: float | None = None,
        durability: Durability = Durability.edge, tags: Iterable[str] = (),
    ) -> None:  # fmt: skip
        """Keep a value, `ttl` seconds at most; returns when it is as durable as asked.

        Raises:
            InvalidArgumentsError: Key, value, time or tags cannot be.
            DiskFullError, TierFullError, StoreError: Nothing is kept.
            TierUnavailableError: Under durability "cloud": it is kept at the edge and goes to the cloud later.
        """
        await self.set_many({key: value}, namespace=namespace, ttl=ttl, durability=durability, tags=tags)

    async def set_many(
        self, values: Mapping[str, Any], *, namespace: str = DEFAULT, ttl: float | None = None,
        durability: Durability = Durability.edge, tags: Iterable[str] = (),
    ) -> None:  # fmt: skip
        """Keep many values at once; with durability "edge" all of them or none. Raises as `set`."""
        if not values:
            return
        shared = self._shared(namespace, ttl, tags)
        check_keys(values)
        if durability is Durability.memory:
            framed = frame_many(values.values(), self.limits.value)
            await self._writer.remember(shared, dict(zip(values, framed, strict=True)), ttl)
            return
        records = await self._writer.records([(shared, key, *pack(value, self.limits.value)) for key, value in values.items()])
        if durability is Durability.cloud:
            self._need_cloud(records)
        await self._writer.keep(records, ttl)
        if durability is Durability.cloud:
            for key in values:
                await self._to_cloud(namespace, key)

    def _shared(self, namespace: str, ttl: float | None, tags: Iterable[str]) -> Shared:
        check_namespace(namespace)
        if ttl is not None and not 0.001 <= ttl <= self.limits.longest_ttl:
            raise InvalidArgumentsError(f"{ttl} is no time to live.", f"give 0.001 to {self.limits.longest_ttl:.0f} seconds.")
        wanted = tuple(sorted(set(tags)))
        if len(wanted) > 32 or any(not tag or len(tag) > 64 or not tag.isprintable() for tag in wanted):
            raise InvalidArgumentsError("Those are no tags.", "give at most 32, each of 1 to 64 printable characters.")
        now = self._parts.clock.wall()
        return Shared(namespace, wanted, now, None if ttl is None else now + ttl)

    def _need_cloud(self, records: Sequence[Record]) -> None:
        if not all(self._parts.replicas.cloud_home(record.meta) for record in records):
            raise TierAbsentError(
                "No cloud tier takes this value; nothing is kept.",
                "set s3.endpoint or documents.url, or ask for the durability edge.",
            )

    async def _to_cloud(self, namespace: str, key: str) -> None:
        try:
            settled = await self._deliver(namespace, key)
        except MemoryTierError as error:
            raise TierUnavailableError(
                f"{namespace}:{key} is kept at the edge, but not in the cloud yet: {error.message}",
                f"it goes there by itself as soon as that is possible; {error.next_step}",
            ) from error
        if not settled:
            raise ConflictError(
                f"{namespace}:{key} is kept at the edge; the cloud has another version that you have not seen.",
                "decide with `prime-spark sync conflicts`.",
            )

    async def delete(self, key: str, namespace: str = DEFAULT, *, durability: Durability = Durability.edge) -> bool:
        """Forget a key in every tier; returns whether it was there, as far as could be asked. Raises as `set`."""
        found = MISSING
        try:
            found = await self.get(key, namespace, MISSING)
            existed = found is not MISSING
        except MemoryTierError:
            existed = True  # it is known, though nobody can give it now
        if not existed and not self._parts.replicas.tiers:
            return False
        shared = self._shared(namespace, None, ())
        row = await self._parts.edge.row(namespace, key)
        kind = row.meta.kind if row is not None else Kind.bytes
        if found is not MISSING:  # perhaps it is not on disk yet, or of another kind than what it replaces there
            kind = Kind.bytes if isinstance(found, bytes) else Kind.json
        record = Record(self._writer.meta(shared, key, kind, b"", deleted=True), b"")
        if durability is Durability.cloud:
            self._need_cloud([record])
        await self._writer.keep([record], None)
        if durability is Durability.cloud:
            await self._to_cloud(namespace, key)
        return existed

    async def stat(self, key: str, namespace: str = DEFAULT) -> EntryStat:
        """Where a key lies, and what is known of it. Raises NotFoundError."""
        await self._flushed(f"{namespace}:{key}")
        found = await self._listing.one(namespace, key)
        if found is None and (await self.look_up(key, namespace)).record is not None:  # another appliance's
            found = await self._listing.one(namespace, key)
        if found is None:
            raise NotFoundError(f"There is no {namespace}:{key}.", "list keys with `prime-spark memory list`.")
        return found

    async def scan(self, query: Query) -> Page:
        """Keys in order, a page at a time, with where they lie. Raises InvalidArgumentsError."""
        await self._flushed()
        return await self._listing.page(query)

    async def namespaces(self) -> list[tuple[str, int, int]]:
        """(namespace, keys, bytes)."""
        await self._flushed()
        return await self._listing.namespaces()

    async def promote(self, key: str, namespace: str = DEFAULT) -> EntryStat:
        """Bring a value into every faster tier. Raises NotFoundError, and as `get`."""
        await self._flushed(f"{namespace}:{key}")
        row = await self._parts.edge.row(namespace, key)
        if row is not None and not row.place:
            await self._front.remove([f"{namespace}:{key}"])
        await self.get(key, namespace)
        return await self.stat(key, namespace)

    async def pin(self, key: str, namespace: str = DEFAULT, *, pinned: bool = True) -> EntryStat:
        """Keep a value on the local disk whatever happens, or let it go its way again.

        Raises:
            NotFoundError: No such key.
            TierFullError: It is not on the local disk, and finds no room there. And as `get`.
        """
        await (self.promote if pinned else self.stat)(key, namespace)
        sql = "UPDATE entries SET pinned = ? WHERE namespace = ? AND key = ? AND (place <> '' OR NOT ?)"
        changed = await self._parts.edge.store.write(
            lambda connection: connection.execute(sql, (pinned, namespace, key, pinned)).rowcount
        )
        if not changed:
            raise TierFullError(
                f"{namespace}:{key} is not pinned: the local disk has no copy of it, and takes none now.",
                "see `prime-spark memory status`; unpin or delete other keys, or raise memory.disk_max_mib.",
            )
        return await self.stat(key, namespace)

    async def evict(self, key: str, namespace: str = DEFAULT, *, tier: int = 1) -> EntryStat:
        """Take a value out of tier 1, or out of tiers 1 and 2's local disk.

        Raises:
            NotFoundError: No such key.
            ConflictError: It is pinned, or no other tier holds it: then it would be lost.
        """
        found = await self.stat(key, namespace)
        if tier == 2:
            below = [c for c in found.copies if c.tier in self._parts.replicas.tiers]
            held = [c for c in below if c.state == "held" and c.version == found.meta.version]
            owed = [c.tier for c in below if c.state == "owed"]
            if found.pinned:
                raise ConflictError(f"{namespace}:{key} is pinned.", "unpin it first.")
            if not held:
                raise ConflictError(
                    f"{namespace}:{key} lies on the local disk alone: it would be lost.", "delete it, if you mean that."
                )
            if owed:
                raise ConflictError(f"{namespace}:{key} has yet to go to {', '.join(owed)}.", "try again when it is there.")
            row = await self._parts.edge.row(namespace, key)
            if row is not None and row.place and not await self._evictor.let_go(row):
                raise ConflictError(
                    f"{namespace}:{key} stays: no tier below gives it now, or it has changed.",
                    "see `prime-spark memory stat` and `prime-spark memory status`, and try again.",
                )
        await self._front.remove([f"{namespace}:{key}"])
        listed = await self._listing.one(namespace, key)
        return listed if listed is not None else found

    async def _flushed(self, name: str = "") -> None:
        """As `flush`; a full or failing disk hides what it has already from nobody. Raises as `flush` where `name` waits."""
        try:
            await self._writer.flush()
        except (StoreError, TierFullError) as error:
            if name in self._behind.waiting:
                raise
            log.warning("%d values are not on the local disk yet, and not listed: %s", len(self._behind.waiting), error.message)

    async def flush(self) -> None:
        """Bring all that only tier 1 has to the disk."""
        await self._writer.flush()


def check_keys(keys: Mapping[str, Any]) -> None:
    """Refuse keys that cannot be; quick for many good ones. Raises InvalidArgumentsError."""
    short = "" not in keys and set(map(type, keys)) == {str} and 4 * max(map(len, keys)) <= LONGEST_KEY
    if short and "".join(keys).isprintable():  # a lone surrogate is not
        return
    for key in keys:
        check_key(key)
