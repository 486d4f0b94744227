"""What the memory asks of the tiers below the local disk: NAS, objects (S3), documents (PostgreSQL)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import msgspec

from appliance.core.memory.model import Head, Meta, Record
from appliance.core.model import HealthReport

if TYPE_CHECKING:
    from appliance.core.memory.document_rows import Found


class Usage(msgspec.Struct, frozen=True):
    """How much a tier holds of ours."""

    entries: int
    size: int
    """Bytes stored."""


class Diverged(msgspec.Struct, frozen=True):
    """A write found another version than the one it replaces: nothing of the other version was lost."""

    theirs: Record


class Replica(Protocol):
    """A tier below the local disk.

    Every call is bounded in time. Each raises TierUnavailableError where the tier does not answer in time, refuses, is
    not mounted or breaks off; TierFullError where it has no room; CorruptRecordError where a record fails its checksum.
    """

    name: str
    """"nas", "objects", "documents"."""
    level: int
    """2 or 3."""
    shared: bool
    """Whether other appliances write there too, so that conflicts can be."""

    async def open(self) -> str:
        """Make what is needed there (bucket, tables, directories); called again whenever the tier comes back.

        Returns:
            What tells this store from another one at the same place, which holds nothing of ours; empty where listings
            tell that (shared tiers).
        """

    async def close(self) -> None:
        """Give connections back."""

    async def health(self) -> HealthReport:
        """How it is now, from a real request (never from memory); answers within 2.5 s whatever hangs."""

    def accepts(self, meta: Meta) -> bool:
        """Whether a value of this kind and size belongs here."""

    async def get(self, namespace: str, key: str) -> Record | None:
        """The newest version there, tombstones included; None where there is none.

        With several concurrent versions (see put) the one that was modified last, ties by the greater version.
        """

    async def put(self, record: Record, parent: str) -> Diverged | None:
        """Write a version (or a tombstone) that replaces `parent`.

        Args:
            record: What to write. Writing the same version twice does no harm.
            parent: The version that the writer knows to be there; empty where it knows of none.

        Returns:
            None where it is durably there and the newest. Diverged where the tier holds another version than `parent`
            and than this one, that says something else (value, expiry, tags): then theirs is still there, and ours is not.
        """

    async def replace(self, record: Record, seen: tuple[str, ...]) -> Diverged | None:
        """Write a version that settles a conflict: it replaces all versions in `seen`; Diverged where there is yet another."""

    async def purge(self, namespace: str, key: str, version: str) -> None:
        """Remove one version for good, as with an expired value or an old tombstone; nothing else is touched."""

    def heads(self) -> AsyncIterator[Head]:
        """The newest version of every key there, in no particular order; tombstones included."""

    async def read_id(self, key_id: str) -> Record | None:
        """As `get`, by keys.key_id, for what `heads` told."""

    async def usage(self) -> Usage | None:
        """What it holds; None where finding out would take too long."""


@runtime_checkable
class Searchable(Protocol):
    """A tier that finds values by their words."""

    async def search(self, text: str, tags: Sequence[str] = (), namespace: str = "", limit: int = 50) -> list[Found]:
        """Values with these words, best first; see documents.DocumentReplica. Raises InvalidArgumentsError."""
