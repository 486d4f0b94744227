"""Rules as the appliance keeps them: set, changed and removed by actions and on the command line, brought to Kafka itself."""

from __future__ import annotations

import asyncio
import io
import json
import os
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError

from appliance import cli, config, paths
from appliance.core.logs import LogRing
from appliance.core.model import Actor, Health, Role
from appliance.runtime import Appliance
from appliance.verbs.client import SocketClient
from appliance.verbs.context import Context
from tests.servers.kafka import KafkaServer
from tests.streams.kafka_rig import stored
from tests.support import wait_for
from tests.windows.support import envelope

pytestmark = pytest.mark.timeout(120)

ADMIN = Actor("ada", Role.admin, "console")
CONFIG = """
[ssh]
enabled = false
[windows]
rules_topic = "{topic}"
[kafka]
bootstrap_servers = "{servers}"
"""
FORM: dict[str, Any] = {"topic": "edge.telemetry", "field": "metrics.cpu_usage", "window": "tumbling 10s"}


class Keeper:
    """An appliance that keeps rules, and what Kafka has of them."""

    def __init__(self, appliance: Appliance, server: KafkaServer, topic: str, home: Path) -> None:
        self.appliance = appliance
        self.server = server
        self.topic = topic
        self.where = paths.find({"PRIME_SPARK_HOME": str(home)})

    async def call(self, name: str, **args: Any) -> Any:
        return await self.appliance.dispatcher.invoke(name, args, ADMIN, confirm=True)

    async def newest(self) -> dict[str, dict[str, Any]]:
        """The newest message of each rule."""
        return {key: document for _, key, document in await stored(self.server.bootstrap(), self.topic)}

    def health(self) -> tuple[Health, str]:
        assert self.appliance.supervisor is not None
        (found,) = [each for each in self.appliance.supervisor.statuses() if each.name == "rules"]
        return found.health, found.reason

    async def cli(self, *words: str) -> tuple[int, str]:
        def run() -> tuple[int, str]:
            out = io.StringIO()
            context = Context(SocketClient(self.where.api_socket), self.where, {}, out, 160, colour=False)
            return cli.run(list(words), context, out), out.getvalue()

        return await asyncio.to_thread(run)


@pytest.fixture
async def keeper(home: Path, kafka_server: KafkaServer) -> AsyncIterator[Keeper]:
    topic = f"r{uuid.uuid4().hex[:8]}.rules"
    await kafka_server.create_topic(topic, cleanup_policy="compact")
    where = paths.find({"PRIME_SPARK_HOME": str(home)})
    where.config.parent.mkdir(parents=True, exist_ok=True)
    where.config.write_text(CONFIG.format(topic=topic, servers=kafka_server.bootstrap()))
    environ = {**os.environ, "PRIME_SPARK_HOME": str(home)}
    appliance = Appliance(config.load(where, environ), where, LogRing(), environ)
    appliance.start([])
    try:
        found = Keeper(appliance, kafka_server, topic, home)
        await wait_for(lambda: where.api_socket.exists() and found.health()[0] is Health.healthy, 30, "it keeps rules")
        yield found
    finally:
        await appliance.stop()
        kafka_server.recover()
        await kafka_server.remove_topics(topic)


def has(keeper: Keeper, condition: Callable[[dict[str, dict[str, Any]]], bool]) -> Callable[[], Any]:
    """Whether what Kafka has fulfils a condition."""

    async def look() -> bool:
        try:
            return condition(await keeper.newest())
        except KafkaConnectionError:  # it has only just come back
            return False

    return look


async def test_a_rule_is_published_changed_and_removed(keeper: Keeper) -> None:
    await keeper.call("rules.set", id="load", **FORM)
    await wait_for(has(keeper, lambda found: found.get("load", {}).get("function") == "avg"), 40)
    await keeper.call("rules.set", id="load", function="max", **FORM)
    await wait_for(has(keeper, lambda found: found["load"].get("function") == "max"), 20)
    await keeper.call("rules.disable", rule_id="load")
    await wait_for(has(keeper, lambda found: found["load"].get("enabled") is False), 20)

    async def heard() -> bool:
        return bool((await keeper.call("rules.show", rule_id="load"))["published"])

    await wait_for(heard, 20)
    await keeper.call("rules.remove", rule_id="load")
    await wait_for(has(keeper, lambda found: found["load"] == {"id": "load", "removed": True}), 20)
    assert await keeper.call("rules.list") == []


async def test_rules_wait_while_kafka_is_away(keeper: Keeper) -> None:
    await keeper.call("rules.set", id="before", **FORM)
    await wait_for(has(keeper, lambda found: "before" in found), 40)
    await asyncio.to_thread(keeper.server.kill)
    await keeper.call("rules.set", id="during", **FORM)
    await keeper.call("rules.remove", rule_id="before")
    assert (await keeper.call("rules.show", rule_id="during"))["published"] is False
    await wait_for(lambda: keeper.health()[0] is Health.degraded, 30, "the rules say that they wait")
    assert "wait" in keeper.health()[1]
    keeper.server.launch()  # in this thread, with which it ends
    await asyncio.to_thread(keeper.server.wait)
    wanted = {"id": "before", "removed": True}
    await wait_for(has(keeper, lambda found: found["before"] == wanted and found.get("during", {}).get("id") == "during"), 60)
    await wait_for(lambda: keeper.health()[0] is Health.healthy, 20)


async def test_the_command_line_sets_lists_tries_and_removes_rules(keeper: Keeper, tmp_path: Path) -> None:
    words = ("--topic", "edge.telemetry", "--field", "metrics.cpu_usage", "--window", "tumbling 10s")
    assert (await keeper.cli("rules", "set", "load", *words))[0] == 0
    code, text = await keeper.cli("rules", "list")
    assert code == 0
    assert "load" in text
    assert "tumbling 10s" in text
    events = tmp_path / "events.jsonl"
    events.write_bytes(b"\n".join(envelope(float(at), metrics={"cpu_usage": at}) for at in (100, 104, 115)))
    code, text = await keeper.cli("rules", "try", "load", "--file", str(events))
    assert (code, "102" in text, "115" in text) == (0, True, True)
    code, text = await keeper.cli("rules", "set", "other", "--topic", "edge.telemetry", "--field", "cpu", "--window", "soon")
    assert code != 0
    assert "is no window" in text
    code, text = await keeper.cli("rules", "show", "loud")
    assert code != 0
    assert "did you mean load" in text
    assert (await keeper.cli("rules", "remove", "load"))[0] != 0
    assert (await keeper.cli("rules", "remove", "load", "--yes"))[0] == 0
    assert json.loads((await keeper.cli("rules", "list", "--json"))[1]) == []
