"""The live state and results of actions under the names that the contract has for them (contracts.md, section 6).

What nobody knows is null; a section that nobody has put yet gives nulls, never zeros.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec

from appliance.core.agents.model import AgentsStatus
from appliance.core.analytics.model import QueryStats
from appliance.core.events import rfc3339
from appliance.core.fleet.model import FleetStatus, Reach
from appliance.core.inference.status import InferenceStatus
from appliance.core.llm.model import Answer, LlmStatus
from appliance.core.model import Device, HostSample, QueueStatus, ServiceStatus
from appliance.core.power.model import Level, PowerStatus, Supply
from appliance.core.streams.model import LinkState, StreamsStatus
from appliance.core.tasks.model import Task, TaskDetail, TasksStatus, Worker
from appliance.core.vpn.status import PeerState, VpnStatus
from appliance.errors import AbsentError, InvalidArgumentsError

PRIORITIES = {1: "low", 2: "normal", 3: "high", 4: "urgent"}
MEMORY_SET = {
    "type": "object",
    "required": ["key", "value"],
    "properties": {
        "key": {"type": "string"},
        "value": {"description": "Any JSON; a text is kept as text"},
        "ttl": {"type": ["number", "null"], "exclusiveMinimum": 0, "description": "Seconds until it is gone"},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
}
TASK_SUBMIT = {
    "type": "object",
    "required": ["type"],
    "properties": {
        "type": {"type": "string", "description": "A capability of a worker"},
        "payload": {"type": "object"},
        "priority": {"description": "1 to 4, or low, normal, high, urgent"},
        "deadline": {"type": ["number", "null"], "description": "Seconds after which it is of no use"},
    },
}


def same(result: Any) -> Any:
    """As it is."""
    return result


def same_arguments(given: dict[str, Any]) -> dict[str, Any]:
    """As they came."""
    return given


def memory_set(given: dict[str, Any]) -> dict[str, Any]:
    """A value is any JSON here; the action takes a text, or JSON as text. Raises InvalidArgumentsError."""
    if "value" not in given:
        raise InvalidArgumentsError("The value is missing.", 'send {"key": …, "value": …}.')
    value = given["value"]
    rest = {name: item for name, item in given.items() if name != "value"}
    return {**rest, "value": value} if isinstance(value, str) else {**rest, "json_text": msgspec.json.encode(value).decode()}


def task_submit(given: dict[str, Any]) -> dict[str, Any]:
    """A priority may be a number (contracts.md, section 7)."""
    priority = given.get("priority")
    return {**given, "priority": PRIORITIES[priority]} if isinstance(priority, int) and priority in PRIORITIES else given


def power(status: PowerStatus | None) -> dict[str, Any]:
    """/api/power/status."""
    if status is None:
        raise AbsentError("The power service has said nothing yet.", "see /api/health/detailed.")
    known = status.supply is not Supply.unknown
    return {
        "mode": status.setting.value, "phase": status.phase.value,
        "is_on_battery": status.supply is Supply.battery if known else None,
        "battery_percent": status.percent, "battery_state": None if status.level is Level.unknown else status.level.value,
        "time_remaining_minutes": None if status.runtime is None else status.runtime / 60,
        "power_plugged": status.supply is Supply.mains if known else None,
        "edge_only_mode": status.edge_only, "routing_mode": status.routing, "reason": status.reason,
        "timestamp": rfc3339(time.time()),
    }  # fmt: skip


def vpn(status: VpnStatus | None) -> dict[str, Any]:
    """/api/vpn/status."""
    if status is None:
        raise AbsentError("The VPN has said nothing yet.", "see /api/health/detailed.")
    peers = [{**msgspec.to_builtins(each), "connected": each.state is PeerState.connected} for each in status.peers]
    return {
        "interface": status.interface, "is_active": status.is_active, "total_peers": status.total_peers,
        "connected_peers": status.connected_peers, "peers": peers, "enabled": status.enabled,
        "problems": status.problems, "next_step": status.next_step, "timestamp": rfc3339(time.time()),
    }  # fmt: skip


def system(
    host: HostSample | None, services: tuple[ServiceStatus, ...] | None, devices: tuple[Device, ...] | None
) -> dict[str, Any]:
    """/api/system/info."""
    reading = msgspec.to_builtins(host) if host is not None else None
    return {
        "host": reading, "hostname": host.hostname if host is not None else None,
        "uptime_s": host.uptime_s if host is not None else None,
        "services": {each.name: each.health.value for each in services or ()},
        "devices": devices or (), "timestamp": rfc3339(time.time()),
    }  # fmt: skip


def task(found: Task) -> dict[str, Any]:
    """A task; its priority as a number, and when it came."""
    return {**msgspec.to_builtins(found), "status": found.state.value, "priority": int(found.priority)}


def task_detail(found: TaskDetail) -> dict[str, Any]:
    """/api/tasks/{id}."""
    return {**task(found.task), "payload": found.payload, "result": found.result, "history": found.history}


def _worker(each: Worker) -> dict[str, Any]:
    return {
        "agent": each.name, "state": each.state.value, "capabilities": [kind.name for kind in each.capabilities],
        "busy": each.busy, "limit": each.limit, "load": each.load, "version": each.version, "completed": each.completed,
        "failed": each.failed, "note": each.note,
    }  # fmt: skip


def agents(tasks: TasksStatus | None, machines: AgentsStatus | None) -> dict[str, Any]:
    """/api/agents/status: who takes tasks, and the machines with what is known of their agents."""
    if tasks is None:
        raise AbsentError("The tasks have said nothing yet.", "see /api/health/detailed.")
    return {
        "agents": [_worker(each) for each in tasks.workers], "machines": machines.agents if machines is not None else None,
        "depths": tasks.depths, "counts": tasks.counts, "transport": tasks.transport,
    }  # fmt: skip


def cache(status: Any) -> Any:
    """/api/v1/cache: of the results of inference. Raises AbsentError."""
    found = getattr(status, "cache", None)
    if found is None:
        raise AbsentError("Inference has said nothing yet.", "see /api/health/detailed.")
    looks = found.hits + found.misses
    return {**msgspec.to_builtins(found), "hit_rate": found.hits / looks if looks else None}


def offline(status: StreamsStatus | None) -> dict[str, Any]:
    """/api/v1/offline/status."""
    if status is None:
        raise AbsentError("The streams have said nothing yet.", "see /api/health/detailed.")
    link, outbox = status.link, status.outbox
    return {
        "is_online": link.state is LinkState.up, "state": link.state.value, "reason": link.reason,
        "next_step": link.next_step, "since": rfc3339(link.since) if link.since else None, "queue_size": outbox.waiting,
        "paused": outbox.paused, "retry_s": outbox.retry_s, "eta_s": outbox.eta_s, "dropped": outbox.dropped,
    }  # fmt: skip


def offline_queue(status: StreamsStatus | None, queues: tuple[QueueStatus, ...] | None) -> dict[str, Any]:
    """/api/v1/offline/queue."""
    if status is None:
        raise AbsentError("The streams have said nothing yet.", "see /api/health/detailed.")
    return {"outbox": status.outbox, "queues": queues or ()}


def answer(found: Answer) -> dict[str, Any]:
    """/api/llm/generate and /api/llm/chat."""
    return {
        "response": found.text, "model": found.model, "location": found.place.value, "endpoint": found.endpoint,
        "reason": found.why, "latency_ms": found.latency_ms, "first_token_ms": found.first_token_ms, "cached": found.cached,
        "finish": found.finish, "tokens_in": found.usage.tokens_in, "tokens_out": found.usage.tokens_out, "cost": found.cost,
        "left_house_bytes": found.left_house_bytes, "attempts": found.attempts,
    }  # fmt: skip


def routing(status: LlmStatus | None) -> dict[str, Any]:
    """/api/routing/stats."""
    if status is None:
        raise AbsentError("No language model is configured, so nothing is routed.", "see docs/llm.md.")
    places: dict[str, dict[str, int]] = {}
    for each in status.endpoints:
        place = places.setdefault(each.place.value, {"endpoints": 0, "requests": 0, "failures": 0, "in_flight": 0})
        place["endpoints"] += 1
        place["requests"] += each.requests
        place["failures"] += each.failures
        place["in_flight"] += each.in_flight
    names = ("requests", "answered", "failed", "given_up", "failovers", "hedges", "retries", "cache_hits", "cache_misses")
    return {
        "strategy": status.strategy.value, "holds": status.holds.value, "because": status.because, "places": places,
        **{name: getattr(status, name) for name in names}, "endpoints": status.endpoints, "decisions": status.decisions,
        "spent": status.spent, "timestamp": rfc3339(time.time()),
    }  # fmt: skip


def compute(fleet: FleetStatus | None, tasks: TasksStatus | None, inference: InferenceStatus | None) -> dict[str, Any]:
    """/api/v1/compute/status: what is not known of any machine is null, not a sum of nothing."""
    nodes = fleet.nodes if fleet is not None else None
    cores = [each.facts.cores for each in nodes or () if each.facts is not None and each.facts.cores is not None]
    rows = [
        {"name": each.node.name, "role": each.node.role, "reach": each.link.reach.value, "health": each.health.value,
         "cores": each.facts.cores if each.facts is not None else None,
         "cpu": each.metrics.cpu if each.metrics is not None else None,
         "memory": each.metrics.memory if each.metrics is not None else None, "busy": each.busy or None}
        for each in nodes or ()
    ]  # fmt: skip
    return {
        "nodes": None if nodes is None else {
            "total": len(nodes), "active": sum(each.link.reach is Reach.up for each in nodes),
            "cores": sum(cores) if cores else None, "cores_known_of": len(cores), "all": rows,
        },
        "workers": None if tasks is None else [_worker(each) for each in tasks.workers],
        "workloads": None if tasks is None else {
            "active": tasks.with_workers, "waiting": sum(tasks.depths.values()), "resting": tasks.resting,
            "counts": tasks.counts, "by_priority": tasks.depths,
        },
        "accelerators": None if inference is None else inference.engine.devices, "timestamp": rfc3339(time.time()),
    }  # fmt: skip


def analytics(stats: QueryStats | None, findings: Any) -> dict[str, Any]:
    """/api/v1/analytics/summary."""
    return {"queries": stats, "findings": findings or ()}
