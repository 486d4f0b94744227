"""A room with a microphone and a speaker: a private PulseAudio, whose sinks are heard through PortAudio as sound cards are."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import numpy as np

from tests.servers.child import Server
from tests.support import needs_program, wait_for

RATE = 16000
MAPS = {1: "mono", 6: "front-left,front-right,rear-left,rear-right,front-center,lfe"}
"""Channels by number; maps of aux channels give silence."""
NAMES = {1: "Desk_Microphone", 6: "ReSpeaker_4_Mic_Array_UAC1"}
"""What PortAudio lists; names with blanks it does not."""
SPEAKER = "Desk_Speaker"
ALSA = """</usr/share/alsa/alsa.conf>
pcm.{microphone} {{ type pulse device "room.monitor" }}
pcm.{speaker} {{ type pulse device "speaker" }}
"""


class Recording:
    """What the speaker has played since it was listened to: mono, 16 bit."""

    def __init__(self) -> None:
        self.pcm = b""

    @property
    def loudest(self) -> int:
        """The greatest sample so far, 0 to 32768."""
        return int(np.abs(np.frombuffer(self.pcm, "<i2").astype(int)).max(initial=0))


class SoundRoom(Server):
    """A microphone in the room's air, and a speaker apart from it: what is played is not heard by the microphone.

    Args:
        directory: of its own.
        channels: of the microphone: 6 as a ReSpeaker with that firmware, or 1.
        rate: samples a second that the microphone's card runs at.
    """

    def __init__(self, directory: Path, channels: int = 6, rate: int = RATE) -> None:
        super().__init__(directory, "pulseaudio")
        self.channels, self.rate = channels, rate
        self.microphone, self.speaker = NAMES[channels], SPEAKER
        self._short = Path(tempfile.mkdtemp(prefix="prime-spark-sound-"))
        alsa = directory / "alsa.conf"
        alsa.write_text(ALSA.format(microphone=self.microphone, speaker=SPEAKER))
        (directory / "run").mkdir(mode=0o700, exist_ok=True)
        settings = directory / ".config/pulse/daemon.conf"
        settings.parent.mkdir(parents=True, exist_ok=True)
        settings.write_text("rescue-streams = no\n")  # else who listens to what is unplugged hears something else
        self.environ = {
            "ALSA_CONFIG_PATH": str(alsa),
            "PULSE_SERVER": f"unix:{self._short / 'native'}",
            "XDG_RUNTIME_DIR": str(directory / "run"),
            "PULSE_SINK": "speaker",
            "PULSE_SOURCE": "room.monitor",
            "HOME": str(directory),
            "PATH": os.environ["PATH"],
        }
        """For the appliance and for other clients."""

    def start(self) -> None:
        """Start it; returns when it answers and both sinks are there."""
        self._short.mkdir(exist_ok=True)
        # "nowhere" is the default: streams of a default that is unplugged would be moved to the next.
        loads = [
            f"module-native-protocol-unix socket={self._short / 'native'} auth-anonymous=1",
            "module-null-sink sink_name=nowhere norewinds=1 rate=48000 channels=2",
            "module-null-sink sink_name=speaker norewinds=1 rate=48000 channels=2",
            "module-null-sink " + self._room,
        ]
        options = ["-n", "--daemonize=no", "--exit-idle-time=-1", *(part for load in loads for part in ("-L", load))]
        self.child.spawn([needs_program("pulseaudio"), *options], self._answers, env=self.environ)

    @property
    def _room(self) -> str:
        return f"sink_name=room norewinds=1 rate={self.rate} channels={self.channels} channel_map={MAPS[self.channels]}"

    def _answers(self) -> bool:
        listed = subprocess.run(
            ["pactl", "list", "short", "sinks"], env=self.environ, capture_output=True, text=True, timeout=10, check=False
        )
        return listed.returncode == 0 and "\troom\t" in listed.stdout

    def _pactl(self, *words: str) -> str:
        done = subprocess.run(["pactl", *words], env=self.environ, capture_output=True, text=True, timeout=10, check=True)
        return done.stdout

    def unplug(self, sink: str = "room") -> None:
        """Pull out the microphone ("room") or the speaker ("speaker"): its streams are at their end."""
        rows = [row.split("\t") for row in self._pactl("list", "short", "modules").splitlines()]
        for row in rows:
            if row[1] == "module-null-sink" and f"sink_name={sink} " in row[2] + " ":
                self._pactl("unload-module", row[0])

    def plug(self, sink: str = "room") -> None:
        """Put it in again."""
        speaker = "sink_name=speaker norewinds=1 rate=48000 channels=2"
        self._pactl("load-module", "module-null-sink", *(self._room if sink == "room" else speaker).split())

    def recover(self) -> None:
        """Let it run and have both, whatever a test has left of it."""
        super().recover()
        sinks = self._pactl("list", "short", "sinks")
        for sink in ("room", "speaker"):
            if f"\t{sink}\t" not in sinks:
                self.plug(sink)

    def stop(self) -> None:
        """End it."""
        super().stop()
        shutil.rmtree(self._short, ignore_errors=True)

    def streams(self) -> int:
        """How many read the microphone now."""
        return len(self._pactl("list", "short", "source-outputs").splitlines())

    async def say(self, pcm: bytes, rate: int = RATE) -> None:
        """Speak mono 16-bit sound into the room, in real time; returns at its end.

        With 6 channels it is on channel 0 as it is, on 1 to 4 (raw) at a quarter, and on 5 (what is played) not at all.
        """
        if self.channels == 6:
            mono = np.frombuffer(pcm, "<i2")
            block = np.zeros((len(mono), 6), "<i2")
            block[:, 0], block[:, 1:5] = mono, (mono // 4)[:, None]
            pcm = block.tobytes()
        form = [f"--rate={rate}", f"--channels={self.channels}", f"--channel-map={MAPS[self.channels]}", "--format=s16le"]
        child = await asyncio.create_subprocess_exec(
            "pacat", "--playback", "--device=room", "--latency-msec=300", *form, stdin=asyncio.subprocess.PIPE, env=self.environ
        )
        try:
            await child.communicate(pcm)
        finally:
            await _end(child)
        assert child.returncode == 0, f"pacat ended with {child.returncode}"

    @asynccontextmanager
    async def heard(self, rate: int = RATE) -> AsyncIterator[Recording]:
        """What the speaker plays from now on; it listens already when this is entered, and `pcm` grows as time goes by."""
        form = [f"--rate={rate}", "--channels=1", "--format=s16le", "--latency-msec=20"]
        child = await asyncio.create_subprocess_exec(
            "parec", "--device=speaker.monitor", *form, stdout=asyncio.subprocess.PIPE, env=self.environ
        )
        recording = Recording()
        reading = asyncio.create_task(self._read(child, recording))
        try:
            await wait_for(lambda: recording.pcm or reading.done(), message="the speaker is listened to")
            yield recording
        finally:
            reading.cancel()
            await _end(child)

    @staticmethod
    async def _read(child: asyncio.subprocess.Process, recording: Recording) -> None:
        assert child.stdout is not None
        while data := await child.stdout.read(4096):
            recording.pcm += data


async def _end(child: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        if child.returncode is None:
            child.kill()
    await child.wait()
