"""Actions on services, devices, sessions and the appliance itself."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from typing import Any

from pydantic import Field

from appliance.core.actions import Action, Invocation, NoParams, Params
from appliance.core.figures import counted
from appliance.core.model import Role, ServiceStatus
from appliance.core.presence import Presence
from appliance.core.services import Supervisor
from appliance.core.state import LiveState, Section


class ServiceName(Params):
    """One service."""

    name: str = Field(max_length=64, description="Name of the service")


class SessionId(Params):
    """One session."""

    session_id: str = Field(max_length=64, description="Id of the session")


STATUS = (Section.services, Section.host, Section.devices, Section.alerts, Section.queues, Section.sessions, Section.inference)


def status_of(state: LiveState) -> dict[str, Any]:
    """What Overview shows: each section's value with its age in seconds (None where it never was put)."""
    return {section.value: {"age": _rounded(state.age(section)), "value": state.get(section).value} for section in STATUS}


def _rounded(age: float | None) -> float | None:
    return None if age is None else round(age, 1)


def actions(supervisor: Supervisor, state: LiveState, presence: Presence, stop: Callable[[], None]) -> list[Action]:
    """The actions; `stop` asks the process to end."""

    async def status(_: Invocation, __: NoParams) -> dict[str, Any]:
        return status_of(state)

    async def services(_: Invocation, __: NoParams) -> list[ServiceStatus]:
        return list(supervisor.statuses())

    async def restart(_: Invocation, params: ServiceName) -> ServiceStatus:
        return await supervisor.restart(params.name)

    async def devices(_: Invocation, __: NoParams) -> Any:
        return list(state.get(Section.devices).value or ())

    async def host(_: Invocation, __: NoParams) -> Any:
        return {"age": _rounded(state.age(Section.host)), "value": state.get(Section.host).value}

    async def sessions(_: Invocation, __: NoParams) -> Any:
        return list(state.get(Section.sessions).value or ())

    async def close(_: Invocation, params: SessionId) -> Any:
        return presence.close(params.session_id)

    async def halt(_: Invocation, __: NoParams) -> dict[str, bool]:
        stop()
        return {"stopping": True}

    query = functools.partial(Action, query=True, role=Role.viewer)
    return [
        query("appliance.status", "Show everything at a glance", status, shortcut="s", brief=brief_status),
        Action("appliance.stop", "Stop the appliance", halt, role=Role.admin, dangerous=True, shortcut="x",
               confirm_text="Stop the appliance? All services and all consoles end.", brief=lambda _: "stopping"),
        query("service.list", "List services with health and reason", services, shortcut="v", brief=brief_services),
        Action("service.restart", "Restart a service", restart, params=ServiceName, positional=("name",), timeout=60,
               brief=lambda status: f"{status.name} was restarted, and is {status.health.value}: {status.reason}"),
        query("device.list", "List hardware, found and missing", devices, shortcut="d", brief=brief_devices),
        query("host.show", "Show this machine's numbers", host, shortcut="h", brief=brief_host),
        query("session.list", "List open consoles", sessions, brief=lambda found: f"{len(found)} open"),
        Action("session.close", "Close a console", close, params=SessionId, role=Role.admin, positional=("session_id",),
               dangerous=True, confirm_text="Close the console {session_id}? Whoever uses it is cut off."),
    ]  # fmt: skip


def brief_services(statuses: list[ServiceStatus]) -> str:
    """ "7 healthy, 1 absent; ssh: port 8022 is taken"."""
    counts = Counter(status.health.value for status in statuses)
    bad = [f"{status.name}: {status.reason}" for status in statuses if status.health.value in {"unhealthy", "degraded"}]
    return "; ".join([", ".join(f"{count} {health}" for health, count in sorted(counts.items())), *bad])


def brief_status(status: dict[str, Any]) -> str:
    """Services, alerts and the host in one line."""
    alerts = [alert for alert in status["alerts"]["value"] or () if alert.state.value in {"firing", "acknowledged"}]
    parts = [brief_services(list(status["services"]["value"] or ())), counted(len(alerts), "alert"), brief_host(status["host"])]
    return " | ".join(parts)


def brief_host(reading: dict[str, Any]) -> str:
    """CPU, memory and disk, with the reading's age."""
    sample = reading["value"]
    if sample is None:
        return "the host was not read yet"
    cpu = "–" if sample.cpu_usage is None else f"{sample.cpu_usage:.0f} %"
    heat = "" if sample.temperature_c is None else f", {sample.temperature_c:.0f} °C"
    return f"cpu {cpu}, memory {sample.memory_usage:.0f} %, disk {sample.disk_usage:.0f} %{heat} ({reading['age']:.0f} s ago)"


def brief_devices(devices: list[Any]) -> str:
    """ "ups absent, microphone healthy"."""
    return ", ".join(f"{device.kind} {device.health.value}" for device in devices) or "not looked for yet"
