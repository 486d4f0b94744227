"""An appliance that did something of each kind, and a Prometheus that scraped it."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from appliance import config, paths
from appliance.assembly import Domains
from appliance.core.deploy.model import DeployStatus
from appliance.core.fleet.model import FleetStatus, LinkStatus, Node, NodeFacts, NodeMetrics, NodeStatus, Reach
from appliance.core.logs import LogRing
from appliance.core.model import Actor, Health, Role
from appliance.core.power.model import Level, Phase, PowerStatus, Setting, Supply, UpsReading, UpsStatus
from appliance.core.services import Supervisor
from appliance.core.state import Section
from appliance.core.streams.model import (
    CommandStats,
    GroupLag,
    LinkState,
    OutboxStatus,
    StreamsStatus,
    TopicStatus,
)
from appliance.core.streams.model import LinkStatus as KafkaLinkStatus
from appliance.core.supervision import Policy
from appliance.core.vpn.status import PeerState, PeerStatus, VpnStatus
from appliance.errors import NotFoundError
from appliance.runtime import Appliance
from tests.inference.registry_rig import picture, write_model
from tests.llm.upstreams import FakeOllama
from tests.support import wait_for

ME = Actor("tester", Role.admin, "console")
RUN = frozenset(
    {"accounts", "telemetry", "analytics", "inference", "redis", "memory", "queries", "tasks", "llm", "alerts", "api"}
)
"""Services of the test's appliance: those that touch nothing of the machine, and need no other machine."""


def settings(models: Path, fakes: dict[str, FakeOllama], more: str = "") -> str:
    """The configuration file."""
    endpoints = "".join(
        f'[llm.endpoints.{name}]\nurl = "{fake.url}"\nplace = "{"cloud" if name == "cloud" else "edge"}"\n'
        for name, fake in fakes.items()
    )
    return f"""
[api]
enabled = true
port = 0
requests_per_second = 0
changes_per_second = 0
[telemetry]
interval_seconds = 0.5
flush_seconds = 1
[inference]
model_dir = "{models}"
threads = 1
[memory]
redis_max_memory = "32mb"
[llm]
cloud_fallback = true
{endpoints}
{more}
"""


class Watched:
    """The appliance."""

    def __init__(self, appliance: Appliance, home: Path, services: dict[str, Any]) -> None:
        self.appliance, self.home, self.services = appliance, home, services
        assert appliance.domains is not None
        self.domains: Domains = appliance.domains

    @property
    def url(self) -> str:
        return str(self.domains.access._http.urls[0])  # type: ignore[union-attr]

    async def invoke(self, name: str, /, **args: Any) -> Any:
        return await self.appliance.dispatcher.invoke(name, args, ME, confirm=True)

    async def token(self, name: str, *scopes: str) -> str:
        made = await self.invoke("api.token-create", name=name, user="ada", role="admin", scopes=list(scopes or ("*",)))
        return str(made["token"])

    def client(self, token: str, **headers: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, headers={"Authorization": f"Bearer {token}", **headers}, timeout=30)


@asynccontextmanager
async def watched(
    home: Path, fakes: dict[str, FakeOllama], more: str = "", run: frozenset[str] = RUN
) -> AsyncIterator[Watched]:
    """A running appliance with a model of its own."""
    models = home.parent / "given"
    write_model(models / "colours" / "1")
    (home / "config.toml").write_text(settings(models, fakes, more))
    environ = {**os.environ, "PRIME_SPARK_HOME": str(home)}
    where = paths.find(environ)
    where.make()
    appliance = Appliance(config.load(where, environ), where, LogRing(), environ)
    domains = appliance.domains = Domains(appliance, environ)
    names = run | {"store", "http", "traces"}
    offered = [each for each in domains.services() if each.name in names]
    appliance.supervisor = Supervisor(offered, appliance.state, appliance.clock, Policy(), lambda _, __: None)
    domains.register_actions(appliance.supervisor)
    appliance.supervisor.start()
    try:
        await appliance.supervisor.settled()
        await appliance.accounts.add("ada", Role.admin, "")
        yield Watched(appliance, home, {each.name: each for each in offered})
    finally:
        await appliance.stop()


async def work(watched: Watched, token: str, colour: str) -> None:
    """Something of each kind, through the real code; with a picture of a colour that was not seen before."""
    image = watched.home / f"{colour}.png"
    image.write_bytes(picture(colour))
    async with watched.client(token) as client:
        await client.get("/api/v1/state")
        await client.get("/api/v1/jobs/none")
        await client.get("/nowhere")
        await client.get("/api/v1/state", headers={"Authorization": "Bearer wrong"})
        chat = {"model": "llama3.2", "messages": [{"role": "user", "content": "Why?"}]}
        for _ in range(2):
            assert (await client.post("/api/chat", json=chat)).status_code == 200
        kept = {**chat, "options": {"temperature": 0}}
        for _ in range(2):
            assert (await client.post("/api/chat", json={**kept, "stream": False})).status_code == 200
    inference = watched.domains.inference
    for _ in range(2):
        await inference.infer_file(image)
    await watched.invoke("inference.run", paths=[str(image)])
    await watched.invoke("memory.set", key="a", value="1")
    for key in ("a", "none"):
        with contextlib.suppress(NotFoundError):
            await watched.invoke("memory.get", key=key)
    await wait_for(lambda: _has(watched, "load_1m"), message="readings are kept", every=0.1)
    for _ in range(2):
        await watched.invoke("analytics.query", metric="load_1m", bucket="1m", range="1h")


async def _has(watched: Watched, metric: str) -> bool:
    return metric in await watched.invoke("analytics.metrics")


def stand_in(watched: Watched) -> None:
    """Sections of domains whose other end cannot be here: a cluster of brokers, a UPS, a tunnel, other machines.

    They are put as those domains put them, so that names and labels are proved from the live state to the panel.
    """
    put, now = watched.appliance.state.put, watched.appliance.clock.monotonic()
    link = KafkaLinkStatus(state=LinkState.up, reason="answers")
    outbox = OutboxStatus(
        waiting=3, bytes=900, byte_limit=10**6, age_limit_s=600, oldest_s=1.0, drain_rate=0.0, eta_s=None, paused=False,
        sent=10, dropped=0, dead=0, quarantined=0, retry_s=None,
    )  # fmt: skip
    put(Section.streams, StreamsStatus(
        link=link, outbox=outbox, topics=(TopicStatus(name="edge.telemetry", direction="out", sent=7, received=2),),
        groups=(GroupLag(group="sink", topic="edge.telemetry", lag=4),),
        commands=CommandStats(accepted=2, refused={"expired": 1}),
    ))  # fmt: skip
    peer = PeerStatus("phone", PeerState.connected, "key", ("10.8.0.9/32",), (), rx_bytes=10, tx_bytes=20)
    put(Section.vpn, VpnStatus("wg0", True, 1, 1, (peer,)))
    reading = UpsReading(time=1.0, monotonic=now, supply=Supply.mains, percent=80.0, power=12.0)
    ups = UpsStatus("hat", "sim", Health.healthy, "answers", reading=reading)
    put(Section.power, PowerStatus(Setting.auto, Phase.grid, 1.0, "on mains", Supply.mains, Level.high, 80.0, upses=(ups,)))
    metrics = NodeMetrics(1.0, now, cpu=20.0, memory=30.0, disk=40.0, temperature_c=50.0, load_1m=0.5, uptime=100.0)
    node = NodeStatus(
        Node(name="nas", host="192.0.2.49"), LinkStatus(Reach.up), Health.healthy, "answers", metrics=metrics,
        facts=NodeFacts(1.0, now, cores=4),
    )  # fmt: skip
    put(Section.fleet, FleetStatus((node,)))
    put(Section.deployments, DeployStatus(completed=3, ended=4, scaled=1))


async def scraped(server: Any, times: int) -> None:
    """Wait until Prometheus has looked at the appliance so many times more, and was answered."""
    query = 'sum_over_time(up{job="prime-spark"}[1h])'  # a look that failed counts 0

    async def count() -> float:
        return sum(await asyncio.to_thread(server.numbers, query))

    before = await count()
    ends = asyncio.get_running_loop().time() + 60
    while await count() < before + times:
        assert asyncio.get_running_loop().time() < ends, "Prometheus does not scrape"
        await asyncio.sleep(0.1)
