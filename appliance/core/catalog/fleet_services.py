"""Actions that list what is on the nodes now: services, containers, accounts, keys, upgrades, firewalls."""

from __future__ import annotations

import functools
from typing import Any

from pydantic import Field

from appliance.core.actions import Action, Invocation
from appliance.core.catalog.fleet_operations import OnNodes
from appliance.core.fleet.model import FleetShell, Inventory
from appliance.core.fleet.operations import reads
from appliance.core.fleet.operations.kinds.users import LOGIN
from appliance.core.model import Role


class OfUser(OnNodes):
    """Somebody's account on nodes."""

    user: str = Field(pattern=LOGIN, description="Whose account")


def listing_actions(shell: FleetShell, inventory: Inventory) -> list[Action]:
    """All that list.

    Args:
        shell: Reaches the nodes.
        inventory: Knows them.
    """

    def action(name: str, summary: str, read: reads.Read, role: Role = Role.operator) -> Action:
        async def handler(_: Invocation, params: OnNodes) -> list[reads.Told]:
            return await reads.ask(shell, inventory.select(params.nodes), read)

        return Action(f"fleet.{name}", summary, handler, OnNodes, query=True, role=role, timeout=300.0, positional=("nodes",))

    async def keys(_: Invocation, params: OfUser) -> list[reads.Told]:
        read: Any = functools.partial(reads.keys, user=params.user)
        return await reads.ask(shell, inventory.select(params.nodes), read)

    return [
        action("service-list", "List the services of nodes", reads.services),
        action("container-list", "List the containers of nodes", reads.containers),
        action("compose-list", "List the compose projects of nodes", reads.projects),
        action("user-list", "List the accounts of nodes", reads.users),
        action("package-list", "List the packages of nodes that have a newer version", reads.packages),
        action("firewall", "Show what the firewalls of nodes let in", reads.firewall),
        Action(
            "fleet.key-list",
            "List the keys that may log in on nodes",
            keys,
            OfUser,
            query=True,
            timeout=300.0,
            positional=("user",),
        ),
    ]
