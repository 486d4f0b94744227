"""Supervised services: started in the order of their dependencies, probed, restarted, stopped in reverse.

A failing service is restarted with exponential backoff and jitter; after too many failures in a row a breaker
opens and it rests longer. No service takes another one down.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from appliance.core.model import Health, Phase, ServiceStatus
from appliance.core.ports import Clock, Service
from appliance.core.state import LiveState, Section
from appliance.core.supervision import Policy, Supervised
from appliance.errors import ConflictError, NotFoundError

log = logging.getLogger(__name__)


class Supervisor:
    """Keeps services alive.

    Args:
        services: All of them; a dependency names another one of these.
        state: Where their status is put (Section.services).
        clock: For times.
        policy: Deadlines, backoff, breaker.
        on_change: Called with (before, after) when a service's health changed, or its first probe found it not healthy.
    """

    def __init__(
        self,
        services: Sequence[Service],
        state: LiveState,
        clock: Clock,
        policy: Policy | None = None,
        on_change: Callable[[ServiceStatus, ServiceStatus], None] | None = None,
    ) -> None:
        self._order = in_order(services)
        self._state = state
        self._policy = policy or Policy()
        self._on_change = on_change
        self._units = {
            service.name: Supervised(service, self._policy, clock, self._published, self.phase_of) for service in self._order
        }
        self._changed = asyncio.Event()
        self._restarting = {name: asyncio.Lock() for name in self._units}
        self._stopping = False

    def start(self) -> None:
        """Start all; returns at once."""
        self._put()
        for unit in self._units.values():
            unit.launch()

    async def settled(self) -> None:
        """Return when every service has been tried: it runs, is absent, has failed once, or waits for one that has."""
        while any(self._undecided(name) for name in self._units):
            self._changed.clear()
            await self._changed.wait()

    async def stop(self, deadline: float = 10.0) -> None:
        """Stop all within `deadline` seconds, dependents first."""
        self._stopping = True
        ends = asyncio.get_running_loop().time() + deadline
        for service in reversed(self._order):
            left = max(0.1, ends - asyncio.get_running_loop().time())
            await self._units[service.name].halt(min(left, self._policy.stop_deadline + 0.5))

    def statuses(self) -> tuple[ServiceStatus, ...]:
        """All services by name."""
        return tuple(self._units[name].status for name in sorted(self._units))

    def phase_of(self, name: str) -> Phase:
        """Where a service stands."""
        return self._units[name].status.phase

    async def restart(self, name: str) -> ServiceStatus:
        """Stop and start one service, resetting its backoff and breaker; waits until it was tried.

        Raises:
            NotFoundError: There is no such service.
            ConflictError: It did not end (a new life beside the old one would lose to its late stop), it did not come
                up, or everything is stopping.
        """
        unit = self._units.get(name)
        if unit is None:
            raise NotFoundError(f"No service is called {name!r}.", f"the services are: {', '.join(sorted(self._units))}.")
        async with self._restarting[name]:  # two at once would leave the service running twice
            ended = await unit.halt(self._policy.end_deadline)
            if self._stopping:
                raise ConflictError("The appliance is stopping.", "start it again.")
            if not ended:
                raise ConflictError(
                    f"{name} did not stop within {self._policy.end_deadline:g} s, so it is not started again.",
                    "restart it once more in a moment; if it stays, restart the appliance.",
                )
            unit.reset()
            unit.launch()
        while self._undecided(name):
            self._changed.clear()
            await self._changed.wait()
        if unit.status.phase is Phase.waiting:
            missing = ", ".join(other for other in unit.status.depends if self.phase_of(other) is not Phase.running)
            raise ConflictError(f"{name} did not come up: it waits for {missing}.", "mend that one first; see Services.")
        if unit.status.phase in {Phase.retrying, Phase.resting}:
            raise ConflictError(f"{name} did not come up: {unit.status.reason}", unit.status.next_step)
        return unit.status

    async def halt(self, name: str, why: str = "") -> ServiceStatus:
        """Stop one service until it is restarted; those that depend on it stay.

        Args:
            name: Which.
            why: Who stopped it and until when, in words: it is degraded then, as it was meant, and not unhealthy.

        Raises:
            NotFoundError: There is no such service.
            ConflictError: It did not end.
        """
        unit = self._units.get(name)
        if unit is None:
            raise NotFoundError(f"No service is called {name!r}.", f"the services are: {', '.join(sorted(self._units))}.")
        async with self._restarting[name]:
            if not await unit.halt(self._policy.end_deadline, why):
                raise ConflictError(f"{name} did not stop within {self._policy.end_deadline:g} s.", "see the log for why.")
        return unit.status

    def _undecided(self, name: str) -> bool:
        """Whether a service is starting, or waits for one that may still come up by itself soon."""
        status = self._units[name].status
        if status.phase is not Phase.waiting:
            return status.phase is Phase.starting
        return all(self.phase_of(other) is Phase.running or self._undecided(other) for other in status.depends)

    def _published(self, before: ServiceStatus, after: ServiceStatus) -> None:
        self._put()
        for unit in self._units.values():
            unit.poke()
        self._changed.set()
        first = after.checked and not before.checked and after.health is not Health.healthy
        if self._on_change is not None and not self._stopping and (first or before.health is not after.health):
            self._on_change(before, after)

    def _put(self) -> None:
        self._state.put(Section.services, self.statuses())


def in_order(services: Sequence[Service]) -> list[Service]:
    """The services with every dependency before its dependents.

    Raises:
        ValueError: A dependency is unknown, or they form a circle.
    """
    by_name = {service.name: service for service in services}
    done: dict[str, Service] = {}
    for service in services:
        _visit(service, by_name, done, ())
    return list(done.values())


def _visit(service: Service, by_name: dict[str, Service], done: dict[str, Service], path: tuple[str, ...]) -> None:
    if service.name in path:
        raise ValueError(f"services depend on each other in a circle: {' -> '.join((*path, service.name))}")
    if service.name in done:
        return
    for name in service.depends:
        if name not in by_name:
            raise ValueError(f"{service.name} depends on {name}, which is not a service")
        _visit(by_name[name], by_name, done, (*path, service.name))
    done[service.name] = service
