"""What the registry keeps: one row for each name, version and offer, in the appliance's database."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

import msgspec

from appliance.core.store import Store

if TYPE_CHECKING:
    from appliance.core.inference.registry.checks import Proof

OFFERS = 200
"""Offers that are kept; those that changed first go first, but none that is under way."""

Mode = Literal["ab", "shadow", "canary"]


class Split(msgspec.Struct, frozen=True, kw_only=True):
    """Requests of a name divided between the active version and a candidate; see status.SplitRow."""

    candidate: str
    """Version."""
    mode: Mode
    percent: float
    since: float
    until: float = 0.0
    """Wall clock; 0 for a split that stays until somebody ends it."""
    wanted: int = 0
    offer: str = ""
    """The offer that a canary belongs to."""


class NameRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Of one name.

    Attributes:
        active: Version that serves; empty for none.
        previous: Version that served before, for a rollback; empty for none.
        stages: By version; what is not in it is Staging where the registry added it, else Production.
        split: None where all requests go to the active version.
    """

    name: str
    active: str = ""
    previous: str = ""
    stages: dict[str, str] = {}
    split: Split | None = None


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """What a version found at first: how often each label, and each tenth of the scores."""

    requests: int
    labels: dict[str, int]
    scores: tuple[int, ...]


class VersionFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Of one version."""

    key: str
    added: float = 0.0
    origin: str = ""
    sha256: str = ""
    """Of the archive that it came in; empty where it was not told."""
    tested: str = ""
    proven: dict[str, str] = {}
    """By kind of file that passed: the fingerprint of the manifest that it passed with."""
    baseline: Baseline | None = None

    def with_proof(self, proof: Proof, mark: str) -> VersionFacts:
        """As they are once this was shown of the version with this fingerprint."""
        proven = {kind: each for kind, each in self.proven.items() if each == mark} | dict.fromkeys(proof.kinds, mark)
        return msgspec.structs.replace(self, tested=proof.shown, proven=proven)


class OfferRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An offer over models.updates, and how far it came.

    Attributes:
        offer: name@version:sha256, so that a repeated offer is the same one.
        offer_id: Of the newest message that offered it.
        state: "offered", "queued", "downloading", "verifying", "canary", "active", "staged", "archived", "rolled back",
            "refused", "failed" or "superseded".
        note: What happened, for people.
        percent: Of the requests in its canary; None where the settings say.
    """

    offer: str
    offer_id: str
    time: float
    model: str
    version: str
    artifact: str
    sha256: str
    stage: str
    strategy: str = ""
    percent: float | None = None
    state: str = "offered"
    note: str = ""
    changed: float = 0.0


UNDER_WAY = frozenset({"queued", "downloading", "verifying", "canary"})
"""States that go on after a restart."""


class Records:
    """Reads and writes the rows.

    Args:
        store: Open while the registry runs.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def names(self) -> dict[str, NameRecord]:
        """All, by name. Raises StoreError."""
        rows = await self._all("SELECT body FROM models")
        found = [msgspec.json.decode(row, type=NameRecord) for row in rows]
        return {each.name: each for each in found}

    async def facts(self) -> dict[str, VersionFacts]:
        """All, by key. Raises StoreError."""
        rows = await self._all("SELECT body FROM model_versions")
        found = [msgspec.json.decode(row, type=VersionFacts) for row in rows]
        return {each.key: each for each in found}

    async def offers(self) -> list[OfferRecord]:
        """All, the newest change first. Raises StoreError."""
        rows = await self._all("SELECT body FROM model_offers ORDER BY changed DESC, rowid DESC")
        return [msgspec.json.decode(row, type=OfferRecord) for row in rows]

    async def write(
        self, names: Iterable[NameRecord] = (), facts: Iterable[VersionFacts] = (), forget: Iterable[str] = ()
    ) -> None:
        """Write these together: all of them are on disk when this returns, or none.

        Args:
            names: New rows of names.
            facts: New rows of versions.
            forget: Keys of versions whose rows go.

        Raises:
            StoreError: None of it is on disk.
        """
        of_names = [(each.name, msgspec.json.encode(each)) for each in names]
        of_versions = [(each.key, msgspec.json.encode(each)) for each in facts]
        gone = [(key,) for key in forget]

        def work(connection: sqlite3.Connection) -> None:
            connection.executemany("INSERT OR REPLACE INTO models (name, body) VALUES (?, ?)", of_names)
            connection.executemany("INSERT OR REPLACE INTO model_versions (key, body) VALUES (?, ?)", of_versions)
            connection.executemany("DELETE FROM model_versions WHERE key = ?", gone)

        await self._store.write(work)

    async def put_offer(self, offer: OfferRecord) -> None:
        """Write an offer's state, and forget the oldest beyond the bound. Raises StoreError."""
        body = msgspec.json.encode(offer)

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT OR REPLACE INTO model_offers (offer, changed, body) VALUES (?, ?, ?)",
                (offer.offer, offer.changed, body),
            )
            rows = connection.execute("SELECT offer, body FROM model_offers ORDER BY changed DESC, rowid DESC").fetchall()
            for key, row in rows[OFFERS:]:
                if msgspec.json.decode(row, type=OfferRecord).state not in UNDER_WAY:
                    connection.execute("DELETE FROM model_offers WHERE offer = ?", (key,))

        await self._store.write(work)

    async def _all(self, query: str) -> list[bytes]:
        return await self._store.read(lambda connection: [row[0] for row in connection.execute(query)])
