"""Deployments, put together from settings, spine and fleet; a part of the composition root."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from appliance.core.catalog.deploy import deploy_actions
from appliance.core.deploy.balancer import Balancer
from appliance.core.deploy.book import DeployBook
from appliance.core.deploy.composes import Composes
from appliance.core.deploy.desk import Desk
from appliance.core.deploy.ground import Ground
from appliance.core.deploy.hands import Remote
from appliance.core.deploy.model import Kind
from appliance.core.deploy.probes import Probes
from appliance.core.deploy.service import DeployService
from appliance.core.deploy.traffic import Traffic
from appliance.core.deploy.units import Units
from appliance.core.fleet.model import FleetStatus, NodeMetrics, Reach
from appliance.core.model import Severity
from appliance.core.state import Section
from appliance.errors import NotFoundError

if TYPE_CHECKING:
    from appliance.assembly_fleet import Fleet
    from appliance.core.actions import Action
    from appliance.core.ports import Service
    from appliance.runtime import Appliance

Tell = Callable[[str, Severity, dict[str, Any]], Awaitable[None]]
SILENT = frozenset({Reach.unreachable, Reach.refused, Reach.untrusted, Reach.changed, Reach.off})
"""Ways of a link that let nothing be done."""


@dataclass(frozen=True)
class Deployments:
    """Deployments.

    Attributes:
        desk: What operators do.
        enabled: Whether they are looked after.
    """

    desk: Desk
    enabled: bool

    def services(self) -> list[Service]:
        """The service, where it is wanted."""
        return [self.desk.service] if self.enabled else []

    def actions(self) -> list[Action]:
        """All, where they are wanted."""
        return deploy_actions(self.desk) if self.enabled else []


def build(spine: Appliance, fleet: Fleet, tell: Tell) -> Deployments:
    """At rest: nothing is contacted, and no balancer runs."""
    settings, state = spine.settings.deploy, spine.state
    remote = Remote(fleet.links, settings.folder)
    traffic = Traffic(Balancer(spine.paths.run / "balancer", settings.haproxy), spine.clock)

    def silent(name: str) -> bool:
        try:
            return fleet.links.link(name).reach in SILENT
        except NotFoundError:
            return True

    def metrics(name: str) -> NodeMetrics | None:
        found = state.get(Section.fleet).value
        rows = found.nodes if isinstance(found, FleetStatus) else ()
        return next((row.metrics for row in rows if row.node.name == name), None)

    made: list[DeployService] = []

    def changed() -> None:
        made[0].poke()

    ground = Ground(
        DeployBook(spine.store, spine.clock), fleet.inventory, silent, metrics,
        {Kind.unit: Units(remote, settings.unit_folder), Kind.compose: Composes(remote)},
        Probes(remote), traffic, spine.secrets, spine.clock, tell, changed,
    )  # fmt: skip
    made.append(DeployService(ground, state))
    return Deployments(Desk(made[0]), settings.enabled)
