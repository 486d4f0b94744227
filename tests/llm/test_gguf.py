"""Files of models in a folder as an endpoint, with a runner that is started, swapped, started again and ended."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from appliance.core.llm import runner
from appliance.core.llm.faults import Fault, LlmError
from appliance.core.llm.gguf import files_of
from appliance.core.llm.runner import Runner
from appliance.core.model import Health
from appliance.settingllm import LlmSettings
from tests.llm.rig import Rig, endpoint, running
from tests.llm.upstreams import FakeOllama, up
from tests.support import wait_for

TEXT = "The sky is blue."
STANDIN = Path(__file__).with_name("standin_llama.py")


@asynccontextmanager
async def folder(home: Path, *names: str, **settings: Any) -> AsyncIterator[tuple[Rig, Path]]:
    """An endpoint on a folder with such models, served by the stand-in."""
    models, program = home / "models", home / "llama-server"
    models.mkdir()
    for name in names:
        (models / f"{name}.gguf").write_bytes(b"GGUF" + name.encode())
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -IS {STANDIN} "$@"\n')
    program.chmod(0o755)
    wanted = {"kind": "gguf", "folder": str(models), "program": str(program), "context": 512, "limit": 2}
    async with running(home, {"files": wanted, **settings.pop("further", {})}, **settings) as rig:
        yield rig, models


def child(rig: Rig) -> Any:
    """The runner of the endpoint."""
    return rig.gateway.gauges["files"].upstream._runner  # type: ignore[attr-defined]


async def test_a_file_is_served_when_it_is_asked_for_and_another_one_instead(tmp_path: Path) -> None:
    async with folder(tmp_path, "small", "large", "mmproj-large", "big-00001-of-00002", "big-00002-of-00002") as (rig, models):
        (models / "broken.gguf").write_bytes(b"no such thing")
        status = rig.gateway.status().endpoints[0]
        assert (status.health, status.version) == (Health.healthy, "llama-server")
        assert [(each.name, each.size, each.context) for each in status.models or ()] == [
            ("big-00001-of-00002", 22, 512), ("large", 9, 512), ("small", 9, 512),
        ]  # fmt: skip
        assert not child(rig).runs, "nothing is loaded before somebody asks"
        first = await rig.ask(model="small")
        assert (first.text, first.endpoint, first.model) == (TEXT, "files", "small")
        assert "512 tokens" not in child(rig).last
        assert "loading small.gguf with 1024 tokens for 2" in child(rig).last
        pid = child(rig)._child.pid
        await asyncio.gather(rig.ask(model="small"), rig.ask(model="small"))
        assert (child(rig)._child.pid, child(rig).starts) == (pid, 1)
        both = await asyncio.gather(rig.ask(model="large"), rig.ask(model="small"))
        assert [each.model for each in both] == ["large", "small"]
        await rig.gateway.probe()
        loaded = {each.name for each in rig.gateway.status().endpoints[0].models or () if each.loaded}
        assert loaded == {child(rig).model.stem}
        last = child(rig)._child.pid
    with pytest.raises(ProcessLookupError):
        os.kill(last, 0)


async def test_a_runner_that_was_killed_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "FIRST_REST", 0.01)
    async with folder(tmp_path, "small") as (rig, _):
        await rig.ask(model="small")
        os.kill(child(rig)._child.pid, signal.SIGKILL)
        await wait_for(lambda: not child(rig).runs)
        assert (await rig.ask(model="small")).text == TEXT
        assert child(rig).starts == 2


async def test_one_that_cannot_serve_is_not_started_for_ever(tmp_path: Path) -> None:
    edge = FakeOllama({"small:latest": {}})
    async with up(edge), folder(tmp_path, "small", further={"home": endpoint(edge, "agent")}) as (rig, models):
        (models / "small.how").write_text("dies")
        for _ in range(3):
            answer = await rig.ask(model="small")
            assert (answer.endpoint, answer.text) == ("home", TEXT), "another one answers"
        assert child(rig).starts == 1, "it rests"
        reason = rig.gateway.status().endpoints[0].reason
        assert "failed to allocate the context" in reason
        (models / "small.how").unlink()
        child(rig)._rests_until = 0.0
        rig.gateway.gauges["files"]._rests_until = 0.0
        assert (await rig.ask(model="small")).endpoint == "files"
        (models / "small.how").write_text("crashes")
        await child(rig)._halt()
        assert (await rig.ask(model="small")).endpoint == "home"


async def test_a_caller_that_goes_leaves_the_loading_to_the_next(tmp_path: Path) -> None:
    async with folder(tmp_path, "small") as (rig, models):
        asking = asyncio.create_task(rig.ask(model="small"))
        await wait_for(lambda: child(rig).runs)
        asking.cancel()
        await asyncio.wait({asking})
        assert (await rig.ask(model="small")).text == TEXT
        assert child(rig).starts == 1
        await child(rig)._halt()
        (models / "small.how").write_text("slow")
        waiting = asyncio.create_task(rig.ask(model="small"))
        await wait_for(lambda: child(rig).runs)
        pid = child(rig)._child.pid
        waiting.cancel()
    with pytest.raises(ProcessLookupError):  # what still loads at the end is ended too
        os.kill(pid, 0)


async def test_without_a_runner_it_is_absent_and_says_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "find", lambda _: None)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "small.gguf").write_bytes(b"GGUF")
    wanted = {"kind": "gguf", "folder": str(tmp_path / "models")}
    async with running(tmp_path, {"files": wanted}) as rig:
        status = rig.gateway.status().endpoints[0]
        assert (status.health, status.models) == (Health.absent, None)
        assert "llama-server" in status.next_step
        assert (await rig.service.health()).health is Health.absent
        with pytest.raises(LlmError) as raised:
            await rig.ask(model="small")
        assert (raised.value.fault, raised.value.status) == (Fault.absent, 503)


def test_what_is_installed_is_found(tmp_path: Path) -> None:
    assert runner.find(str(tmp_path / "missing")) is None
    fake = tmp_path / "llama-server"
    fake.write_text("#!/bin/sh\n")
    fake.chmod(0o755)
    found = runner.find(str(fake))
    assert found is not None
    assert found.command(Path("/m/a.gguf"), 7, 100, 3)[:5] == [str(fake), "-m", "/m/a.gguf", "--ctx-size", "300"]
    python = tmp_path / "python3"
    python.write_text("#!/bin/sh\nexit 0\n")
    python.chmod(0o755)
    told = runner.find(str(python))
    assert told is not None
    assert told.words == (str(python), "-m", "llama_cpp.server")
    assert "--model_alias" in told.command(Path("/m/a.gguf"), 7, 100, 3)
    with pytest.raises(LlmError, match="no such folder"):
        files_of(tmp_path / "nowhere")


@pytest.mark.parametrize(("given", "words"), [
    ({"kind": "gguf"}, "folder of this machine"),
    ({"kind": "gguf", "folder": "/m", "place": "cloud"}, "folder of this machine"),
    ({"kind": "gguf", "folder": "/m", "url": "http://127.0.0.1:1"}, "folder of this machine"),
    ({"kind": "ollama", "url": "http://127.0.0.1:1", "folder": "/m"}, "only an endpoint of kind gguf"),
])  # fmt: skip
def test_settings_that_contradict_themselves_are_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        LlmSettings.model_validate({"endpoints": {"files": given}})


async def test_a_runner_that_is_stopped_waits_for_nobody(tmp_path: Path) -> None:
    never = Runner(str(tmp_path / "missing"), 512, 1, [])
    with pytest.raises(LlmError, match="no runner"):
        async with never.serving(tmp_path / "a.gguf"):
            pass
    await never.stop()
    assert not never.runs
