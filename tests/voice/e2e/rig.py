"""A real appliance, a process of its own, that listens and speaks in a room of sound."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

import appliance
from appliance.errors import ApplianceError
from appliance.paths import Paths, find, socket_address
from appliance.verbs.client import SocketClient
from tests.servers.sound import SoundRoom
from tests.support import needs_program, wait_for

MODELS = Path(appliance.__file__).resolve().parent.parent / ".models"
PROGRAMS = ("espeak-ng", "redis-server")
"""All that the appliance finds in its PATH: nothing with which it could halt or change this machine."""
RATE = 16000


def spoken(text: str, voice: str = "slt") -> bytes:
    """A text as flite says it: mono, 16 bit, 16 kHz."""
    with tempfile.TemporaryDirectory(prefix="spark-say-") as own:
        file = Path(own) / "said.wav"
        subprocess.run([needs_program("flite"), "-voice", voice, "-t", text, "-o", str(file)], check=True, timeout=60)
        with wave.open(str(file)) as sound:
            assert sound.getframerate() == RATE
            return sound.readframes(sound.getnframes())


class VoiceAppliance:
    """The process, and questions to it over its control socket.

    Args:
        home: Its directory.
        room: Where it hears and speaks.
    """

    def __init__(self, home: Path, room: SoundRoom) -> None:
        self.home, self.room = home, room
        bin_ = home.parent / "bin"
        bin_.mkdir(exist_ok=True)
        for name in PROGRAMS:
            if (found := shutil.which(name)) and not (bin_ / name).exists():
                (bin_ / name).symlink_to(found)
        self._environ = {**os.environ, **room.environ, "PRIME_SPARK_HOME": str(home), "PATH": str(bin_)}
        self.paths: Paths = find(self._environ)
        self.log = home.parent / "appliance.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.client = SocketClient(self.paths.api_socket, quick=30)

    def start(self, settings: str) -> None:
        """Start it with these settings."""
        (self.home / "config.toml").write_text(f"[ssh]\nport = 0\n{settings}")
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "appliance", "headless"]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environ)

    def stop(self) -> None:
        """End it, and whatever it has started."""
        self.client.close()
        if self.process is None or self.process.poll() is not None:
            return
        family = psutil.Process(self.process.pid).children(recursive=True)
        self.process.terminate()
        try:
            self.process.wait(20)
        finally:
            self.process.kill()
            self.process.wait(10)
            for each in psutil.wait_procs(family, timeout=5)[1]:
                each.kill()

    async def invoke(self, name: str, /, *, confirm: bool = False, **args: object) -> Any:
        """Carry an action out. Raises ApplianceError."""
        return await asyncio.to_thread(self.client.invoke, name, args, confirm=confirm)

    async def status(self) -> dict[str, Any]:
        """The voice as it is now; nothing while the appliance starts."""
        assert self.process is None or self.process.poll() is None, self.tail()
        try:
            found: dict[str, Any] = await self.invoke("voice.status")
        except ApplianceError:
            return {}
        return found

    async def stage(self, *wanted: str, timeout: float = 20.0) -> dict[str, Any]:
        """Wait until it does one of these; returns the status."""

        async def reached() -> dict[str, Any] | None:
            found = await self.status()
            return found if found.get("stage") in wanted else None

        return dict(await wait_for(reached, timeout, f"{' or '.join(wanted)}; {self.tail()}", every=0.05))

    async def ready(self) -> None:
        """Wait until it listens, and its recognition is loaded."""
        await self.stage("idle", timeout=60)

        async def loaded() -> bool:
            engines = (await self.status()).get("engines", [])
            return any(each["kind"] == "stt" and each["name"] == "local" and each["health"] == "healthy" for each in engines)

        await wait_for(loaded, 60, f"the recognition is loaded; {self.tail()}", every=0.1)

    async def newest(self) -> dict[str, Any]:
        """The newest utterance, or nothing."""
        return dict(next(iter((await self.status()).get("utterances", ())), {}))

    async def after(self, known: str, timeout: float = 20.0) -> dict[str, Any]:
        """Wait for the utterance that follows the one with this id; returns it."""

        async def another() -> dict[str, Any] | None:
            found = await self.newest()
            return found if found and found["utterance_id"] != known else None

        return dict(await wait_for(another, timeout, f"an utterance; {self.tail()}", every=0.05))

    async def told(self, text: str, voice: str = "slt", timeout: float = 20.0) -> dict[str, Any]:
        """Say something into the room once it listens; returns the utterance that comes of it."""
        before = (await self.stage("idle"))["utterances"]
        known = before[0]["utterance_id"] if before else ""
        await self.room.say(spoken(text, voice) + bytes(RATE))
        return await self.after(known, timeout)

    @asynccontextmanager
    async def events(self) -> AsyncIterator[list[str]]:
        """Lines of the stream of events from now on."""
        lines: list[str] = []
        transport = httpx.AsyncHTTPTransport(uds=socket_address(self.paths.api_socket))
        async with (
            httpx.AsyncClient(transport=transport, base_url="http://appliance", timeout=None) as client,
            client.stream("GET", "/api/v1/events") as answer,
        ):
            reading = asyncio.create_task(_read(answer, lines))
            try:
                yield lines
            finally:
                reading.cancel()

    def tail(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-3000:] if self.log.exists() else "no log"

    def usage(self, seconds: float) -> tuple[float, float]:
        """(percent of one core, RSS in MB) of it and all that it has started, over some seconds; blocks."""
        assert self.process is not None
        me = psutil.Process(self.process.pid)
        family = [me, *me.children(recursive=True)]
        before, began = _cpu(family), time.perf_counter()
        time.sleep(seconds)
        used = _cpu(family) - before
        return 100 * used / (time.perf_counter() - began), sum(each.memory_info().rss for each in family) / 1e6


def _cpu(family: list[psutil.Process]) -> float:
    times = [each.cpu_times() for each in family]
    return float(sum(each.user + each.system for each in times))


async def _read(answer: httpx.Response, lines: list[str]) -> None:
    async for line in answer.aiter_lines():
        lines.append(line)  # noqa: PERF401 -- each is seen as it comes
