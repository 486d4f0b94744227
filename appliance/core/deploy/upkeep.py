"""Keeping a service as it is wanted while no version takes another's place. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from appliance.core.deploy.model import ReplicaState
from appliance.core.deploy.policy import Sight


class Upkeep(msgspec.Struct, frozen=True):
    """What a service that is not being rolled out needs."""

    start: int = 0
    stop: tuple[str, ...] = ()
    why: str = ""


def steady(sights: Sequence[Sight], revision: int, wanted: int, *, replace_after: float, restart_after: float) -> Upkeep:
    """Keep the wanted number of replicas of one revision.

    Args:
        sights: All replicas of the service.
        revision: The one that is wanted.
        wanted: How many.
        replace_after: Seconds of a node's silence after which its replicas are started elsewhere.
        restart_after: Seconds of ill health after which a replica is made anew, one at a time.

    Returns:
        What to start and to stop.
    """
    there = [each for each in sights if each.state is not ReplicaState.lost]
    strays = tuple(each.replica_id for each in there if each.revision != revision and each.state is not ReplicaState.stopping)
    mine = [each for each in there if each.revision == revision and each.state is not ReplicaState.stopping]
    awaited = sum(
        each.revision == revision and each.state is ReplicaState.lost and each.silent_s < replace_after for each in sights
    )
    if strays:
        return Upkeep(stop=strays, why="they are of another version")
    surplus = len(mine) + awaited - wanted
    if surplus > 0:
        return Upkeep(stop=tuple(each.replica_id for each in _dispensable(mine)[:surplus]), why=f"{wanted} are wanted")
    if surplus < 0:
        silent = sum(each.state is ReplicaState.lost and each.silent_s >= replace_after for each in sights)
        return Upkeep(start=-surplus, why="a node is silent" if silent else f"{wanted} are wanted")
    ill = sorted((each for each in mine if each.bad and each.bad_s >= restart_after), key=lambda each: -each.bad_s)
    busy = any(each.state in {ReplicaState.planned, ReplicaState.starting} for each in mine)
    if ill and not busy:
        return Upkeep(stop=(ill[0].replica_id,), why=f"it has been unwell for {ill[0].bad_s:.0f} s: {ill[0].reason}")
    return Upkeep()


def _dispensable(sights: Sequence[Sight]) -> list[Sight]:
    """In the order in which they are given up: those that do not work, then those on the most crowded nodes."""
    ordered: list[Sight] = [each for each in sights if not each.fit]
    left = [each for each in sights if each.fit]
    while left:
        crowd: dict[str, int] = {}
        for each in left:
            crowd[each.node] = crowd.get(each.node, 0) + 1
        worst = max(left, key=lambda each: (crowd[each.node], each.node, each.port))
        ordered.append(worst)
        left.remove(worst)
    return ordered
