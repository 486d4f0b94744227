"""The compatible doors, with the official clients as callers, streaming included."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import ollama
import openai
import pytest
from starlette.applications import Starlette
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request

from appliance.api.llm import llm_routes
from appliance.core.model import Actor, Role
from appliance.errors import AuthError, NotAuthorizedError
from tests.llm.rig import Rig, endpoint, running, settled
from tests.llm.upstreams import FakeOllama, FakeOpenAi, serving, up
from tests.support import wait_for

TEXT = "The sky is blue."
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "weather", "description": "of a city", "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}},
}  # fmt: skip


def actor_of(request: Request) -> Actor:
    """By the token, as the API does."""
    token = request.headers.get("authorization", "").removeprefix("Bearer ")
    if token not in {role.value for role in Role}:
        raise AuthError("Nobody is logged in.", "send a token.")
    return Actor("mia", Role(token), "api")


@asynccontextmanager
async def doors(rig: Rig) -> AsyncIterator[str]:
    async with serving(Starlette(routes=llm_routes(rig.service, actor_of))) as port:
        yield f"http://127.0.0.1:{port}"


@asynccontextmanager
async def both(directory: Path, **settings: Any) -> AsyncIterator[tuple[Rig, str, FakeOllama, FakeOpenAi]]:
    edge = FakeOllama({"llama3.2:latest": {"capabilities": ["completion", "tools", "vision", "embedding"]}})
    cloud = FakeOpenAi({"llama3.2:latest": {}})
    async with up(edge, cloud):
        places = {"home": endpoint(edge, "edge"), "far": endpoint(cloud, "cloud", price_in=1.0, price_out=2.0)}
        async with running(directory, places, **settings) as rig, doors(rig) as url:
            yield rig, url, edge, cloud


def ollama_client(url: str, **headers: str) -> ollama.AsyncClient:
    return ollama.AsyncClient(url, headers={"authorization": "Bearer operator", **headers}, trust_env=False)


@asynccontextmanager
async def openai_client(url: str, key: str = "operator", **headers: str) -> AsyncIterator[openai.AsyncOpenAI]:
    client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, default_headers=headers)
    async with client:
        yield client


async def test_the_ollama_client_works_unchanged(tmp_path: Path) -> None:
    async with both(tmp_path, aliases={"chat": {"edge": "llama3.2"}}) as (_, url, edge, __):
        client = ollama_client(url)
        talk = [{"role": "user", "content": "Why?", "images": [PNG]}]
        answer = await client.chat("llama3.2", talk)
        assert (answer.message.content, answer.done_reason, answer.eval_count) == (TEXT, "stop", 5)
        parts = [part async for part in await client.chat("chat", talk, stream=True)]
        assert "".join(part.message.content or "" for part in parts) == TEXT
        assert [part.done for part in parts] == [False] * 5 + [True]
        plain = await client.generate("llama3.2", "Why?", system="Be brief.", options={"temperature": 0.3})
        assert plain.response == TEXT
        assert edge.asked[-1][1]["options"] == {"temperature": 0.3}
        pieces = [part.response async for part in await client.generate("llama3.2", "Why?", stream=True)]
        assert "".join(pieces) == TEXT
        assert [list(each) for each in (await client.embed("llama3.2", ["a", "bcd"])).embeddings] == [
            [1.0, 0.5, 0.25], [3.0, 0.5, 0.25],
        ]  # fmt: skip
        assert list((await client.embeddings("llama3.2", "abc")).embedding) == [3.0, 0.5, 0.25]
        assert [model.model for model in (await client.list()).models] == ["llama3.2:latest", "chat"]
        assert (await client.ps()).models[0].context_length == 4096
        shown = await client.show("llama3.2")
        assert shown.modelinfo is not None
        assert shown.modelinfo["llama.context_length"] == 4096
        edge.tool = ("weather", {"city": "Ulm"})
        called = (await client.chat("llama3.2", [{"role": "user", "content": "?"}], tools=[TOOL])).message.tool_calls
        assert called is not None
        assert (called[0].function.name, called[0].function.arguments) == ("weather", {"city": "Ulm"})


async def test_the_openai_client_works_unchanged(tmp_path: Path) -> None:
    async with both(tmp_path) as (_, url, edge, __), openai_client(url) as client:
        parts: Any = [{"type": "text", "text": "Look."},
                      {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}]  # fmt: skip
        talk: Any = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": parts}]
        answer = await client.chat.completions.create(model="llama3.2", messages=talk, temperature=0.3, max_tokens=9)
        assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == (TEXT, "stop")
        assert answer.usage is not None
        assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (26, 5)
        sent = edge.asked[-1][1]
        assert sent["options"] == {"temperature": 0.3, "num_predict": 9}
        assert sent["messages"] == [
            {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Look.", "images": [PNG]},
        ]  # fmt: skip
        stream = await client.chat.completions.create(
            model="llama3.2", messages=talk, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == TEXT
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.total_tokens == 31
        vectors = await client.embeddings.create(model="llama3.2", input=["a", "bcd"])
        assert [each.embedding for each in vectors.data] == [[1.0, 0.5, 0.25], [3.0, 0.5, 0.25]]
        assert [model.id async for model in client.models.list()] == ["llama3.2:latest"]
        assert (await client.models.retrieve("llama3.2:latest")).owned_by == "home"
        edge.tool = ("weather", {"city": "Ulm"})
        called = (await client.chat.completions.create(model="llama3.2", messages=talk, tools=[TOOL])).choices[0]  # type: ignore[list-item]
        assert called.finish_reason == "tool_calls"
        assert called.message.tool_calls is not None
        back: Any = [*talk, called.message.model_dump(exclude_none=True),
                     {"role": "tool", "tool_call_id": called.message.tool_calls[0].id, "content": "12"}]  # fmt: skip
        edge.tool = None
        assert (await client.chat.completions.create(model="llama3.2", messages=back)).choices[0].message.content == TEXT
        assert edge.asked[-1][1]["messages"][2]["tool_calls"] == [
            {"function": {"name": "weather", "arguments": {"city": "Ulm"}}}
        ]


async def test_a_cloud_that_dies_costs_no_caller_a_request(tmp_path: Path) -> None:
    async with both(tmp_path, strategy="cloud-first") as (rig, url, _, cloud), openai_client(url) as client:
        talk: Any = [{"role": "user", "content": "Why?"}]
        places = []
        for number in range(12):
            if number == 4:
                cloud.always = "500"
            raw = await client.chat.completions.with_raw_response.create(model="llama3.2", messages=talk)
            answer: Any = raw.parse()
            assert answer.choices[0].message.content == TEXT
            places.append(answer.model_extra["prime_spark"]["place"])
        assert places == ["cloud"] * 4 + ["edge"] * 8
        await settled(rig)


async def test_the_answer_says_where_it_comes_from_and_headers_choose(tmp_path: Path) -> None:
    async with both(tmp_path) as (_, url, __, cloud), httpx.AsyncClient(base_url=url, trust_env=False) as http:
        body = {"model": "llama3.2", "messages": [{"role": "user", "content": "Why?"}]}
        headers = {"authorization": "Bearer operator", "x-prime-spark-place": "cloud"}
        answer = await http.post("/api/chat", json=body, headers=headers)
        assert (answer.headers["x-prime-spark-endpoint"], answer.headers["x-prime-spark-place"]) == ("far", "cloud")
        last = answer.text.splitlines()[-1]
        assert '"left_house_bytes":' in last
        assert len(cloud.asked) == 1
        private = {**headers, "x-prime-spark-privacy": "edge-only"}
        refused = await http.post("/api/chat", json=body, headers=private)
        assert refused.status_code == 503
        assert "must not leave the house" in refused.json()["error"]
        assert len(cloud.asked) == 1
        for path in ("/api/chat", "/v1/chat/completions"):
            whole = await http.post(path, json={**body, "stream": False}, headers=headers)
            told = {name: whole.headers[f"x-prime-spark-{name}"] for name in ("endpoint", "place", "cached")}
            assert told == {"endpoint": "far", "place": "cloud", "cached": "no"}
            assert whole.headers["x-prime-spark-why"]
        wrong = await http.post("/api/chat", json=body, headers={**headers, "x-prime-spark-place": "moon"})
        assert wrong.status_code == 400


async def test_an_alias_is_shown_as_what_it_leads_to(tmp_path: Path) -> None:
    async with both(tmp_path, aliases={"chat": {"edge": "llama3.2"}}) as (_, url, __, ___):
        shown = await ollama_client(url).show("chat")
        assert shown.modelinfo is not None
        assert shown.modelinfo["llama.context_length"] == 4096


async def test_tokens_are_not_held_back_by_compression(tmp_path: Path) -> None:
    async with both(tmp_path) as (rig, _, edge, __):
        app = GZipMiddleware(Starlette(routes=llm_routes(rig.service, actor_of)), minimum_size=1)
        async with serving(app) as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:
            edge.script.append("hang-mid")
            body = {"model": "llama3.2", "messages": [{"role": "user", "content": "Why?"}]}
            key = {"authorization": "Bearer operator", "accept-encoding": "gzip"}
            async with http.stream("POST", "/api/chat", json=body, headers=key, timeout=20) as answer:
                got = b""
                async for piece in answer.aiter_bytes():
                    got += piece
                    if b" sky" in got:
                        break
            assert got.count(b"\n") == 2


async def test_errors_have_each_ones_own_form(tmp_path: Path) -> None:
    here = {"x-prime-spark-endpoint": "home"}
    async with both(tmp_path, max_retries=0) as (_, url, edge, cloud), openai_client(url, **here) as client:
        friend = ollama_client(url, **here)
        talk: Any = [{"role": "user", "content": "Why?"}]
        with pytest.raises(ollama.ResponseError, match="not found") as missing:
            await friend.chat("llama9", talk)
        assert missing.value.status_code == 404
        with pytest.raises(openai.NotFoundError) as absent:
            await client.chat.completions.create(model="llama9", messages=talk)
        assert absent.value.code == "model_not_found"
        edge.always = cloud.always = "429:7"
        with pytest.raises(openai.RateLimitError) as busy:
            await client.chat.completions.create(model="llama3.2", messages=talk)
        assert busy.value.response.headers["retry-after"] == "7"
        edge.always = cloud.always = "overflow"
        with pytest.raises(openai.BadRequestError) as long:
            await client.chat.completions.create(model="llama3.2", messages=talk)
        assert long.value.code == "context_length_exceeded"
        edge.always = cloud.always = ""
        edge.script.append("cut")
        with pytest.raises(ollama.ResponseError, match="before the end"):
            _ = [part async for part in await friend.chat("llama3.2", talk, stream=True)]
        edge.script.append("half-line")
        with pytest.raises(openai.APIError, match="no JSON"):
            _ = [part async for part in await client.chat.completions.create(model="llama3.2", messages=talk, stream=True)]
        with pytest.raises(openai.BadRequestError, match="n is not 1"):
            await client.chat.completions.create(model="llama3.2", messages=talk, n=2)


async def test_nobody_gets_in_who_should_not(tmp_path: Path) -> None:
    async with both(tmp_path) as (rig, url, edge, cloud), httpx.AsyncClient(base_url=url, trust_env=False) as http:
        routes = [route for route in llm_routes(rig.service, actor_of) if hasattr(route, "methods")]
        for route in routes:
            path = route.path.replace("{model:path}", "llama3.2:latest")  # type: ignore[attr-defined]
            method = "POST" if "POST" in route.methods else "GET"  # type: ignore[attr-defined]
            assert (await http.request(method, path, json={})).status_code == 401, path
            seen = await http.request(method, path, json={"model": "llama3.2"}, headers={"authorization": "Bearer viewer"})
            asks = any(word in path for word in ("chat", "generate", "embed"))
            assert (seen.status_code == 403) is asks, path
        assert (edge.asked, cloud.asked) == ([], [])

        def closed(_: Request, what: str) -> None:
            raise NotAuthorizedError(f"The scopes do not reach {what}.", "take another token.")

        async with serving(Starlette(routes=llm_routes(rig.service, actor_of, closed))) as port:
            admin = {"authorization": "Bearer admin"}
            answer = await http.get(f"http://127.0.0.1:{port}/v1/models", headers=admin)
            assert (answer.status_code, answer.json()["error"]["type"]) == (403, "permission_error")


async def test_ten_megabytes_and_nonsense_are_refused_with_words(tmp_path: Path) -> None:
    async with both(tmp_path) as (_, url, edge, __), httpx.AsyncClient(base_url=url, trust_env=False) as http:
        key = {"authorization": "Bearer operator"}
        large = {"model": "llama3.2", "prompt": "x" * (10 * 2**20)}
        for path in ("/api/generate", "/v1/chat/completions"):
            answer = await http.post(path, json=large, headers=key, timeout=60)
            assert answer.status_code == 413
            assert "8 MiB" in answer.text
        for content in (b"{", b"[]", b'{"messages": 5}', b'{"messages": [5]}', b'{"model": {}}', b"\xff"):
            for path in ("/api/chat", "/v1/chat/completions"):
                answer = await http.post(path, content=content, headers=key)
                assert answer.status_code == 400, (path, content)
                assert answer.json()["error"]
        said = [{"role": "user", "content": "hello"}]
        for body, named in (
            ({}, "messages"), ({"messages": []}, "messages"), ({"messages": [{**said[0], "role": "wizard"}]}, "wizard"),
            ({"messages": said, "temperature": "hot", "options": {"temperature": "hot"}}, "temperature"),
        ):  # fmt: skip
            for path in ("/api/chat", "/v1/chat/completions"):
                answer = await http.post(path, json=body, headers=key)
                assert (answer.status_code, named in str(answer.json()["error"])) == (400, True), (path, body)
        assert edge.asked == []


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("fault", ["hang", "hang-mid"])
async def test_a_client_that_goes_ends_the_upstream(tmp_path: Path, path: str, stream: bool, fault: str) -> None:
    async with both(tmp_path) as (rig, url, edge, _), httpx.AsyncClient(base_url=url, trust_env=False) as http:
        edge.script.append(fault)
        body = {"model": "llama3.2", "messages": [{"role": "user", "content": "Why?"}], "stream": stream}

        async def ask() -> None:
            async with http.stream(
                "POST", path, json=body, headers={"authorization": "Bearer operator"}, timeout=None
            ) as answer:
                async for _ in answer.aiter_bytes():
                    pass

        asking = asyncio.create_task(ask())
        await wait_for(lambda: len(edge.asked) == 1)
        if fault == "hang-mid":
            await wait_for(lambda: rig.gateway.status().endpoints[0].first_token_ms)
        asking.cancel()
        await wait_for(lambda: edge.cancelled == 1)
        await wait_for(lambda: rig.gateway.status().given_up == 1)
        assert rig.gateway.status().endpoints[0].in_flight == 0
