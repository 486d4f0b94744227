"""The rings, and the choice of a device."""

from __future__ import annotations

import socket
import subprocess
import sys
from array import array
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from appliance.hw.sound import choice, worker, worker_microphone
from appliance.hw.sound.ring import Blocks, Bytes
from tests.servers.sound import SoundRoom
from tests.support import wait_for_sync


def block(value: int) -> memoryview:
    """Four samples."""
    return memoryview(array("h", [value] * 4))


def test_blocks_that_find_no_room_are_lost_and_told_with_the_next_that_does() -> None:
    ring = Blocks(2, 4)
    assert [ring.put(block(each), each) for each in range(5)] == [True, True, False, False, False]
    assert ring.overruns == 1
    for each in range(2):
        held = ring.peek()
        assert held is not None
        assert (held[0].tolist(), held[1], held[2]) == ([each] * 4, each, 0)
        ring.drop()
    assert ring.peek() is None
    assert ring.put(block(9), 9.0, 3)
    held = ring.peek()
    assert held is not None
    assert held[2] == 3 * 4 + 3


def test_bytes_go_round_in_order() -> None:
    ring, out, taken = Bytes(7), memoryview(bytearray(5)), b""
    written = bytes(range(100))
    for at in range(0, 100, 4):
        ring.put(written[at : at + 4])
        taken += bytes(out[: ring.take(out)])
    assert taken == written
    with pytest.raises(BufferError):
        ring.put(bytes(8))


def row(name: str, inputs: int = 1, outputs: int = 0, **more: Any) -> dict[str, Any]:
    """A device."""
    return {
        "name": name,
        "inputs": inputs,
        "outputs": outputs,
        "rate": 48000.0,
        "default_input": False,
        "default_output": False,
    } | more


CARDS = [
    row("HDMI", 0, 2, default_output=True),
    row("C920: USB Audio (hw:1,0)", 2, default_input=True),
    row("ReSpeaker 4 Mic Array (UAC1.0): USB Audio (hw:2,0)", 6, 2),
]


@pytest.mark.parametrize(
    ("wanted", "kind", "name"),
    [
        ("auto", "input", "ReSpeaker"),
        ("c920", "input", "C920"),
        ("mic_array", "input", "ReSpeaker"),
        ("auto", "output", "HDMI"),
        ("respeaker", "output", "ReSpeaker"),
    ],
)
def test_the_device_that_is_meant(wanted: str, kind: str, name: str) -> None:
    assert choice.choose(CARDS, wanted, kind)["name"].startswith(name)


def test_without_a_respeaker_it_is_the_systems_default() -> None:
    assert choice.choose(CARDS[:2], "auto", "input")["name"].startswith("C920")
    with pytest.raises(choice.NoSuchDeviceError, match="no sound input device"):
        choice.choose(CARDS[:1], "auto", "input")


def test_channels_and_rates_in_the_order_they_are_tried() -> None:
    assert choice.input_channels(CARDS[2]) == (6, 1, 2)
    assert choice.input_channels(CARDS[1]) == (1, 2)
    assert choice.output_channels(CARDS[0]) == (2, 1)
    assert choice.rates(CARDS[0], 16000) == (16000, 48000, 44100)


class Library:
    """sounddevice with one microphone, whose callback is called by the test."""

    PortAudioError = OSError
    default = SimpleNamespace(device=(0, -1))

    def query_devices(self) -> list[dict[str, Any]]:
        """It."""
        return [{"index": 0, "name": "mic", "max_input_channels": 1, "max_output_channels": 0, "default_samplerate": 16000.0}]

    def RawInputStream(self, **given: Any) -> SimpleNamespace:  # noqa: N802 the library's name
        """Keep who is to be called."""
        self.callback = given["callback"]
        return SimpleNamespace()


def test_what_sounded_while_it_was_muted_is_not_told_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device gives its sound up to a tenth of a second after it was taken."""
    clock, library = SimpleNamespace(now=100.0), Library()
    monkeypatch.setattr(worker_microphone, "time", SimpleNamespace(monotonic=lambda: clock.now))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    urgent, theirs_urgent = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    capture = worker_microphone.Capture(
        worker_microphone.Link(theirs, theirs_urgent), library, {"name": "auto", "rate": 16000, "muted": True}
    )

    def told(age: float) -> bytes:
        """What goes to the appliance of a block whose first sample is so old."""
        times = SimpleNamespace(currentTime=age, inputBufferAdcTime=0.0)
        library.callback(bytearray(b"\x11\x22" * 512), 512, times, SimpleNamespace(input_overflow=False))
        capture._obey()
        capture._move()
        return ours.recv(4096)[worker_microphone.HEADER.size :]

    with ours, urgent, theirs, theirs_urgent:
        assert not any(told(0.1))
        urgent.send(b'{"muted": false}')
        capture._obey()
        clock.now += 0.05
        assert not any(told(0.1)), "half of it sounded before"
        assert told(0.04) == b"\x11\x22" * 512
        urgent.send(b'{"muted": true}')
        assert not any(told(0.04)), "it was not sent yet"


STARTER = """
import asyncio, json, os, sys
from appliance.hw.sound.child import Child

async def main():
    child = await Child.start(os.environ, {"mode": "microphone", "name": "auto", "rate": 16000, "muted": False})
    await child.event(20)
    print(child.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def test_the_process_ends_with_whoever_started_it(sound_room: SoundRoom) -> None:
    root = str(Path(choice.__file__).parents[3])
    command = [sys.executable, "-c", STARTER]
    with subprocess.Popen(command, env={**sound_room.environ, "PYTHONPATH": root}, stdout=subprocess.PIPE) as starter:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        starter.kill()
    wait_for_sync(lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2])


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (
            ("Error opening RawInputStream: Unanticipated host error", -9999, (0, -5, "Input/output error")),
            "input/output error",
        ),
        (("Error opening RawInputStream: Unanticipated host error", -9999, (0, -5, "")), "unanticipated host error"),
        (("Error opening RawInputStream: Device unavailable", -9985), "device unavailable"),
        ((), "no reason is told"),
    ],
    ids=["host", "silent host", "portaudio", "nothing"],
)
def test_why_a_device_cannot_be_opened_is_told_in_plain_words(args: tuple[Any, ...], told: str) -> None:
    assert worker.reason(Exception(*args)) == told
