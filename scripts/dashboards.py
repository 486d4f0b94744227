"""Writes the dashboards for Grafana: one line for each panel here is easier to read, and to keep right, than its JSON.

Run it as: .venv/bin/python scripts/dashboards.py [DIRECTORY]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parent.parent / "docs" / "observability" / "grafana"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDE, HALF, THIRD, QUARTER = 24, 12, 8, 6
HEIGHT = 8


class Panel(NamedTuple):
    """One panel.

    Attributes:
        title: Its name.
        shows: (expression, legend) of each line.
        unit: As Grafana names units.
        kind: timeseries, stat, gauge or table.
        width: Of 24.
        limit: From which on it is red; None for none.
        note: What it is about.
    """

    title: str
    shows: tuple[tuple[str, str], ...]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = HALF
    limit: float | None = None
    note: str = ""


def rate(name: str, by: str = "instance", labels: str = "") -> str:
    """How fast a counter grows."""
    return f"sum by ({by}) (rate({name}{{{labels}}}[5m]))" if labels else f"sum by ({by}) (rate({name}[5m]))"


def quantiles(name: str, *shares: float, by: str = "") -> tuple[tuple[str, str], ...]:
    """Quantiles of a histogram."""
    labels = f"le, {by}" if by else "le"
    legend = f"p{{:g}} {{{{{{{{{by}}}}}}}}}" if by else "p{:g}"
    return tuple(
        (f"histogram_quantile({share}, sum by ({labels}) (rate({name}_bucket[5m])))", legend.format(100 * share))
        for share in shares
    )


HITS, MISSES = rate("edge_cache_hits"), rate("edge_cache_misses")
HIT_RATE = f"100 * {HITS} / ({HITS} + {MISSES})"
HOST = (("edge_cpu_usage_percent", "CPU {{instance}}"), ("edge_memory_usage_percent", "memory {{instance}}"))
IDLE = '100 - 100 * avg by (instance) (rate(node_cpu_seconds_total{mode="idle"}[5m]))'
FREE = "100 - 100 * node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes"

OWNER = (
    Panel("System Overview", (("edge_service_up", "{{service}}"),), kind="stat", width=WIDE, note="1: up, 0: down"),
    Panel("Edge Inference Performance", (
        (rate("edge_inference_total"), "requests/s {{instance}}"),
        ("edge_inference_latency_ms", "ms, quantile {{quantile}}"),
    )),
    Panel("Cache Hit Rate", ((HIT_RATE, "memory {{instance}}"),), "percent"),
    Panel("Hailo vs CPU Inference", (
        (rate("edge_hailo_inferences_total"), "Hailo {{instance}}"), (rate("edge_cpu_inferences_total"), "CPU {{instance}}"),
    ), "reqps"),
    Panel("Preprocessing Throughput", ((rate("edge_preprocessing_total"), "items/s {{instance}}"),), "ops"),
    Panel("Offline Queue Size", (("edge_offline_queue_size", "{{instance}}"),), limit=1000),
    Panel("Cloud Analytics Queries", (
        (rate("cloud_analytics_queries_total"), "queries/s {{instance}}"),
        ("cloud_analytics_query_latency_ms", "ms, quantile {{quantile}}"),
    )),
    Panel("Kafka Aggregation Rate", (
        ("sum(rate(cloud_aggregation_events_total[5m]))", "events/s"),
        ("sum(rate(cloud_aggregation_windows_completed[5m]))", "windows/s"),
    ), note="From the role windows, which has a /metrics of its own"),
    Panel("ML Pipeline Status", (
        ("cloud_ml_models_deployed_total", "models that serve"), ("cloud_ml_pipeline_runs_total", "runs"),
        ("cloud_ml_pipeline_success_rate", "success, %"),
    ), kind="stat"),
    Panel("Compute Cluster Status", (
        ("cloud_compute_active_nodes", "nodes"), ("cloud_compute_active_workloads", "workloads"),
        ("cloud_compute_total_cpu_cores", "CPU cores"),
    ), kind="stat"),
    Panel("Auto-Scaling Events", (("increase(cloud_compute_scale_events_total[1h])", "in the last hour {{instance}}"),)),
    Panel("Sync Operations", ((rate("sync_operations_total"), "{{instance}}"),), "ops"),
    Panel("Sync Conflicts", (("sync_conflicts_detected_total", "detected"), ("sync_conflicts_resolved_total", "resolved"))),
    Panel("Bandwidth Usage", (
        (rate("sync_bytes_transferred"), "synchronised {{instance}}"),
        (rate("edge_network_transmit_bytes_total"), "sent {{instance}}"),
        (rate("edge_network_receive_bytes_total"), "received {{instance}}"),
    ), "Bps"),
    Panel("Service Health", (
        ("sum by (instance) (orchestrator_healthy_services)", "healthy"),
        ("sum by (instance) (orchestrator_degraded_services)", "degraded"),
        ("sum by (instance) (orchestrator_unhealthy_services)", "unhealthy"),
    )),
    Panel("Deployment Success Rate", (("orchestrator_deployment_success_rate", "{{instance}}"),), "percent", "gauge"),
    Panel("Alert Summary", (("ALERTS", "{{alertname}} {{alertstate}}"), ("edge_alerts", "the appliance's own: {{state}}")),
          kind="table"),
    Panel("System Resource Usage", (*HOST, (IDLE, "CPU {{instance}}"), (FREE, "memory {{instance}}")), "percent", limit=90),
)  # fmt: skip
OVERVIEW = (
    Panel("Up", (("up", "{{job}} {{instance}}"),), kind="stat", width=HALF, note="What Prometheus reaches"),
    Panel("Uptime", (("edge_uptime_seconds", "{{instance}}"),), "s", "stat"),
    Panel("Services", (("edge_service_up", "{{service}}"),), kind="stat", width=WIDE),
    Panel("Restarts of services", (("increase(edge_service_restarts_total[1h])", "{{service}}"),)),
    Panel("Alerts", (("edge_alerts", "{{state}}"),)),
    Panel("CPU and memory", HOST, "percent", limit=90),
    Panel("Load against processors", (("edge_load1 / edge_cpu_cores", "{{instance}}"),), "percentunit", limit=1),
    Panel("Disk", (("edge_disk_usage_percent", "{{instance}}"),), "percent", "gauge", limit=90),
    Panel("Memory of the appliance itself", (("edge_process_resident_memory_bytes", "{{instance}}"),), "bytes"),
    Panel("CPU of the appliance itself", (("edge_process_cpu_percent", "% of a processor, {{instance}}"),), "percent"),
    Panel("Actions", ((rate("edge_actions_total", "via, outcome"), "{{via}} {{outcome}}"),), "ops"),
    Panel("Memory: tiers", (("edge_memory_tier_bytes", "{{tier}}"),), "bytes"),
    Panel("Memory: time of a read", (("edge_memory_tier_latency_seconds", "{{tier}} {{quantile}}"),), "s"),
    Panel("Tasks", (("edge_tasks_waiting", "waiting, {{priority}}"), ("edge_tasks_with_workers", "with workers"))),
    Panel("Jobs and consoles", (("edge_jobs", "jobs {{state}}"), ("edge_sessions", "consoles"))),
)  # fmt: skip
DEVICES = (
    Panel("Nodes that answer", (("edge_node_up", "{{node}}"),), kind="stat", width=WIDE),
    Panel("CPU of nodes", (("edge_node_cpu_usage_percent", "{{node}}"),), "percent", limit=85),
    Panel("Memory of nodes", (("edge_node_memory_usage_percent", "{{node}}"),), "percent", limit=90),
    Panel("Disks of nodes", (("edge_node_disk_usage_percent", "{{node}}"),), "percent", limit=90),
    Panel("Temperature", (("edge_node_temperature_celsius", "{{node}}"),), "celsius", limit=80),
    Panel("Network of the appliance", (
        (rate("edge_network_receive_bytes_total", "interface"), "in {{interface}}"),
        (rate("edge_network_transmit_bytes_total", "interface"), "out {{interface}}"),
    ), "Bps"),
    Panel("Power", (("edge_power_on_battery", "on battery"), ("edge_power_shed", "load is shed")), kind="stat"),
    Panel("Battery", (("100 * edge_battery_charge_ratio", "{{ups}}"),), "percent", "gauge"),
    Panel("Drawn by the load", (("edge_ups_load_watts", "{{ups}}"),), "watt"),
    Panel("VPN peers", (("edge_vpn_peers_connected", "connected"), ("edge_vpn_peers", "set"))),
    Panel("VPN traffic", (
        (rate("edge_vpn_peer_receive_bytes_total", "peer"), "from {{peer}}"),
        (rate("edge_vpn_peer_transmit_bytes_total", "peer"), "to {{peer}}"),
    ), "Bps"),
    Panel("node_exporter: CPU", ((IDLE, "{{instance}}"),), "percent"),
    Panel("node_exporter: memory", ((FREE, "{{instance}}"),), "percent"),
)  # fmt: skip
AI = (
    Panel("Inferences", ((rate("edge_inference_total"), "{{instance}}"),), "reqps"),
    Panel("Time of an inference", quantiles("edge_inference_duration_seconds", 0.5, 0.95, 0.99), "s"),
    Panel("Errors and refusals", (
        (rate("edge_inference_errors_total"), "errors"), (rate("edge_inference_refused_total"), "refused"),
    ), "reqps"),
    Panel("Remembered results", (
        (rate("edge_inference_cached_total"), "found"), (rate("edge_inference_cache_misses_total"), "not found"),
    ), "reqps"),
    Panel("Devices", (("edge_accelerator_up", "{{device}}"),), kind="stat"),
    Panel("Waiting", (("edge_inference_waiting", "{{priority}}"),)),
    Panel("LLM requests", ((rate("edge_llm_requests_total", "endpoint, outcome"), "{{endpoint}} {{outcome}}"),), "reqps"),
    Panel("LLM time of an answer", quantiles("edge_llm_request_duration_seconds", 0.5, 0.95, by="endpoint"), "s"),
    Panel("LLM time to the first token", quantiles("edge_llm_first_token_seconds", 0.5, 0.95, by="endpoint"), "s"),
    Panel("LLM tokens", ((rate("edge_llm_tokens_total", "endpoint, direction"), "{{endpoint}} {{direction}}"),), "ops"),
    Panel("LLM endpoints", (("edge_llm_endpoint_up", "{{endpoint}}"),), kind="stat"),
    Panel("LLM load", (("edge_llm_in_flight", "{{endpoint}} under way"), ("edge_llm_queue", "{{endpoint}} waiting"))),
    Panel("LLM failovers, hedges, retries", (
        (rate("edge_llm_failovers_total"), "failovers"), (rate("edge_llm_hedges_total"), "hedges"),
        (rate("edge_llm_retries_total"), "retries"),
    ), "ops"),
    Panel("LLM kept answers", (
        (rate("edge_llm_cache_hits_total"), "found"), (rate("edge_llm_cache_misses_total"), "not found"),
    ), "ops"),
    Panel("Left the house in 24 hours", (("edge_llm_ledger_bytes", "bytes"),), "bytes", "stat"),
    Panel("Tokens and cost of that", (("edge_llm_ledger_tokens", "tokens"), ("edge_llm_ledger_cost", "cost")), kind="stat"),
)  # fmt: skip
KAFKA = (
    Panel("Link", (("edge_kafka_up", "{{instance}}"),), kind="stat"),
    Panel("Outbox", (("edge_offline_queue_size", "events that wait"),), limit=1000),
    Panel("Sent", ((rate("edge_kafka_messages_sent_total", "topic"), "{{topic}}"),), "ops"),
    Panel("Received", ((rate("edge_kafka_messages_received_total", "topic"), "{{topic}}"),), "ops"),
    Panel("Refused", ((rate("edge_kafka_messages_refused_total", "topic"), "{{topic}}"),), "ops"),
    Panel("Consumer lag", (("edge_kafka_consumer_lag", "{{group}} {{topic}}"),), limit=1000),
    Panel("Bytes that wait", (("edge_outbox_bytes", "{{instance}}"),), "bytes"),
    Panel("Given up", (("edge_outbox_dropped_total", "at a bound"), ("edge_outbox_dead_letters", "dead letters")), limit=1),
    Panel("Signed commands", (
        (rate("edge_commands_accepted_total"), "taken"), (rate("edge_commands_refused_total", "reason"), "refused: {{reason}}"),
    ), "ops"),
    Panel("Windows", (
        ("sum(rate(cloud_aggregation_events_total[5m]))", "events/s"),
        ("sum(rate(cloud_aggregation_late_total[5m]))", "late/s"),
    )),
)  # fmt: skip
ERRORS = '100 * sum by (route) (rate(edge_http_requests_total{status="5xx"}[5m]))'
API = (
    Panel("Requests", ((rate("edge_http_requests_total", "front, status"), "{{front}} {{status}}"),), "reqps"),
    Panel("Times", quantiles("edge_http_request_duration_seconds", 0.5, 0.95, 0.99), "s", limit=0.5,
          note="With exemplars: a point leads to its trace"),
    Panel("Requests by route", ((f"topk(10, {rate('edge_http_requests_total', 'route')})", "{{route}}"),), "reqps"),
    Panel("Times by route", quantiles("edge_http_request_duration_seconds", 0.95, by="route"), "s"),
    Panel("Errors of ours", (("100 * prime_spark:http_errors:ratio5m", "% {{instance}}"),), "percent", limit=5),
    Panel("Errors of callers by route", ((rate("edge_http_requests_total", "route", 'status="4xx"'), "{{route}}"),), "reqps"),
    Panel("Under way", (("edge_http_requests_in_flight", "{{front}}"),)),
    Panel("Actions by outcome", ((rate("edge_actions_total", "outcome"), "{{outcome}}"),), "ops"),
)  # fmt: skip
DASHBOARDS = {
    "integration-framework": ("Prime Spark: integration framework", OWNER),
    "system-overview": ("Prime Spark: system overview", OVERVIEW),
    "edge-devices": ("Prime Spark: edge devices", DEVICES),
    "ai-performance": ("Prime Spark: AI performance", AI),
    "kafka-metrics": ("Prime Spark: Kafka metrics", KAFKA),
    "api-performance": ("Prime Spark: API performance", API),
}


def written(name: str) -> str:
    """A dashboard as Grafana imports it."""
    title, panels = DASHBOARDS[name]
    made, x, y = [], 0, 0
    for number, panel in enumerate(panels, 1):
        if x + panel.width > WIDE:
            x, y = 0, y + HEIGHT
        made.append(_panel(number, panel, x, y))
        x += panel.width
    variable = {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"}
    document = {
        "uid": f"prime-spark-{name}", "title": title, "tags": ["prime-spark"], "schemaVersion": 39, "editable": True,
        "refresh": "30s", "time": {"from": "now-6h", "to": "now"}, "templating": {"list": [variable]}, "panels": made,
    }  # fmt: skip
    return json.dumps(document, indent=2) + "\n"


def _panel(number: int, panel: Panel, x: int, y: int) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.limit is not None:
        steps.append({"color": "red", "value": panel.limit})
    targets = [
        {"refId": chr(65 + place), "datasource": SOURCE, "expr": expression, "legendFormat": legend, "exemplar": True,
         **({"instant": True, "format": "table"} if panel.kind == "table" else {})}
        for place, (expression, legend) in enumerate(panel.shows)
    ]  # fmt: skip
    return {
        "id": number, "title": panel.title, "description": panel.note, "type": panel.kind, "datasource": SOURCE,
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": HEIGHT}, "targets": targets,
        "fieldConfig": {"defaults": {"unit": panel.unit, "thresholds": {"mode": "absolute", "steps": steps}}, "overrides": []},
        "options": {},
    }  # fmt: skip


def main() -> None:
    """Write them all."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name in DASHBOARDS:
        (folder / f"{name}.json").write_text(written(name), encoding="utf-8")


if __name__ == "__main__":
    main()
