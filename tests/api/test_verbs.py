"""`prime-spark api …`, `tls …` and `totp …` against a running appliance, over its control socket."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pyotp
import pytest
import pytest_asyncio

from appliance import cli
from appliance.core.access.authority import describe
from appliance.core.model import Actor, Role
from appliance.errors import AuthError, NotAuthorizedError
from appliance.verbs.client import SocketClient
from appliance.verbs.context import Context
from tests.api.rig import Api, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def api(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    """An appliance with its control socket too."""
    home = tmp_path_factory.mktemp("verbs") / "home"
    home.mkdir(mode=0o700)
    async with serving(home) as api:
        assert api.appliance.domains is not None
        control = api.appliance.domains._api()
        await control.start()
        yield api
        await control.stop()


async def line(api: Api, *words: str) -> str:
    """What a command line writes."""
    out = io.StringIO()
    where = api.appliance.paths
    context = Context(SocketClient(where.api_socket, quick=60), where, {}, out, 120, colour=False)
    code = await asyncio.to_thread(cli.run, words, context, out)
    assert code == 0, out.getvalue()
    return out.getvalue()


async def test_tokens_are_made_listed_and_revoked(api: Api) -> None:
    text = await line(api, "api", "token", "create", "grafana", "vera", "--scopes", "metrics", "--days", "30")
    token = next(word for word in text.split() if word.startswith("psk_"))
    assert "shown once" in text
    async with api.client(token) as client:
        assert (await client.get("/metrics")).status_code == 200
        listed = await line(api, "api", "token", "list", "--json")
        assert token.rpartition("_")[2] not in listed
        (row,) = msgspec.json.decode(listed)
        assert (row["name"], row["user"], row["role"], row["scopes"]) == ("grafana", "vera", "viewer", ["metrics"])
        assert "grafana" in await line(api, "api", "token", "revoke", "grafana")
        assert (await client.get("/metrics")).status_code == 401
    assert api.url in await line(api, "api", "status")


async def test_sessions_are_listed_and_revoked(api: Api) -> None:
    pair = await api.pair("otto")
    assert pair["session"] in await line(api, "api", "session", "list")
    await line(api, "api", "session", "revoke", pair["session"])
    async with api.client(pair["access"]) as client:
        assert (await client.get("/api/auth/me")).status_code == 401


async def test_the_authority_is_shown_exported_and_drawn(api: Api, tmp_path: Path) -> None:
    shown = await line(api, "tls", "show")
    assert "127.0.0.1" in shown
    file = tmp_path / "ca.pem"
    told = await line(api, "tls", "export", "--output", str(file))
    assert describe(file.read_bytes()).fingerprint in told
    assert file.read_text().strip() in await line(api, "tls", "export")
    assert "█" in await line(api, "tls", "export", "--qr")


async def test_a_second_factor_from_its_begin_to_its_end(api: Api) -> None:
    """Everybody has their own; whoever took over a session cannot take it away."""
    otto, vera = (Actor(name, role, "api") for name, role in (("otto", Role.operator), ("vera", Role.viewer)))
    invoke = api.appliance.dispatcher.invoke
    begun = await invoke("totp.begin", {}, vera)
    code = pyotp.TOTP(begun["secret"]).now()
    with pytest.raises(NotAuthorizedError):
        await invoke("totp.confirm", {"user": "vera", "code": code}, otto)
    codes = (await invoke("totp.confirm", {"code": code}, vera))["recovery_codes"]
    assert "vera" in await line(api, "totp", "list")
    with pytest.raises(AuthError, match="wrong"):
        await invoke("totp.remove", {"code": code}, vera)
    assert await invoke("totp.remove", {"code": codes[0]}, vera) == {"removed": "vera"}
    audited = await api.appliance.audit.entries()
    assert not [entry for entry in audited if code in str(entry.args) or begun["secret"] in str(entry)]
