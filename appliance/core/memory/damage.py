"""Copies on this disk that failed their check: told until they are written anew, or gone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from appliance.core.memory.model import Meta
from appliance.core.memory.rows import Row

MOST = 1000
"""Copies that are kept in mind."""


class Damage:
    """What is known to be damaged, by key, with the version that is."""

    def __init__(self) -> None:
        self._versions: dict[tuple[str, str], str] = {}

    def __len__(self) -> int:
        return len(self._versions)

    def note(self, meta: Meta) -> None:
        """The copy of this version cannot be read."""
        if len(self._versions) < MOST:
            self._versions[meta.namespace, meta.key] = meta.version

    def mended(self, meta: Meta) -> None:
        """The key's copy was written anew."""
        self._versions.pop((meta.namespace, meta.key), None)

    def has(self, meta: Meta) -> bool:
        """Whether the copy of this version is damaged."""
        return self._versions.get((meta.namespace, meta.key)) == meta.version

    async def still(self, find: Callable[[str, str], Awaitable[Row | None]]) -> list[str]:
        """NAMESPACE:KEY of those that were not replaced meanwhile, first found first.

        Args:
            find: The row of a key.
        """
        for namespace, key in list(self._versions):
            row = await find(namespace, key)
            if row is None or not row.place or not self.has(row.meta):
                self._versions.pop((namespace, key), None)
        return [f"{namespace}:{key}" for namespace, key in self._versions]
