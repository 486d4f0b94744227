"""An appliance whose API listens on loopback, and clients that log in.

Only the store and the listener are started: all actions are there, and none of their services runs, so that nothing that a
test asks for can do anything to the machine.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from appliance import config, paths
from appliance.assembly import Domains
from appliance.core.logs import LogRing
from appliance.core.model import Actor, Role
from appliance.core.services import Supervisor
from appliance.core.supervision import Policy
from appliance.runtime import Appliance

PASSWORD = "correct horse battery"
SETTINGS = """
[api]
enabled = true
port = 0
requests_per_second = 0
changes_per_second = 0
"""
USERS = {"ada": Role.admin, "otto": Role.operator, "vera": Role.viewer}
ME = Actor("console", Role.admin, "console")


class Api:
    """The appliance, and clients of its API."""

    def __init__(self, appliance: Appliance) -> None:
        self.appliance = appliance
        self._tokens: dict[str, str] = {}

    @property
    def access(self) -> Any:
        assert self.appliance.domains is not None
        return self.appliance.domains.access

    @property
    def url(self) -> str:
        return str(self.access._http.urls[0])

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    async def invoke(self, name: str, /, **args: object) -> Any:
        return await self.appliance.dispatcher.invoke(name, args, ME, confirm=True)

    def client(self, token: str = "", **options: Any) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=60, **options)

    async def login(self, name: str = "ada", password: str = PASSWORD, code: str = "") -> httpx.Response:
        async with self.client() as client:
            wish = {"username": name, "password": password, "code": code}
            return await client.post("/api/auth/login", json=wish)

    async def pair(self, name: str = "ada") -> dict[str, Any]:
        """The tokens of a new login whose password nobody has to compute."""
        user = await self.appliance.accounts.get(name)
        made = await self.access.desk.sessions.open(user, "127.0.0.1", "tests")
        return {"access": made.access_token, "refresh": made.refresh_token, "session": made.session_id}

    async def token(self, name: str = "ada") -> str:
        return str((await self.pair(name))["access"])


@asynccontextmanager
async def serving(
    home: Path, further: str = "", services: tuple[str, ...] = (), settings: str = SETTINGS
) -> AsyncIterator[Api]:
    """A running appliance with an administrator, ada, an operator, otto, and a viewer, vera.

    Args:
        home: Its directory.
        further: More settings.
        services: Names of services that run beside the store and the listener.
        settings: Those of the API.
    """
    (home / "config.toml").write_text(settings + further)
    environ = {**os.environ, "PRIME_SPARK_HOME": str(home)}
    where = paths.find(environ)
    where.make()
    appliance = Appliance(config.load(where, environ), where, LogRing(), environ)
    domains = appliance.domains = Domains(appliance, environ)
    offered = [each for each in domains.services() if each.name in {"store", "http", *services}]
    appliance.supervisor = Supervisor(offered, appliance.state, appliance.clock, Policy(), lambda _, __: None)
    domains.register_actions(appliance.supervisor)
    appliance.supervisor.start()
    try:
        await appliance.supervisor.settled()
        for name, role in USERS.items():
            await appliance.accounts.add(name, role, PASSWORD if name == "ada" else "")
        yield Api(appliance)
    finally:
        await appliance.stop()
