"""What happens where both sides have changed: a strategy decides, or the operator."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import msgspec

from appliance.core.events import new_id
from appliance.core.memory import codec, merge
from appliance.core.memory.edge import Put, Settled
from appliance.core.memory.keys import LONGEST_KEY
from appliance.core.memory.ledger import OpenConflict
from appliance.core.memory.model import Kind, Meta, Record
from appliance.core.memory.parts import Parts
from appliance.core.memory.rows import Row
from appliance.core.memory.strategy import Strategy, decide
from appliance.core.memory.tier import Replica
from appliance.core.memory.uncut import uncut
from appliance.core.memory.writing import Writer
from appliance.errors import (
    ConflictError,
    CorruptRecordError,
    InvalidArgumentsError,
    NotFoundError,
    TierAbsentError,
    TierUnavailableError,
)

log = logging.getLogger(__name__)

Choice = Literal["mine", "theirs", "both", "merged", "value"]
Note = Callable[[str, dict[str, object]], Awaitable[None]]


@dataclass(frozen=True)
class Strategies:
    """Which strategy holds where.

    Attributes:
        default: For namespaces that are not named.
        by_namespace: For the named ones.
    """

    default: Strategy
    by_namespace: Mapping[str, Strategy]

    def of(self, namespace: str) -> Strategy:
        """The namespace's."""
        return self.by_namespace.get(namespace, self.default)


def seen(mine: Meta | None, theirs: Meta) -> str:
    """What names the two versions of a conflict that somebody looks at."""
    return f"{'' if mine is None else mine.version[-8:]}.{theirs.version[-8:]}"


class Settler:
    """Settles conflicts.

    Args:
        parts: The tiers.
        writer: Takes over what others wrote.
        strategies: Which one holds where.
        note: Told of conflicts and settlements.
    """

    def __init__(self, parts: Parts, writer: Writer, strategies: Strategies, note: Note) -> None:
        self._parts = parts
        self._edge = parts.edge
        self._ledger = parts.ledger
        self._writer = writer
        self._strategies = strategies
        self._note = note
        self.detected = 0
        self.resolved = 0

    async def settle(self, row: Row, mine: Record, theirs: Record, replica: Replica) -> bool:
        """Decide between two versions; False where the operator has to, or this side changed meanwhile."""
        own = theirs.meta.device == mine.meta.device == self._parts.device_id
        if own and theirs.meta.version < mine.meta.version:
            return await self._impose(row, mine, theirs, replica)  # our own of before, whose arrival we were not told of
        if theirs.meta.parent and theirs.meta.parent == mine.meta.version:  # ours was there, and was replaced: no conflict
            return await self._writer.adopt(theirs, replica.name, row.meta.version)
        base = await self._ledger.base(replica.name, row.entry)
        strategy, now = self._strategies.of(row.meta.namespace), self._parts.clock.wall()
        if own and strategy is Strategy.edge_wins:
            strategy = Strategy.latest_wins  # both are this edge's: the disk is younger than its memory in the cloud
        decision = await asyncio.to_thread(decide, strategy, base, mine, theirs, now)
        key = f"{row.meta.namespace}:{row.meta.key}"
        log.debug("%s here and in %s: %s (%s)", key, replica.name, decision.action, decision.reason)
        if decision.action == "manual":
            if await self._ledger.open_conflict(row, replica.name, theirs, decision.reason):
                self.detected += 1
                await self._told("memory.conflict", row, replica.name, decision.reason)
            return False
        waited = row.entry in await self._ledger.disputed(replica.name)
        if decision.action in {"same", "theirs"}:
            done = await self._writer.adopt(theirs, replica.name, row.meta.version)
        elif decision.action == "merged" and decision.merged is not None:
            fields = decision.merged
            record = self._fresh(
                row.meta, fields.kind, fields.value or b"", fields.tags, fields.expires, deleted=fields.deleted
            )
            done = await self._impose(row, record, theirs, replica)
        else:
            done = await self._impose(row, mine, theirs, replica)
        if done and (decision.conflict or waited):
            self.detected += not waited
            self.resolved += 1
            await self._told("memory.conflict-settled", row, replica.name, decision.reason)
        return done

    def _fresh(
        self, before: Meta, kind: Kind, value: bytes, tags: tuple[str, ...], expires: float | None, *, deleted: bool = False
    ) -> Record:
        """A new version of a key."""
        meta = msgspec.structs.replace(
            before, kind=kind, version=new_id().replace("-", ""), size=len(value), tags=tags, expires=expires,
            checksum=codec.checksum(kind, value, deleted=deleted), modified=self._parts.clock.wall(),
            device=self._parts.device_id, deleted=deleted,
        )  # fmt: skip
        return Record(meta, value)

    async def _impose(self, row: Row, record: Record, theirs: Record, replica: Replica) -> bool:
        """Make a version of ours the one on both sides; a tier that takes no such value gives theirs up.

        It is always a fresh version: one that others have replaced already would be before and after theirs at once.
        """
        takes = replica.accepts(record.meta)
        if takes or record.meta.version != row.meta.version:
            version = new_id().replace("-", "") if record.meta.version == row.meta.version else record.meta.version
            record = Record(msgspec.structs.replace(record.meta, version=version, parent=theirs.meta.version), record.value)
            body = await asyncio.to_thread(codec.encode, theirs) if takes else b""
            over = Settled(replica.name, theirs.meta.version, body) if takes else None
            if not await uncut(self._replace_here(row, record, over)):  # else tier 1 would keep what the disk has replaced
                return False
        if not takes:
            await replica.purge(theirs.meta.namespace, theirs.meta.key, theirs.meta.version)
            await self._ledger.moved(replica.name, row.entry)
            return True
        if await replica.replace(record, (theirs.meta.version,)) is not None:
            return False  # yet another version came: the next delivery decides about that one
        await self._ledger.delivered(replica.name, [(row.entry, record.meta.version)])
        return True

    async def _replace_here(self, row: Row, record: Record, over: Settled | None) -> bool:
        """Put a version of ours in the place of the row's on this disk; False where the key was written meanwhile.

        Raises:
            TierFullError: It is larger than what it replaces, and there is no room for that.
        """
        homes = self._parts.replicas.homes(record.meta)
        homes += (over.tier,) if over is not None and over.tier not in homes else ()
        name = f"{row.meta.namespace}:{row.meta.key}"
        grows = max(0, record.meta.size - row.stored)
        async with self._writer.room(grows), self._parts.stripes.writing([name]):
            (kept,) = await self._edge.put(Put(record, owed_to=homes, only_if=row.meta.version, leave=True, over=over))
            await self._parts.front.remove([name])
        return kept

    async def _told(self, event: str, row: Row, tier: str, reason: str) -> None:
        await self._note(event, {"namespace": row.meta.namespace, "key": row.meta.key, "tier": tier, "reason": reason})

    async def find(self, conflict_id: str) -> OpenConflict:
        """An open conflict; the end of its id is enough. Raises NotFoundError, ConflictError, CorruptRecordError."""
        try:
            found = await self._ledger.conflict(conflict_id) if conflict_id else []
        except CorruptRecordError as error:
            raise CorruptRecordError(error.message, "run `prime-spark sync run`: it is fetched again.") from error
        if not found:
            raise NotFoundError(f"No conflict is called {conflict_id!r}.", "list them with `prime-spark sync conflicts`.")
        if len(found) > 1:
            raise ConflictError(f"Several conflicts end with {conflict_id!r}.", "give more of the id.")
        return found[0]

    async def resolve(self, conflict_id: str, choice: Choice, value: bytes | None = None, seen: str | None = None) -> str:
        """Carry out the operator's decision; returns what was done.

        "both" keeps mine under the key, and theirs (where it is no deletion) beside it under "KEY.theirs-VERSION".

        Args:
            conflict_id: Or the end of it.
            choice: Whose version is the one from now on.
            value: With "value": that one.
            seen: `seen` of the two versions that the operator looked at; None to decide whatever they are.

        Raises:
            NotFoundError: No such conflict.
            ConflictError: Either side has another version than the one that was looked at.
            InvalidArgumentsError: There is no clean merge, or no value was given.
            TierUnavailableError: The tier cannot be reached; the conflict stays open.
            TierAbsentError: The tier is not configured any more, and the choice needs it.
        """
        tier = (await self.find(conflict_id)).tier
        async with self._parts.replicas.alone(tier):  # no synchronisation decides at the same time
            return await self._resolve(await self.find(conflict_id), choice, value, seen)

    async def _resolve(self, conflict: OpenConflict, choice: Choice, value: bytes | None, looked_at: str | None) -> str:
        replica = self._parts.replicas.tiers.get(conflict.tier)
        found = await self._edge.record(conflict.entry)
        if found is None or found[1] is None:
            raise NotFoundError("This side's version is gone.", "run `prime-spark sync run`; it takes theirs.")
        row, mine = found[0], found[1]
        if looked_at not in {None, seen(mine.meta, conflict.theirs.meta)}:
            raise ConflictError("One side has changed since you looked at it.", "look at it again, then decide.")
        if choice == "theirs":
            if not await self._writer.adopt(conflict.theirs, conflict.tier, row.meta.version):
                raise ConflictError("The key was written meanwhile.", "look at it again.")
        elif replica is None:
            await self._without_tier(conflict, choice)
        else:
            await self._carry_out(conflict, row, mine, replica, choice, value)
        await self._ledger.close_conflict(conflict.conflict_id)
        self.resolved += 1
        await self._told("memory.conflict-settled", row, conflict.tier, f"by hand: {choice}")
        return choice

    async def _without_tier(self, conflict: OpenConflict, choice: Choice) -> None:
        """Where the tier is not configured any more nothing goes there: mine stays as it is. Raises TierAbsentError."""
        if choice not in {"mine", "both"}:
            raise TierAbsentError(
                f"{conflict.tier} is not configured any more.", "configure it again, or decide for mine, theirs or both."
            )
        if choice == "both":
            await self._keep_beside(conflict.theirs)

    async def _carry_out(
        self, conflict: OpenConflict, row: Row, mine: Record, replica: Replica, choice: Choice, value: bytes | None
    ) -> None:
        """As `_impose_choice`; a tier that breaks off once this disk has the decision gets it later. Raises as `resolve`."""
        if not self._parts.replicas.answers(replica.name):
            report = self._parts.replicas.reports[replica.name]
            raise TierUnavailableError(f"{replica.name}: {report.reason}", report.next_step)
        try:
            await self._impose_choice(conflict, row, mine, replica, choice, value)
        except TierUnavailableError as error:
            if await self._ledger.conflict(conflict.conflict_id):
                raise
            log.warning("%s gets what was decided when it answers: %s", replica.name, error.message)

    async def _impose_choice(
        self, conflict: OpenConflict, row: Row, mine: Record, replica: Replica, choice: Choice, value: bytes | None
    ) -> None:
        record = mine
        if choice == "both":
            await self._keep_beside(conflict.theirs)
        elif choice == "merged":
            base = await self._ledger.base(replica.name, row.entry)
            merged = await asyncio.to_thread(merge.merge_records, base, mine, conflict.theirs)
            if merged.value is None:
                raise InvalidArgumentsError(
                    f"There is no clean merge: {merged.why or ', '.join(merged.clashes)}.",
                    f"keep one, or both, or write it: prime-spark sync resolve {conflict.conflict_id[-6:]} value --value …",
                )
            record = self._fresh(row.meta, merged.kind, merged.value, merged.tags, merged.expires, deleted=merged.deleted)
        elif choice == "value":
            if value is None:
                raise InvalidArgumentsError("No value was given.", "give the merged value.")
            record = self._fresh(row.meta, mine.meta.kind, value, mine.meta.tags, mine.meta.expires)
        if not await self._impose(row, record, conflict.theirs, replica):
            raise ConflictError("The key was written meanwhile, here or there.", "run `prime-spark sync run`, and look again.")

    async def _keep_beside(self, theirs: Record) -> None:
        """Keep theirs under a key of its own, unless it is a deletion or has expired; a key that is too long is cut."""
        meta, now = theirs.meta, self._parts.clock.wall()
        if meta.deleted or meta.expired(now):
            return
        end = f".theirs-{meta.version[-6:]}"
        key = meta.key.encode()[: LONGEST_KEY - len(end)].decode(errors="ignore") + end
        before = msgspec.structs.replace(meta, key=key)
        record = self._fresh(before, meta.kind, theirs.value, meta.tags, meta.expires)
        await self._writer.keep([record], None if meta.expires is None else meta.expires - now)
