"""One entry of the inventory, and what of it was really written down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from appliance.core.fleet.model import Node
from appliance.settingfleet import FleetSettings, NodeAccess


@dataclass(frozen=True)
class Entry:
    """A machine as it is written down.

    Attributes:
        node: With defaults for what is not.
        given: Fields that are; the others may come from ~/.ssh/config.
    """

    node: Node
    given: frozenset[str] = frozenset(Node.__struct_fields__)


def entry_of(name: str, access: NodeAccess, origin: str) -> Entry:
    """An entry from the form that settings and the inventory file share."""
    values: dict[str, Any] = {each: getattr(access, each) for each in NodeAccess.model_fields}
    values |= {"key_file": str(access.key_file or ""), "tags": dict(access.tags)}
    return Entry(Node(name=name, origin=origin, **values), frozenset(access.model_fields_set))


def configured(fleet: FleetSettings) -> list[Entry]:
    """Machines of the configuration."""
    return [entry_of(name, access, "configuration") for name, access in fleet.nodes.items()]


def changed(node: Node, **fields: Any) -> Node:
    """The same machine with other fields."""
    return msgspec.structs.replace(node, **fields)
