"""The appliance's numbers in Prometheus' text format: names of the owner's dashboard, read from the live state.

Nothing is counted twice for Prometheus: what a screen shows is what is scraped. A number that is not known is left out.
"""

from __future__ import annotations

from collections.abc import Iterator

from appliance.core.analytics.model import QueryStats
from appliance.core.deploy.model import DeployStatus
from appliance.core.inference.sources.model import SourceState, SourceStatus
from appliance.core.inference.status import InferenceStatus
from appliance.core.lifecycle.backup.model import BackupStatus
from appliance.core.lifecycle.update.model import TrialState, UpdateStatus
from appliance.core.memory.model import MemoryStatus, TierStatus
from appliance.core.memory.sync import SyncTotals
from appliance.core.model import Health, HostSample, InferenceStats, QueueStatus, ServiceStatus
from appliance.core.observe.exposition import Scrape, scrape
from appliance.core.observe.meter import Meter
from appliance.core.observe.sample import Sample as Sample  # noqa: PLC0414 others take it from here
from appliance.core.power.model import Phase as PowerPhase
from appliance.core.power.model import PowerStatus, Supply, UpsStatus
from appliance.core.state import LiveState, Section
from appliance.core.streams.model import LinkState, OutboxStatus, StreamsStatus
from appliance.core.tasks.model import TasksStatus, WorkerState
from appliance.core.vpn.status import PeerState, VpnStatus

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def text(state: LiveState, meter: Meter | None = None) -> str:
    """Everything in the text format."""
    return gathered(state, meter).written()[0].decode()


def gathered(state: LiveState, meter: Meter | None = None) -> Scrape:
    """Everything, for a scrape; on the core loop."""
    return scrape(state, samples(state), meter)


def samples(state: LiveState) -> Iterator[Sample]:
    """All numbers that are known now."""
    yield from _host(state.get(Section.host).value)
    yield from _services(state.get(Section.services).value or ())
    yield from _inference(state.get(Section.inference).value)
    streams = state.get(Section.streams).value
    yield from _streams(streams) if linked(streams) else _queues(state.get(Section.queues).value or ())
    yield from _analytics(state.get(Section.analytics).value)
    yield from _sources(state.get(Section.sources).value or ())
    yield from power_samples(state.get(Section.power).value)
    yield from vpn_samples(state.get(Section.vpn).value)
    yield from task_samples(state.get(Section.tasks).value)
    yield from deploy_samples(state.get(Section.deployments).value)
    yield from backup_samples(state.get(Section.backup).value)
    yield from update_samples(state.get(Section.update).value)
    yield from domain_samples(state)


def domain_samples(state: LiveState) -> Iterator[Sample]:
    """Those of memory and synchronisation, which no other event carries."""
    yield from _memory(state.get(Section.memory).value)
    yield from _sync(state.get(Section.sync_totals).value)


def backup_samples(status: object) -> Iterator[Sample]:
    """Runs, and each target's newest proved backup."""
    if not isinstance(status, BackupStatus) or not status.targets:
        return
    yield Sample("edge_backup_runs_total", "counter", "Backups that ended since the start", status.runs)
    yield Sample("edge_backup_failures_total", "counter", "Of these, at one target at least in vain", status.failed)
    for each in status.targets:
        newest = each.snapshots[0] if each.snapshots else None
        numbers = (
            ("edge_backup_last_proved_timestamp_seconds", "When the newest proved backup was made", each.last_good),
            ("edge_backup_duration_seconds", "Of the last good backup, its proof included", each.seconds),
            ("edge_backup_size_bytes", "What the newest backup contains", newest.size if newest is not None else None),
            ("edge_backup_added_bytes", "What it added to the repository", newest.added if newest is not None else None),
            ("edge_backup_failed_in_a_row", "Tries that failed since the last good one", each.failures),
        )
        for name, words, value in numbers:
            if value is not None:
                yield Sample(name, "gauge", words, value, (("target", each.name),))


def update_samples(status: object) -> Iterator[Sample]:
    """Which system runs, its trial, what came of the last update; nothing off our image."""
    if not isinstance(status, UpdateStatus) or status.booted is None:
        return
    slots = (("version", status.version), ("slot", status.booted), ("claimed", status.committed or ""))
    yield Sample("edge_update_info", "gauge", "1 for the system that runs", 1.0, slots)
    for state in TrialState:
        holds = float(state is status.trial.state)
        yield Sample("edge_update_trial", "gauge", "1 for how the trial is", holds, (("state", state.value),))
    newest, last, trial = status.newest, status.last, status.trial
    held = len(trial.holds) if trial.state is TrialState.running else None
    yield Sample("edge_update_available", "gauge", "1 while the source has a newer release", float(newest is not None))
    numbers = (
        ("edge_update_trial_steady_seconds", "For how long all has been well in a trial", trial.steady),
        ("edge_update_trial_left_seconds", "Until a trial is given up", trial.left),
        ("edge_update_trial_held", "Services that hold a trial", held),
        ("edge_update_checked_timestamp_seconds", "When the source was looked at", status.checked),
        ("edge_update_progress", "Of what is being done, 0 to 1", status.progress),
    )  # fmt: skip
    for name, words, value in numbers:
        if value is not None:
            yield Sample(name, "gauge", words, value)
    if last is not None:
        outcome = (("outcome", last.kind.value), ("version", last.version or ""))
        yield Sample("edge_update_last_timestamp_seconds", "gauge", "When the last update ended, and how", last.time, outcome)


def power_samples(status: object) -> Iterator[Sample]:
    """Phase, charge, and each UPS."""
    if not isinstance(status, PowerStatus):
        return
    for phase in PowerPhase:
        holds = float(phase is status.phase)
        yield Sample("edge_power_phase", "gauge", "1 for the phase that holds", holds, (("phase", phase.value),))
    yield Sample("edge_power_transitions_total", "counter", "Changes of the phase since the start", status.transitions)
    yield Sample("edge_power_shed", "gauge", "1 while load is shed", float(status.shed))
    if status.supply is not Supply.unknown:
        yield Sample("edge_power_on_battery", "gauge", "1 on battery, 0 on mains", float(status.supply is Supply.battery))
    if status.on_battery_s is not None:
        yield Sample("edge_power_on_battery_seconds", "gauge", "For how long", status.on_battery_s)
    for ups in status.upses:
        yield from _ups(ups)


def task_samples(status: object) -> Iterator[Sample]:
    """What waits and runs, what became of tasks, and the workers."""
    if not isinstance(status, TasksStatus):
        return
    for priority, count in status.depths.items():
        yield Sample("edge_tasks_waiting", "gauge", "Tasks that wait", count, (("priority", priority),))
    yield Sample("edge_tasks_with_workers", "gauge", "Tasks that workers have", sum(each.busy for each in status.workers))
    for what, count in status.counts.items():
        yield Sample("edge_tasks_total", "counter", "What became of tasks", count, (("what", what),))
    for worker in status.workers:
        ready = float(worker.state is WorkerState.ready)
        yield Sample("edge_task_worker_up", "gauge", "1 where it takes tasks", ready, (("worker", worker.name),))


def deploy_samples(status: object) -> Iterator[Sample]:
    """Services by health, how rollouts ended, and each service's replicas and traffic."""
    if not isinstance(status, DeployStatus):
        return
    for health in ("healthy", "degraded", "unhealthy"):
        count = sum(each.health == health for each in status.services)
        name, words = f"orchestrator_{health}_services", f"Services that are {health}"
        yield Sample(name, "gauge", words, count, (("of", "deployments"),))
    if status.ended:
        rate = 100.0 * status.completed / status.ended
        yield Sample("orchestrator_deployment_success_rate", "gauge", "Percent of the rollouts since the start", rate)
    yield Sample("cloud_compute_scale_events_total", "counter", "Changes that auto-scaling made", status.scaled)
    for each in status.services:
        label = (("service", each.name),)
        yield Sample("orchestrator_replicas_ready", "gauge", "Healthy replicas", each.ready, label)
        yield Sample("orchestrator_replicas_wanted", "gauge", "Replicas that are wanted", each.wanted, label)
        if each.rate is not None:
            yield Sample("orchestrator_requests_per_second", "gauge", "Through the balancer", each.rate, label)


def _ups(ups: UpsStatus) -> Iterator[Sample]:
    label, answers = (("ups", ups.name),), ups.health in {Health.healthy, Health.degraded}
    yield Sample("edge_ups_up", "gauge", "1 where it answers", float(answers), label)
    yield Sample("edge_ups_refused_total", "counter", "Looks that could not be believed", ups.refused, label)
    yield Sample("edge_ups_failures_total", "counter", "Looks without an answer", ups.failed, label)
    if ups.reading is None or not answers:
        return
    numbers = (
        ("edge_battery_charge_ratio", "Charge, 0 to 1", None if ups.reading.percent is None else ups.reading.percent / 100),
        ("edge_battery_volts", "Voltage of the battery", ups.reading.voltage),
        ("edge_battery_amperes", "Into the battery; negative while it feeds", ups.reading.current),
        ("edge_battery_runtime_seconds", "Seconds left", ups.runtime),
        ("edge_battery_celsius", "Temperature of battery or UPS", ups.reading.temperature_c),
        ("edge_ups_load_watts", "Drawn by the load", ups.reading.power),
    )
    for name, words, value in numbers:
        if value is not None:
            yield Sample(name, "gauge", words, value, label)


def vpn_samples(status: object) -> Iterator[Sample]:
    """The tunnel, and each peer that it has."""
    if not isinstance(status, VpnStatus) or not (status.is_active or status.problems):
        return
    yield Sample("edge_vpn_up", "gauge", "1 where the tunnel is there", float(status.is_active))
    yield Sample("edge_vpn_peers", "gauge", "Peers that are set", status.total_peers)
    yield Sample("edge_vpn_peers_connected", "gauge", "Peers with a handshake in the last 180 s", status.connected_peers)
    yield Sample("edge_vpn_changes_total", "counter", "Changes that were made to the tunnel", status.changes)
    for peer in status.peers:
        label = (("peer", peer.name),)
        if peer.state in {PeerState.disabled, PeerState.expired, PeerState.unknown}:
            continue
        yield Sample("edge_vpn_peer_up", "gauge", "1 where connected", float(peer.state is PeerState.connected), label)
        numbers = (
            ("edge_vpn_peer_receive_bytes_total", "counter", "Bytes from it", peer.rx_bytes),
            ("edge_vpn_peer_transmit_bytes_total", "counter", "Bytes to it", peer.tx_bytes),
            ("edge_vpn_peer_handshake_age_seconds", "gauge", "Since the last handshake", peer.handshake_age_s),
            ("edge_vpn_peer_latency_ms", "gauge", "Of the newest echo", peer.latency_ms),
            ("edge_vpn_peer_loss_ratio", "gauge", "Echo requests without an answer, 0 to 1", peer.loss),
        )
        for name, kind, words, value in numbers:
            if value is not None:
                yield Sample(name, kind, words, value, label)


def _sources(statuses: tuple[SourceStatus, ...]) -> Iterator[Sample]:
    for status in statuses:
        labels = (("source", status.name),)
        lost = status.dropped + status.refused + status.late + status.failed + status.damaged
        yield Sample("edge_source_up", "gauge", "Whether it gives frames", float(status.state is SourceState.running), labels)
        yield Sample("edge_source_frames_total", "counter", "Frames that arrived", status.frames, labels)
        yield Sample("edge_source_inferred_total", "counter", "Frames that were looked at", status.inferred, labels)
        yield Sample("edge_source_lost_total", "counter", "Frames that were wanted and not looked at", lost, labels)
        yield Sample("edge_source_events_total", "counter", "Events", status.events_total, labels)


def _host(sample: object) -> Iterator[Sample]:
    if not isinstance(sample, HostSample):
        return
    numbers = {
        "edge_cpu_usage_percent": ("CPU of the host", sample.cpu_usage),
        "edge_memory_usage_percent": ("Memory of the host", sample.memory_usage),
        "edge_disk_usage_percent": ("Disk of the host", sample.disk_usage),
        "edge_temperature_celsius": ("CPU temperature", sample.temperature_c),
    }
    for name, (words, value) in numbers.items():
        if value is not None:
            yield Sample(name, "gauge", words, value)


def _services(statuses: tuple[ServiceStatus, ...]) -> Iterator[Sample]:
    names = {
        Health.healthy: "orchestrator_healthy_services", Health.degraded: "orchestrator_degraded_services",
        Health.unhealthy: "orchestrator_unhealthy_services",
    }  # fmt: skip
    for health, name in names.items():
        count = sum(status.health is health for status in statuses)
        yield Sample(name, "gauge", f"Services that are {health.value}", count, (("of", "appliance"),))


def _inference(stats: object) -> Iterator[Sample]:
    if not isinstance(stats, InferenceStats):
        return
    yield Sample("edge_inference_total", "counter", "Results since the start", stats.total)
    yield Sample("edge_inference_errors_total", "counter", "Requests that the model or the device failed", stats.errors)
    yield Sample("edge_inference_refused_total", "counter", "Requests that were not taken, or came too late", stats.refused)
    for quantile, value in (("0.5", stats.p50_ms), ("0.95", stats.p95_ms)):
        if value is not None:
            yield Sample("edge_inference_latency_ms", "gauge", "Time of a request", value, (("quantile", quantile),))
    if isinstance(stats, InferenceStatus):
        yield from _inference_parts(stats)
    else:
        share = "edge_hailo_inferences_total" if stats.backend == "hailo" else "edge_cpu_inferences_total"
        yield Sample(share, "counter", "Results of this backend since the start", stats.total)


def _inference_parts(stats: InferenceStatus) -> Iterator[Sample]:
    for backend in ("hailo", "cpu"):
        name = f"edge_{backend}_inferences_total"
        yield Sample(name, "counter", "Results of this backend since the start", stats.done_by.get(backend, 0))
    yield Sample("edge_preprocessing_total", "counter", "Inputs brought into a model's form", stats.prepared)
    yield Sample("edge_inference_cached_total", "counter", "Results that were remembered", stats.cached)
    yield Sample("edge_inference_cache_misses_total", "counter", "Inputs that were not remembered", stats.cache.misses)
    yield Sample("edge_inference_fallbacks_total", "counter", "Requests that ran elsewhere", stats.engine.fallbacks)
    for priority, waiting in stats.engine.waiting.items():
        yield Sample("edge_inference_waiting", "gauge", "Requests that wait", waiting, (("priority", priority),))
    for device in stats.engine.devices:
        label = (("device", device.name),)
        up = device.health in {Health.healthy, Health.degraded}
        yield Sample("edge_accelerator_up", "gauge", "1 where it works", float(up), label)
        yield Sample("edge_accelerator_stalls_total", "counter", "How often it did not answer in time", device.stalls, label)
        if device.reading is not None and device.reading.temperature_c is not None:
            yield Sample("edge_accelerator_celsius", "gauge", "Its temperature", device.reading.temperature_c, label)


def _queues(queues: tuple[QueueStatus, ...]) -> Iterator[Sample]:
    for queue in queues:
        if queue.name == "outbox":
            yield Sample("edge_offline_queue_size", "gauge", "Events that wait", queue.depth)


def _analytics(stats: object) -> Iterator[Sample]:
    if not isinstance(stats, QueryStats):
        return
    yield Sample("cloud_analytics_queries_total", "counter", "Queries since the start", stats.total)
    for quantile, value in (("0.5", stats.p50_ms), ("0.95", stats.p95_ms)):
        if value is not None:
            yield Sample("cloud_analytics_query_latency_ms", "gauge", "Time of a query", value, (("quantile", quantile),))


def linked(status: object) -> bool:
    """Whether Kafka is configured: then what waits for it is the offline queue, else the journal's own reader tells."""
    return isinstance(status, StreamsStatus) and status.link.state is not LinkState.absent


def _streams(status: object) -> Iterator[Sample]:
    if not isinstance(status, StreamsStatus):
        return
    yield Sample("edge_kafka_up", "gauge", "1 where Kafka takes messages", float(status.link.state is LinkState.up))
    yield from _outbox(status.outbox)
    for topic in status.topics:
        label = (("topic", topic.name),)
        yield Sample("edge_kafka_messages_sent_total", "counter", "Messages that Kafka has", topic.sent, label)
        yield Sample("edge_kafka_messages_received_total", "counter", "Messages that came", topic.received, label)
        yield Sample("edge_kafka_messages_refused_total", "counter", "Messages that Kafka refused", topic.refused, label)
    for group in status.groups:
        labels = (("group", group.group), ("topic", group.topic))
        yield Sample("edge_kafka_consumer_lag", "gauge", "Messages that a group is behind", group.lag, labels)
    yield Sample("edge_commands_accepted_total", "counter", "Signed commands taken", status.commands.accepted)
    for reason, count in status.commands.refused.items():
        yield Sample("edge_commands_refused_total", "counter", "Commands refused", count, (("reason", reason),))


def _outbox(box: OutboxStatus) -> Iterator[Sample]:
    yield Sample("edge_offline_queue_size", "gauge", "Events that wait", box.waiting)
    yield Sample("edge_outbox_bytes", "gauge", "Bytes that wait", box.bytes)
    yield Sample("edge_outbox_sent_total", "counter", "Messages that went out", box.sent)
    yield Sample("edge_outbox_dropped_total", "counter", "Messages given up at a bound", box.dropped)
    yield Sample("edge_outbox_dead_letters", "gauge", "Dead letters that are kept", box.dead)
    if box.oldest_s is not None:
        yield Sample("edge_outbox_oldest_seconds", "gauge", "Age of the oldest that waits", box.oldest_s)


def _memory(status: object) -> Iterator[Sample]:
    if not isinstance(status, MemoryStatus):
        return
    yield Sample("edge_cache_hits", "counter", "Reads that found a value", status.hits)
    yield Sample("edge_cache_misses", "counter", "Reads that found none", status.misses)
    yield Sample("edge_memory_corrupt_total", "counter", "Copies that failed their checksum", status.corrupt)
    for tier in status.tiers:
        yield from _tier(tier)


def _tier(tier: TierStatus) -> Iterator[Sample]:
    label = (("tier", tier.name),)
    yield Sample("edge_memory_tier_hits_total", "counter", "Reads of a tier that found a value", tier.hits, label)
    yield Sample("edge_memory_tier_misses_total", "counter", "Reads of a tier that found none", tier.misses, label)
    yield Sample("edge_memory_tier_errors_total", "counter", "Failures of a tier", tier.errors, label)
    yield Sample("edge_memory_tier_evictions_total", "counter", "Values that made room", tier.evictions, label)
    yield Sample("edge_memory_tier_owed", "gauge", "Writes that wait for a tier", tier.owed, label)
    yield Sample(
        "edge_memory_tier_up", "gauge", "1 where it answers", float(tier.health in {Health.healthy, Health.degraded}), label
    )
    if tier.size is not None:
        yield Sample("edge_memory_tier_bytes", "gauge", "Bytes that a tier holds", tier.size, label)
    if tier.limit is not None:
        yield Sample("edge_memory_tier_limit_bytes", "gauge", "Bytes that it may hold", tier.limit, label)
    for quantile, value in (("0.5", tier.p50_ms), ("0.99", tier.p99_ms)):
        if value is not None:
            labels = (*label, ("quantile", quantile))
            yield Sample("edge_memory_tier_latency_seconds", "gauge", "Time of a read", value / 1000, labels)


def _sync(totals: object) -> Iterator[Sample]:
    if not isinstance(totals, SyncTotals):
        return
    yield Sample("sync_operations_total", "counter", "Synchronisations", totals.operations)
    yield Sample("sync_conflicts_detected_total", "counter", "Conflicts found", totals.detected)
    yield Sample("sync_conflicts_resolved_total", "counter", "Conflicts settled", totals.resolved)
    yield Sample("sync_bytes_transferred", "counter", "Bytes of values both ways, before compression", totals.transferred)
