"""Machines and operations for the pages' tests, as the fleet tells of them."""

from __future__ import annotations

import time
from typing import Any

from appliance.core.fleet.model import (
    Container,
    Disk,
    FleetStatus,
    LinkStatus,
    Node,
    NodeFacts,
    NodeMetrics,
    NodeStatus,
    Reach,
    ServiceState,
    Unit,
)
from appliance.core.fleet.operations.model import NodeRun, OperationStatus, Stage
from appliance.core.model import Health

UNITS = (
    Unit("redis-server.service", "loaded", "active", "running", "Advanced key-value store", "enabled"),
    Unit("web.service", "loaded", "failed", "failed", "A web server", "enabled"),
    Unit("apt-daily.service", "loaded", "inactive", "dead", "Daily apt download activities", "static"),
)
BOXES = (Container("open-webui", "webui:1", "running", "Up 3 days", "0.0.0.0:3000->8080/tcp", "openwebui", "web"),)


def entry(name: str, **more: Any) -> Node:
    """One machine of the inventory."""
    return Node(**{"name": name, "host": "192.0.2.7", **more})


def link(reach: Reach = Reach.up, **more: Any) -> LinkStatus:
    """A link."""
    values: dict[str, Any] = {"answered": time.monotonic() - 1, "latency_ms": 3.2, "address": "192.0.2.7"}
    return LinkStatus(reach, **{**(values if reach is Reach.up else {}), **more})


def numbers(age: float = 3.0, **more: Any) -> NodeMetrics:
    """One look at a machine, that long ago."""
    values: dict[str, Any] = {
        "cpu": 23.0, "memory": 41.0, "disk": 62.0, "temperature_c": 58.0, "load_1m": 0.5, "uptime": 90_000.0,
        "disks": (Disk("/", "/dev/sda1", "ext4", 100 << 30, 62 << 30),),
    }  # fmt: skip
    return NodeMetrics(time.time() - age, time.monotonic() - age, **{**values, **more})


def facts(age: float = 100.0, **more: Any) -> NodeFacts:
    """What seldom changes, told that long ago."""
    values: dict[str, Any] = {
        "os": "Debian GNU/Linux 12 (bookworm)", "kernel": "6.1.0-28-arm64", "arch": "aarch64", "units": UNITS,
        "containers": BOXES, "updates": 12, "security_updates": 2, "agent": "0.8.0", "missing": {"docker": "no such command"},
    }  # fmt: skip
    return NodeFacts(time.time() - age, time.monotonic() - age, **{**values, **more})


def machine(name: str, reach: Reach = Reach.up, health: Health = Health.healthy, **more: Any) -> NodeStatus:
    """A machine; what the entry says goes by `node`."""
    values: dict[str, Any] = {"node": entry(name), "link": link(reach), "health": health, "reason": ""}
    return NodeStatus(**{**values, **more})


def good(name: str, **more: Any) -> NodeStatus:
    """One of which everything is known."""
    values: dict[str, Any] = {
        "metrics": numbers(), "facts": facts(), "expected": (ServiceState("redis-server.service", ok=True, state="running"),),
        "trend": {"cpu": (10.0, 50.0, 90.0)},
    }  # fmt: skip
    return machine(name, **{**values, **more})


def fleet(*nodes: NodeStatus) -> FleetStatus:
    """All of them, by name."""
    return FleetStatus(tuple(sorted(nodes, key=lambda each: each.node.name)), round_ms=42.0)


def operation(*runs: NodeRun, **more: Any) -> OperationStatus:
    """An operation."""
    values: dict[str, Any] = {
        "operation_id": "01-one", "kind": "service.restart", "title": "restart web.service on 2 nodes", "owner": "ada",
        "stage": Stage.planned, "created": time.time() - 20, "runs": runs, "plan_hash": "seen",
    }  # fmt: skip
    return OperationStatus(**{**values, **more})
