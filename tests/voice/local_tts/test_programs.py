"""The voices: real sound of the real espeak-ng; programs that hang, fail or flood are ended and told."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

import numpy as np
import psutil
import pytest

from appliance.core.model import Health
from appliance.core.voice.detect.activity import VoiceActivity
from appliance.core.voice.local.espeak import Espeak
from appliance.core.voice.local.piper import Piper
from appliance.core.voice.local.programs import ProgramError, espeak_command, output
from appliance.core.voice.local.tones import NOTES, tone
from appliance.core.voice.model import RATE, Speech
from appliance.errors import AbsentError, VoiceError
from tests.support import needs_program, wait_for
from tests.voice.detect import speech as sound


@pytest.fixture
def espeak() -> Espeak:
    needs_program("espeak-ng")
    return Espeak("en-us", 165, os.environ)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A PATH with the shell's tools that tests use, and what they put there."""
    for name in ("cat", "sleep", "yes", "head"):
        (tmp_path / name).symlink_to(Path("/usr/bin") / name)
    return tmp_path


def program(folder: Path, name: str, script: str) -> dict[str, str]:
    """Put a program there; returns the environment that finds it."""
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
    return {"PATH": str(folder)}


async def test_espeak_speaks(espeak: Espeak) -> None:
    """What it makes is speech, of a plausible length, and louder than nothing."""
    speech = await espeak.synthesize("The battery is at 62 %.")
    assert (speech.rate, speech.engine, speech.place.value) == (22050, "espeak-ng en-us", "local")
    assert 1 < speech.seconds < 5
    wave = np.frombuffer(speech.pcm, "<i2").astype(float)[: speech.rate * 3 // 2]
    activity = VoiceActivity()
    heard = [activity.probability(frame.pcm) for frame in sound.frames(sound.pcm(wave))]
    assert max(heard) > 0.9
    status = await espeak.check()
    assert (status.health, status.used, status.failed, status.last_ms) == (Health.healthy, 1, 0, speech.took_ms)


async def test_the_speed_is_that_of_the_settings() -> None:
    needs_program("espeak-ng")
    slow, fast = [await Espeak("en-us", speed, os.environ).synthesize("one two three four five") for speed in (100, 300)]
    assert slow.seconds > 1.5 * fast.seconds


@pytest.mark.parametrize("text", ["--version", "-f /etc/passwd", "\x01200S hi", "[[h@l'oU]] hi", "<voice name='de'>hi</voice>"])
async def test_a_text_is_only_ever_said(espeak: Espeak, text: str) -> None:
    """Options, commands, phonemes and markup: each makes some seconds of sound, and nothing else."""
    assert 0.2 < (await espeak.synthesize(text)).seconds < 4


async def test_a_text_without_a_word_is_no_sound(espeak: Espeak) -> None:
    assert (await espeak.synthesize(" *** 😀")).pcm == b""


async def test_sentences_at_one_time_do_not_mix(espeak: Espeak) -> None:
    texts = ["one", "one two three four five six seven", "three", "four", "five"]
    together = await asyncio.gather(*map(espeak.synthesize, texts))
    assert [each.pcm for each in together] == [(await espeak.synthesize(text)).pcm for text in texts]


async def test_a_voice_that_is_not_there_is_told() -> None:
    needs_program("espeak-ng")
    voice = Espeak("xx-nowhere", 165, os.environ)
    with pytest.raises(VoiceError, match="espeak-ng ended with 1: Error: The specified espeak-ng voice does not exist"):
        await voice.synthesize("hi")
    status = await voice.check()
    assert (status.health, status.failed) == (Health.degraded, 1)
    assert "does not exist" in status.reason


async def test_what_is_not_installed_is_absent(folder: Path) -> None:
    voice = Espeak("en-us", 165, {"PATH": str(folder)})
    with pytest.raises(AbsentError, match="espeak-ng, which speaks, is not installed"):
        await voice.synthesize("hi")
    status = await voice.check()
    assert (status.health, status.next_step) == (Health.absent, "apt install espeak-ng")


def test_a_voice_that_looks_like_an_option_is_none(folder: Path) -> None:
    with pytest.raises(AbsentError, match="no voice '--path=/tmp'"):
        espeak_command("--path=/tmp", environ=program(folder, "espeak-ng", "true"))


def wav(folder: Path, speech: Speech) -> Path:
    """A WAV file with sizes of 0, as a pipe has it."""
    head = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0" + speech.rate.to_bytes(4, "little")
    path = folder / "said.wav"
    path.write_bytes(head + (2 * speech.rate).to_bytes(4, "little") + b"\x02\0\x10\0data\0\0\0\0" + speech.pcm)
    return path


async def test_piper_is_given_the_text_and_its_voice(folder: Path) -> None:
    """The command line of piper, with a program in its place: piper and its voices are the operator's to install."""
    voice = folder / "amy.onnx"
    voice.write_bytes(b"")
    path = wav(folder, tone("done"))
    environ = program(folder, "piper", f'echo "$@" > "$0.args"; cat > "$0.said"; cat {path}')
    speech = await Piper(str(voice), environ).synthesize("It is\n62 %.")
    assert (speech.pcm, speech.rate, speech.engine) == (tone("done").pcm, RATE, "piper amy")
    assert (folder / "piper.args").read_text().split() == ["--model", str(voice), "--output_file", "-"]
    assert (folder / "piper.said").read_text() == "It is. 62 percent.\n"


async def test_piper_without_its_voice_is_absent(folder: Path) -> None:
    piper = Piper("/nowhere.onnx", program(folder, "piper", "cat"))
    assert (await piper.check()).reason == "the voice '/nowhere.onnx' of piper is not there"
    with pytest.raises(AbsentError):
        await piper.synthesize("hi")


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("exit 3", "ended with 3"),
        ("true", "no WAV file"),
        ("echo oops >&2; exit 1", "ended with 1: oops"),
        ("cat", "no WAV file"),
    ],
    ids=["fails", "nothing", "complains", "no-sound"],
)
async def test_what_fails_is_told(folder: Path, script: str, told: str) -> None:
    with pytest.raises(VoiceError, match=told):
        await Espeak("en", 165, program(folder, "espeak-ng", script)).synthesize("hi")


def gone(path: Path) -> bool:
    """Whether the process whose id the file holds has ended."""
    stat = Path("/proc", path.read_text().strip(), "stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"


async def test_a_program_that_hangs_is_killed_with_what_it_started(folder: Path) -> None:
    environ = program(folder, "espeak-ng", f"sleep 1000 & echo $! > {folder}/pid; wait")
    with pytest.raises(ProgramError, match="espeak-ng did not end in time") as caught:
        await Espeak("en", 165, environ, limit=0.5).synthesize("hi")
    assert caught.value.again
    await wait_for(lambda: gone(folder / "pid"))


async def test_a_program_is_killed_where_nobody_waits_any_more(folder: Path) -> None:
    environ = program(folder, "espeak-ng", f"sleep 1000 & echo $! > {folder}/new; mv {folder}/new {folder}/pid; wait")
    (folder / "mv").symlink_to("/usr/bin/mv")
    speaking = asyncio.create_task(Espeak("en", 165, environ).synthesize("hi"))
    await wait_for((folder / "pid").exists)
    speaking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await speaking
    await wait_for(lambda: gone(folder / "pid"))


async def test_a_flood_is_bounded(folder: Path) -> None:
    environ = program(folder, "flood", "yes")
    with pytest.raises(ProgramError, match="flood made too much sound"):
        await output([str(folder / "flood")], b"", 30, environ=environ, most=1_000_000)


async def test_a_program_that_does_not_listen_is_heard(folder: Path) -> None:
    environ = program(folder, "deaf", "exec 0<&-; echo fine")
    assert await output([str(folder / "deaf")], b"x" * 1_000_000, 30, environ=environ) == b"fine\n"


@pytest.mark.parametrize("kind", NOTES)
def test_a_tone_is_short_soft_and_no_speech(kind: str) -> None:
    made = tone(kind)
    wave = np.frombuffer(made.pcm, "<i2").astype(float)
    assert 0.05 < made.seconds <= 0.15
    assert 0.2 < np.max(np.abs(wave)) / 32768 < 0.3
    assert np.max(np.abs(wave[[0, -1]])) < 100, "it would click"
    assert tone(kind) is made
    activity = VoiceActivity()
    padded = sound.pcm(sound.silence(0.2), wave, sound.silence(0.2))
    assert max(activity.probability(frame.pcm) for frame in sound.frames(padded)) < 0.5


def test_tones_differ() -> None:
    assert len({tone(kind).pcm for kind in NOTES}) == len(NOTES)
    with pytest.raises(KeyError):
        tone("other")


async def test_who_goes_while_a_program_starts_leaves_nothing_of_it_behind(tmp_path: Path) -> None:
    mark = f"prime-spark-{tmp_path.name}"
    command = ["sh", "-c", f"sleep 300 & exec sleep 300 # {mark}"]

    def left() -> list[int]:
        found = []
        for each in psutil.process_iter(["cmdline"]):
            with contextlib.suppress(psutil.Error):
                if mark in " ".join(each.info["cmdline"] or ()) or each.environ().get("MARK") == mark:
                    found.append(each.pid)
        return found

    for turns in range(6):
        asking = asyncio.create_task(output(command, b"", 60, environ={"PATH": os.environ["PATH"], "MARK": mark}))
        for _ in range(turns):
            await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(asking, 20)
    await wait_for(lambda: not left())
