"""Speech: what is missing is said with the next step; where programs are there, the sound of one reaches the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from appliance.core.alerts.channels.model import DeliveryError, Note, Notice
from appliance.core.alerts.channels.rendering import spoken
from appliance.core.alerts.channels.speech import Speech
from appliance.core.model import Severity
from appliance.errors import AbsentError
from appliance.settingalerts import AlertChannel
from tests.support import needs_program

NOTE = Note("node:nas", Severity.critical, {"alertname": "node"}, {"summary": "nas is\nunreachable"}, 1e9)
NOTICE = Notice("voice", "r", "g", {}, (NOTE,))


def channel(**more: Any) -> AlertChannel:
    return AlertChannel.model_validate({"kind": "speech", **more})


def program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with nothing in it but the shell's own tools and what the test puts there."""
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("cat", "sleep"):
        (tmp_path / name).symlink_to(f"/bin/{name}")
    return tmp_path


def test_missing_programs_are_absent_with_the_next_step(found: Path) -> None:
    with pytest.raises(AbsentError, match="espeak-ng, which speaks, is not installed") as caught:
        Speech(channel())
    assert caught.value.next_step == "apt install espeak-ng"
    program(found, "espeak-ng", "cat")
    with pytest.raises(AbsentError, match="aplay, which plays sound, is not installed"):
        Speech(channel())
    program(found, "piper", "cat")
    with pytest.raises(AbsentError, match=r"the voice '/nowhere\.onnx' of piper is not there"):
        Speech(channel(voice="/nowhere.onnx"))


async def test_what_one_program_makes_the_other_plays(found: Path) -> None:
    program(found, "espeak-ng", 'echo "$@" > "$0.args"; cat')
    program(found, "aplay", 'echo "$@" > "$0.args"; cat > "$0.heard"')
    speech = Speech(channel(voice="en", device="plughw:1,0"))
    assert await speech.send(NOTICE, "id-1", 0.0) == "played 0 KiB of sound"
    assert (found / "aplay.heard").read_text() == "Alert. nas is unreachable."
    assert (found / "espeak-ng.args").read_text().split() == ["--stdin", "--stdout", "-v", "en"]
    assert (found / "aplay.args").read_text().split() == ["-q", "-D", "plughw:1,0", "-"]


@pytest.mark.parametrize(
    ("maker", "player", "told", "retry"),
    [("exit 3", "cat", "espeak-ng ended with 3", False), ("true", "cat", "made no sound", False),
     ("cat", "echo busy >&2; exit 1", "aplay ended with 1: busy", True)],
)  # fmt: skip
async def test_what_fails_is_told(found: Path, maker: str, player: str, told: str, retry: bool) -> None:
    program(found, "espeak-ng", maker)
    program(found, "aplay", player)
    with pytest.raises(DeliveryError, match=told) as caught:
        await Speech(channel()).send(NOTICE, "id-1", 0.0)
    assert caught.value.retry is retry


async def test_a_program_that_hangs_is_ended(found: Path) -> None:
    program(found, "espeak-ng", "sleep 1000")
    program(found, "aplay", "cat")
    with pytest.raises(DeliveryError, match="espeak-ng did not end in time") as caught:
        await Speech(channel(timeout_seconds=1)).send(NOTICE, "id-1", 0.0)
    assert caught.value.retry


async def test_a_real_voice_makes_a_real_sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the real espeak-ng: a WAV file of some length reaches the player."""
    needs_program("espeak-ng")
    program(tmp_path, "aplay", f"cat > {tmp_path}/heard.wav")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    await Speech(channel()).send(NOTICE, "id-1", 0.0)
    heard = (tmp_path / "heard.wav").read_bytes()
    assert heard.startswith(b"RIFF")
    assert len(heard) > 10_000


def test_what_is_said_is_short() -> None:
    many = Notice("voice", "r", "g", {}, (NOTE,) * 9)
    assert spoken(many).endswith("And 6 further alerts.")
    assert len(spoken(many)) <= 500
