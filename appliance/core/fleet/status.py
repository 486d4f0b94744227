"""What is shown of a node, made of what is known of it; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from appliance.core.agents.model import Agent
from appliance.core.fleet.link_pace import STALE, UNREACHABLE
from appliance.core.fleet.model import LinkStatus, NodeFacts, NodeMetrics, NodeStatus, Reach

STALE_ROUNDS, UNREACHABLE_ROUNDS = 2.5, 6.0
"""Rounds without a sign of life after which a node is stale, and unreachable. A link that is half open breaks between the two,
by its keepalives; these go on where nothing is asked, so that longer rounds make no longer silence."""


@dataclass(frozen=True)
class Times:
    """When silence becomes something; seconds."""

    stale: float = STALE
    unreachable: float = UNREACHABLE
    interval: float = 10.0
    """Between two looks."""
    facts: float = 300.0
    """Between two askings for facts."""

    @staticmethod
    def of(interval: float, facts: float = 300.0) -> Times:
        """For rounds at an interval: of ten seconds and more silence always means the same."""
        return Times(min(STALE, STALE_ROUNDS * interval), min(UNREACHABLE, UNREACHABLE_ROUNDS * interval), interval, facts)

    @property
    def numbers_old(self) -> float:
        """Age of numbers in which looks were missed."""
        return STALE_ROUNDS * self.interval

    @property
    def facts_old(self) -> float:
        """Age of facts in which askings were missed, with the time that one may take."""
        return 2 * self.facts + 60.0


def reach_of(link: LinkStatus, heard: float | None, now: float, times: Times) -> LinkStatus:
    """The link with its silence counted: the same however often, and whenever, it is looked at.

    Args:
        link: As the links have it; what broke with evidence stays what it is.
        heard: Monotonic instant of the last answer to a look.
        now: Monotonic.
        times: What silence means.
    """
    if link.reach not in {Reach.up, Reach.stale}:
        return link
    signs = [sign for sign in (heard, link.answered) if sign is not None]
    last = max(signs, default=link.since)
    silent = now - last
    if silent < times.stale:
        return link if link.reach is Reach.up else msgspec.structs.replace(link, reach=Reach.up, reason="", since=last)
    gone = silent >= times.unreachable
    limit = times.unreachable if gone else times.stale
    return msgspec.structs.replace(
        link, reach=Reach.unreachable if gone else Reach.stale, answered=last, since=last + limit,
        reason=f"no sign of life for {limit:.0f} s and more",
        next_step=link.next_step or "is it on, and on this network?",
    )  # fmt: skip


def facts_of(fields: Mapping[str, Any], missing: Mapping[str, str], wall: float, monotonic: float, took: float) -> NodeFacts:
    """The facts that one asking told; fields that are only for us are left out."""
    known = set(NodeFacts.__struct_fields__)
    own = {name: value for name, value in fields.items() if name in known}
    return NodeFacts(time=wall, monotonic=monotonic, missing=dict(missing), took_ms=round(1000 * took, 1), **own)


def metrics_as_readings(metrics: NodeMetrics) -> dict[str, float]:
    """A look as named numbers for the telemetry; what is not known is left out."""
    numbers = {
        "node_cpu_usage": metrics.cpu, "node_memory_usage": metrics.memory, "node_disk_usage": metrics.disk,
        "node_swap_usage": metrics.swap, "node_temperature_c": metrics.temperature_c, "node_load_1m": metrics.load_1m,
        "node_net_rx_rate": metrics.net_rx, "node_net_tx_rate": metrics.net_tx, "node_uptime_s": metrics.uptime,
        "node_clock_offset_s": metrics.clock_offset,
    }  # fmt: skip
    return {name: float(value) for name, value in numbers.items() if value is not None}


def row(status: NodeStatus, now: float, agent: Agent | None = None) -> dict[str, Any]:
    """A node for fronts that have no monotonic clock: ages in seconds instead of instants.

    Args:
        status: The node.
        now: Monotonic.
        agent: Its own; None where nothing is known.
    """
    metrics, facts, link = status.metrics, status.facts, status.link
    known = [each for each in status.expected if each.ok is not None]
    return {
        "node": status.node.name, "role": status.node.role, "health": status.health.value, "reason": status.reason,
        "next_step": status.next_step, "link": link.reach.value, "link_reason": link.reason, "address": link.address,
        "answered_s": _age(link.answered, now), "since_s": _age(link.since, now), "latency_ms": link.latency_ms,
        "cpu": metrics and metrics.cpu, "memory": metrics and metrics.memory, "disk": metrics and metrics.disk,
        "temperature_c": metrics and metrics.temperature_c, "load_1m": metrics and metrics.load_1m,
        "uptime_s": metrics and metrics.uptime, "clock_offset_s": metrics and metrics.clock_offset,
        "metrics_age_s": _age(metrics.monotonic if metrics else None, now),
        "services_ok": sum(each.ok is True for each in known), "services_known": len(known),
        "services": {each.name: each.state for each in status.expected}, "os": facts and facts.os,
        "kernel": facts and facts.kernel, "updates": facts and facts.updates,
        "facts_age_s": _age(facts.monotonic if facts else None, now),
        "busy": status.busy, "groups": list(status.node.groups), "agent": agent and agent_row(agent, now),
    }  # fmt: skip


def agent_row(agent: Agent, now: float) -> dict[str, Any]:
    """An agent for such fronts."""
    told = {name: getattr(agent, name) for name in agent.__struct_fields__ if name not in {"node", "beat", "seen"}}
    return {**told, "state": agent.state.value, "beat_s": _age(agent.beat, now), "seen_s": _age(agent.seen, now)}


def _age(instant: float | None, now: float) -> float | None:
    return None if instant is None else round(max(0.0, now - instant), 1)
