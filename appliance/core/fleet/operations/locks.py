"""One operation at a time on each node."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from appliance.errors import ConflictError


class Hold(msgspec.Struct, frozen=True):
    """Who works on a node."""

    operation_id: str
    title: str
    owner: str


class NodeLocks:
    """Which node is held by which operation. On the core loop only."""

    def __init__(self) -> None:
        self._held: dict[str, Hold] = {}

    def holder(self, node: str) -> Hold | None:
        """Who holds it."""
        return self._held.get(node)

    def take(self, nodes: Iterable[str], hold: Hold) -> None:
        """Hold all of them, or none.

        Raises:
            ConflictError: Another operation holds one; it and its owner are named.
        """
        wanted = tuple(nodes)
        for node in wanted:
            other = self._held.get(node)
            if other is not None and other.operation_id != hold.operation_id:
                raise ConflictError(
                    f"{node} is busy: {other.owner} is at it ({other.title}).",
                    f"wait for its end, or `prime-spark fleet operation-cancel {other.operation_id}`.",
                )
        self._held.update((node, hold) for node in wanted)

    def release(self, operation_id: str) -> None:
        """Let go of all that an operation holds."""
        self._held = {node: hold for node, hold in self._held.items() if hold.operation_id != operation_id}
