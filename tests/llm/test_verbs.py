"""`prime-spark llm …` over a real control socket, and the actions behind it."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance import assembly_llm, cli, paths
from appliance.api.app import RestApi
from appliance.api.server import ApiService, local_actor
from appliance.core.actions import ActionRegistry
from appliance.core.bus import Bus
from appliance.core.clock import SystemClock
from appliance.core.dispatch import Dispatcher
from appliance.core.llm.service import Ground, LlmService
from appliance.core.model import Actor, Role
from appliance.core.outbox import Outbox
from appliance.core.secrets import Secrets
from appliance.core.state import LiveState
from appliance.core.store import Store
from appliance.errors import AbsentError
from appliance.settingllm import LlmSettings
from appliance.verbs.client import SocketClient
from appliance.verbs.context import Context
from tests.llm.rig import Rig, endpoint, running
from tests.llm.upstreams import FakeOllama, FakeOpenAi, up
from tests.support import wait_for

TEXT = "The sky is blue."
Run = Callable[..., Coroutine[Any, Any, tuple[int, str]]]


class Audit:
    """Keeps rows in this process (dispatch.AuditSink)."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str]] = []

    async def record(self, actor: Actor, action: str, args: dict[str, Any], outcome: str, detail: str) -> None:
        self.rows.append((action, outcome))


@asynccontextmanager
async def terminal(rig: Rig, home: Path) -> AsyncIterator[tuple[Run, Audit]]:
    """A command line beside the service's own control socket."""
    where, audit, registry = paths.find(), Audit(), ActionRegistry()
    registry.add(*assembly_llm.actions(rig.service))
    app = RestApi(
        Dispatcher(registry, audit), rig.state, Bus(Outbox(Store(home / "bus.db"), "pc")), "control-pc", local_actor
    ).asgi()
    app.router.routes.extend(assembly_llm.routes(rig.service, local_actor))
    api = ApiService(lambda: app, where.api_socket, paths.socket_address(where.api_socket))
    await api.start()

    async def run(*words: str) -> tuple[int, str]:
        out = io.StringIO()
        client = SocketClient(where.api_socket)
        context = Context(client, where, {"PRIME_SPARK_HOME": str(home)}, out, 160, colour=False)
        try:
            return await asyncio.to_thread(cli.run, words, context, out), out.getvalue()
        finally:
            client.close()

    try:
        yield run, audit
    finally:
        await api.stop()


async def test_an_operator_asks_looks_and_switches(home: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    edge, cloud = FakeOllama(), FakeOpenAi({"gpt-large": {}})
    async with up(edge, cloud):
        places = {"home": endpoint(edge, "edge"), "far": endpoint(cloud, "cloud", price_in=1.0, price_out=2.0)}
        aliases = {"chat": {"edge": "llama3.2", "cloud": "gpt-large"}}
        async with running(tmp_path, places, aliases=aliases) as rig, terminal(rig, home) as (run, audit):
            assert await run("llm", "chat", "Why?", "--system", "Be brief.") == (0, f"{TEXT}\n")
            assert "[home, edge: " in capfd.readouterr().err, "the way is told beside the answer"
            assert [each["role"] for each in edge.asked[-1][1]["messages"]] == ["system", "user"]
            turns = ("--messages", '{"role": "user", "content": "Hi"}', "--messages", '{"role": "assistant", "content": "Ho"}')
            assert (await run("llm", "chat", "Why?", *turns))[0] == 0
            assert [each["content"] for each in edge.asked[-1][1]["messages"]] == ["Hi", "Ho", "Why?"]
            code, text = await run("llm", "chat", "Why?", *turns, "--json")
            assert (code, msgspec.json.decode(text)["endpoint"]) == (0, "home")
            assert await run("llm", "generate", "Why?", "--model", "chat", "--place", "cloud") == (0, f"{TEXT}\n")
            assert "left the house" in capfd.readouterr().err
            code, text = await run("llm", "chat", "Why?", "--edge-only", "--place", "cloud")
            assert (code, "must not leave the house" in text) == (1, True), text
            code, text = await run("llm", "models")
            assert (code, "gpt-large" in text, "4096" in text) == (0, True, True), text
            code, text = await run("llm", "route", "Why?", "--model", "gpt-large")
            assert (code, "not home: it has no model gpt-large" in text) == (0, True), text
            code, text = await run("llm", "drain", "home")
            assert (code, "draining" in text) == (0, True), text
            code, text = await run("llm", "endpoints")
            assert (code, "draining" in text, "/s" in text) == (0, True, True), text
            assert (await run("llm", "chat", "Why?", "--model", "chat")) == (0, f"{TEXT}\n")
            assert len(cloud.asked) == 2
            assert (await run("llm", "resume", "home"))[0] == 0
            await wait_for(lambda: rig.gateway.ledger.spent.tokens == 62)
            code, text = await run("llm", "ledger")
            assert (code, "2 requests" in text, "gpt-large" in text) == (0, True, True), text
            code, text = await run("llm", "halt", "hom")
            assert (code, "did you mean home?" in text) == (1, True), text
            assert {name for name, _ in audit.rows} == {"llm.drain", "llm.resume", "llm.halt"}, "prompts are in no audit"


async def test_ctrl_c_ends_an_answer_here_and_at_the_endpoint(home: Path, tmp_path: Path) -> None:
    edge = FakeOllama()
    edge.pause = 0.05
    edge.words = (" word",) * 2000
    async with up(edge), running(tmp_path, {"home": endpoint(edge, "edge")}) as rig, terminal(rig, home):
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "appliance", "llm", "chat", "Why?", stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE, env={**os.environ, "PRIME_SPARK_HOME": str(home)},
        )  # fmt: skip
        assert child.stdout is not None
        assert await asyncio.wait_for(child.stdout.readexactly(10), 60) == b" word word", "it writes while the model does"
        child.send_signal(signal.SIGINT)
        _, told = await asyncio.wait_for(child.communicate(), 60)
        assert (child.returncode, told.decode().strip()) == (130, "stopped")
        await wait_for(lambda: edge.cancelled == 1)
        await wait_for(lambda: rig.gateway.status().given_up == 1)


@pytest.mark.parametrize("words", [("chat", ""), ("chat", " \n"), ("generate", ""), ("chat", "", "--json")])
async def test_nothing_is_asked_where_nothing_is_said(home: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    edge = FakeOllama()
    async with up(edge), running(tmp_path, {"home": endpoint(edge, "edge")}) as rig, terminal(rig, home) as (run, _):
        code, text = await run("llm", *words)
        assert (code, "write what the model is to answer" in text) == (2, True), text
        assert rig.gateway.status().requests == 0


async def test_an_answer_that_breaks_off_is_no_success(home: Path, tmp_path: Path) -> None:
    edge = FakeOllama()
    async with up(edge), running(tmp_path, {"home": endpoint(edge, "edge")}) as rig, terminal(rig, home) as (run, _):
        edge.script.append("cut")
        code, text = await run("llm", "chat", "Why?")
        assert (code, "The sky" in text, "before the end" in text) == (1, True, True), text
        edge.always = "overflow"
        code, text = await run("llm", "chat", "Why?")
        assert (code, "context length" in text) == (1, True), text
        code, text = await run("llm", "chat", "Why?", "--json")
        assert (code, msgspec.json.decode(text)["error"]["code"]) == (1, "llm"), text


async def test_nothing_configured_is_absent_and_says_how(home: Path, tmp_path: Path) -> None:
    store, state = Store(tmp_path / "state.db"), LiveState(SystemClock())
    service = LlmService(Ground(LlmSettings(), store, Secrets(tmp_path / "secrets", {}), state, SystemClock()))
    with pytest.raises(AbsentError) as raised:
        await service.start()
    assert "llm.edge_url" in raised.value.next_step
    async with terminal(Rig(service=service, state=state), home) as (run, _):
        for words in (("llm", "chat", "Why?"), ("llm", "endpoints"), ("llm", "drain", "home")):
            code, text = await run(*words)
            assert (code, "No language model is configured" in text, "llm.edge_url" in text) == (1, True, True), text
    assert Role.operator > Role.viewer
