"""Where replicas go: spread over the nodes that answer, each on a free port of the service's range. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from appliance.core.deploy.spec import Ports


class Site(msgspec.Struct, frozen=True):
    """A node that replicas may go to."""

    node: str
    address: str
    usable: bool = True
    """It answers, and the operator has not set it aside."""
    load: float = 0.0
    """Percent of its processor, 0 where nobody knows: it only orders nodes that are equal otherwise."""


Place = tuple[str, int]
"""Node and port."""


def room(sites: Sequence[Site], ports: Ports, taken: Collection[Place]) -> int:
    """Free places on usable nodes."""
    names = {site.node for site in sites if site.usable}
    last = ports.first + ports.count
    used = {(node, port) for node, port in taken if node in names and ports.first <= port < last}
    return len(names) * ports.count - len(used)


def place(count: int, sites: Sequence[Site], ports: Ports, taken: Collection[Place], mine: Collection[str]) -> list[Place]:
    """Choose places.

    Args:
        count: How many.
        sites: Nodes.
        ports: The service's range.
        taken: Places that cannot be had: replicas of any version, and ports on which something else listens.
        mine: Node of each replica of the same version that is there already.

    Returns:
        Up to `count` places: always on the node with the fewest replicas of this version, then with the fewest of any, then
        with the least load, then by name.
    """
    found: list[Place] = []
    used, own = set(taken), list(mine)
    for _ in range(count):
        free = {site.node: _free(site.node, ports, used) for site in sites if site.usable}
        open_ = [site for site in sites if free.get(site.node)]
        if not open_:
            break
        best = min(open_, key=lambda site: (
            own.count(site.node), sum(node == site.node for node, _ in used), site.load, site.node,
        ))  # fmt: skip
        chosen = (best.node, free[best.node][0])
        found.append(chosen)
        used.add(chosen)
        own.append(best.node)
    return found


def _free(node: str, ports: Ports, used: Collection[Place]) -> list[int]:
    """Free ports of a node; first those that no other node uses either, so that a number tells a replica."""
    elsewhere = {port for _, port in used}
    free = [port for port in range(ports.first, ports.first + ports.count) if (node, port) not in used]
    return sorted(free, key=lambda port: (port in elsewhere, port))
