"""The rules of contracts.md, section 9, and what each measures.

A rule whose source tells nothing is shown as "no data": silence is never taken for health.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from appliance.core.alerts import agents, backups, certificates, delivering, nodes, updates
from appliance.core.alerts.reading import Measure
from appliance.core.alerts.reading import Reading as Reading  # noqa: PLC0414 the engine takes it from here
from appliance.core.inference.status import InferenceStatus
from appliance.core.memory.model import MemoryStatus
from appliance.core.model import Health, HostSample, InferenceStats, Phase, ServiceStatus, Severity
from appliance.core.power.model import PowerStatus, Supply
from appliance.core.state import LiveState, Section
from appliance.core.streams.model import LinkState, StreamsStatus
from appliance.core.vpn.status import PeerState, VpnStatus
from appliance.errors import ConfigError
from appliance.settingalerts import RuleSettings


@dataclass(frozen=True)
class Rule:
    """One alert rule.

    Attributes:
        name: Key in the settings.
        summary: What it watches, in words that are true whether it holds or not.
        measure: Takes the readings from the live state.
        threshold: The alert holds while the value is above it (below it where `below`).
        unit: Of the threshold, as it is told; None where the readings are yes or no and say so themselves.
        well: What is true while a rule of yes and no holds for no subject.
        for_seconds: How long it must hold before it fires.
        cooldown_seconds: After it resolved, how long it stays quiet.
    """

    name: str
    summary: str
    measure: Measure
    threshold: float
    severity: Severity
    for_seconds: float = 0.0
    cooldown_seconds: float = 300.0
    below: bool = False
    enabled: bool = True
    unit: str | None = ""
    well: str = ""

    def holds(self, value: float) -> bool:
        """Whether the value is past the threshold."""
        return value < self.threshold if self.below else value > self.threshold

    def verdict(self, reading: Reading, *, resolved: bool = False) -> str:
        """What was measured, beside the limit: true whether the rule holds or not."""
        if self.unit is None or reading.value is None:
            return reading.message
        limit = f"{self.threshold:g} {self.unit}".strip()
        if self.holds(reading.value):
            return f"{reading.message}, {'below' if self.below else 'above'} the limit of {limit}"
        return f"{reading.message}, {'back ' if resolved else ''}within the limit of {limit}"

    def told(self, verdict: str) -> str:
        """A verdict with what it is about."""
        return verdict if self.unit is None else f"{self.summary}: {verdict}"

    def changed_by(self, settings: RuleSettings) -> Rule:
        """The rule with the operator's changes."""
        changes = settings.model_dump(exclude_none=True)
        return replace(self, **changes)


RELAPSES = 3
"""A service that failed so often in ten minutes, each time after a good probe, counts as down between its failures too."""
STALE = 60.0
"""Seconds after which a reading of the host no longer counts."""


def host(field: str, unit: str) -> Measure:
    """Measure one number of the host."""

    def measure(state: LiveState) -> list[Reading]:
        sample, age = state.get(Section.host).value, state.age(Section.host)
        if not isinstance(sample, HostSample) or age is None or age > STALE:
            return [Reading("host", None, "the host was not read lately")]
        value = getattr(sample, field)
        return [Reading("host", value, "this machine does not tell" if value is None else f"{round(value, 1):g} {unit}")]

    return measure


def services(state: LiveState) -> list[Reading]:
    """1 for each service that is down, 0 for each that is not; nothing of one that is between two lives."""
    statuses: tuple[ServiceStatus, ...] = state.get(Section.services).value or ()
    return [_service(status, _down(status)) for status in statuses]


def _service(status: ServiceStatus, down: float | None) -> Reading:
    if status.health is not Health.unhealthy and status.relapses >= RELAPSES:
        often = f"{status.name} came up and failed again {status.relapses} times in 10 min"
        return Reading(status.name, down, f"{often}; now {status.health.value}: {status.reason}")
    how = "down" if down else status.phase.value if down is None else status.health.value
    return Reading(status.name, down, f"{status.name} is {how}: {status.reason}")


def _down(status: ServiceStatus) -> float | None:
    if status.phase is Phase.stopped:
        return None
    if status.health is Health.unhealthy or status.relapses >= RELAPSES:
        return 1.0
    return 0.0 if status.phase is Phase.running else None


def backlog(state: LiveState) -> list[Reading]:
    """Events that wait for Kafka; where it is not configured, for the local store."""
    status = state.get(Section.streams).value
    if isinstance(status, StreamsStatus) and status.link.state is not LinkState.absent:
        return [Reading("outbox", float(status.outbox.waiting), f"{status.outbox.waiting} waiting for Kafka")]
    return [
        Reading(queue.name, float(queue.depth), f"{queue.depth} waiting")
        for queue in state.get(Section.queues).value or ()
        if queue.name == "outbox"
    ] or [Reading("outbox", None, "the outbox is not open")]


def kafka_lag(state: LiveState) -> list[Reading]:
    """Messages that each consumer group is behind; nothing is known while Kafka does not answer."""
    status = state.get(Section.streams).value
    if not isinstance(status, StreamsStatus) or status.link.state is LinkState.absent:
        return [Reading("Kafka", None, "Kafka is not configured")]
    groups: dict[str, int] = {}
    for each in status.groups:
        groups[each.group] = groups.get(each.group, 0) + each.lag
    found = [Reading(name, float(lag), f"{name} is {lag} messages behind") for name, lag in groups.items()]
    return found or [Reading("Kafka", None, "no group that is watched is known to Kafka now")]


def model_errors(state: LiveState) -> list[Reading]:
    """Percent of the last inferences that the model failed."""
    stats = state.get(Section.inference).value
    if not isinstance(stats, InferenceStats) or stats.error_rate is None:
        return [Reading("inference", None, "no inference was asked for yet")]
    rate = 100.0 * stats.error_rate
    return [Reading("inference", rate, f"{rate:.1f} % failed")]


def accelerators(state: LiveState) -> list[Reading]:
    """1 for each accelerator that is there and does not work, 0 for each that does."""
    status = state.get(Section.inference).value
    devices = status.engine.devices if isinstance(status, InferenceStatus) else ()
    found = [
        Reading(each.name, float(each.health is Health.unhealthy), f"{each.name} is {each.health.value}: {each.reason}")
        for each in devices
        if each.health is not Health.absent
    ]
    return found or [Reading("accelerator", None, "no accelerator is known")]


def model_drift(state: LiveState) -> list[Reading]:
    """How far each model that serves has moved from what it found at first."""
    status = state.get(Section.inference).value
    found = []
    for row in status.models if isinstance(status, InferenceStatus) else ():
        if row.active and row.drift is not None and row.drift.labels is not None:
            moved = max(row.drift.labels, row.drift.scores or 0.0) / row.drift.limit
            most = f" ({row.drift.most})" if row.drift.most else ""
            found.append(Reading(f"{row.name}@{row.version}", moved, f"{row.name} moved by {moved:.2f} of the limit{most}"))
    return found or [Reading("models", None, "no model has served often enough yet")]


def redis_memory(state: LiveState) -> list[Reading]:
    """Percent of its limit that Redis uses."""
    status = state.get(Section.memory).value
    tiers = status.tiers if isinstance(status, MemoryStatus) else ()
    for tier in tiers:
        if tier.name == "redis" and tier.size is not None and tier.limit:
            used = 100.0 * tier.size / tier.limit
            return [Reading("redis", used, f"{used:.0f} % of {tier.limit // 1048576} MiB")]
    return [Reading("redis", None, "Redis does not tell")]


def vpn_peers(state: LiveState) -> list[Reading]:
    """1 for each watched peer that is down, 0 for each that is connected; nothing of one that never came, or is off."""
    status = state.get(Section.vpn).value
    peers = status.peers if isinstance(status, VpnStatus) and (status.is_active or status.problems) else ()
    found = [
        Reading(peer.name, DOWN[peer.state], f"{peer.name} is {peer.state.value}" + (f": {peer.reason}" if peer.reason else ""))
        for peer in peers
        if peer.watched and peer.state in DOWN
    ]
    return found or [Reading("VPN peers", None, "no VPN peer is watched, or the VPN is off")]


DOWN: Mapping[PeerState, float | None] = MappingProxyType({
    PeerState.connected: 0.0, PeerState.down: 1.0, PeerState.missing: 1.0, PeerState.never: None, PeerState.unknown: None,
})  # fmt: skip
"""What each state of a peer counts as; those that are not here are meant to be down."""


def battery(state: LiveState) -> list[Reading]:
    """Percent of the battery that feeds this machine."""
    status = state.get(Section.power).value
    if not isinstance(status, PowerStatus) or status.percent is None:
        return [Reading("battery", None, "no UPS tells a charge")]
    return [Reading("battery", status.percent, f"{status.percent:.0f} %")]


def on_battery(state: LiveState) -> list[Reading]:
    """1 while the UPS feeds from its battery, 0 while it says that mains is there."""
    status = state.get(Section.power).value
    if not isinstance(status, PowerStatus) or status.supply is Supply.unknown:
        return [Reading("mains", None, "no UPS answers: on mains or not is unknown")]
    if status.supply is Supply.mains:
        return [Reading("mains", 0.0, "mains is there")]
    return [Reading("mains", 1.0, f"mains is gone; {status.phase}: {status.reason}")]


def upses(state: LiveState) -> list[Reading]:
    """1 for each UPS that is known and does not answer, 0 for each that does."""
    status = state.get(Section.power).value
    found = status.upses if isinstance(status, PowerStatus) else ()
    return [
        Reading(each.name, float(each.health is Health.unhealthy), f"{each.name} is {each.health.value}: {each.reason}")
        for each in found
    ] or [Reading("ups", None, "no UPS is known")]


def not_read(what: str) -> Measure:
    """A rule whose source this machine does not have."""
    return lambda state: [Reading(what, None, f"nothing on this machine tells of {what} yet")]


DEFAULTS: tuple[Rule, ...] = (
    Rule("cpu", "CPU usage", host("cpu_usage", "%"), 85, Severity.warning, for_seconds=300, unit="%"),
    Rule("memory", "Memory usage", host("memory_usage", "%"), 90, Severity.critical, unit="%"),
    Rule("disk", "Disk usage", host("disk_usage", "%"), 90, Severity.critical, unit="%"),
    Rule("temperature", "CPU temperature", host("temperature_c", "°C"), 80, Severity.warning, for_seconds=60, unit="°C"),
    Rule("service-down", "Services", services, 0.5, Severity.critical, for_seconds=60, unit=None, well="none is down"),
    Rule("offline-queue", "Events in the outbox", backlog, 1000, Severity.warning, for_seconds=300),
    Rule("model-errors", "Inferences", model_errors, 10, Severity.warning, unit="%"),
    Rule("accelerator", "Accelerators", accelerators, 0.5, Severity.warning, unit=None, well="all work"),
    Rule("model-drift", "Findings of models", model_drift, 1.0, Severity.warning),
    Rule("api-errors", "API answers with 5xx", not_read("API error rate"), 5, Severity.warning, for_seconds=300, unit="%"),
    Rule("api-latency", "API p95", not_read("API latency"), 500, Severity.warning, for_seconds=300, unit="ms"),
    Rule("certificate", "Certificates, valid for", certificates.left, 14, Severity.critical, below=True, unit="days"),
    Rule("backup", "Days without a proved backup", backups.unproved, 3, Severity.critical, unit="days"),
    Rule("update", "Updates", updates.kept, 0.5, Severity.critical, unit=None, well="the last one was kept"),
    Rule("update-waiting", "Days that a newer release has been there", updates.waiting, 30, Severity.warning, unit="days"),
    Rule("redis-memory", "Redis memory", redis_memory, 85, Severity.warning, unit="%"),
    Rule("kafka-lag", "Kafka consumer lag", kafka_lag, 1000, Severity.warning, for_seconds=300),
    Rule("vpn-peer", "VPN peers", vpn_peers, 0.5, Severity.warning, unit=None, well="none is down"),
    Rule("battery", "Battery", battery, 20, Severity.critical, below=True, unit="%"),
    Rule("on-battery", "Mains", on_battery, 0.5, Severity.warning, unit=None, well="it is there"),
    Rule("ups-lost", "UPSes", upses, 0.5, Severity.critical, for_seconds=10, unit=None, well="all answer"),
    Rule("node", "Nodes", nodes.reached, 0.5, Severity.critical, for_seconds=300, unit=None, well="all answer"),
    Rule(
        "node-service", "Services of nodes", nodes.services, 0.5, Severity.critical, for_seconds=60, unit=None, well="all run"
    ),
    Rule(
        "alert-channel",
        "Alert channels",
        delivering.channels,
        0.5,
        Severity.warning,
        for_seconds=60,
        unit=None,
        well="all deliver",
    ),
    Rule("agent", "Agents", agents.silent, 0.5, Severity.warning, for_seconds=60, unit=None, well="none is silent"),
    Rule("node-cpu", "CPU usage of nodes", nodes.metric("cpu", "%"), 85, Severity.warning, for_seconds=300, unit="%"),
    Rule("node-memory", "Memory usage of nodes", nodes.metric("memory", "%"), 90, Severity.critical, unit="%"),
    Rule("node-disk", "Disk usage of nodes", nodes.metric("disk", "%"), 90, Severity.critical, unit="%"),
    Rule(
        "node-clock",
        "Clocks of nodes, off by",
        nodes.metric("clock_offset", "s"),
        5,
        Severity.warning,
        for_seconds=60,
        unit="s",
    ),
)


def effective(changes: Mapping[str, RuleSettings], measures: Mapping[str, Measure] = MappingProxyType({})) -> tuple[Rule, ...]:
    """The default rules with the operator's changes.

    Args:
        changes: Of the settings.
        measures: By the name of the rule, what measures instead of what stands above: of sources that the state has not.

    Raises:
        ConfigError: A change names a rule that does not exist.
    """
    known = {rule.name: replace(rule, measure=measures.get(rule.name, rule.measure)) for rule in DEFAULTS}
    for name, change in changes.items():
        if name not in known:
            raise ConfigError(f"[alerts.rules.{name}]: no alert rule is called {name}.", f"the rules are: {', '.join(known)}.")
        known[name] = known[name].changed_by(change)
    return tuple(known.values())
