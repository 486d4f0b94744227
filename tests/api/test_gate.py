"""The gate on a real socket: bounds, tricks, repeated requests, streams, browsers of other origins."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from appliance.api import bounded, gate
from appliance.core.access.answers import Answer, Answers
from appliance.core.access.limiter import KEPT, Limiter
from appliance.core.actions import Action, Params
from appliance.core.events import Noted
from appliance.core.model import Role
from appliance.errors import ConflictError
from tests.api.rig import Api
from tests.support import wait_for

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Number(Params):
    """What the counting action takes."""

    by: int = 1


@pytest.fixture
def counted(api: Api) -> Any:
    """An action that counts how often it was done; "test.count"."""
    done: list[int] = []

    async def count(_: Any, params: Number) -> int:
        done.append(params.by)
        return len(done)

    api.appliance.registry._actions["test.count"] = Action("test.count", "Count", count, params=Number, role=Role.viewer)
    yield done
    del api.appliance.registry._actions["test.count"]


async def raw(api: Api, request: bytes) -> bytes:
    """What is answered to these bytes, to its end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    try:
        writer.write(request)
        return await asyncio.wait_for(reader.read(), 30)
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_a_repeated_request_is_done_once(api: Api, counted: list[int]) -> None:
    async with api.client(await api.token("vera")) as client:
        key = {"Idempotency-Key": "one"}
        path = "/api/v1/actions/test.count"
        first = await client.post(path, headers=key, json={"args": {"by": 2}})
        again = await client.post(path, headers=key, json={"args": {"by": 2}})
        assert (first.status_code, again.status_code, first.content == again.content) == (200, 200, True)
        assert (again.headers["idempotency-replayed"], counted) == ("true", [2])
        other = await client.post(path, headers=key, json={"args": {"by": 3}})
        assert (other.status_code, counted) == (422, [2])
        many = await asyncio.gather(*(client.post(path, headers={"Idempotency-Key": "two"}) for _ in range(5)))
        assert {each.status_code for each in many} <= {200, 409}
        assert counted == [2, 1]
        wrong = await client.post(path, headers={"Idempotency-Key": "three"}, json={"args": {"by": "x"}})
        right = await client.post(path, headers={"Idempotency-Key": "three"}, json={"args": {"by": 4}})
        assert (wrong.status_code, right.status_code) == (422, 200), "nothing was done at first"
        assert (await client.post(path, headers={"Idempotency-Key": "a b"})).status_code == 400
    async with api.client(await api.token("otto")) as client:
        assert (await client.post(path, headers=key)).json() == {"result": 4}, "keys are each identity's own"
    rows = await api.appliance.store.read(lambda connection: connection.execute("SELECT body FROM access_answers").fetchall())
    assert not [row for row in rows if row[0] and b"result" in row[0]], "answers lie sealed"


async def test_a_request_that_was_cut_off_says_so(api: Api) -> None:
    store, clock, sealer = api.appliance.store, api.appliance.clock, api.access._sealer
    before, after = Answers(store, sealer, clock), Answers(store, sealer, clock)
    assert await before.begin("me", "k", "print") is None
    with pytest.raises(ConflictError, match="under way"):
        await before.begin("me", "k", "print")
    with pytest.raises(ConflictError, match="stopped before"):
        await after.begin("me", "k", "print")
    await before.end("me", "k", Answer(200, b"x" * 100_000))
    with pytest.raises(ConflictError, match="too large"):
        await after.begin("me", "k", "print")


async def test_what_is_too_large_is_refused(api: Api, counted: list[int]) -> None:
    token = await api.token("vera")
    auth = f"Host: a\r\nAuthorization: Bearer {token}\r\n".encode()
    large = b"POST /api/v1/actions/test.count HTTP/1.1\r\n" + auth + b"Content-Length: 99999999\r\n\r\n"
    assert b" 413 " in await raw(api, large)
    login = b"POST /api/auth/login HTTP/1.1\r\nHost: a\r\nContent-Length: 70000\r\n\r\n"
    assert b" 413 " in await raw(api, login)
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    chunked = b"POST /api/auth/login HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk * 2 + b"0\r\n\r\n"
    assert b" 200 " not in await raw(api, chunked)
    long = await raw(api, b"GET /health HTTP/1.1\r\nHost: a\r\nX-Long: " + b"y" * (bounded.HEAD + 1))
    assert b" 431 " in long.partition(b"\r\n")[0]
    assert b"application/problem+json" in long
    assert counted == []


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("//health", ""), ("/health/", ""), ("/health/..", ""), ("/%2e%2e/api/v1/state", ""), ("/health%2f../api/v1/state", ""),
        ("/HEALTH", ""), ("/api/auth/login/../me", ""), ("/docs/../openapi.json", ""), ("/health;x=/api/v1/state", ""),
        ("/api/v1/state", "X-Forwarded-For: 127.0.0.1\r\n"), ("/api/v1/state", "X-Original-URL: /health\r\n"),
        ("/api/v1/state", "X-Rewrite-URL: /health\r\n"), ("/api/v1/state", "X-HTTP-Method-Override: GET\r\n"),
        ("/api/v1/state?token=x&access_token=y", ""), ("/api/v1/state", "Authorization: Basic YWRhOmFkYQ==\r\n"),
        ("/api/v1/state", "Authorization: Bearer\r\n"), ("/api/v1/state", "Cookie: token=x\r\n"),
    ],
)  # fmt: skip
async def test_tricks_with_paths_and_headers_open_nothing(api: Api, path: str, headers: str) -> None:
    answer = await raw(api, f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{headers}\r\n".encode())
    assert b" 401 " in answer.partition(b"\r\n")[0] or b" 429 " in answer.partition(b"\r\n")[0], answer


async def test_two_tokens_are_none(api: Api) -> None:
    vera, ada = await api.token("vera"), await api.token("ada")
    async with api.client() as client:
        for headers in (
            [("Authorization", f"Bearer {vera}"), ("Authorization", f"Bearer {ada}")],
            [("Authorization", f"Bearer {vera}"), ("X-API-Key", ada)],
        ):
            answer = await client.get("/api/auth/me", headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "headers")
        assert (await client.get("/api/auth/me", headers={"X-API-Key": vera})).json()["username"] == "vera"
        assert (await client.get("/api/auth/me", headers={"Authorization": f"bEARER {vera}"})).status_code == 200


async def test_codings_of_bodies_are_refused_and_what_has_no_body_ends(api: Api, counted: list[int]) -> None:
    token = await api.token("vera")
    head = f"POST /api/v1/actions/test.count HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n"
    coded = head + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"
    assert b" 400 " in (await raw(api, coded.encode())).partition(b"\r\n")[0]
    packed = head + "Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}"
    assert b" 415 " in (await raw(api, packed.encode())).partition(b"\r\n")[0]
    assert counted == []
    stream = f"HEAD /api/v1/events HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    assert b" 200 " in (await raw(api, stream.encode())).partition(b"\r\n")[0]


async def test_malformed_http_ends_the_connection(api: Api) -> None:
    for request in (b"\x16\x03\x01\x02\x00\x01\x00", b"GET\r\n\r\n", b"GET /health HTTP/9.9\r\n\r\n", b"\x00" * 100):
        assert b" 200 " not in (await raw(api, request + b"\r\n\r\n")).partition(b"\r\n")[0]
    smuggled = b"POST /health HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    assert b" 200 " not in (await raw(api, smuggled)).partition(b"\r\n")[0]
    async with api.client() as client:
        assert (await client.get("/docs")).status_code in {200, 429}


async def test_whoever_sends_a_head_slowly_is_cut_off(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "HEADER_SECONDS", 0.2)
    assert await raw(api, b"GET /health HTTP/1.1\r\nHost: a\r\nX-Slow: ") == b""
    assert await raw(api, b"") == b""


async def test_whoever_sends_a_body_slowly_is_told(api: Api, counted: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "CHUNK_SECONDS", 0.2)
    token = await api.token("vera")
    head = "POST /api/v1/actions/test.count HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n"
    head += f"Authorization: Bearer {token}\r\n\r\n{{"
    assert b" 408 " in await raw(api, head.encode())
    assert counted == []


async def test_connections_are_bounded(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    server = api.access._http._servers[0][0]
    await wait_for(lambda: not server.server_state.connections)
    monkeypatch.setattr(server.config.http_protocol_class, "most", 16)
    opened = [await asyncio.open_connection("127.0.0.1", api.port) for _ in range(12)]
    try:
        ends = [asyncio.create_task(reader.read()) for reader, _ in opened]
        await wait_for(lambda: sum(each.done() for each in ends) == 4)
        assert len(server.server_state.connections) == 8
    finally:
        for _, writer in opened:
            writer.close()
        await asyncio.gather(*ends, return_exceptions=True)


async def test_answers_say_what_they_are(api: Api) -> None:
    async with api.client(await api.token("vera")) as client:
        answer = await client.get("/api/v1/state/nope", headers={"X-Request-ID": "mine-1"})
        problem = answer.json()
        assert answer.headers["content-type"] == "application/problem+json"
        assert (problem["status"], problem["request_id"], problem["instance"]) == (404, "mine-1", "/api/v1/state/nope")
        assert answer.headers["x-request-id"] == "mine-1"
        assert answer.headers["cache-control"] == "no-store"
        strange = await client.get("/api/auth/me", headers={"X-Request-ID": "a b<script>"})
        assert strange.headers["x-request-id"] != "a b<script>"
        large = await client.get("/openapi.json")
        assert large.headers["content-encoding"] == "gzip"
        assert (await client.put("/api/auth/me")).status_code == 405
        for body in (b"{", b"[]", b'{"args": 1}', b'{"args": {}, "more": 1}', b"\xff", b"[" * 100_000):
            answer = await client.post("/api/v1/actions/alert.list", content=body)
            assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json"), body[:20]


async def test_json_that_costs_much_is_refused_at_a_small_price(api: Api) -> None:
    """Each wrong argument became a fault with a text of its own: a million of them held everything for half a minute."""
    path = "/api/v1/actions/alert.list"
    deep = b'{"args": {"a": ' + b"[" * 100_000
    async with api.client(await api.token("vera")) as client:
        for body, status in (
            (json.dumps({"args": dict.fromkeys(map(str, range(50_000)), 1)}).encode(), 422),
            (json.dumps({"args": {"x" * 500_000: 1}}).encode(), 422), (deep, 400), (b'{"args": {"a": [' + b"1," * 300_000, 413),
            (json.dumps({"args": {"limit": "y" * 500_000}}).encode(), 422),
        ):  # fmt: skip
            answer = await client.post(path, content=body)
            assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), body[:40]
            assert len(answer.content) < 4000, answer.text[:200]
        many = "&".join(f"a{number}=1" for number in range(2000))
        answer = await client.get(f"/api/tasks?{many}")
        assert (answer.status_code, len(answer.content) < 4000) == (422, True)
        deep = b'{"key": "a:b", "value": ' + b"[" * 5000 + b"]" * 5000 + b"}"
    async with api.client(await api.token("otto")) as client:
        assert (await client.post("/api/memory/set", content=deep)).status_code == 400


async def test_pages_follow_each_other(api: Api) -> None:
    names: list[str] = []
    async with api.client(await api.token("vera")) as client:
        path = "/api/v1/actions?limit=100"
        while path:
            answer = await client.get(path)
            names += [each["name"] for each in answer.json()]
            path = answer.links.get("next", {}).get("url", "")
        assert names == [action.name for action in api.appliance.registry]
        assert int(answer.headers["x-total-count"]) == len(names)
        for wrong in ("limit=0", "limit=x", "limit=99999", "limit=-1", "cursor=!!", "limit=²"):
            assert (await client.get(f"/api/v1/actions?{wrong}")).status_code == 422, wrong


async def heard_to_the_end(socket: ClientConnection) -> None:
    while True:
        await socket.recv()


async def test_events_come_over_both_kinds_of_stream(api: Api) -> None:
    pair, other = await api.pair("vera"), await api.pair("vera")
    token, bus, clock = pair["access"], api.appliance.bus, api.appliance.clock

    async def publish() -> None:
        while True:
            await bus.publish(Noted(time=clock.wall(), event="tested", severity="info", attributes={}))
            await asyncio.sleep(0.02)

    async with api.client(token) as client, asyncio.timeout(60):
        publishing = asyncio.create_task(publish())
        try:
            async with client.stream("GET", "/api/v1/events?topics=analytics.events") as answer:
                assert answer.headers["content-type"].startswith("text/event-stream")
                async for line in answer.aiter_lines():
                    if line.startswith("data: "):
                        assert json.loads(line[6:])["data"]["event"] == "tested"
                        break
            url = api.url.replace("http", "ws") + "/api/v1/ws"
            async with connect(url, subprotocols=[f"bearer.{other['access']}"]) as socket:  # type: ignore[list-item]
                assert json.loads(await socket.recv())["topic"] == "analytics.events"
                await api.access.desk.end_session(other["session"])
                with pytest.raises(ConnectionClosed) as closed:
                    await heard_to_the_end(socket)
                assert closed.value.rcvd is not None
                assert closed.value.rcvd.code == 4401
        finally:
            publishing.cancel()
    with pytest.raises(InvalidStatus) as refused:
        async with connect(url):
            pass
    assert refused.value.response.status_code in {401, 429}
    await wait_for(lambda: not [queue for queue in bus.status() if queue.name.startswith("stream ")])


async def test_no_origin_is_allowed_that_is_not_configured(api: Api) -> None:
    async with api.client() as client:
        headers = {"Origin": "https://evil.example.org", "Access-Control-Request-Method": "GET"}
        for method in ("OPTIONS", "GET"):
            answer = await client.request(method, "/health", headers=headers)
            assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_a_limiter_lets_through_what_it_should_and_stays_small() -> None:
    limiter = Limiter(5.0)
    taken = [await limiter.take("one") for _ in range(12)]
    assert taken[:10] == [0] * 10
    assert taken[-1] >= 1
    assert await limiter.take("two") == 0
    for number in range(KEPT + 10):
        await limiter.take(str(number))
    assert len(limiter) == KEPT
    assert await Limiter(0).take("any") == 0


async def test_whoever_asks_too_often_is_told_when_to_come_back(api: Api) -> None:
    async with httpx.AsyncClient(base_url=api.url, timeout=60) as client:
        answers = [await client.get("/nowhere") for _ in range(200)]
    slowed = [answer for answer in answers if answer.status_code == 429]
    assert slowed, "strangers are bounded"
    assert int(slowed[0].headers["retry-after"]) >= 1
    async with api.client(await api.token("vera")) as client:
        assert (await client.get("/api/auth/me")).status_code == 200, "who has a token is not slowed down with them"
