"""The end of a removal: when nothing is left that can be stopped, the service is forgotten, and what stays is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.core.deploy.held import Held
from appliance.core.deploy.model import ReplicaState

if TYPE_CHECKING:
    from appliance.core.deploy.keeper import Keeper

PATIENCE = 300.0
"""Seconds that a silent node is waited for where no specification says how long."""


async def leave(keeper: Keeper) -> None:
    """Forget a service that is removed, once its replicas are gone or on nodes that have been silent for too long.

    Args:
        keeper: Of the service.

    Raises:
        StoreError: It is not forgotten, and tried again.
    """
    for held in list(keeper.helds.values()):
        if _silent(keeper, held):
            where = f"{held.replica.node}:{held.replica.port}"
            told = f"{where} of revision {held.replica.revision} is forgotten and may run on: its node does not answer"
            await keeper.note("replica", f"{told}; stop it there: {_way(keeper, held)}", "warning")
            await keeper.actor.drop(held)
    if keeper.helds:
        return
    await keeper.clear(tuple(keeper.specs))
    await keeper.ground.book.forget(keeper.name)
    keeper.ground.traffic.forget(keeper.name)
    keeper.done = True


def _silent(keeper: Keeper, held: Held) -> bool:
    """Whether its node has been silent for as long as one waits for it."""
    spec = keeper.specs.get(held.replica.revision)
    silent = held.sight(keeper.ground.clock.monotonic()).silent_s
    patience = spec.replace_after if spec is not None else PATIENCE
    return held.replica.state is ReplicaState.lost and not held.acting and silent >= patience


def _way(keeper: Keeper, held: Held) -> str:
    """How an operator stops it on its node."""
    spec = keeper.specs.get(held.replica.revision)
    if spec is None:
        return "see its units and containers"
    return keeper.ground.carriers[spec.kind].by_hand(spec, held.replica)
