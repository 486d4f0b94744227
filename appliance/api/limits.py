"""How many connections the process has file descriptors for: the listener must never take those that files and devices need."""

from __future__ import annotations

import logging
import resource

log = logging.getLogger(__name__)

OWN = 512
"""Descriptors that the rest of the appliance may need: databases, devices, SSH, Kafka."""
FEWEST = 8


def room_for(connections: int) -> int:
    """Connections that may be open at one time: as many as are wanted, where the system allows it.

    The soft limit of open files (getrlimit(2), RLIMIT_NOFILE) is raised for them, up to the hard one.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return connections
    wanted = connections + OWN
    if soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        if most > soft:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            soft = most
    room = min(connections, max(FEWEST, soft - OWN))
    if room < connections:
        log.warning("the system allows %d open files: %d connections at one time, not %d", soft, room, connections)
    return room
