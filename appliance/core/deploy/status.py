"""How every service is, for screens and fronts, from what its keeper holds."""

from __future__ import annotations

from appliance.core.deploy.keeper import Keeper
from appliance.core.deploy.model import (
    Deployed,
    Fitness,
    Kind,
    ReplicaState,
    ReplicaStatus,
    Rollout,
    RolloutStatus,
    Stage,
    Strategy,
    TrafficShare,
)
from appliance.core.deploy.policy import Counted
from appliance.core.deploy.spec import ServiceSpec

LATELY = 5.0
"""Seconds over which a version's requests are counted while it takes another's place."""


def deployed(keeper: Keeper) -> Deployed:
    """One service as of now."""
    spec, wanted, position = keeper.spec, keeper.wanted, keeper.position
    replicas = tuple(sorted(replica_rows(keeper), key=lambda row: (row.replica.revision, row.replica.node, row.replica.port)))
    ready = sum(row.replica.state is ReplicaState.running and row.fitness is Fitness.healthy for row in replicas)
    health, reason, step = condition(keeper, replicas, ready)
    last = keeper.last
    strategy = spec.rollout.strategy if spec is not None else Strategy.rolling
    listen = f"{spec.front.address}:{spec.front.listen}" if spec is not None and spec.front else ""
    return Deployed(
        name=keeper.name, kind=spec.kind if spec is not None else Kind.unit,
        strategy=position.rollout.strategy if position is not None else strategy,
        revision=wanted.revision, label=keeper.label(wanted.revision) if wanted.revision else "",
        wanted=_wanted(keeper), ready=ready, health=health, reason=reason,
        next_step=step, replicas=replicas, rollout=rollout_status(keeper, last) if last is not None else None,
        scaling=keeper.elastic.status(), listen=listen,
        rate=keeper.ground.traffic.rate(keeper.name), events=keeper.events,
        nodes=tuple(sorted({row.replica.node for row in replicas})), removing=wanted.removing,
    )  # fmt: skip


def _wanted(keeper: Keeper) -> int:
    """Replicas; of a first version those that its rollout is to bring."""
    if keeper.wanted.removing:
        return 0
    if keeper.wanted.revision:
        return keeper.wanted.replicas
    return keeper.position.rollout.to_replicas if keeper.position is not None else 0


def replica_rows(keeper: Keeper) -> list[ReplicaStatus]:
    """All replicas of a service."""
    now, traffic = keeper.ground.clock.monotonic(), keeper.ground.traffic
    shares = traffic.shares(keeper.name)
    return [
        ReplicaStatus(
            held.replica, held.pulse.fitness, held.replica.reason or held.pulse.reason, held.checked, held.check_ms,
            held.pulse.flaps(now), shares.get(held.server) if shares else None,
            sessions=traffic.sessions(keeper.name, held.server),
        )
        for held in keeper.helds.values()
    ]  # fmt: skip


def condition(keeper: Keeper, replicas: tuple[ReplicaStatus, ...], ready: int) -> tuple[str, str, str]:
    """(health, reason, next step) of a service."""
    wanted, name = keeper.wanted, keeper.name
    if keeper.problem is not None:
        return "unhealthy", keeper.problem.message, keeper.problem.next_step
    if wanted.removing:
        return "degraded", f"it is being removed: {len(replicas)} replicas are left", ""
    if keeper.traffic_problem is not None:
        return "unhealthy" if not ready else "degraded", keeper.traffic_problem.message, keeper.traffic_problem.next_step
    if keeper.position is not None:
        rollout = keeper.position.rollout
        bad = rollout.stage is Stage.rolling_back or (rollout.from_revision and not ready)
        return "degraded" if bad else "healthy", f"{rollout.stage}: {rollout.reason or 'begun'}", ""
    if not wanted.revision:
        told = keeper.last.reason if keeper.last is not None else "no version was ever deployed"
        return "unhealthy", f"it does not run: {told}", f"mend it and deploy again: prime-spark deploy apply --file {name}.toml"
    if ready < wanted.replicas:
        ill = next(
            (f"{row.replica.node}:{row.replica.port} {row.reason or row.fitness}" for row in replicas if not _fit(row)), ""
        )
        told = f"{ready} of {wanted.replicas} replicas are healthy{f'; {ill}' if ill else ''}"
        return "degraded" if ready else "unhealthy", told, f"see prime-spark deploy status {name}"
    return "healthy", f"{ready} of {wanted.replicas} replicas are healthy", ""


def _fit(row: ReplicaStatus) -> bool:
    return row.replica.state is ReplicaState.running and row.fitness is Fitness.healthy


def rollout_status(keeper: Keeper, rollout: Rollout) -> RolloutStatus:
    """A rollout with what is counted of its versions."""
    spec: ServiceSpec | None = keeper.specs.get(rollout.to_revision)
    now, position = keeper.ground.clock.monotonic(), keeper.position
    live = position is not None and position.rollout.rollout_id == rollout.rollout_id
    ready = sum(each.fit for each in keeper.sights() if each.revision == rollout.to_revision)
    until = keeper.decision.until if live and keeper.decision is not None else None
    deadline = None
    if live and position is not None and position.since is not None and spec is not None and until is None:
        deadline = max(0.0, spec.rollout.deadline - (now - position.since))
    return RolloutStatus(
        rollout, keeper.label(rollout.from_revision) if rollout.from_revision else "", keeper.label(rollout.to_revision),
        ready, rollout.to_replicas, traffic(keeper, rollout) if live else (),
        spec.rollout.steps if spec is not None and rollout.strategy is Strategy.canary else (),
        max(0.0, until - now) if until is not None else None, deadline,
    )  # fmt: skip


def traffic(keeper: Keeper, rollout: Rollout) -> tuple[TrafficShare, ...]:
    """Share of each version: asked for, and counted since the shares were set."""
    source = keeper.ground.traffic
    counts, since, rates = source.meanwhile(keeper.name), source.since(keeper.name), source.rates(keeper.name, LATELY)
    spec = keeper.spec
    if spec is None or spec.front is None:
        return ()
    given: dict[int, float] = {}
    shares = source.shares(keeper.name)
    for held in keeper.helds.values():
        given[held.replica.revision] = given.get(held.replica.revision, 0.0) + shares.get(held.server, 0.0)
    counted = sum(each.requests for each in since.values())
    found = []
    for revision in (rollout.from_revision, rollout.to_revision):
        if not revision:
            continue
        total, lately = counts.get(revision, Counted()), since.get(revision, Counted())
        found.append(TrafficShare(
            revision, keeper.label(revision), round(given.get(revision, 0.0), 1), total.requests, total.errors,
            100.0 * lately.requests / counted if counted else None, rates.get(revision),
        ))  # fmt: skip
    return tuple(found)
