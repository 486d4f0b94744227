"""Taking files of versions away from the nodes: units, compose files, environments with their secrets."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence

from appliance.core.deploy.ground import Ground
from appliance.core.deploy.model import Kind
from appliance.core.deploy.spec import ServiceSpec
from appliance.errors import ApplianceError

log = logging.getLogger(__name__)


async def clear(ground: Ground, specs: Mapping[int, ServiceSpec], revisions: Sequence[int]) -> tuple[str, ...]:
    """Take versions away from all nodes, from all nodes at once.

    Args:
        ground: See Ground.
        specs: Revision → specification.
        revisions: Which ones.

    Returns:
        Nodes on which files stay, because they do not answer or refuse.
    """
    todo: dict[tuple[str, Kind], dict[int, ServiceSpec]] = {}
    stay: set[str] = set()
    for revision in revisions:
        spec = specs[revision]
        try:
            for site in ground.sites(spec):
                stay |= set() if site.usable else {site.node}
                if site.usable:
                    todo.setdefault((site.node, spec.kind), {})[revision] = spec
        except ApplianceError as error:
            log.warning("%s: files of revision %d may stay: %s", spec.name, revision, error.message)
    done = await asyncio.gather(*(_clear_node(ground, mine, node, kind) for (node, kind), mine in todo.items()))
    return tuple(sorted(stay.union(*done)))


async def _clear_node(ground: Ground, specs: Mapping[int, ServiceSpec], node: str, kind: Kind) -> set[str]:
    try:
        await ground.carriers[kind].clear(specs, node)
    except ApplianceError as error:
        log.warning("files of versions stay on %s: %s", node, error.message)
        return {node}
    return set()
