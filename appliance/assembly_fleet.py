"""The fleet, put together from settings and spine; a part of the composition root."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from appliance import assembly_agents
from appliance.core.catalog import fleet as fleet_actions
from appliance.core.catalog.agents import agent_actions
from appliance.core.catalog.fleet_facts import fact_actions
from appliance.core.catalog.fleet_files import file_actions
from appliance.core.catalog.fleet_operations import operation_actions
from appliance.core.catalog.fleet_services import listing_actions
from appliance.core.catalog.fleet_shell import shell_actions
from appliance.core.fleet.files.places import Places
from appliance.core.fleet.files.service import FleetFiles
from appliance.core.fleet.inventory import FleetInventory
from appliance.core.fleet.inventory_entry import configured
from appliance.core.fleet.keys import OwnKey
from appliance.core.fleet.link_login import Logins
from appliance.core.fleet.link_pace import Pace
from appliance.core.fleet.links import Links
from appliance.core.fleet.links_service import LinksService, Tell
from appliance.core.fleet.operations import operation
from appliance.core.fleet.operations.locks import NodeLocks
from appliance.core.fleet.operations.own import OwnMachine
from appliance.core.fleet.operations.record import Book
from appliance.core.fleet.operations.service import OperationsService
from appliance.core.fleet.rounds import Rhythm
from appliance.core.fleet.service import FleetService, Ground
from appliance.core.fleet.sshconfig import SshFiles
from appliance.core.fleet.trust import Trust
from appliance.core.power.model import Level, PowerStatus
from appliance.core.state import LiveState, Section

if TYPE_CHECKING:
    from appliance.core.actions import Action
    from appliance.core.ports import Clock, Service
    from appliance.runtime import Appliance


@dataclass(frozen=True)
class Fleet:
    """The machines and the ways to them.

    Attributes:
        inventory: The machines.
        own: The appliance's own key.
        links: One connection to each machine.
        service: Keeps both.
        trust: Confirms host keys.
        desk: What the actions on them work on.
        watching: Looks at them in turn.
        operations: Changes them.
        clock: For ages.
        state: What is shown.
    """

    inventory: FleetInventory
    own: OwnKey
    links: Links
    service: LinksService
    trust: Trust
    desk: fleet_actions.Desk
    watching: FleetService
    operations: OperationsService
    clock: Clock
    state: LiveState

    def services(self) -> list[Service]:
        """Those of the fleet."""
        return [self.service, self.watching, self.operations]

    def actions(self) -> list[Action]:
        """Those of the fleet."""
        return [
            *fleet_actions.fleet_actions(self.desk), *fact_actions(self.watching, self.inventory, self.clock),
            *operation_actions(self.operations, self.inventory), *listing_actions(self.links, self.inventory),
            *agent_actions(self.operations, self.inventory, self.state),
        ]  # fmt: skip


def build(spine: Appliance, tell: Tell) -> Fleet:
    """The fleet, at rest: nothing is contacted, and no client is loaded."""
    settings = spine.settings
    own = OwnKey(spine.secrets, f"prime-spark@{settings.node.device_id}")
    user = SshFiles(Path.home() / ".ssh")
    inventory = FleetInventory(configured(settings.fleet), spine.paths.data / "inventory.toml", user)
    logins = Logins(own, Pace(), agent=os.environ.get("SSH_AUTH_SOCK", ""))
    trust = Trust(inventory, logins, user.known)
    logins.accepted = trust.accepted
    links = Links(inventory, own, spine.secrets, logins=logins)
    desk = fleet_actions.Desk(inventory, links, own, spine.secrets, trust)
    watching = _watching(spine, inventory, links, own, tell)
    operations = _operations(spine, inventory, links, logins, tell)
    return Fleet(
        inventory, own, links, LinksService(inventory, links, tell), trust, desk, watching, operations, spine.clock, spine.state
    )


def _operations(
    spine: Appliance, inventory: FleetInventory, links: Links, logins: Logins, tell: Tell
) -> OperationsService:  # fmt: skip
    async def fresh(name: str) -> None:
        opened = await logins.open(inventory.get(name))
        opened.connection.close()

    ground = operation.Ground(
        links, inventory, Book(spine.store), NodeLocks(), spine.clock, tell, lambda _: _power_going(spine.state), fresh,
        OwnMachine(links), _places(spine), assembly_agents.depot(spine),
    )  # fmt: skip
    return OperationsService(ground, spine.state)


def _power_going(state: LiveState) -> str:
    """Why nothing long is begun; empty where the power holds."""
    power: PowerStatus | None = state.get(Section.power).value
    if power is None or power.level not in {Level.low, Level.critical}:
        return ""
    return f"the battery is {power.level.value}"


def _watching(spine: Appliance, inventory: FleetInventory, links: Links, own: OwnKey, tell: Tell) -> FleetService:
    wanted = spine.settings.fleet
    rhythm = Rhythm(wanted.metrics_seconds, wanted.facts_seconds, parallel=wanted.parallel, updates=wanted.updates)
    service = FleetService(Ground(
        inventory=inventory, shell=links, state=spine.state, clock=spine.clock, note=tell, publish=spine.bus.publish,
        own_key=own.public, rhythm=rhythm, telemetry=wanted.telemetry_seconds,
    ))  # fmt: skip
    links.watch(service.link_changed)
    return service


def _places(spine: Appliance) -> Places:
    where = spine.paths
    return Places(where.data, where.files, (where.exports, where.models))


def far_actions(fleet: Fleet, spine: Appliance) -> list[Action]:
    """Files of the machines, and shells on them."""
    copies = FleetFiles(fleet.links, _places(spine))
    return [*file_actions(copies, fleet.inventory, spine.jobs), *shell_actions(fleet.links, spine.terminals)]
