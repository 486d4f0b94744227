"""The door on a real socket: tokens that were revoked, scopes, what the audit tells, and whose address counts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from appliance.core.events import Noted
from appliance.core.lockout import FREE
from appliance.core.model import AuditEntry
from tests.api.rig import Api, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def program(api: Api, name: str, user: str, *scopes: str, role: str = "admin") -> str:
    """A token of a program."""
    made = await api.invoke("api.token-create", name=name, user=user, role=role, scopes=list(scopes or ("*",)))
    return str(made["token"])


async def publish(api: Api, text: str) -> None:
    await api.appliance.bus.publish(Noted(time=api.appliance.clock.wall(), event=text, severity="info", attributes={}))


async def rows(api: Api, action: str) -> list[AuditEntry]:
    """The audit's rows of one action, the newest first."""
    return [each for each in await api.appliance.audit.entries() if each.action == action]


async def lines(answer: httpx.Response) -> AsyncIterator[str]:
    async for line in answer.aiter_lines():
        yield line


@pytest.mark.parametrize("how", ["revoked", "removed", "session"])
async def test_nothing_comes_over_a_stream_after_its_end(api: Api, how: str) -> None:
    await api.invoke("user.add", name="nora", role="viewer")
    pair = await api.pair("nora")
    token = pair["access"] if how == "session" else await program(api, f"s-{how}", "nora", "events")
    async with api.client(token) as client, asyncio.timeout(60), client.stream("GET", "/api/v1/events") as answer:
        seen = lines(answer)
        assert await anext(seen) == ": connected"
        url = api.url.replace("http", "ws") + "/api/v1/ws"
        async with connect(url, subprotocols=[f"bearer.{token}"]) as socket:  # type: ignore[list-item]
            await publish(api, "before")
            assert json.loads(await socket.recv())["data"]["event"] == "before"
            await end(api, how, pair["session"])
            await publish(api, "after")
            heard = await to_the_end(socket)
            rest = "\n".join([line async for line in seen])
    assert "before" in rest
    assert "after" not in rest + heard
    if how != "removed":
        await api.invoke("user.remove", name="nora")


async def end(api: Api, how: str, session: str) -> None:
    if how == "revoked":
        await api.invoke("api.token-revoke", name="s-revoked")
    elif how == "removed":
        await api.invoke("user.remove", name="nora")
    else:
        await api.invoke("api.session-revoke", session_id=session)


async def to_the_end(socket: Any) -> str:
    heard = ""
    try:
        while True:
            heard += str(await socket.recv())
    except ConnectionClosed:
        return heard


async def test_scopes_hold_against_every_action_and_the_audit_tells(api: Api) -> None:
    token = await program(api, "narrow", "ada", "metrics")
    async with api.client(token) as client:
        for action in api.appliance.registry:
            answer = await client.post(f"/api/v1/actions/{action.name}", json={"args": {}, "confirm": True})
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_authorized"), action.name
        for method, path in (
            ("GET", "/api/v1/state"), ("GET", "/api/v1/jobs"), ("GET", "/api/v1/events"), ("GET", "/api/auth/sessions"),
            ("DELETE", "/api/auth/sessions/x"), ("GET", "/api/auth/users"), ("GET", "/api/memory/stats"),
            ("POST", "/api/power/mode/auto"), ("GET", "/api/health/detailed"), ("DELETE", "/api/v1/jobs/x"),
        ):  # fmt: skip
            assert (await client.request(method, path)).status_code == 403, path
        assert (await client.get("/metrics")).status_code == 200
    told = [
        each for each in await api.appliance.audit.entries() if each.outcome == "refused" and "(token narrow)" in each.origin
    ]
    assert told
    assert told[0].actor == "ada"


async def test_a_part_of_the_scopes_lets_nobody_in(api: Api) -> None:
    """Who may make tokens or change passwords may do everything."""
    token = await program(api, "maker", "ada", "api.*", "user.*", "totp.*")
    async with api.client(token) as client:
        assert (await client.post("/api/v1/actions/api.token-list", json={})).status_code == 200
        args = {"name": "wide", "user": "ada", "role": "admin"}
        for action in ("api.token-create", "user.set-password", "user.add", "user.set-role", "user.add-key"):
            answer = await client.post(f"/api/v1/actions/{action}", json={"args": args})
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_authorized"), action
    assert "wide" not in {each.name for each in await api.invoke("api.token-list")}


async def test_a_token_is_shown_with_no_more_than_its_users_role(api: Api) -> None:
    made = await api.invoke("api.token-create", name="bounded", user="vera", role="admin")
    assert made["role"] == "viewer"
    (shown,) = [each for each in await api.invoke("api.token-list") if each.name == "bounded"]
    assert shown.role == "viewer"


async def test_a_program_ends_nobodys_sessions_and_takes_no_second_factor(api: Api) -> None:
    """Its scopes were not asked at the addresses of sessions, and its user's own factor was its too."""
    mine = await api.pair("ada")
    async with api.client(await program(api, "reader", "ada", "*.list", role="viewer")) as client:
        assert (await client.delete(f"/api/auth/sessions/{mine['session']}")).status_code == 403
    async with api.client(await program(api, "all", "ada", role="viewer")) as client:
        for action in ("totp.begin", "totp.confirm", "totp.remove"):
            answer = await client.post(f"/api/v1/actions/{action}", json={"args": {"code": "123456"}})
            assert answer.status_code == 403, action
    async with api.client(mine["access"]) as client:
        assert (await client.get("/api/auth/me")).json()["second_factor"] is False
        assert (await client.get("/api/auth/sessions")).status_code == 200


async def test_a_role_that_was_lowered_counts_at_once(api: Api) -> None:
    await api.invoke("user.add", name="olga", role="admin")
    pair, token = await api.pair("olga"), await program(api, "olgas", "olga")
    async with api.client(token) as program_client, api.client(pair["access"]) as client:
        assert (await program_client.get("/api/auth/users")).status_code == 200
        await api.invoke("user.set-role", name="olga", role="viewer")
        assert (await program_client.get("/api/auth/users")).status_code == 403
        assert (await client.get("/api/auth/users")).status_code == 401, "its login ended"
    await api.invoke("user.remove", name="olga")


async def test_requests_without_a_token_that_would_change_something_are_told(api: Api) -> None:
    async with api.client() as client:
        await client.post("/api/v1/actions/power.mode", json={"args": {"mode": "auto"}})
        await client.delete("/api/memory/x%1b%5b31m")
        assert (await client.get("/api/v1/state")).status_code in {401, 429}
    told = await rows(api, "api.request")
    assert {(each.actor, each.via, each.origin, each.outcome) for each in told} == {("?", "api", "127.0.0.1", "refused")}
    assert any("'/api/v1/actions/power.mode'" in each.detail for each in told)
    assert all(each.detail.isprintable() for each in told)
    assert not any("state" in each.detail for each in told), "reading is no change"
    async with api.client() as client:
        for _ in range(30):
            await client.post("/api/v1/actions/power.mode")
    assert len(await rows(api, "api.request")) <= 6, "a flood is counted, not written"


async def test_a_stranger_locks_nobody_out_of_the_machine_itself(api: Api) -> None:
    desk = api.access.desk
    try:
        for _ in range(FREE + 2):
            await api.login("ada", "wrong password")
        assert (await api.login("ada")).status_code == 429
        assert await api.invoke("user.list"), "the console and the control socket ask for no login"
        assert (await api.appliance.accounts.check_password("ada", "correct horse battery")) is not None, (
            "nor does SSH count it"
        )
    finally:
        for mark in ("127.0.0.1", "user ada"):
            desk.limiter.succeeded(mark)


async def test_what_clients_call_themselves_steers_no_terminal(api: Api) -> None:
    async with api.client() as client:
        wish = {"username": "ada", "password": "correct horse battery"}
        agent = "\x9b31m[red]x[/red]\u202e".encode("latin-1", "ignore")
        assert (await client.post("/api/auth/login", json=wish, headers={b"User-Agent": agent})).status_code == 200
    kept = [each.agent for each in api.access.desk.all_sessions() if "red" in each.agent]
    assert kept == ["\x9b31m[red]x[/red]"], "it is kept as it came, and shown escaped: see test_verbs"


async def test_secrets_are_nobody_elses(api: Api) -> None:
    folder = api.appliance.paths.secrets
    assert folder.stat().st_mode & 0o777 == 0o700
    files = [each for each in folder.rglob("*") if each.is_file()]
    assert {"audit.key", "api.jwt_key", "access.key"} <= {each.name for each in files}
    assert {each.stat().st_mode & 0o777 for each in files} == {0o600}


async def test_an_address_is_believed_of_configured_proxies_alone(api: Api, tmp_path: Path) -> None:
    spoofed = {"X-Forwarded-For": "203.0.113.5", "Forwarded": "for=203.0.113.5", "X-Real-IP": "203.0.113.5"}
    async with api.client(await api.token("ada")) as client:
        assert (await client.get("/api/auth/me", headers=spoofed)).json()["origin"] == "127.0.0.1"
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    async with serving(home, 'proxies = ["127.0.0.1"]\n') as behind, behind.client(await behind.token()) as client:
        for given, origin in (
            ("203.0.113.5", "203.0.113.5"), ("198.51.100.1, 203.0.113.5", "203.0.113.5"),
            ("203.0.113.5, 127.0.0.1", "203.0.113.5"),
        ):  # fmt: skip
            answer = await client.get("/api/auth/me", headers={"X-Forwarded-For": given})
            assert answer.json()["origin"] == origin, given
        assert (await client.get("/api/auth/me")).json()["origin"] == "127.0.0.1"
        for number in range(FREE + 1):
            wish = {"username": f"nobody{number}", "password": "wrong password"}
            await client.post("/api/auth/login", json=wish, headers={"X-Forwarded-For": f"1.2.3.{number}, 203.0.113.9"})
        assert behind.access.desk.limiter.left("203.0.113.9") > 0, "what the client itself wrote before it does not count"
        assert behind.access.desk.limiter.left("127.0.0.1") == 0, "the proxy is not locked out"
