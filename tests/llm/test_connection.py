"""Faults between an endpoint and us, and what is told of them."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from pathlib import Path

import httpx
import msgspec
import pytest

from appliance.core.llm import ollama, wire
from appliance.core.llm.faults import Fault, LanguageModelError, LlmError
from appliance.verbs.client import error_of
from tests.llm.raw import END, Raw, line, serving, told, whole
from tests.llm.rig import endpoint, running
from tests.llm.test_doors import both
from tests.llm.upstreams import FakeOllama, up
from tests.support import needs_program

TEXT = "The sky is blue."
SURE = 20.0
"""Seconds after which something hangs that must not."""


# -- the connection ----------------------------------------------------------------------------------------------------


async def test_a_connection_that_was_closed_while_idle_is_nobodys_fault(tmp_path: Path) -> None:
    async def answering(number: int, writer: asyncio.StreamWriter) -> bool:
        if number == 2:  # as servers do whose patience with an idle connection ends just then
            return False
        writer.write(whole(told(TEXT) + line(END)))
        return True

    edge = Raw(answering)
    async with serving(edge), running(tmp_path, {"home": {"url": edge.url, "place": "edge"}}) as rig:
        assert (await rig.ask()).attempts == ()
        again = await rig.ask()
        assert (again.text, again.attempts, len(edge.asked)) == (TEXT, (), 3)


async def test_connections_are_used_again_and_an_answer_without_length_ends_with_its_connection(tmp_path: Path) -> None:
    async def answering(number: int, writer: asyncio.StreamWriter) -> bool:
        if number < 6:
            writer.write(whole(told(TEXT) + line(END)))
            return True
        writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\n" + told(TEXT) + line(END)[:-1])
        return False

    edge = Raw(answering)
    async with serving(edge), running(tmp_path, {"home": {"url": edge.url, "place": "edge"}}) as rig:
        before = edge.connections
        for _ in range(6):
            assert (await rig.ask()).text == TEXT
        assert edge.connections <= before + 1


async def test_a_probe_that_drips_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ollama, "PROBE", 0.3)

    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
        while not writer.is_closing():
            writer.write(b" ")
            await asyncio.sleep(0.05)

    async with await asyncio.start_server(drip, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with running(tmp_path, {"home": {"url": url, "place": "edge"}}, probed=False) as rig:
            await asyncio.wait_for(rig.gateway.probe(), SURE)
            assert "did not answer in time" in rig.gateway.status().endpoints[0].reason


async def test_signs_of_life_are_no_tokens(tmp_path: Path) -> None:
    async def answering(_: int, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + told("The"))
        while not writer.is_closing():
            writer.write(b"\n")
            await asyncio.sleep(0.05)
        return False

    edge = Raw(answering)
    places = {"home": {"url": edge.url, "place": "edge"}}
    async with serving(edge):
        places["home"]["url"] = edge.url
        async with running(tmp_path, places, stall_seconds=0.4) as rig:
            with pytest.raises(LlmError, match="fell silent"):
                await asyncio.wait_for(rig.ask(), SURE)


@pytest.mark.parametrize("nonsense", [
    b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000 + b"\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-le",
    whole(b'{"a":' * 20_000), whole(b'{"message": 5, "done": 1}\n'), whole(b"[]\n"), whole(b"\xff\xfe\n"), whole(b"null\n"),
    whole(b'{"done": true, "prompt_eval_count": "many"}')[:-9],
], ids=["ssh", "head", "half-head", "deep", "types", "list", "bytes", "null", "half-body"])  # fmt: skip
async def test_nonsense_costs_no_request(tmp_path: Path, nonsense: bytes) -> None:
    async def answering(_: int, writer: asyncio.StreamWriter) -> bool:
        writer.write(nonsense)
        return False

    edge, cloud = Raw(answering), FakeOllama()
    async with serving(edge), up(cloud):
        places = {"home": {"url": edge.url, "place": "edge"}, "far": endpoint(cloud, "cloud")}
        async with running(tmp_path, places) as rig:
            answer = await asyncio.wait_for(rig.ask(), SURE)
            assert (answer.endpoint, answer.text) == ("far", TEXT)
            assert rig.gateway.status().endpoints[0].in_flight == 0


async def test_a_house_that_is_elsewhere_gets_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def answering(_: int, writer: asyncio.StreamWriter) -> bool:
        writer.write(whole(told(TEXT) + line(END)))
        return True

    edge = Raw(answering)
    async with serving(edge):
        monkeypatch.setattr(wire, "_elsewhere", lambda _: "8.8.8.8")
        places = {"home": {"url": edge.url, "place": "edge"}}
        async with running(tmp_path, places, probed=False, max_retries=0) as rig:
            with pytest.raises(LlmError, match="not in the house: nothing was sent"):
                await rig.ask("secret words")
            assert edge.asked == []
    monkeypatch.undo()
    assert [wire._elsewhere((each, 80)) for each in ("8.8.8.8", "192.168.1.2", "127.0.0.1", "100.64.0.1", "fd00::1")] == [
        "8.8.8.8", "", "", "", "",
    ]  # fmt: skip


# -- what is told ------------------------------------------------------------------------------------------------------


async def test_words_of_an_endpoint_make_no_headers(tmp_path: Path) -> None:
    evil = line({"error": "it died\r\nx-evil: 1\r\n\x1b[2J"})

    async def answering(number: int, writer: asyncio.StreamWriter) -> bool:
        writer.write(whole(evil if number < 4 else told(TEXT) + line(END)))
        return True

    edge = Raw(answering)
    async with serving(edge), both(tmp_path, max_retries=0) as (rig, url, *_):
        gauge = rig.gateway.gauges["home"]
        gauge.upstream = ollama.Ollama(edge.url)
        rig.gateway.gauges.pop("far")  # type: ignore[attr-defined]
        body = {"model": "llama3.2", "messages": [{"role": "user", "content": "Why?"}]}
        async with httpx.AsyncClient(base_url=url, trust_env=False, headers={"authorization": "Bearer operator"}) as http:
            answers = [await http.post("/api/chat", json=body) for _ in range(4)]
            answers = [each for each in answers if each.status_code == 200]
            assert answers
            assert not any("x-evil" in each.headers for each in answers)
            assert any("it died x-evil: 1" in each.headers["x-prime-spark-why"] for each in answers)


async def test_what_a_model_wrote_stands_in_no_status(tmp_path: Path) -> None:
    async def answering(_: int, writer: asyncio.StreamWriter) -> bool:
        writer.write(whole(told("The") + told("a secret of the house")[:-9]))
        return True

    edge = Raw(answering)
    async with serving(edge), running(tmp_path, {"home": {"url": edge.url, "place": "edge"}}) as rig:
        with pytest.raises(LlmError, match="no JSON"):
            await rig.ask()
        assert "secret" not in str(msgspec.to_builtins(rig.gateway.status()))


async def test_a_cost_that_is_no_number_is_refused(tmp_path: Path) -> None:
    async with both(tmp_path) as (_, url, edge, cloud), httpx.AsyncClient(base_url=url, trust_env=False) as http:
        body = {"model": "llama3.2", "messages": [{"role": "user", "content": "Why?"}]}
        for cost in ("nan", "inf", "-1", "1e999"):
            headers = {"authorization": "Bearer operator", "x-prime-spark-max-cost": cost}
            assert (await http.post("/api/chat", json=body, headers=headers)).status_code == 400, cost
        deep = await http.post("/api/chat", content=b'{"a":' * 100_000, headers={"authorization": "Bearer operator"})
        assert deep.status_code == 400
        assert (edge.asked, cloud.asked) == ([], [])


def test_the_command_line_knows_the_error() -> None:
    found = error_of({"error": {"code": "llm", "message": "No endpoint.", "next_step": "see it."}})
    assert isinstance(found, LanguageModelError)
    assert (found.code, found.next_step) == ("llm", "see it.")
    assert isinstance(LlmError(Fault.dead, "x"), LanguageModelError)


# -- certificates ------------------------------------------------------------------------------------------------------


async def test_a_certificate_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    words = [
        needs_program("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
        "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1",
        "-keyout", str(key), "-out", str(cert),
    ]  # fmt: skip
    await asyncio.to_thread(subprocess.run, words, check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)

    async def answering(_: int, writer: asyncio.StreamWriter) -> bool:
        writer.write(whole(told(TEXT) + line(END)))
        return True

    edge = Raw(answering)
    async with await asyncio.start_server(edge.serve, "127.0.0.1", 0, ssl=context) as server:
        places = {"far": {"url": f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}", "place": "cloud"}}
        async with running(tmp_path / "one", places, max_retries=0) as rig:
            with pytest.raises(LlmError, match="certificate verify failed"):
                await rig.ask("secret words")
            assert edge.asked == []
        monkeypatch.setenv("SSL_CERT_FILE", str(cert))
        async with running(tmp_path / "two", places) as rig:
            assert [(await rig.ask()).text for _ in range(2)] == [TEXT, TEXT]
