"""Service discovery: from a name to the places that answer now. For every part of the appliance that calls a service."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Protocol

from appliance.core.deploy.held import Held, portions
from appliance.core.deploy.keeper import Keeper
from appliance.core.deploy.model import Endpoint, Fitness
from appliance.errors import NotFoundError


class Directory(Protocol):
    """What other parts may ask."""

    def endpoints(self, name: str) -> tuple[Endpoint, ...]:
        """Healthy replicas, those of the version with more traffic first; empty where none is. Raises NotFoundError."""

    def front(self, name: str) -> str | None:
        """ADDRESS:PORT of the balancer for it; None where it has none. Raises NotFoundError."""


class Discovery:
    """Implements Directory.

    Args:
        keepers: By the names of their services, as of now.
        monotonic: The clock.
    """

    def __init__(self, keepers: Callable[[], Mapping[str, Keeper]], monotonic: Callable[[], float]) -> None:
        self._keepers = keepers
        self._monotonic = monotonic

    def _keeper(self, name: str) -> Keeper:
        known = self._keepers()
        if name in known:
            return known[name]
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]}?" if near else "list them with `prime-spark deploy status`."
        raise NotFoundError(f"No service {name!r} is deployed.", hint)

    def endpoints(self, name: str) -> tuple[Endpoint, ...]:
        """See Directory. Nothing that is drained or has no share of the traffic is told."""
        keeper, now = self._keeper(name), self._monotonic()
        given = portions(keeper.helds.values(), *keeper.aims())
        serving = [held for held in keeper.helds.values() if held.serves and given[held.replica.revision]]
        ordered = sorted(serving, key=lambda held: (
            -given[held.replica.revision], -held.replica.revision, held.replica.node, held.replica.port,
        ))  # fmt: skip
        return tuple(_endpoint(held, now) for held in ordered)

    def front(self, name: str) -> str | None:
        """See Directory."""
        spec = self._keeper(name).spec
        if spec is None or spec.front is None:
            return None
        address = "127.0.0.1" if spec.front.address in {"*", "0.0.0.0"} else spec.front.address  # noqa: S104 a comparison
        return f"[{address}]:{spec.front.listen}" if ":" in address else f"{address}:{spec.front.listen}"


def _endpoint(held: Held, now: float) -> Endpoint:
    healthy = round(now - held.pulse.since, 1) if held.pulse.fitness is Fitness.healthy else None
    replica = held.replica
    return Endpoint(replica.service, replica.address, replica.port, replica.node, replica.label, healthy)
