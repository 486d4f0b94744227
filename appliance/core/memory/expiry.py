"""The end of values whose time has come: they never come back, whatever the clocks do and whoever has older ones."""

from __future__ import annotations

import msgspec

from appliance.core.events import new_id
from appliance.core.memory import codec
from appliance.core.memory.edge import Put
from appliance.core.memory.model import Meta, Record
from appliance.core.memory.parts import Parts
from appliance.core.memory.rows import Row
from appliance.core.memory.uncut import uncut


async def expire(parts: Parts, row: Row) -> None:
    """Remove an expired version, unless another one has taken its place meanwhile, or the clock is not to be believed now.

    Where a shared tier holds the key, or should, a deletion is owed to it: removed without a trace, it would come back from an
    appliance that knows an older version only and takes the missing one for lost. A caller that is cancelled does not stop it.
    Raises StoreError.
    """
    if parts.trust.believed():  # else readers do not see it; should the clock prove wrong, it is still there
        await uncut(_expire(parts, row))


async def _expire(parts: Parts, row: Row) -> None:
    held, owed = await parts.ledger.copies(row.entry)
    if any(parts.replicas.is_shared(tier) for tier in (*held, *owed)):
        tombstone = Record(_ended(row.meta, parts.device_id), b"")
        homes = parts.replicas.homes(tombstone.meta)
        await parts.edge.put(Put(tombstone, owed_to=homes, only_if=row.meta.version, leave=True))
    else:
        await parts.edge.forget(row)
    await parts.front.remove([f"{row.meta.namespace}:{row.meta.key}"])


def _ended(meta: Meta, device: str) -> Meta:
    """A deletion that is as old as the value itself: an end is no new write, and whatever was written later wins."""
    return msgspec.structs.replace(
        meta, version=new_id().replace("-", ""), checksum=codec.checksum(meta.kind, b"", deleted=True), size=0,
        expires=None, tags=(), device=device, deleted=True,
    )  # fmt: skip
