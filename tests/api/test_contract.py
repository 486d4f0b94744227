"""The routes of the contract that stand on language models, metrics, tasks and models: its fields, and nothing made up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from appliance.core.state import Section
from tests.api.rig import Api, serving
from tests.llm.upstreams import FakeOllama, up
from tests.support import wait_for

pytestmark = pytest.mark.asyncio(loop_scope="module")

RUNNING = ("telemetry", "analytics", "queries", "memory", "tasks", "llm")
ANSWER = "The sky is blue."


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def model() -> AsyncIterator[FakeOllama]:
    """An upstream that says what it was told to."""
    fake = FakeOllama()
    async with up(fake):
        yield fake


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def api(tmp_path_factory: pytest.TempPathFactory, model: FakeOllama) -> AsyncIterator[Api]:
    """With what the routes stand on."""
    home: Path = tmp_path_factory.mktemp("contract") / "home"
    home.mkdir(mode=0o700)
    async with serving(home, f'[llm]\nedge_url = "{model.url}"\n', RUNNING) as api:
        yield api


async def test_a_language_model_answers_with_where_and_why(api: Api) -> None:
    async with api.client(await api.token("otto")) as client:
        body = {"prompt": "Why is the sky blue?", "temperature": 0}
        first, again = [(await client.post("/api/llm/generate", json=body)).json() for _ in range(2)]
        assert (first["response"], first["model"], first["location"]) == (ANSWER, "llama3.2:latest", "edge")
        assert first["reason"]
        assert first["latency_ms"] > 0
        assert (first["cached"], again["cached"], again["response"]) == (False, True, ANSWER)
        talk = {"text": "And at night?", "messages": [{"role": "user", "content": "Why is the sky blue?"}]}
        assert (await client.post("/api/llm/chat", json=talk)).json()["response"] == ANSWER
        models = (await client.get("/api/llm/models?limit=1")).json()
        assert [each["name"] for each in models] == ["llama3.2:latest"]
        for wrong in ({}, {"prompt": ""}, {"prompt": "x", "nonsense": 1}, {"prompt": "x", "place": "moon"}):
            assert (await client.post("/api/llm/generate", json=wrong)).status_code == 422, wrong
        stats = (await client.get("/api/routing/stats")).json()
        assert (stats["strategy"], stats["places"]["edge"]["endpoints"]) == ("edge-first", 1)


async def test_an_answer_streams_as_it_comes(api: Api, model: FakeOllama) -> None:
    async with api.client(await api.token("otto")) as client:
        body = {"prompt": "Stream it"}
        async with client.stream("POST", "/api/llm/generate/stream", json=body) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            text = "".join([piece async for piece in answer.aiter_text()])
        *pieces, done = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]
        assert "".join(each["response"] for each in pieces) == ANSWER
        assert (done["location"], done["cached"], done["response"]) == ("edge", False, "")
        model.script.append("half-line")
        text = (await client.post("/api/llm/generate/stream", json=body)).text
        assert "event: error" in text
        assert (await client.post("/api/llm/generate/stream", json={"prompt": ""})).status_code == 422
    async with api.client(await api.token("vera")) as client:
        assert (await client.post("/api/llm/generate/stream", json=body)).status_code == 403


@pytest.mark.parametrize("path", ["/api/llm/generate", "/api/llm/generate/stream"])
async def test_a_client_that_goes_ends_the_upstream(api: Api, model: FakeOllama, path: str) -> None:
    asked, cancelled = len(model.asked), model.cancelled
    model.script.append("hang")
    async with api.client(await api.token("otto")) as client:
        asking = asyncio.create_task(client.post(path, json={"prompt": "Never mind"}))
        await wait_for(lambda: len(model.asked) > asked)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    await wait_for(lambda: model.cancelled > cancelled)


async def test_without_a_model_it_is_said_how_to_get_one(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    async with serving(home) as api, api.client(await api.token("otto")) as client:
        for path in ("/api/llm/generate", "/api/llm/generate/stream", "/api/llm/chat"):
            answer = await client.post(path, json={"prompt": "x"} if "generate" in path else {"text": "x"})
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "absent"), path
            assert "llm.edge_url" in answer.json()["error"]["next_step"]
        assert (await client.get("/api/routing/stats")).status_code == 503


async def test_readings_of_others_are_kept_and_can_be_asked_for(api: Api) -> None:
    async with api.client(await api.token("otto")) as client:
        points = [
            {"metric": "barn_temperature", "value": value, "device": "barn", "tags": {"room": "no'rth"}} for value in (1, 3)
        ]
        body = {"metrics": {"barn_humidity": 40}, "device": "barn", "points": [{**points[0], "time": 1}]}
        assert (await client.post("/api/v1/analytics/insert", json=body)).status_code == 422, "before all times"
        for point in points:
            made = await client.post("/api/v1/analytics/insert", json={"points": [point]})
            assert (made.status_code, made.json()) == (201, {"inserted": 1, "store": "embedded"}), made.text
        path = "/api/v1/analytics/query?metric=barn_temperature&agg=sum&range=1h&bucket=1d&fresh=true&device=barn"
        found = (await client.get(path)).json()
        assert sum(point[1] for line in found["series"] for point in line["points"]) == 4
        for wrong in (
            {}, {"metrics": {"x": "NaN"}}, {"metrics": {"x": 1e200}}, {"metrics": {"cpu_usage": 1}}, {"metrics": {"": 1}},
            {"metrics": {"x": 1}, "time": "yesterday"}, {"metrics": {"x\u0000": 1}}, {"points": [{"metric": "x"}]},
            {"points": [{"metric": "x", "value": 1}, {"metric": "x", "value": 2}], "time": 5},
        ):  # fmt: skip
            answer = await client.post("/api/v1/analytics/insert", json=wrong)
            assert answer.status_code == 422, (wrong, answer.text)
    async with api.client(await api.token("vera")) as client:
        assert (await client.post("/api/v1/analytics/insert", json={"metrics": {"x": 1}})).status_code == 403


async def test_work_and_machines_are_told_as_they_are(api: Api) -> None:
    async with api.client(await api.token("otto")) as client:
        before = (await client.get("/api/v1/compute/status")).json()
        assert before["nodes"] is None, "no fleet runs here"
        made = await client.post("/api/v1/compute/workload", json={"type": "nothing-that-anybody-does", "priority": 3})
        assert (made.status_code, made.json().get("priority")) in {(202, 3), (422, None), (503, None)}, made.text
        await wait_for(lambda: api.appliance.state.get(Section.tasks).value is not None)
        told: dict[str, Any] = (await client.get("/api/v1/compute/status")).json()
        assert told["workloads"]["counts"] is not None
        assert (await client.get("/api/v1/ml/pipeline")).json() == []
        assert (await client.get("/api/v1/ml/models?limit=0")).status_code == 422
        refused = await client.post("/api/v1/ml/pipeline", json={"origin": "/nowhere"})
        assert refused.status_code == 403, "an administrator's to do"
    async with api.client(await api.token("ada")) as client:
        refused = await client.post("/api/v1/ml/pipeline", json={"origin": "/nowhere"})
        assert refused.status_code >= 400
        assert refused.json()["error"]["next_step"]
