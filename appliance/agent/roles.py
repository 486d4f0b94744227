"""The roles of `prime-spark agent`. A role is a supervised service; its code is loaded where it is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from appliance.core.ports import Clock, Service
from appliance.core.secrets import Secrets
from appliance.errors import NotFoundError
from appliance.paths import Paths
from appliance.settings import Settings


@dataclass(frozen=True)
class Surroundings:
    """What a role is made of."""

    settings: Settings
    paths: Paths
    secrets: Secrets
    clock: Clock


@dataclass(frozen=True)
class Role:
    """One role.

    Attributes:
        name: As `--role` has it.
        summary: One line for the help.
        make: Makes its service; raises ConfigError, StoreError. What lacks is told by the service's start (AbsentError).
    """

    name: str
    summary: str
    make: Callable[[Surroundings], Service]


def _sink(around: Surroundings) -> Service:
    from appliance.core.streams.sink import make_sink

    return make_sink(around.settings, around.secrets, around.clock)


def _windows(around: Surroundings) -> Service:
    from appliance.agent.windows import make_windows

    return make_windows(around)


def _worker(around: Surroundings) -> Service:
    from appliance.agent.worker import make_worker

    return make_worker(around)


ROLES: Mapping[str, Role] = MappingProxyType(
    {
        role.name: role
        for role in (
            Role("sink", "Kafka to TimescaleDB or PostgreSQL, each event exactly once", _sink),
            Role("worker", "Tasks of the Control PC, over Kafka", _worker),
            Role("windows", "Rules over the streams: their windows on cloud.aggregated", _windows),
        )
    }
)
"""By name."""


def role_of(name: str) -> Role:
    """The role. Raises NotFoundError."""
    if name not in ROLES:
        raise NotFoundError(f"There is no role {name!r}.", f"the roles are: {', '.join(sorted(ROLES))}.")
    return ROLES[name]
