"""The fleet, put together from settings and spine; a part of the composition root."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from appliance.core.fleet.inventory import FleetInventory
from appliance.core.fleet.keys import OwnKey
from appliance.core.fleet.links import Links
from appliance.core.fleet.model import Node

if TYPE_CHECKING:
    from appliance.runtime import Appliance
    from appliance.settingfleet import FleetSettings


@dataclass(frozen=True)
class Fleet:
    """The machines and the ways to them.

    Attributes:
        inventory: The machines.
        own: The appliance's own key.
        links: One connection to each machine.
    """

    inventory: FleetInventory
    own: OwnKey
    links: Links


def build(spine: Appliance) -> Fleet:
    """The fleet, at rest: nothing is contacted, and no client is loaded."""
    settings = spine.settings
    own = OwnKey(spine.secrets, f"prime-spark@{settings.node.device_id}")
    inventory = FleetInventory(configured(settings.fleet), spine.paths.data / "inventory.toml")
    return Fleet(inventory, own, Links(inventory, own, spine.secrets))


def configured(fleet: FleetSettings) -> list[Node]:
    """Machines of the configuration."""
    found = []
    for name, access in fleet.nodes.items():
        given: dict[str, Any] = access.model_dump(exclude_none=True)
        given["key_file"] = str(access.key_file or "")
        found.append(Node(name=name, origin="configuration", **given))
    return found
