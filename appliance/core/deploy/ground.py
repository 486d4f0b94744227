"""What deployments stand on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from appliance.core.deploy.book import DeployBook
from appliance.core.deploy.hands import Carrier
from appliance.core.deploy.model import Kind
from appliance.core.deploy.placing import Site
from appliance.core.deploy.probes import Probes
from appliance.core.deploy.spec import ServiceSpec
from appliance.core.deploy.traffic import Traffic
from appliance.core.fleet.model import Inventory, Node, NodeMetrics
from appliance.core.model import Severity
from appliance.core.ports import Clock
from appliance.core.secrets import Secrets
from appliance.errors import NotFoundError

Tell = Callable[[str, Severity, dict[str, object]], Awaitable[None]]


@dataclass
class Tally:
    """What happened since the start.

    Attributes:
        completed: Rollouts that were.
        ended: Rollouts in any way.
        scaled: Changes by auto-scaling.
    """

    completed: int = 0
    ended: int = 0
    scaled: int = 0


@dataclass(frozen=True)
class Ground:
    """Everything that keepers share.

    Attributes:
        book: On disk.
        inventory: Machines.
        silent: Whether a machine is known not to answer.
        metrics: What a machine told of itself last; None where nothing.
        carriers: By kind.
        probes: Health checks.
        traffic: The balancer and its counts.
        secrets: For environments.
        clock: Both clocks.
        tell: Puts an event on the bus.
        changed: Called where something is to be shown.
        turn: Most seconds between two decisions during a rollout.
        tally: Counts what happened.
    """

    book: DeployBook
    inventory: Inventory
    silent: Callable[[str], bool]
    metrics: Callable[[str], NodeMetrics | None]
    carriers: Mapping[Kind, Carrier]
    probes: Probes
    traffic: Traffic
    secrets: Secrets
    clock: Clock
    tell: Tell
    changed: Callable[[], None]
    turn: float = 1.0
    tally: Tally = field(default_factory=Tally)

    def nodes(self, spec: ServiceSpec) -> Sequence[Node]:
        """Machines that a service may use. Raises NotFoundError, InvalidArgumentsError."""
        return self.inventory.select(spec.nodes)

    def present(self, spec: ServiceSpec) -> Sequence[Node]:
        """The same for a service that is there already: what was taken out of the inventory meanwhile is left out."""
        try:
            return self.nodes(spec)
        except NotFoundError:
            terms = [each for each in spec.nodes if self._means(each)]
        if all(each.startswith("!") for each in terms):  # nothing but exceptions would mean all others
            return ()
        try:
            return self.inventory.select(terms)
        except NotFoundError:
            return ()

    def _means(self, term: str) -> bool:
        try:
            self.inventory.select([term.removeprefix("!")])
        except NotFoundError:
            return False
        return True

    def sites(self, spec: ServiceSpec) -> list[Site]:
        """The same with what is known of them."""
        found = []
        for node in self.present(spec):
            seen = self.metrics(node.name)
            address = node.vpn_address if spec.ports.via == "vpn" and node.vpn_address else node.host
            usable = node.enabled and not self.silent(node.name)
            found.append(Site(node.name, address, usable, (seen.cpu if seen is not None else None) or 0.0))
        return found
