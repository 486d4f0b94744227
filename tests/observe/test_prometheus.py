"""Dashboards and rules against a real Prometheus that scraped a running appliance."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from appliance.agent.windows_counts import Counts, Exporter
from scripts import dashboards
from tests.llm.upstreams import FakeOllama, up
from tests.observe.rig import scraped, stand_in, watched, work
from tests.servers.prometheus import NodeExporter, PrometheusServer
from tests.support import free_port, needs_program

DOCS = Path(__file__).parents[2] / "docs" / "observability"
RULES = ("recording.yml", "alerts.yml")
NO_PIPELINES = "nothing here runs pipelines of machine learning yet"
WITHOUT = {
    "cloud_ml_pipeline_runs_total": NO_PIPELINES,
    "cloud_ml_pipeline_success_rate": NO_PIPELINES,
}
"""Expressions of panels that have no data in this test, and why."""
PATIENCE = 60.0
"""Seconds until all of it has data, on a machine that is busy; the tests tell what has none then."""
CONTRACT = """
edge_inference_total edge_inference_latency_ms edge_cache_hits edge_cache_misses edge_hailo_inferences_total
edge_cpu_inferences_total edge_preprocessing_total edge_offline_queue_size cloud_analytics_queries_total
cloud_analytics_query_latency_ms cloud_aggregation_events_total cloud_aggregation_windows_completed
cloud_ml_pipeline_runs_total cloud_ml_pipeline_success_rate cloud_ml_models_deployed_total cloud_compute_active_nodes
cloud_compute_active_workloads cloud_compute_total_cpu_cores cloud_compute_scale_events_total sync_operations_total
sync_conflicts_detected_total sync_conflicts_resolved_total sync_bytes_transferred orchestrator_healthy_services
orchestrator_unhealthy_services orchestrator_degraded_services orchestrator_deployment_success_rate
"""
"""The names that the owner's dashboard has."""
pytestmark = pytest.mark.xdist_group("prometheus")
LIMIT = re.compile(r"^(?P<left>.*\S)\s*(?:<|>|<=|>=|==)\s*[0-9.]+$", re.DOTALL)


def promtool(*arguments: str, cwd: Path | None = None) -> str:
    """What promtool says; it must be content."""
    command = [needs_program("promtool"), *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def configuration(folder: Path, targets: dict[str, str]) -> None:
    """The example of the documentation, with the addresses of this test, and a look every second."""
    found: dict[str, Any] = yaml.safe_load((DOCS / "prometheus" / "prometheus.yml").read_text())
    found["global"] = {"scrape_interval": "1s", "evaluation_interval": "500ms"}
    for job in found["scrape_configs"]:
        job["static_configs"] = [{"targets": [targets[job["job_name"]]]}]
        if job["job_name"] == "prime-spark":
            job["scheme"] = "http"
            del job["tls_config"]
    gone = {"job_name": "gone", "static_configs": [{"targets": [f"127.0.0.1:{free_port()}"]}]}
    found["scrape_configs"].append(gone)
    (folder / "prometheus.yml").write_text(yaml.safe_dump(found))
    for name in RULES:
        (folder / name).write_text((DOCS / "prometheus" / name).read_text())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrometheusServer]:
    """Prometheus, with what it saw of an appliance before, between and after two rounds of work."""
    needs_program("prometheus")
    folder = tmp_path_factory.mktemp("observe")
    prometheus, exporter = PrometheusServer(folder), NodeExporter(folder)
    try:
        prometheus.moment = asyncio.run(_prepare(folder, prometheus, exporter))
        yield prometheus
    finally:
        exporter.stop()
        prometheus.stop()


async def _prepare(folder: Path, prometheus: PrometheusServer, exporter: NodeExporter) -> float:
    """Work, and have it scraped; returns the moment at which all was seen."""
    (home := folder / "home").mkdir(mode=0o700)
    cloud, edge, port = FakeOllama(), FakeOllama(), free_port()
    async with up(cloud, edge), watched(home, {"cloud": cloud, "edge": edge}) as appliance:
        (folder / "token").write_text(await appliance.token("prometheus", "metrics"))
        targets = {
            "prime-spark": appliance.url.removeprefix("http://"), "node": f"127.0.0.1:{exporter.port}",
            "prime-spark-windows": f"127.0.0.1:{port}",
        }  # fmt: skip
        configuration(folder, targets)
        token = await appliance.token("worker")
        edge.script.append("500")
        await work(appliance, token, "red")
        stand_in(appliance)
        with Exporter(Counts(), port):
            exporter.start()
            prometheus.start()
            await scraped(prometheus, 1)
            await work(appliance, token, "blue")
            await scraped(prometheus, 2)
            ends = time.monotonic() + PATIENCE
            while time.monotonic() < ends and await asyncio.to_thread(_silent, prometheus, _all()) != set(WITHOUT):
                await asyncio.sleep(0.5)  # sections of the state are shown a second after what they tell
            return time.time()


def _all() -> set[str]:
    """The expressions of all dashboards, and the names of what the rules record."""
    recorded = yaml.safe_load((DOCS / "prometheus" / "recording.yml").read_text())["groups"][0]["rules"]
    panels = {expression for name in dashboards.DASHBOARDS for expression in _asked(name)}
    return panels | {rule["record"] for rule in recorded}


def _asked(name: str) -> list[str]:
    document = json.loads((DOCS / "grafana" / f"{name}.json").read_text())
    return [target["expr"] for panel in document["panels"] for target in panel["targets"]]


def _silent(server: PrometheusServer, expressions: Iterable[str]) -> set[str]:
    """Those that have no data."""
    return {each for each in expressions if not server.numbers(each)}


@pytest.mark.parametrize("name", dashboards.DASHBOARDS)
def test_every_panel_of_a_dashboard_shows_something(server: PrometheusServer, name: str) -> None:
    asked = _asked(name)
    assert _silent(server, asked) == {each for each in asked if each in WITHOUT}


def test_every_rule_is_worked_out(server: PrometheusServer) -> None:
    groups = server.ask("rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert {rule["name"]: rule.get("lastError", "") for rule in rules if rule["health"] != "ok"} == {}
    recorded = [rule["name"] for rule in rules if rule["type"] == "recording"]
    assert [name for name in recorded if not server.numbers(name)] == []
    alerts = {rule["name"]: LIMIT.match(rule["query"]) for rule in rules if rule["type"] == "alerting"}
    assert [name for name, found in alerts.items() if found is None] == []
    assert len(alerts) >= 15
    lefts = {name: found["left"] for name, found in alerts.items() if found is not None}
    assert {name: left for name, left in lefts.items() if not server.numbers(left)} == {}


def test_all_names_of_the_contract_are_there(server: PrometheusServer) -> None:
    known = set(server.ask("label/__name__/values"))
    assert set(CONTRACT.split()) - known == set(WITHOUT)


def test_the_samples_are_what_was_done(server: PrometheusServer) -> None:
    assert server.numbers('sum(edge_llm_requests_total{outcome="answered"})') == [5.0]
    assert server.numbers('sum(edge_llm_requests_total{outcome="cached"})') == [3.0]
    assert server.numbers("edge_llm_failovers_total") == [1.0]
    assert server.numbers('sum(edge_llm_tokens_total{direction="out"})') == [25.0]
    assert server.numbers('edge_http_requests_total{route="none",status="4xx",method="GET"}') == [4.0]
    assert server.numbers("edge_inference_total") == [6.0]
    assert server.numbers("edge_inference_cached_total") == [4.0]
    assert server.numbers("edge_llm_ledger_requests") == server.numbers('sum(edge_llm_requests_total{place="cloud"})')


def test_routes_are_told_by_their_templates_and_never_as_they_were_asked_for(server: PrometheusServer) -> None:
    routes = set(server.ask("label/route/values"))
    assert {"none", "/api/v1/jobs/{job_id}", "/api/v1/state", "/api/chat", "/metrics"} <= routes
    assert not {"/nowhere", "/api/v1/jobs/none"} & routes


def test_the_dashboards_are_those_that_the_script_writes() -> None:
    for name in dashboards.DASHBOARDS:
        assert (DOCS / "grafana" / f"{name}.json").read_text() == dashboards.written(name), "run scripts/dashboards.py"


def test_the_owners_panels_are_all_there() -> None:
    assert [panel.title for panel in dashboards.OWNER] == [
        "System Overview", "Edge Inference Performance", "Cache Hit Rate", "Hailo vs CPU Inference",
        "Preprocessing Throughput", "Offline Queue Size", "Cloud Analytics Queries", "Kafka Aggregation Rate",
        "ML Pipeline Status", "Compute Cluster Status", "Auto-Scaling Events", "Sync Operations", "Sync Conflicts",
        "Bandwidth Usage", "Service Health", "Deployment Success Rate", "Alert Summary", "System Resource Usage",
    ]  # fmt: skip


def test_promtool_is_content(tmp_path: Path) -> None:
    folder = DOCS / "prometheus"
    assert "rules found" in promtool("check", "rules", *RULES, cwd=folder)
    for name in ("prometheus.yml", *RULES):
        (tmp_path / name).write_text((folder / name).read_text())
    (tmp_path / "token").write_text("a token")
    (tmp_path / "ca.pem").write_text("")
    assert "is valid prometheus config" in promtool("check", "config", "prometheus.yml", cwd=tmp_path)


def test_the_rules_fire_when_they_should(tmp_path: Path) -> None:
    for name in (*RULES, "tests.yml"):
        (tmp_path / name).write_text((DOCS / "prometheus" / name).read_text())
    assert "SUCCESS" in promtool("test", "rules", "tests.yml", cwd=tmp_path)
    wrong = (tmp_path / "alerts.yml").read_text().replace("> 85", "> 99")
    (tmp_path / "alerts.yml").write_text(wrong)
    with pytest.raises(AssertionError, match="FAILED"):
        promtool("test", "rules", "tests.yml", cwd=tmp_path)
