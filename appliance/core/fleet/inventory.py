"""The machines that the owner has (implements model.Inventory)."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path

from appliance.core.fleet.model import Node, Selector
from appliance.core.fleet.selecting import groups, select
from appliance.errors import NotFoundError


class FleetInventory:
    """Machines of the configuration, and those of a file that actions write.

    Args:
        configured: From the configuration.
        path: The file; None for none.
    """

    def __init__(self, configured: Iterable[Node] = (), path: Path | None = None) -> None:
        self._path = path
        self._nodes = {each.name: each for each in sorted(configured, key=lambda each: each.name)}

    def all(self) -> tuple[Node, ...]:
        """See model.Inventory."""
        return tuple(self._nodes.values())

    def get(self, name: str) -> Node:
        """See model.Inventory."""
        if name not in self._nodes:
            near = difflib.get_close_matches(name, self._nodes, 1)
            step = f"did you mean {near[0]}?" if near else "add it: `prime-spark fleet add NAME --host ADDRESS --user USER`."
            raise NotFoundError(f"There is no machine {name}.", step)
        return self._nodes[name]

    def select(self, selector: Selector) -> tuple[Node, ...]:
        """See model.Inventory."""
        return select(self._nodes, selector)

    def groups(self) -> Mapping[str, tuple[str, ...]]:
        """See model.Inventory."""
        return groups(self._nodes)
