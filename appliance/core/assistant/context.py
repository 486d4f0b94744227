"""The live state in a few lines, for a model: what is wrong first, and which sections it was taken from."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from appliance.core.assistant.model import Source
from appliance.core.figures import counted
from appliance.core.model import AlertState, Health
from appliance.core.state import LiveState, Section

if TYPE_CHECKING:
    from appliance.core.fleet.model import FleetStatus
    from appliance.core.llm.model import LlmStatus
    from appliance.core.model import AlertStatus, HostSample, ServiceStatus
    from appliance.core.power.model import PowerStatus
    from appliance.core.streams.model import StreamsStatus
    from appliance.core.vpn.status import VpnStatus

ABOUT = re.compile(
    r"\b(wrong|fleet|alerts?|alarms?|services?|nodes?|machines?|power|battery|ups|mains|vpn|peers?|tunnel|links?|kafka|health\w*"
    r"|status|state|errors?|fail\w*|broken|down|offline|unreachable|slow|temperature|cpu|memory|disk|load|appliance|system"
    r"|problems?|issues?|happen\w*|running|overview)\b",
    re.IGNORECASE,
)
"""Words of questions that the live state may answer."""
LINE = 220
"""Characters of one line."""
ROWS = 12
"""Lines of one section; the worst come first, and what is left out is counted."""
OVER = frozenset({AlertState.ok, AlertState.no_data, AlertState.resolved})
Told = tuple[list[str], str]
"""(lines, what they tell in a few words)"""


def about_state(text: str) -> bool:
    """Whether a question may be about how things are."""
    return ABOUT.search(text) is not None


def summary(state: LiveState, most: int) -> tuple[str, tuple[Source, ...]]:
    """The state as text, and what it was taken from.

    Args:
        state: The live state.
        most: Bytes; what does not fit is left out, and told.
    """
    parts: list[str] = []
    sources: list[Source] = []
    room = most
    for section, tell in TELLERS:
        value = state.get(section).value
        lines, told = tell(value) if value is not None else ([], "nothing has told of it yet")
        text = f"{section.value}: {told}\n" + "".join(f"- {_clip(line)}\n" for line in _rows(lines))
        if len(text.encode()) > room:
            text, told = f"{section.value}: {told}\n", f"{told}, details left out"
            if len(text.encode()) > room:
                sources.append(Source(section.value, state.age(section), "left out: no room"))
                continue
        room -= len(text.encode())
        parts.append(text)
        sources.append(Source(section.value, state.age(section), told))
    return "".join(parts), tuple(sources)


def _rows(lines: list[str]) -> list[str]:
    return lines if len(lines) <= ROWS else [*lines[:ROWS], f"and {len(lines) - ROWS} more"]


def _clip(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LINE else f"{line[: LINE - 1]}…"


def _next(step: str) -> str:
    return f" Next step: {step}" if step else ""


def _alerts(alerts: tuple[AlertStatus, ...]) -> Told:
    active = [each for each in alerts if each.state not in OVER]
    active.sort(key=lambda each: (each.state is not AlertState.firing, each.severity.value != "critical"))
    lines = [f"{each.severity.value} {each.state.value}: {each.message} ({each.rule}, {each.subject})" for each in active]
    firing = sum(each.state is AlertState.firing for each in active)
    return lines, f"{firing} firing, {len(active) - firing} others active" if active else "none active"


def _services(services: tuple[ServiceStatus, ...]) -> Told:
    bad = [each for each in services if each.health in {Health.unhealthy, Health.degraded}]
    bad.sort(key=lambda each: each.health is not Health.unhealthy)
    lines = [f"{each.name} is {each.health.value}: {each.reason}.{_next(each.next_step)}" for each in bad]
    return lines, _counts(each.health.value for each in services)


def _counts(values: Iterable[str]) -> str:
    found: dict[str, int] = {}
    for value in values:
        found[value] = found.get(value, 0) + 1
    return ", ".join(f"{count} {value}" for value, count in found.items()) or "none"


def _fleet(fleet: FleetStatus) -> Told:
    order = {Health.unhealthy: 0, Health.degraded: 1}
    nodes = sorted(fleet.nodes, key=lambda each: (order.get(each.health, 2), each.node.name))
    lines = [fleet.problem] if fleet.problem else []
    for each in nodes:
        seen = each.metrics
        figures = "" if seen is None else (
            f" cpu {_percent(seen.cpu)}, memory {_percent(seen.memory)}, disk {_percent(seen.disk)},"
            f" temperature {_value(seen.temperature_c, ' °C')}"
        )  # fmt: skip
        down = [service.name for service in each.expected if service.ok is False]
        services = f" services down: {', '.join(down)}." if down else ""
        lines.append(
            f"{each.node.name} is {each.health.value} (link {each.link.reach.value}): {each.reason}.{figures}{services}"
            f"{_next(each.next_step)}"
        )
    return lines, f"{counted(len(nodes), 'node')}: {_counts(each.health.value for each in nodes)}"


def _power(power: PowerStatus) -> Told:
    left = "" if power.runtime is None else f", {power.runtime / 60:.0f} min left"
    told = f"{power.phase.value}, supply {power.supply.value}, battery {_percent(power.percent)}{left}"
    return [power.reason], told


def _vpn(vpn: VpnStatus) -> Told:
    if not vpn.enabled:
        return [], "not configured"
    lines = [f"{problem}.{_next(vpn.next_step)}" for problem in vpn.problems]
    lines += [f"peer {each.name} is {each.state.value}" for each in vpn.peers if each.state.value != "connected"]
    return lines, f"{vpn.connected_peers} of {counted(vpn.total_peers, 'peer')} connected"


def _streams(streams: StreamsStatus) -> Told:
    link = streams.link
    return [
        f"{link.reason}.{_next(link.next_step)}"
    ], f"link to Kafka {link.state.value}, {streams.outbox.waiting} messages wait"


def _llm(llm: LlmStatus) -> Told:
    lines = [
        f"endpoint {each.name} ({each.place.value}) is {each.health.value}: {each.reason}.{_next(each.next_step)}"
        for each in llm.endpoints
    ]
    return lines, counted(len(llm.endpoints), "endpoint")


def _host(host: HostSample) -> Told:
    told = (
        f"cpu {_percent(host.cpu_usage)}, memory {_percent(host.memory_usage)}, disk {_percent(host.disk_usage)}, "
        f"temperature {_value(host.temperature_c, ' °C')}, load {host.load_1m:.2f}, up {host.uptime_s / 3600:.1f} h"
    )
    return [f"the firmware reports {flag}" for flag in host.throttled or ()], told


def _percent(value: float | None) -> str:
    return _value(value, " %")


def _value(value: float | None, unit: str) -> str:
    return "not known" if value is None else f"{value:.0f}{unit}"


TELLERS: tuple[tuple[Section, Callable[[Any], Told]], ...] = (
    (Section.alerts, _alerts), (Section.services, _services), (Section.fleet, _fleet), (Section.power, _power),
    (Section.vpn, _vpn), (Section.streams, _streams), (Section.llm, _llm), (Section.host, _host),
)  # fmt: skip
