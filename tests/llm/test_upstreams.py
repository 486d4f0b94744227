"""Both protocols as a client: what is sent, and what is made of what comes back."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.core.llm.faults import LlmError
from appliance.core.llm.model import Message, Operation, Place, Request, ToolCall, Wishes
from appliance.core.llm.refusals import pause, words
from appliance.core.llm.stream import whole
from appliance.core.model import Health
from tests.llm.rig import chat, endpoint, running
from tests.llm.upstreams import FakeOllama, FakeOpenAi, up
from tests.support import free_port, wait_for

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


async def test_ollama_is_asked_as_documented(tmp_path: Path) -> None:
    edge = FakeOllama()
    edge.tool = ("weather", {"city": "Ulm"})
    async with up(edge), running(tmp_path, {"home": endpoint(edge, "edge")}) as rig:
        talk = (
            Message("system", "Be brief."), Message("user", "Look.", (PNG,)),
            Message("assistant", tool_calls=(ToolCall("weather", {"city": "Bonn"}, "call_9"),)),
            Message("tool", "12 degrees", tool_name="weather", tool_call_id="call_9"),
        )  # fmt: skip
        wanted = Request(
            operation=Operation.chat, messages=talk, tools=(TOOL,), format="json", options={"temperature": 0.5, "num_ctx": 512},
            think=False, keep_alive="5m",
        )  # fmt: skip
        edge.models["llama3.2:latest"]["capabilities"] = ["completion", "tools", "vision"]
        rig.gateway.gauges["home"].upstream._details.clear()
        await rig.gateway.probe()
        answer = await whole(await rig.gateway.open(wanted, "tester"))
        assert answer.tool_calls == (ToolCall("weather", {"city": "Ulm"}),)
        (path, body), *_ = edge.asked
        assert path == "/api/chat"
        assert body == {
            "model": "llama3.2:latest", "stream": True, "format": "json", "think": False, "keep_alive": "5m",
            "options": {"temperature": 0.5, "num_ctx": 512}, "tools": [TOOL],
            "messages": [
                {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Look.", "images": [PNG]},
                {"role": "assistant", "content": "",
                 "tool_calls": [{"function": {"name": "weather", "arguments": {"city": "Bonn"}}}]},
                {"role": "tool", "content": "12 degrees", "tool_name": "weather"},
            ],
        }  # fmt: skip


async def test_openai_is_asked_as_documented(tmp_path: Path) -> None:
    cloud = FakeOpenAi()
    cloud.tool = ("weather", {"city": "Ulm"})
    async with up(cloud), running(tmp_path, {"far": endpoint(cloud, "cloud")}) as rig:
        talk = (
            Message("user", "Look.", (PNG,)), Message("assistant", tool_calls=(ToolCall("weather", {"city": "Bonn"}),)),
            Message("tool", "12 degrees", tool_name="weather"),
        )  # fmt: skip
        wanted = Request(
            operation=Operation.chat, messages=talk, tools=(TOOL,), format={"type": "object"},
            options={"temperature": 0.5, "num_predict": 9, "num_ctx": 512}, extra={"user": "u1"}, tool_choice="auto",
        )  # fmt: skip
        answer = await whole(await rig.gateway.open(wanted, "tester"))
        assert answer.tool_calls == (ToolCall("weather", {"city": "Ulm"}, "call_1"),)
        assert answer.finish == "tool_calls"
        (path, body), *_ = cloud.asked
        assert path == "/v1/chat/completions"
        content = body["messages"][0]["content"]
        assert content == [
            {"type": "text", "text": "Look."}, {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
        ]  # fmt: skip
        assert body["messages"][2]["tool_call_id"] == body["messages"][1]["tool_calls"][0]["id"]
        assert (body["temperature"], body["max_tokens"], body["user"], body["tool_choice"]) == (0.5, 9, "u1", "auto")
        assert "num_ctx" not in body
        assert body["response_format"] == {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": {"type": "object"}},
        }


async def test_a_plain_prompt_goes_to_both(tmp_path: Path) -> None:
    edge, cloud = FakeOllama(), FakeOpenAi()
    async with up(edge, cloud):
        places = {"home": endpoint(edge, "edge"), "far": endpoint(cloud, "cloud")}
        async with running(tmp_path, places) as rig:
            wanted = Request(operation=Operation.generate, prompt="Why?", system="Be brief.")
            assert (await whole(await rig.gateway.open(wanted, "tester"))).text == "The sky is blue."
            far = Request(operation=Operation.generate, prompt="Why?", system="Be brief.", wishes=Wishes(place=Place.cloud))
            assert (await whole(await rig.gateway.open(far, "tester"))).text == "The sky is blue."
            assert edge.asked[0] == (
                "/api/generate", {"model": "llama3.2:latest", "stream": True, "system": "Be brief.", "prompt": "Why?"}
            )  # fmt: skip
            assert [each["role"] for each in cloud.asked[0][1]["messages"]] == ["system", "user"]
            raw = Request(operation=Operation.generate, prompt="Why?", raw=True, wishes=Wishes(place=Place.cloud))
            with pytest.raises(LlmError, match="raw prompts"):
                await rig.gateway.open(raw, "tester")


async def test_embeddings_of_both(tmp_path: Path) -> None:
    edge, cloud = FakeOllama({"e": {"capabilities": ["embedding"]}}), FakeOpenAi({"e": {}})
    async with up(edge, cloud):
        places = {"home": endpoint(edge, "edge"), "far": endpoint(cloud, "cloud")}
        async with running(tmp_path, places) as rig:
            wanted = Request(operation=Operation.embed, model="e", inputs=("a", "bcd"))
            near = await whole(await rig.gateway.open(wanted, "tester"))
            assert near.embeddings == ((1.0, 0.5, 0.25), (3.0, 0.5, 0.25))
            edge.script.append("500")
            far = await whole(await rig.gateway.open(wanted, "tester"))
            assert (far.embeddings, far.endpoint) == (((1.0, 0.5), (3.0, 0.5)), "far")


@pytest.mark.parametrize("fault", ["half-line", "cut", "drop", "error-line"])
async def test_openai_answers_that_break_off_are_told(tmp_path: Path, fault: str) -> None:
    cloud = FakeOpenAi()
    cloud.script.append(fault)
    async with up(cloud), running(tmp_path, {"far": endpoint(cloud, "cloud")}) as rig:
        with pytest.raises(LlmError):
            await rig.ask()
        assert rig.gateway.status().failed == 1


async def test_a_server_that_cannot_stream_is_understood(tmp_path: Path) -> None:
    cloud = FakeOpenAi()
    cloud.script.append("whole")
    async with up(cloud), running(tmp_path, {"far": endpoint(cloud, "cloud")}) as rig:
        answer = await rig.ask()
        assert (answer.text, answer.usage.tokens_in, answer.usage.tokens_out) == ("The sky is blue.", 26, 5)


async def test_probes_tell_models_and_health(tmp_path: Path) -> None:
    edge, cloud = FakeOllama({"a": {"context": 2048}, "b": {"context": 777}}), FakeOpenAi({"gpt": {}})
    async with up(edge, cloud):
        places = {
            "home": endpoint(edge, "edge"), "far": endpoint(cloud, "cloud", context=8192, models=["hidden"]),
            "dead": {"url": f"http://127.0.0.1:{free_port()}", "place": "agent"},
        }  # fmt: skip
        async with running(tmp_path, places) as rig:
            home, far, dead = rig.gateway.status().endpoints
            assert [(each.name, each.context, each.loaded) for each in home.models or ()] == [
                ("a", 4096, True),
                ("b", 777, False),
            ]
            assert (home.health, home.version) == (Health.healthy, "0.12.6")
            assert [(each.name, each.context) for each in far.models or ()] == [("gpt", 8192), ("hidden", 8192)]
            assert (dead.health, dead.models) == (Health.unhealthy, None)
            assert "does not answer" in dead.reason
            assert (await rig.service.health()).health is Health.degraded
            edge.sick = True
            await rig.gateway.probe()
            home = rig.gateway.status().endpoints[0]
            assert "500" in home.reason, "health can turn bad"
            edge.sick = False
            await rig.gateway.probe()
            assert rig.gateway.status().endpoints[0].health is Health.healthy


async def test_measures_are_kept(tmp_path: Path) -> None:
    edge = FakeOllama()
    edge.pause = 0.01
    async with up(edge), running(tmp_path, {"home": endpoint(edge, "edge")}) as rig:
        before = rig.gateway.status().endpoints[0]
        assert (before.first_token_ms, before.tokens_per_s, before.error_rate) == (None, None, None), "unknown, not 0"
        await rig.ask()
        after = rig.gateway.status().endpoints[0]
        assert after.first_token_ms
        assert after.tokens_per_s
        assert (after.error_rate, after.requests) == (0.0, 1)


async def test_answers_of_temperature_zero_are_kept_and_others_are_not(tmp_path: Path) -> None:
    edge = FakeOllama()
    async with up(edge), running(tmp_path, {"home": endpoint(edge, "edge")}) as rig:
        cold = {"temperature": 0}
        first = await rig.ask(options=cold)
        await wait_for(lambda: rig.shelf.kept)
        again = await rig.ask(options=cold)
        assert (again.text, first.cached, again.cached, len(edge.asked)) == (first.text, False, True, 1)
        assert "kept" in again.why
        for given in ({"options": {"temperature": 0, "seed": 1}}, {"options": cold, "format": "json"}, {"options": {}}):
            await rig.ask(**given)
        await rig.ask("Another?", options=cold)
        assert len(edge.asked) == 5
        await rig.ask(wishes=Wishes(cache=True))
        await wait_for(lambda: len(rig.shelf.kept) == 5)
        assert (await rig.ask(wishes=Wishes(cache=True))).cached
        await rig.ask(options=cold, wishes=Wishes(cache=False))
        assert len(edge.asked) == 7
        edge.models["llama3.2:latest"]["digest"] = "another"
        await rig.gateway.probe()
        assert not (await rig.ask(options=cold)).cached, "another model behind the same name"


def test_a_pause_is_seconds_or_a_date_or_not_believed() -> None:
    assert pause("7") == 7.0
    assert pause("999999999") == 3600.0
    assert pause("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    assert pause("soon") is None
    assert pause(None) is None


def test_the_words_of_an_error_are_found_in_both_forms() -> None:
    assert words(b'{"error": "model not found"}') == "model not found"
    assert words(b'{"error": {"message": "no", "code": "x"}}') == "no x"
    assert words(b"<html>") == "<html>"
    assert words(b"") == "nothing"


async def test_a_request_made_of_one_helper_is_whole() -> None:
    assert chat("x").messages == (Message("user", "x"),)
