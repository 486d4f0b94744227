"""Traces, as a collector gets them: a server that takes OTLP over HTTP, and reads it with OpenTelemetry's own protocol."""

from __future__ import annotations

import asyncio
import gzip
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from appliance.core.clock import SystemClock
from appliance.core.model import Health, HealthReport
from appliance.core.observe.origins import Origins, origin_of
from appliance.core.observe.otel import Maker, encoded
from appliance.core.observe.sending import Sending
from appliance.core.observe.spans import CURRENT, NO_SPAN, Spans, child, statement, told, traceparent
from appliance.core.services import Supervisor
from appliance.core.state import LiveState
from appliance.core.supervision import Policy
from appliance.errors import ActionError
from tests.inference.registry_rig import picture
from tests.llm.upstreams import FakeOllama, serving, up
from tests.observe.rig import RUN, Watched, watched
from tests.support import wait_for

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"
SECRET = "Bearer of-the-collector"
PROMPT = "a question that nobody else may read"


class Collector:
    """Takes spans; answers with `status`."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.status = 200
        self.url = ""

    async def take(self, request: Request) -> Response:
        self.headers.append(dict(request.headers))
        if self.status == 200:
            body = gzip.decompress(await request.body())
            self.bodies.append(body)
            found = ExportTraceServiceRequest.FromString(body)
            self.spans += [span for each in found.resource_spans for scope in each.scope_spans for span in scope.spans]
        return Response(status_code=self.status)

    def of(self, trace_id: str) -> list[Any]:
        return [span for span in self.spans if span.trace_id.hex() == trace_id]

    def names(self, trace_id: str = TRACE) -> set[str]:
        return {span.name for span in self.of(trace_id)}


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    """A collector on loopback."""
    collector = Collector()
    async with serving(Starlette(routes=[Route("/v1/traces", collector.take, methods=["POST"])])) as port:
        collector.url = f"http://127.0.0.1:{port}/v1/traces"
        yield collector


def facts(span: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes}


@asynccontextmanager
async def traced(tmp_path: Path, collector: Collector, ratio: float = 1.0) -> AsyncIterator[Watched]:
    """An appliance that sends its traces."""
    (home := tmp_path / "home").mkdir(mode=0o700)
    secrets = home / "data" / "secrets"
    secrets.mkdir(mode=0o700, parents=True)
    (secrets / "collector").write_text(SECRET)
    (secrets / "collector").chmod(0o600)
    more = f'[observe.traces]\nendpoint = "{collector.url}"\nratio = {ratio}\nsecret = "collector"\n'
    fake = FakeOllama()
    async with up(fake), watched(home, {"edge": fake}, more, RUN - {"alerts", "tasks"}) as appliance:
        yield appliance


async def test_one_request_is_one_trace_from_the_client_to_the_database(tmp_path: Path) -> None:
    async with collecting() as collector, traced(tmp_path, collector) as appliance:
        token = await appliance.token("worker")
        (image := tmp_path / "red.png").write_bytes(picture("red"))
        async with appliance.client(token, traceparent=PARENT) as client:
            chat = {"model": "llama3.2", "messages": [{"role": "user", "content": PROMPT}], "stream": False}
            assert (await client.post("/api/chat", json=chat)).status_code == 200
            args = {"key": "k", "value": "a value that nobody else may read"}
            await client.post("/api/v1/actions/memory.set", json={"args": args})
            assert (await client.get("/api/v1/jobs/none")).status_code == 404
        with appliance.appliance.observer.spans.span("test", parent=PARENT):
            await appliance.domains.inference.infer_file(image)
            await appliance.domains.local_answers.store.devices(None)
        wanted = {
            "HTTP POST", "HTTP GET", "llm chat", "action memory.set", "sqlite write", "action job.show", "inference", "duckdb",
        }  # fmt: skip
        await wait_for(lambda: wanted <= collector.names(), 20)
        spans = {span.name: span for span in collector.of(TRACE)}
        posted = [span for span in collector.of(TRACE) if span.name == "HTTP POST"]
        assert {span.parent_span_id.hex() for span in posted} == {PARENT[36:52]}
        act = spans["action memory.set"]
        assert act.parent_span_id in {span.span_id for span in posted}
        routes = {facts(span)["http.route"] for span in collector.of(TRACE) if span.name.startswith("HTTP")}
        assert routes == {"/api/chat", "/api/v1/actions/{name}", "/api/v1/jobs/{job_id}"}
        llm = facts(spans["llm chat"])
        assert (llm["gen_ai.usage.output_tokens"], llm["prime_spark.endpoint"]) == (5, "edge")
        assert facts(spans["inference"])["prime_spark.backend"] == "cpu"
        assert facts(spans["duckdb"])["db.query.text"].startswith("SELECT DISTINCT device_id")
        everything = b"".join(collector.bodies)
        for hidden in (PROMPT, "nobody else", token, SECRET, "correct horse"):
            assert hidden.encode() not in everything
        assert {each["authorization"] for each in collector.headers} == {SECRET}
        health = await appliance.services["traces"].health()
        assert health.health is Health.healthy


async def test_exemplars_lead_from_a_time_to_its_trace(tmp_path: Path) -> None:
    async with collecting() as collector, traced(tmp_path, collector) as appliance:
        token = await appliance.token("worker")
        async with appliance.client(token, traceparent=PARENT) as client:
            await client.get("/api/v1/state")
        async with appliance.client(token) as client:
            asked = "application/openmetrics-text;version=1.0.0"
            new = await client.get("/metrics", headers={"Accept": asked})
            old = await client.get("/metrics")
        line = next(
            each for each in new.text.splitlines()
            if each.startswith("edge_http_request_duration_seconds_bucket") and 'route="/api/v1/state"' in each and "#" in each
        )  # fmt: skip
        assert f'# {{trace_id="{TRACE}"}}' in line
        assert new.headers["content-type"].startswith("application/openmetrics-text")
        assert new.text.endswith("# EOF\n")
        assert "trace_id" not in old.text
        assert old.headers["content-type"].startswith("text/plain; version=0.0.4")


async def test_a_collector_that_fails_costs_spans_and_nothing_else(tmp_path: Path) -> None:
    async with collecting() as collector, traced(tmp_path, collector) as appliance:
        collector.status = 400
        token = await appliance.token("worker")
        async with appliance.client(token) as client:
            assert (await client.get("/api/v1/state")).status_code == 200
            service = appliance.services["traces"]

            async def degraded() -> bool:
                report = await service.health()
                return report.health is Health.degraded and "it answers 400" in report.reason

            await wait_for(degraded, 20)
            lost = 'edge_trace_spans_dropped_total{reason="collector failed"}'
            text = (await client.get("/metrics")).text
        assert float(next(line for line in text.splitlines() if line.startswith(lost)).split()[-1]) > 0


async def test_what_is_not_sampled_is_not_sent_and_malformed_parents_count_for_nothing() -> None:
    got: list[Any] = []
    spans = Spans()
    spans.switch(Maker({"service.name": "test"}, 0.0, got.append).begin)
    with spans.span("a") as span, child("b") as inner:
        assert (span.sampled, inner) == (False, NO_SPAN)
        assert int(traceparent()[-2:], 16) & 1 == 0  # sampled: no; others who are asked do not record it either
    assert got == []
    with spans.span("a", parent=PARENT) as span:  # the word of whoever asked counts
        assert span.trace_id == TRACE
    spans.switch(Maker({"service.name": "test"}, 1.0, got.append).begin)
    for wrong in ("", "garbage", PARENT[:-3], "00-" + "0" * 32 + "-b7ad6b7169203331-01", "ff" + PARENT[2:], PARENT * 9):
        with spans.span("c", parent=wrong) as span:
            assert (span.sampled, span.trace_id != TRACE) == (True, True)
    spans.switch(None)
    with spans.span("d") as span:
        assert span is NO_SPAN
    assert CURRENT.get() is None


async def test_a_span_that_breaks_says_what_kind_of_error_and_not_its_text() -> None:
    got: list[Any] = []
    spans = Spans()
    spans.switch(Maker({"service.name": "test"}, 1.0, got.append).begin)
    with pytest.raises(ActionError), spans.span("a"):
        await asyncio.gather(asyncio.to_thread(_work), _fail())
    sent = ExportTraceServiceRequest.FromString(encoded(got)).resource_spans[0].scope_spans[0].spans
    by_name = {span.name: span for span in sent}
    assert by_name["in a thread"].parent_span_id == by_name["a"].span_id
    assert facts(by_name["a"])["error.type"] == "ActionError"
    assert by_name["a"].status.code == 2
    assert b"a secret" not in encoded(got)
    assert told("late", 1.0, {}) == ""


def _work() -> None:
    with child("in a thread"):
        pass


async def _fail() -> None:
    raise ActionError("a secret")


async def test_work_that_a_request_left_running_is_no_part_of_it_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    got: list[Any] = []
    spans = Spans()
    spans.switch(Maker({"service.name": "test"}, 1.0, got.append).begin)
    with spans.span("request") as request:
        monkeypatch.setattr(request, "ends", 0.0)  # as if it began long ago
        assert child("a").__enter__() is NO_SPAN
        with spans.span("later") as later:
            assert later.trace_id != request.trace_id


class Looking:
    """A service that keeps the spans within which it lives (ports.Service)."""

    name, summary = "looking", "A test's"
    depends: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.seen: list[Any] = []

    async def start(self) -> None:
        self.seen.append(CURRENT.get())

    async def run(self) -> None:
        self.seen.append(CURRENT.get())
        await asyncio.Event().wait()

    async def stop(self) -> None: ...

    async def health(self) -> HealthReport:
        return HealthReport(Health.healthy, "lives")


async def test_a_service_that_a_request_starts_is_no_part_of_it() -> None:
    spans, service, clock = Spans(), Looking(), SystemClock()
    spans.switch(Maker({"service.name": "test"}, 1.0, lambda _: None).begin)
    supervisor = Supervisor([service], LiveState(clock), clock, Policy(), lambda _, __: None)
    try:
        with spans.span("action service.restart"):
            supervisor.start()
        await wait_for(lambda: len(service.seen) == 2)
        assert service.seen == [None, None]
    finally:
        await supervisor.stop(5.0)


def test_a_full_queue_drops_and_counts() -> None:
    posted: list[bytes] = []

    def post(body: bytes) -> tuple[int, str]:
        posted.append(body)
        return 200, ""

    sending = Sending(lambda batch: bytes(len(batch)), post, 16)
    for number in range(20):
        sending.take(number)
    assert (sending.waiting, sending.dropped) == (16, 4)
    sending.start()
    sending.stop(20.0)
    assert (sending.sent, sending.dropped, [len(each) for each in posted]) == (16, 4, [16])
    sending.take(0)
    assert sending.dropped == 5


def test_a_batch_is_tried_again_where_the_collector_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.core.observe.sending.FIRST_PAUSE", 0.001)
    answers = iter([(503, "it answers 503"), (0, "it does not answer"), (200, "")])
    sending = Sending(lambda batch: bytes(len(batch)), lambda _: next(answers), 16)
    sending._send([1, 2])
    assert (sending.sent, sending.failed, sending.trouble) == (2, 0, "")
    refused = Sending(lambda batch: bytes(len(batch)), lambda _: (400, "it answers 400"), 16)
    refused._send([1])
    assert (refused.sent, refused.failed) == (0, 1)


def test_statements_are_told_without_their_values() -> None:
    text = statement("SELECT a FROM t  WHERE b = 'it''s mine' AND c > 12.5\nAND d IN ($1, 7)")
    assert text == {"db.query.text": "SELECT a FROM t WHERE b = ? AND c > ? AND d IN ($?, ?)", "db.operation.name": "SELECT"}


def test_events_carry_their_trace_into_kafka_and_no_more_than_are_remembered() -> None:
    origins, spans = Origins(), Spans()
    origins.keep("before")
    assert origins.headers("before") == []
    spans.switch(Maker({"service.name": "test"}, 1.0, lambda _: None).begin)
    with spans.span("a", parent=PARENT):
        for number in range(5000):
            origins.keep(str(number))
        mine = traceparent()
    assert origins.headers("0") == []
    assert origins.headers("4999") == [("traceparent", mine.encode())]
    assert origin_of(tuple(origins.headers("4999"))) == mine
    for wrong in (None, (), [("other", b"x")], [("traceparent", b"x" * 200)], [("traceparent", "text")]):
        assert origin_of(wrong) == ""


def test_with_traces_off_the_library_is_not_loaded() -> None:
    code = (
        "import sys, appliance.runtime, appliance.assembly, appliance.core.metrics, appliance.core.observe.service\n"
        "print(sorted(name for name in sys.modules if name.startswith(('opentelemetry', 'prometheus_client'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_redis_does_not_bring_the_library_along() -> None:
    """redis-py loads the whole SDK where it finds it, for metrics that nobody has it make."""
    code = (
        "import asyncio, sys\n"
        "from appliance.core.memory.redis import RedisTier\n"
        "from appliance.errors import TierUnavailableError\n"
        "try:\n"
        "    asyncio.run(RedisTier('unix:///nonexistent/redis.sock', '', 'pi').open())\n"
        "except TierUnavailableError:\n"
        "    print('redis' in sys.modules, [name for name in sys.modules if name.startswith('opentelemetry')])\n"
        "import opentelemetry.sdk.trace\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "True []"
