"""What Prometheus scrapes: the names of the owner's dashboard, and only numbers that are known."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from appliance.core import metrics
from appliance.core.memory.model import MemoryStatus, TierStatus
from appliance.core.memory.sync import SyncTotals
from appliance.core.model import Health, InferenceStats, QueueStatus
from appliance.core.state import LiveState, Section
from tests.support import ManualClock


def scraped(state: LiveState) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    found = text_string_to_metric_families(metrics.text(state))
    return {(each.name, tuple(sorted(each.labels.items()))): each.value for family in found for each in family.samples}


def test_what_is_not_known_is_not_told() -> None:
    names = {name for name, _ in scraped(LiveState(ManualClock()))}
    assert names == {"orchestrator_healthy_services", "orchestrator_degraded_services", "orchestrator_unhealthy_services"}


def test_the_memory_has_the_dashboards_names() -> None:
    state = LiveState(ManualClock())
    tier = TierStatus(name="redis", level=1, health=Health.healthy, reason="", hits=7, misses=2, size=4096, p99_ms=0.5, owed=3)
    state.put(Section.memory, MemoryStatus(tiers=(tier,), hits=7, misses=2))
    state.put(Section.sync_totals, SyncTotals(operations=4, detected=3, resolved=2, transferred=1000))
    state.put(Section.queues, (QueueStatus("outbox", 5, 100, 0, 0, ""),))
    state.put(Section.inference, InferenceStats("m", "cpu", 9, 0, 10.0, 20.0, 0.0))
    found = scraped(state)
    redis = (("tier", "redis"),)
    wanted = {
        ("edge_cache_hits", ()): 7, ("edge_cache_misses", ()): 2, ("edge_memory_tier_hits_total", redis): 7,
        ("edge_memory_tier_bytes", redis): 4096, ("edge_memory_tier_up", redis): 1, ("edge_memory_tier_owed", redis): 3,
        ("edge_memory_tier_latency_seconds", (("quantile", "0.99"), *redis)): 0.0005, ("sync_operations_total", ()): 4,
        ("sync_conflicts_detected_total", ()): 3, ("sync_conflicts_resolved_total", ()): 2,
        ("sync_bytes_transferred", ()): 1000,
        ("edge_offline_queue_size", ()): 5, ("edge_inference_total", ()): 9, ("edge_cpu_inferences_total", ()): 9,
        ("edge_inference_latency_ms", (("quantile", "0.95"),)): 20,
    }  # fmt: skip
    assert {key: found.get(key) for key in wanted} == wanted
    assert ("edge_memory_tier_latency_seconds", (("quantile", "0.5"), *redis)) not in found
