"""Numbers of the live state that metrics.py has not: the fleet, language models, work, alerts, models that serve."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

from appliance.core.deploy.model import DeployStatus, ReplicaState
from appliance.core.fleet.model import FleetStatus, NodeStatus, Reach
from appliance.core.inference.status import InferenceStatus
from appliance.core.llm.model import EndpointStatus, LlmStatus
from appliance.core.model import AlertState, AlertStatus, Health, HostSample, JobStatus, ServiceStatus
from appliance.core.observe.sample import Bucket, Distribution, Labels, Sample
from appliance.core.state import LiveState, Section
from appliance.core.tasks.model import TasksStatus

WELL = frozenset({Health.healthy, Health.degraded})
LOST = frozenset({Reach.stale, Reach.unreachable, Reach.refused, Reach.untrusted, Reach.changed})
"""Links of nodes that ought to answer, and do not."""


def samples(state: LiveState) -> Iterator[Sample]:
    """All numbers that are known now."""
    yield from host_samples(state.get(Section.host).value)
    yield from service_samples(state.get(Section.services).value or ())
    yield from llm_samples(state.get(Section.llm).value)
    yield from fleet_samples(state.get(Section.fleet).value)
    yield from compute_samples(state)
    yield from model_samples(state.get(Section.inference).value)
    yield from work_samples(state)


def _known(rows: tuple[tuple[str, str, float | None], ...], labels: Labels = (), kind: str = "gauge") -> Iterator[Sample]:
    for name, words, value in rows:
        if value is not None:
            yield Sample(name, kind, words, value, labels)


def host_samples(sample: object) -> Iterator[Sample]:
    """Utilisation, saturation and errors of this machine, and what the appliance itself takes of it."""
    if not isinstance(sample, HostSample):
        return
    yield from _known((
        ("edge_load1", "Processes that run or wait, mean of a minute", sample.load_1m),
        ("edge_load5", "Likewise, five minutes", sample.load_5m),
        ("edge_load15", "Likewise, fifteen minutes", sample.load_15m),
        ("edge_cpu_cores", "Processors", len(sample.cpu_per_core) or None),
        ("edge_swap_usage_percent", "Swap of the host", sample.swap_usage),
        ("edge_memory_total_bytes", "Memory of the host", sample.memory_total),
        ("edge_memory_used_bytes", "Memory that is taken", sample.memory_used),
        ("edge_disk_total_bytes", "File system of the appliance's data", sample.disk_total),
        ("edge_disk_free_bytes", "Room on it", sample.disk_free),
        ("edge_uptime_seconds", "Since the host started", sample.uptime_s),
        ("edge_throttled", "Flags of the firmware that are set now: under-voltage, heat",
         None if sample.throttled is None else len(sample.throttled)),
        ("edge_process_cpu_percent", "Of one processor, by the appliance", sample.process_cpu),
        ("edge_process_resident_memory_bytes", "Memory of the appliance", sample.process_rss),
    ))  # fmt: skip
    for link in sample.network:
        if link.name == "lo":
            continue
        labels = (("interface", link.name),)
        yield Sample("edge_network_transmit_bytes_total", "counter", "Bytes sent since the boot", link.tx_bytes, labels)
        yield Sample("edge_network_receive_bytes_total", "counter", "Bytes received since the boot", link.rx_bytes, labels)
        yield Sample("edge_network_up", "gauge", "1 where it is up", float(link.is_up), labels)


def service_samples(statuses: tuple[ServiceStatus, ...]) -> Iterator[Sample]:
    """Each service that is not absent."""
    for status in statuses:
        if status.health is Health.absent:
            continue
        labels = (("service", status.name),)
        yield Sample("edge_service_up", "gauge", "1 where it is healthy or degraded", float(status.health in WELL), labels)
        yield Sample("edge_service_restarts_total", "counter", "Starts after a failure", status.restarts, labels)


def llm_samples(status: object) -> Iterator[Sample]:
    """The gateway to the language models; times and tokens are counted where they happen."""
    if not isinstance(status, LlmStatus):
        return
    counts = (
        ("edge_llm_failovers_total", "Requests that another endpoint had to take", status.failovers),
        ("edge_llm_hedges_total", "Requests that a second endpoint was asked too, for slowness", status.hedges),
        ("edge_llm_retries_total", "Second rounds", status.retries),
        ("edge_llm_cache_hits_total", "Answers that were kept", status.cache_hits),
        ("edge_llm_cache_misses_total", "Answers that could have been kept", status.cache_misses),
    )
    yield from _known(counts, kind="counter")
    spent = status.spent
    yield from _known((
        ("edge_llm_ledger_requests", "Requests that left the house, last 24 hours", spent.requests),
        ("edge_llm_ledger_bytes", "Bytes that left the house, last 24 hours", spent.bytes),
        ("edge_llm_ledger_tokens", "Tokens there, last 24 hours", spent.tokens),
        ("edge_llm_ledger_cost", "Cost, last 24 hours, in the currency of the prices", spent.cost),
        ("edge_llm_ledger_bytes_cap", "Most bytes in 24 hours", spent.bytes_cap),
        ("edge_llm_ledger_tokens_cap", "Most tokens in 24 hours", spent.tokens_cap),
        ("edge_llm_ledger_cost_cap", "Most cost in 24 hours", spent.cost_cap),
    ))  # fmt: skip
    for endpoint in status.endpoints:
        yield from _endpoint(endpoint)


def _endpoint(endpoint: EndpointStatus) -> Iterator[Sample]:
    labels = (("endpoint", endpoint.name), ("place", endpoint.place.value))
    if endpoint.probed or endpoint.requests:
        up = float(endpoint.health in WELL)
        yield Sample("edge_llm_endpoint_up", "gauge", "1 where it answers", up, labels)
    yield Sample("edge_llm_in_flight", "gauge", "Requests that it works on", endpoint.in_flight, labels)
    yield Sample("edge_llm_queue", "gauge", "Requests that wait for it", endpoint.queue, labels)
    words = "Requests that it failed"
    yield Sample("edge_llm_endpoint_failures_total", "counter", words, endpoint.failures, labels)
    models = None if endpoint.models is None else len(endpoint.models)
    yield from _known((
        ("edge_llm_endpoint_models", "Models that it has", models),
        ("edge_llm_endpoint_error_ratio", "Moving mean of failures, 0 to 1", endpoint.error_rate),
        ("edge_llm_endpoint_tokens_per_second", "Moving mean", endpoint.tokens_per_s),
        ("edge_llm_endpoint_cooldown_seconds", "Until it is asked again", endpoint.cooldown_s),
    ), labels)  # fmt: skip


def fleet_samples(status: object) -> Iterator[Sample]:
    """Each node that is not set aside or switched off."""
    for each in status.nodes if isinstance(status, FleetStatus) else ():
        yield from _node(each)


def _node(each: NodeStatus) -> Iterator[Sample]:
    labels = (("node", each.node.name),)
    reach = each.link.reach
    if each.node.enabled and reach is not Reach.off and (reach is Reach.up or reach in LOST):
        yield Sample("edge_node_up", "gauge", "1 where it answers", float(reach is Reach.up), labels)
    if each.metrics is None or reach is not Reach.up:
        return
    yield from _known((
        ("edge_node_cpu_usage_percent", "Its CPU", each.metrics.cpu),
        ("edge_node_memory_usage_percent", "Its memory", each.metrics.memory),
        ("edge_node_disk_usage_percent", "Its fullest file system", each.metrics.disk),
        ("edge_node_temperature_celsius", "Its temperature", each.metrics.temperature_c),
        ("edge_node_load1", "Processes that run or wait there", each.metrics.load_1m),
        ("edge_node_uptime_seconds", "Since it started", each.metrics.uptime),
    ), labels)  # fmt: skip


def compute_samples(state: LiveState) -> Iterator[Sample]:
    """The machines as one cluster: those of the fleet that answer, and what runs on them."""
    fleet, deployed = state.get(Section.fleet).value, state.get(Section.deployments).value
    tasks = state.get(Section.tasks).value
    if isinstance(fleet, FleetStatus):
        up = [each for each in fleet.nodes if each.link.reach is Reach.up]
        yield Sample("cloud_compute_active_nodes", "gauge", "Nodes of the fleet that answer", len(up))
        cores = [each.facts.cores for each in up if each.facts is not None and each.facts.cores is not None]
        if cores or not up:
            yield Sample("cloud_compute_total_cpu_cores", "gauge", "Processors of those that told", sum(cores))
    if isinstance(deployed, DeployStatus) or isinstance(tasks, TasksStatus):
        services = deployed.services if isinstance(deployed, DeployStatus) else ()
        replicas = sum(each.replica.state is ReplicaState.running for one in services for each in one.replicas)
        busy = tasks.with_workers if isinstance(tasks, TasksStatus) else 0
        words = "Replicas that run, and tasks that workers have"
        yield Sample("cloud_compute_active_workloads", "gauge", words, replicas + busy)


def model_samples(status: object) -> Iterator[Sample]:
    """Versions of models, and what they served."""
    if not isinstance(status, InferenceStatus):
        return
    active = sum(each.active for each in status.models)
    yield Sample("cloud_ml_models_deployed_total", "gauge", "Versions of models that serve requests", active)
    yield Sample("edge_models", "gauge", "Versions of models that are kept", len(status.models))
    yield Sample("edge_models_bytes", "gauge", "Bytes that they take", status.models_bytes)


def work_samples(state: LiveState) -> Iterator[Sample]:
    """Jobs, consoles and alerts."""
    jobs: tuple[JobStatus, ...] | None = state.get(Section.jobs).value
    for name, count in Counter(each.state.value for each in jobs or ()).items():
        yield Sample("edge_jobs", "gauge", "Jobs that are remembered", count, (("state", name),))
    sessions = state.get(Section.sessions).value
    if sessions is not None:
        yield Sample("edge_sessions", "gauge", "Open consoles", len(sessions))
    alerts: tuple[AlertStatus, ...] | None = state.get(Section.alerts).value
    if alerts is None:
        return
    for state_of in (AlertState.pending, AlertState.firing):
        count = sum(each.state is state_of for each in alerts)
        yield Sample("edge_alerts", "gauge", "The appliance's own alerts", count, (("state", state_of.value),))
    for each in alerts:
        if each.state is AlertState.firing:
            labels = (("rule", each.rule), ("severity", each.severity.value), ("subject", each.subject))
            yield Sample("edge_alert_firing", "gauge", "1 for each alert that fires", 1.0, labels)


def distributions(state: LiveState) -> Iterator[Distribution]:
    """Histograms that the domains keep themselves."""
    status = state.get(Section.inference).value
    if not isinstance(status, InferenceStatus) or not status.histogram:
        return
    buckets, before = [], 0
    for limit, count in status.histogram:
        before += count
        buckets.append(Bucket(math.inf if limit is None else limit / 1000, before))
    yield Distribution("edge_inference_duration_seconds", "Time of a request, end to end", tuple(buckets), None)
