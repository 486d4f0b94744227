"""Every route: nothing without a token, each role what the registry says, and the names of the contract."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from starlette.routing import Route, WebSocketRoute

from appliance.api import named
from appliance.api.app import RestApi
from appliance.api.auth import AuthRoutes
from appliance.api.gate import OPEN
from appliance.api.table import ROWS
from appliance.core.access.limiter import Limiter
from appliance.core.actions import Action, NoParams
from appliance.errors import InvalidArgumentsError
from tests.api.rig import USERS, Api

pytestmark = pytest.mark.asyncio(loop_scope="module")

CONTRACT = (
    "/health", "/metrics", "/api/health/detailed", "/api/auth/login", "/api/auth/me", "/api/auth/users", "/api/memory/set",
    "/api/memory/get", "/api/memory/stats", "/api/memory/{key:path}", "/api/tasks/submit", "/api/tasks/{task_id}",
    "/api/agents/status", "/api/power/status", "/api/power/mode/{mode}", "/api/vpn/status", "/api/system/info",
    "/api/v1/inference", "/api/v1/inference/stats", "/api/v1/cache", "/api/v1/cache/clear", "/api/v1/offline/status",
    "/api/v1/offline/queue", "/api/v1/analytics/query", "/api/v1/analytics/summary", "/api/v1/actions", "/docs",
)  # fmt: skip


def table(api: Api) -> list[tuple[str, str]]:
    """(method, path) of every route of the application that listens."""
    gate: Any = api.access._app()
    while not hasattr(gate, "router"):
        gate = getattr(gate, "app", None) or gate._app
    found = []
    for route in gate.router.routes:
        methods = {"GET"} if isinstance(route, WebSocketRoute) else route.methods
        found += [(method, route.path) for method in sorted(methods)]
    return found


async def patient(client: httpx.AsyncClient, method: str, path: str, **more: Any) -> httpx.Response:
    """The answer to it; strangers are slowed down, so whoever asks often asks again."""
    answer = await client.request(method, path, **more)
    while answer.status_code == 429:
        answer = await client.request(method, path, **more)
    return answer


def filled(path: str) -> str:
    return re.sub(r"{\w+(:\w+)?}", "x", path)


@pytest.fixture
def unpaced(api: Api) -> Iterator[None]:
    """Strangers are not slowed down."""
    found: Any = api.access._http._servers[0][0].config.app
    while not hasattr(found, "_strangers"):
        found = getattr(found, "app", None) or found._app
    before, found._strangers = found._strangers, Limiter(0)
    yield
    found._strangers = before


@pytest.mark.usefixtures("unpaced")
async def test_no_route_answers_without_a_token(api: Api) -> None:
    routes = table(api)
    assert len(routes) > 60
    assert {path for _, path in routes} >= set(CONTRACT)
    refused = 0
    async with api.client() as client:
        api.access  # noqa: B018 - the gate of the listener
        for method, path in [*routes, ("GET", "/nowhere"), ("POST", "/"), ("PUT", "/api/v1/state"), ("TRACE", "/health")]:
            if (method, path) in OPEN:
                continue
            answer = await patient(client, method, filled(path))
            assert answer.status_code == 401, (method, path, answer.text)
            assert answer.headers["www-authenticate"].startswith("Bearer")
            refused += 1
    assert refused > 60
    assert {path for _, path in OPEN} == {"/health", "/api/auth/login", "/api/auth/refresh", "/docs"}


async def test_what_is_open_tells_nothing(api: Api) -> None:
    async with api.client() as client:
        assert set((await patient(client, "GET", "/health")).json()) == {"status"}
        page = await patient(client, "GET", "/docs")
        assert page.status_code == 200
        assert "'none'" in page.headers["content-security-policy"]
        assert not re.findall(r"(?:src|href)=", page.text), "the page loads something"
        assert (await patient(client, "POST", "/api/auth/refresh", content=b"{}")).status_code == 400


@pytest.mark.parametrize("user", USERS)
async def test_each_role_does_what_the_registry_says(api: Api, user: str) -> None:
    """Over all actions, through HTTP, with handlers that do nothing: what a role may do would be done."""
    registry = api.appliance.registry
    held, done = dict(registry._actions), []

    async def nothing(call: Any, _: Any) -> str:
        done.append(call.action)
        return "done"

    def harmless(action: Action) -> Action:
        return Action(action.name, action.summary, nothing, params=NoParams, role=action.role, query=True)

    registry._actions.update({name: harmless(action) for name, action in held.items()})
    try:
        async with api.client(await api.token(user)) as client:
            statuses = {name: (await client.post(f"/api/v1/actions/{name}")).status_code for name in held}
    finally:
        registry._actions.update(held)
    expected = {name: 200 if USERS[user] >= action.role else 403 for name, action in held.items()}
    assert statuses == expected
    assert sorted(done) == sorted(name for name, status in expected.items() if status == 200)


@pytest.mark.parametrize("user", USERS)
async def test_named_routes_ask_for_the_same_roles(api: Api, user: str) -> None:
    """A row is no way around the registry: what a role may not do by action, it may not do by address."""
    async with api.client(await api.token(user)) as client:
        for row in ROWS:
            action = api.appliance.registry.get(row.action) if row.action else None
            if action is not None and USERS[user] >= action.role:
                continue  # it would be done
            answer = await client.request(row.method, filled(row.path), json={"value": 1} if row.method == "POST" else None)
            assert (answer.status_code == 403) == (action is not None), (row.path, answer.text)


async def test_rows_name_actions_and_sections_that_are_there(api: Api) -> None:
    assert {row.action for row in ROWS if row.action} <= {action.name for action in api.appliance.registry}
    assert len({(row.method, row.path) for row in ROWS}) == len(ROWS)
    rest = RestApi(api.appliance.dispatcher, api.appliance.state, api.appliance.bus, "x", lambda _: None)  # type: ignore[arg-type,return-value]
    routes = [*rest.routes(), *named.routes(rest), *AuthRoutes(api.access.desk).routes()]
    pairs = [(method, route.path) for route in routes if isinstance(route, Route) for method in route.methods or ()]
    doubled = [pair for pair, group in itertools.groupby(sorted(pairs)) if len(list(group)) > 1]
    assert doubled == []


@pytest.mark.parametrize(
    ("scope", "hint"),
    [("jobs.*", "did you mean job"), ("power.statsu", "did you mean power.status?"), ("metric", "did you mean metrics?"),
     ("zzzzzzzz.*", "`prime-spark actions` lists")],
)  # fmt: skip
async def test_a_scope_that_reaches_nothing_is_refused(api: Api, scope: str, hint: str) -> None:
    with pytest.raises(InvalidArgumentsError, match="reaches nothing") as caught:
        await api.invoke("api.token-create", name="mistyped", user="otto", scopes=["*.list", scope])
    assert hint in caught.value.next_step
    assert "mistyped" not in str(await api.invoke("api.token-list"))


async def test_scopes_bound_a_token(api: Api) -> None:
    made = await api.invoke("api.token-create", name="scraper", user="otto", role="viewer", scopes=["metrics", "job.*"])
    async with api.client(made["token"]) as client:
        assert (await client.get("/metrics")).status_code == 200
        assert (await client.get("/api/v1/jobs")).status_code == 200
        assert (await client.get("/api/v1/state")).status_code == 403
        assert (await client.get("/api/v1/events")).status_code == 403
        assert (await client.post("/api/v1/actions/alert.list")).status_code == 403
        answer = await client.post("/api/v1/actions/job.cancel", json={"args": {"job_id": "abcd"}})
        assert (answer.status_code, "otto is viewer" in answer.text) == (403, True), (
            "the token has a smaller role than its user"
        )
    await api.invoke("api.token-revoke", name="scraper")
    async with api.client(made["token"]) as client:
        assert (await client.get("/metrics")).status_code == 401
    rows = await api.appliance.store.read(lambda connection: connection.execute("SELECT * FROM access_tokens").fetchall())
    assert made["token"].rpartition("_")[2] not in str(rows)


async def test_a_token_ends_with_its_user_and_follows_their_role(api: Api) -> None:
    await api.invoke("user.add", name="tom", role="operator")
    made = await api.invoke("api.token-create", name="robot", user="tom", role="admin")
    async with api.client(made["token"]) as client:
        assert (await client.get("/api/auth/me")).json()["role"] == "operator"
        await api.invoke("user.set-role", name="tom", role="viewer")
        assert (await client.get("/api/auth/me")).json()["role"] == "viewer"
        await api.invoke("user.remove", name="tom")
        assert (await client.get("/api/auth/me")).status_code == 401


async def test_the_document_is_whole(api: Api) -> None:
    async with api.client(await api.token("vera")) as client:
        document = (await client.get("/openapi.json")).json()
    names = set(document["components"]["schemas"])
    wanted = set(re.findall(r'"\$ref": ?"#/components/schemas/([^"]+)"', (await _text(api))))
    assert wanted <= names, wanted - names
    assert '"#/$defs' not in await _text(api)
    for action in api.appliance.registry:
        assert f"/api/v1/actions/{action.name}" in document["paths"]
    ids = [one["operationId"] for path in document["paths"].values() for one in path.values()]
    assert len(ids) == len(set(ids))
    for method, path in set(table(api)) - {("GET", "/api/v1/ws")}:
        if method not in {"HEAD", "OPTIONS"} and "/actions/{name}" not in path:
            assert method.lower() in document["paths"][path.replace(":path}", "}")], (method, path)


async def _text(api: Api) -> str:
    async with api.client(await api.token("vera")) as client:
        return (await client.get("/openapi.json")).text


async def test_an_address_tells_all_its_methods_and_plain_ones_go_first(api: Api) -> None:
    async with api.client(await api.token("otto")) as client:
        for method, path, allowed in (
            ("PUT", "/api/v1/jobs/x", {"GET", "HEAD", "DELETE"}), ("PATCH", "/api/v1/analytics/query", {"GET", "HEAD", "POST"}),
            ("DELETE", "/api/memory/stats", {"GET", "HEAD"}), ("DELETE", "/api/memory/get/x", {"GET", "HEAD"}),
            ("POST", "/api/memory/x", {"DELETE"}), ("GET", "/api/llm/generate/stream", {"POST"}),
        ):  # fmt: skip
            answer = await client.request(method, path, headers={"Idempotency-Key": "one"})
            assert answer.status_code == 405, (method, path, answer.text)
            assert set(answer.headers["allow"].split(", ")) == allowed, path
        for path in ("/api/v1/jobs/x/y", "/api", "/api/v1/actions/", "/api/power/mode/"):
            assert (await client.get(path)).status_code == 404, path


async def test_true_is_no_number_and_no_number_is_true(api: Api) -> None:
    async with api.client(await api.token("ada")) as client:
        for args in ({"before": True}, {"limit": True}, {"before": False}):
            answer = await client.post("/api/v1/actions/audit.list", json={"args": args})
            assert answer.status_code == 422, answer.text
            assert "neither true nor false" in answer.text
        assert (await client.post("/api/v1/actions/audit.list", json={"args": {"limit": "5"}})).status_code == 200
        for number in (0, 1, 1.0):
            answer = await client.post("/api/v1/actions/analytics.devices", json={"args": {"local": number}})
            assert (answer.status_code, "true or false" in answer.text) == (422, True), answer.text
