"""Values of deployments: what is wanted, what is there, and how the way between them goes. Unknown numbers are None."""

from __future__ import annotations

import hashlib
from enum import StrEnum

import msgspec


class Kind(StrEnum):
    """What carries a replica."""

    unit = "unit"
    """A systemd unit."""
    compose = "compose"
    """A compose project."""


class Strategy(StrEnum):
    """How one version takes another's place."""

    rolling = "rolling"
    """A few replicas at a time."""
    blue_green = "blue-green"
    """A whole second set beside the first; then all traffic at once."""
    canary = "canary"
    """A little traffic first, then more in steps."""
    recreate = "recreate"
    """All of the old one stopped, then all of the new one started."""


class ReplicaState(StrEnum):
    """Where a replica stands; nothing is said of its health."""

    planned = "planned"
    """It has a place; nothing was done there yet."""
    starting = "starting"
    """The commands that start it are under way, or were when the appliance ended."""
    running = "running"
    stopping = "stopping"
    """It drains, or the commands that stop it are under way."""
    failed = "failed"
    """It could not be started, or ended by itself."""
    lost = "lost"
    """Its node does not answer: what became of it nobody knows."""


class Fitness(StrEnum):
    """What the health checks of a replica say."""

    unknown = "unknown"
    """Not looked at yet in this life of the appliance."""
    starting = "starting"
    """It has not been healthy yet, and is given its start period."""
    healthy = "healthy"
    unhealthy = "unhealthy"


class Stage(StrEnum):
    """Where a rollout stands."""

    starting = "starting"
    """Replicas of the new version come up (recreate: those of the old one go first)."""
    shifting = "shifting"
    """Canary: traffic goes over in steps."""
    soaking = "soaking"
    """The new version has all traffic and is watched."""
    retiring = "retiring"
    """The old version's replicas are drained and stopped."""
    rolling_back = "rolling back"
    completed = "completed"
    rolled_back = "rolled back"
    failed = "failed"
    """It did not succeed, and there was nothing to go back to, or the way back failed too."""


ENDED = frozenset({Stage.completed, Stage.rolled_back, Stage.failed})
"""Stages in which nothing of a rollout comes any more."""


class Version(msgspec.Struct, frozen=True):
    """One version of a service's specification; revisions are numbered from 1 on."""

    service: str
    revision: int
    label: str
    """What the operator calls it, such as "2.4.1"."""
    time: float
    """Wall clock."""
    author: str
    document: str
    """The specification, TOML."""
    outcome: str = ""
    """How its newest rollout ended; empty where none was begun."""

    @property
    def mark(self) -> str:
        """What tells it from a version of the same number of a service that was removed."""
        return hashlib.sha256(f"{self.service} {self.revision} {self.time!r} {self.document}".encode()).hexdigest()[:16]


class Replica(msgspec.Struct, frozen=True):
    """One instance of a service, as it is kept."""

    replica_id: str
    service: str
    revision: int
    label: str
    node: str
    port: int
    state: ReplicaState = ReplicaState.planned
    reason: str = ""
    since: float = 0.0
    """Wall clock of the last change of state."""
    address: str = ""
    """Where it is reached; empty until it was placed."""
    mark: str = ""
    """Of its version; empty where it was placed by a program that knew none."""


class ReplicaStatus(msgspec.Struct, frozen=True):
    """One replica as screens show it."""

    replica: Replica
    fitness: Fitness
    reason: str = ""
    """Of the last failed check."""
    checked: float | None = None
    """Wall clock of the last check; None before the first."""
    check_ms: float | None = None
    flaps: int = 0
    """Changes between healthy and unhealthy in the last ten minutes."""
    share: float | None = None
    """Percent of the traffic that it is given now; None without a balancer."""
    rate: float | None = None
    """Requests a second, measured."""
    sessions: int | None = None


class TrafficShare(msgspec.Struct, frozen=True):
    """What one version gets of the traffic: what was asked for, and what the balancer counted."""

    revision: int
    label: str
    wanted: float
    """Percent."""
    requests: int
    """Counted since the rollout began, or since the service is there."""
    errors: int
    """Of them: answers 5xx, broken connections."""
    measured: float | None = None
    """Percent of all requests since the last change of the shares; None before the first one."""
    rate: float | None = None
    """Requests a second."""


class Rollout(msgspec.Struct, frozen=True):
    """One way from a revision to another, as it is kept: written before every step."""

    rollout_id: str
    service: str
    from_revision: int
    """0 where there was nothing before."""
    to_revision: int
    strategy: Strategy
    owner: str
    created: float
    stage: Stage = Stage.starting
    step: int = 0
    """Canary: which share is held now, counted from 0."""
    shares: dict[int, float] = {}
    """Revision → percent of the traffic; empty: by the number of healthy replicas."""
    reason: str = ""
    """Why it stands where it stands; of a rollback, what was wrong."""
    trouble: str = ""
    """What made it roll back."""
    paused_by: str = ""
    resumed: int = 0
    """How often the appliance was started anew while it was under way."""
    ended: float | None = None
    from_replicas: int = 0
    """How many the old version had."""
    to_replicas: int = 1
    """How many the new version is to have."""


class RolloutStatus(msgspec.Struct, frozen=True):
    """A rollout as screens show it."""

    rollout: Rollout
    from_label: str
    to_label: str
    ready: int
    """Replicas of the new version that may have traffic."""
    wanted: int
    traffic: tuple[TrafficShare, ...] = ()
    steps: tuple[float, ...] = ()
    """Canary: percents."""
    wait_s: float | None = None
    """Seconds until the next step, where only time is waited for."""
    deadline_s: float | None = None
    """Seconds until it counts as stuck."""


class ScaleStatus(msgspec.Struct, frozen=True):
    """Auto-scaling of a service."""

    least: int
    most: int
    wanted: int
    reason: str
    """Of the last decision, also of the one to change nothing."""
    readings: dict[str, float | None] = {}
    """Metric → value; None where nobody told it."""
    held_s: float | None = None
    """Seconds until a cooldown is over; None where none runs."""
    changed: float | None = None
    """Wall clock of the last change."""


class DeployEvent(msgspec.Struct, frozen=True):
    """Something that happened to a service."""

    seq: int
    time: float
    service: str
    kind: str
    """"rollout", "replica", "scale", "health", "traffic", "operator"."""
    text: str
    severity: str = "info"


class Deployed(msgspec.Struct, frozen=True):
    """One service."""

    name: str
    kind: Kind
    strategy: Strategy
    revision: int
    """The one that is wanted."""
    label: str
    wanted: int
    ready: int
    health: str
    """"healthy", "degraded", "unhealthy" or "absent", as core.model.Health."""
    reason: str
    next_step: str = ""
    replicas: tuple[ReplicaStatus, ...] = ()
    rollout: RolloutStatus | None = None
    """Under way, or the last one that ended."""
    scaling: ScaleStatus | None = None
    listen: str = ""
    """Where the balancer takes its traffic; empty where it has none."""
    rate: float | None = None
    """Requests a second, all versions."""
    events: tuple[DeployEvent, ...] = ()
    """Newest first."""
    nodes: tuple[str, ...] = ()
    removing: bool = False


class BalancerStatus(msgspec.Struct, frozen=True):
    """HAProxy."""

    health: str
    reason: str
    next_step: str = ""
    version: str = ""
    pid: int | None = None
    frontends: int = 0
    servers: int = 0
    adopted: bool = False
    """It went on from an earlier life of the appliance."""


class DeployStatus(msgspec.Struct, frozen=True):
    """Section.deployments."""

    services: tuple[Deployed, ...] = ()
    """By name."""
    balancer: BalancerStatus | None = None
    """None until it was looked at."""
    completed: int = 0
    """Rollouts that were completed, since the start of the appliance."""
    ended: int = 0
    """Rollouts that ended in any way."""
    scaled: int = 0
    """Changes that auto-scaling made."""


class Endpoint(msgspec.Struct, frozen=True):
    """Where a service answers."""

    service: str
    address: str
    port: int
    node: str
    label: str
    healthy_s: float | None
    """Seconds that it has been healthy without a break; None where it runs from before the start and was not looked at yet."""

    @property
    def place(self) -> str:
        """ADDRESS:PORT."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"
