"""The voice on the command line of a running appliance, and where none runs."""

from __future__ import annotations

import asyncio
import base64
import io
import socket
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from appliance import cli, paths
from appliance.core.model import Actor, Role
from appliance.core.voice.model import (
    Guess,
    LedgerRow,
    LedgerTotals,
    Outcome,
    Place,
    Reply,
    SoundDevice,
    Stage,
    Timings,
    Transcript,
)
from appliance.session.headless import Shortcuts
from appliance.verbs import render, voice_text
from appliance.verbs.client import PIECE, SocketClient
from appliance.verbs.context import Context
from tests.integration.test_front import line
from tests.screens import voices
from tests.screens.conftest import Bench
from tests.screens.test_voice import Told, bench, put  # noqa: F401
from tests.support import wait_for

LEDGER = {
    "totals": LedgerTotals(64_000, 50 * 2**20, 90_000, 20, 4),
    "rows": (LedgerRow(4, voices.NOW, "far", "203.0.113.9", "stt", "u1", 64_000, 20, "answered"),),
}


def shown(value: Any, name: str, width: int = 120) -> str:
    """An answer as the command line prints it."""
    told = render.formed(voice_text.FORMS, name, msgspec.to_builtins(value), width, colour=False, nothing=voice_text.NOTHING)
    assert told is not None
    return told


def test_the_status_tells_what_the_page_does() -> None:
    told = shown(voices.status(engines=(voices.AWAY, voices.LOCAL), degraded="The cloud is away."), "voice.status")
    for text in (
        "IDLE", "The cloud is away.", "Next: start its server", "ReSpeaker 4 Mic Array", "nothing has left the house",
        "hey spark", "0.83", "moonshine-tiny-en", "what is the battery", "655 ms",
    ):  # fmt: skip
        assert text in told
    assert "No microphone was found." in shown(voices.absent(), "voice.status", 80)


def test_answers_as_text() -> None:
    told = shown(LEDGER, "voice.ledger")
    assert "today 62.5 KiB of 50.0 MiB of sound and 20 B of words left the house; 87.9 KiB in 4 requests" in told
    assert "203.0.113.9" in told
    device = SoundDevice(2, "ReSpeaker 4 Mic Array", 6, 0, 16000.0, default_input=True, respeaker=True)
    assert "default input, ReSpeaker" in shown([device], "voice.devices")
    phrase = {"intent": "power.mode", "action": "power.mode", "summary": "Set the mode", "says": ["set the power mode"],
              "dangerous": True, "reason": ""}  # fmt: skip
    barred = {**phrase, "action": "secret.list", "says": [], "dangerous": False, "reason": "Secrets are not spoken."}
    told = shown([phrase, barred], "voice.phrases")
    assert "power.mode: Set the mode, asks first" in told
    assert '"set the power mode"' in told
    assert "cannot be said: Secrets are not spoken." in told
    assert shown([], "voice.utterances") == "nothing was heard yet"
    reply = Reply("Restart it?", Outcome.asked, "service.restart", expects="confirm")
    assert shown(reply, "voice.ask") == "Restart it?\n\nasked (service.restart); it waits for a yes or a no"
    assert "what is the battery" in shown([voices.utterance()], "voice.utterances", 80)


def test_what_was_heard_names_who_did_not_answer() -> None:
    found = voices.utterance(fell_back=("attic: it does not answer",))
    assert voice_text.utterance(msgspec.to_builtins(found)) == [
        'heard "what is the battery" by local, 1 before', "done (power.status), 655 ms from the last sound to the action",
        "The battery is at 80 percent.", "not by attic: it does not answer",
    ]  # fmt: skip
    empty = voices.utterance(words="", outcome=Outcome.empty, action="", reply="", timings=Timings())
    assert voice_text.utterance(msgspec.to_builtins(empty)) == ["no words were heard", "empty"]
    heard = Transcript("good evening", "attic", Place.edge, guesses=(Guess("good evening", -0.1),), seconds=1.5, took_ms=80.0)
    assert voice_text.transcript(msgspec.to_builtins(heard))[:2] == ["good evening", "attic (edge), 1.5 s of sound in 80 ms"]
    known = msgspec.structs.replace(heard, kept=True)
    assert voice_text.transcript(msgspec.to_builtins(known))[1] == "attic (edge), 1.5 s of sound known from before"


def test_a_long_recording_goes_in_pieces(tmp_path: Path) -> None:
    """The connection copies what is left of a piece each time the socket takes some of it."""
    pieces: list[list[bytes]] = []

    class Taken(httpx.BaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            assert isinstance(request.stream, httpx.SyncByteStream)
            pieces.append(list(request.stream))
            assert request.headers["content-length"] == str(sum(map(len, pieces[-1])))
            assert "transfer-encoding" not in request.headers
            return httpx.Response(200, json={"result": "taken"})

    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "api.sock"))
        client = SocketClient(tmp_path / "api.sock")
        client._http = httpx.Client(transport=Taken(), base_url="http://appliance")
        client._limits["voice.transcribe"] = 1.0
        for length, count in ((100, 1), (3 * PIECE, 4)):
            assert client.invoke("voice.transcribe", {"data": "A" * length}) == "taken"
            assert msgspec.json.decode(b"".join(pieces[-1]))["args"] == {"data": "A" * length}
            assert (len(pieces[-1]), max(map(len, pieces[-1])) <= PIECE) == (count, True)
        client.close()


@pytest.mark.asyncio(loop_scope="module")
async def test_verbs_reach_the_actions(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    told = Told(bench)
    for name, answer in (
        ("voice.transcribe", Transcript("good evening", "local", seconds=1.5, took_ms=80.0)),
        ("voice.say", {"engine": "local", "place": "local", "seconds": 0.4}), ("voice.mute", {"muted": True}),
        ("voice.ledger", LEDGER), ("voice.privacy", {"privacy": "cloud"}), ("voice.tune", {"name": "AGCGAIN", "value": 5.0}),
        ("voice.forget", {"forgotten": 2}), ("voice.ask", Reply("It is noon.", Outcome.done)),
    ):  # fmt: skip
        told.answer(name, answer)
    note = tmp_path / "note.wav"
    note.write_bytes(bytes(range(256)) * 40)
    (tmp_path / "empty.wav").touch()
    monkeypatch.setattr("sys.stdin", io.StringIO("good\n  evening \n"))
    for words, code, text in (
        (("transcribe", str(note)), 0, "good evening\nlocal (local), 1.5 s of sound in 80 ms"),
        (("say", "-"), 0, "said in 0.4 s by local (local)"), (("mute",), 0, "the microphone is muted"),
        (("unmute",), 0, "the microphone is open"), (("ledger",), 0, "203.0.113.9"),
        (("privacy", "cloud"), 5, "may leave the house from now on"), (("privacy", "cloud", "--yes"), 0, "cloud"),
        (("tune", "AGCGAIN", "5"), 0, "AGCGAIN"), (("forget", "all", "--yes"), 0, "2"),
        (("ask", "what time is it"), 0, "It is noon."), (("say", " "), 2, "nothing to say"),
        (("transcribe", str(tmp_path / "gone.wav")), 2, "does not exist"),
        (("transcribe", str(tmp_path / "empty.wav")), 2, "empty.wav is empty"),
    ):  # fmt: skip
        found = await line(bench, "voice", *words)
        assert (words, found[0], text in found[1]) == (words, code, True), found
    calls = dict(told.calls)
    assert base64.b64decode(calls["voice.transcribe"]["data"]) == note.read_bytes()
    assert ("voice.say", {"text": "good evening"}) in told.calls
    assert ("voice.mute", {"muted": True}) in told.calls
    assert ("voice.mute", {"muted": False}) in told.calls
    code, text = await line(bench, "voice", "transcribe", str(note), "--json")
    assert msgspec.json.decode(text)["text"] == "good evening"
    code, text = await line(bench, "voice", "say", "hello", inside=Role.viewer)
    assert (code, "needs the role operator" in text) == (4, True)
    code, text = await line(bench, "voice", "record", "1")
    assert (code, "next:" in text) == (1, True), "no microphone: the real action says what to do"


@pytest.mark.asyncio(loop_scope="module")
async def test_listening_tells_what_is_heard_while_it_is(bench: Bench) -> None:  # noqa: F811
    """Stages come from the state, the outcome from the action."""
    told = Told(bench)
    over = asyncio.Event()
    told.answer("voice.listen", voices.utterance(), over)
    put(bench, voices.status(Stage.listening))
    service = bench.appliance.domains.voice  # type: ignore[union-attr]
    running = asyncio.ensure_future(line(bench, "voice", "listen"))
    await wait_for(lambda: told.calls)
    looks = 0

    def status() -> Any:
        nonlocal looks
        looks += 1
        if looks > 1:
            over.set()
        return voices.status(Stage.listening, hearing="what is")

    service.status = status  # type: ignore[method-assign]
    code, text = await running
    assert code == 0
    lines = text.splitlines()
    assert lines[-3:] == [
        'heard "what is the battery" by local', "done (power.status), 655 ms from the last sound to the action",
        "The battery is at 80 percent.",
    ]  # fmt: skip
    assert lines[:-3][-1] == 'listening: "what is"'
    said: list[str] = []
    keys = Shortcuts(bench.appliance.dispatcher, Actor("ada", Role.admin, "headless"), said.append)
    await keys.press("l")
    await keys.press(".")
    assert said == ["voice.listen: what is the battery: The battery is at 80 percent.", "voice.cancel: nothing was under way"]


async def test_where_no_appliance_runs_it_says_so(home: Path, tmp_path: Path) -> None:
    where = paths.find()
    where.make()
    for words in (("status",), ("transcribe", str(tmp_path)), ("listen", "--json")):
        out = io.StringIO()
        context = Context(SocketClient(where.api_socket), where, {}, out, 120, colour=False)
        assert cli.run(("voice", *words), context, out) == 3
        assert "No appliance runs here" in out.getvalue()
        assert "prime-spark headless" in out.getvalue()
