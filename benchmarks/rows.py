"""One measured figure, with its budget and the peer or floor measured in the same run."""

from __future__ import annotations

import msgspec


class Figure(msgspec.Struct, frozen=True):
    """A row of the table.

    Attributes:
        ok: Within the budget; None where there is none.
    """

    name: str
    measured: float
    unit: str
    budget: float | None = None
    peer: str = ""
    peer_measured: float | None = None
    ok: bool | None = None


def at_most(name: str, measured: float, unit: str, budget: float, peer: str = "", peer_measured: float | None = None) -> Figure:
    """A figure that must not be above its budget."""
    return Figure(name, round(measured, 3), unit, budget, peer, peer_measured, measured <= budget)


def at_least(
    name: str, measured: float, unit: str, budget: float, peer: str = "", peer_measured: float | None = None
) -> Figure:
    """A figure that must not be below its budget."""
    return Figure(name, round(measured, 3), unit, budget, peer, peer_measured, measured >= budget)
