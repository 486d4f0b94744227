"""Whether the balancer can listen where services want it to, before it is told to."""

from __future__ import annotations

import socket
from collections.abc import Collection, Sequence

from appliance.core.deploy.haproxy import Front
from appliance.errors import ApplianceError, ConflictError


def refusals(fronts: Sequence[Front], held: Collection[tuple[str, int]]) -> dict[str, ApplianceError]:
    """Service → why it cannot be listened for it.

    Args:
        fronts: Services.
        held: (address, port) that the balancer has already.
    """
    found: dict[str, ApplianceError] = {}
    given: dict[int, str] = {}
    for front in fronts:
        reason = _refusal(front) if (front.address, front.listen) not in held else ""
        if front.listen in given:
            reason = f"{given[front.listen]} has it"
        if reason:
            step = "choose another listen or address, or stop what has it (ss -ltnp)."
            found[front.service] = ConflictError(f"{front.service}: {front.bind} cannot be listened on: {reason}.", step)
        else:
            given[front.listen] = front.service
    return found


def _refusal(front: Front) -> str:
    """Why nobody can listen there now; empty where one can."""
    family = socket.AF_INET6 if ":" in front.address else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0" if front.address == "*" else front.address, front.listen))  # noqa: S104 as asked for
        except OSError as error:
            return error.strerror or str(error)
    return ""
