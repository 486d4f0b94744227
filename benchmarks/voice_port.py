"""Spoken commands at the microphone's port of a whole appliance in this process, faster than real time: `python -m
benchmarks.voice_port [quiet|SNR …]`. All is as it is but the microphone and the speaker: the ear, the turns, recognition,
understanding, the registry with the handlers of all actions.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from appliance import config, paths
from appliance.assembly import Domains
from appliance.core.clock import SystemClock
from appliance.core.logs import LogRing
from appliance.core.model import Device, Health
from appliance.core.services import Supervisor
from appliance.core.supervision import Policy
from appliance.core.voice.ground import Kit
from appliance.core.voice.model import RATE, Reply, SpeakerStatus, Stage, Timings, Utterance
from appliance.core.voice.service import VoiceService
from appliance.runtime import Appliance
from benchmarks.voice_corpus import Spoken, corpus, prepare
from benchmarks.voice_tape import Pace, Recognizer, Tape
from benchmarks.voice_voices import VOICES

MODELS = Path(__file__).resolve().parent.parent / ".models"
SETTINGS = "[ssh]\nport = 0\n[voice]\narray = false\nfollow_up_seconds = 0\nvoice_speed = 400\n"
PROGRAMS = ("espeak-ng", "redis-server")
"""All that it finds in its PATH: nothing with which it could halt or change this machine."""
BEFORE, AFTER = 2 * RATE, 3 * RATE // 2
"""Samples of silence or noise around what is said."""
BUSY = frozenset({Stage.thinking, Stage.acting, Stage.speaking})
"""Nothing is to be heard then."""
PATIENCE = 8.0
"""Seconds of sound after it in which it must have begun to listen."""


@dataclass(frozen=True)
class Result:
    """What came of a spoken command."""

    spoken: Spoken
    woke: bool
    words: str = ""
    action: str = ""
    args: dict[str, Any] | None = None
    outcome: str = ""
    timings: Timings | None = None

    @property
    def right(self) -> bool:
        """Whether it did, or asked about, what was meant."""
        wanted = self.spoken.command
        said = self.outcome in {"done", "asked", "refused", "failed"} and self.action == wanted.action
        return self.woke and said and (self.args is None or self.args == wanted.args)


class Mute:
    """A ports.Speaker that has played everything at once."""

    volume = 1.0

    async def play(self, pcm: AsyncIterator[bytes], rate: int, on_sound: Callable[[], None] | None = None) -> float:
        """Take it."""
        size = 0
        async for part in pcm:
            if not size and on_sound is not None:
                on_sound()
            size += len(part)
        return size / 2 / rate

    def stop(self) -> None:
        """Nothing sounds."""

    def status(self) -> SpeakerStatus:
        """It is always there."""
        return SpeakerStatus("none", available=True)


class Cards:
    """The port's devices (core.voice.ground.Cards)."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape

    def detect(self) -> Device:
        """The microphone is there."""
        return Device("microphone", "tape", Health.healthy, "it is played from a tape")

    async def devices(self) -> tuple[Any, ...]:
        """None of a sound card."""
        return ()

    def microphone(self, _: str, __: int) -> Tape:
        """The tape."""
        return self._tape

    def speaker(self, _: str, __: float) -> Mute:
        """Nothing is heard."""
        return Mute()

    async def close(self) -> None:
        """Nothing is open."""


class Port:
    """An appliance that hears a tape."""

    def __init__(self, service: VoiceService, tape: Tape, pace: Pace) -> None:
        self._service, self._tape, self._pace = service, tape, pace
        self.replies: list[Reply] = []
        """As the dialogue gave them."""

    async def hear(self, spoken: Spoken) -> Result:
        """Play a command, and wait for what comes of it."""
        talks = self._service.talks
        newest = talks.utterances[0] if talks.utterances else None
        self.replies.clear()
        sound = spoken.within(BEFORE, AFTER)
        self._tape.add([sound])
        ended = self._pace.sound + (len(sound) - AFTER) / RATE
        while not self._pace.sound > ended or not talks.idle or self._tape.left:
            await asyncio.sleep(0.002)
            if self.replies and self.replies[-1].expects:
                await talks.cancel()
        while (one := talks.utterances[0] if talks.utterances else None) is newest:
            if self._pace.sound > ended + PATIENCE and talks.idle:
                return Result(spoken, False)
            await asyncio.sleep(0.002)
        assert one is not None
        return self._result(spoken, one)

    def _result(self, spoken: Spoken, one: Utterance) -> Result:
        reply = self.replies[0] if self.replies else None
        if reply is None:
            return Result(spoken, True, one.words, one.action, None, one.outcome.value, one.timings)
        return Result(spoken, True, one.words, reply.action, reply.args, reply.outcome.value, one.timings)


@contextlib.asynccontextmanager
async def port() -> AsyncIterator[Port]:
    """One, with all services of an appliance, in a directory that goes away."""
    with tempfile.TemporaryDirectory(prefix="spark-port-") as own, few_programs(Path(own)) as path:
        home = Path(own) / "home"
        home.mkdir(mode=0o700)
        (home / "config.toml").write_text(SETTINGS)
        environ = {**os.environ, "PRIME_SPARK_HOME": str(home), "PATH": path}
        where = paths.find(environ)
        where.make()
        spark = Appliance(config.load(where, environ), where, LogRing(), environ)
        domains = spark.domains = Domains(spark, environ)
        pace = Pace()
        tape = Tape(pace, lambda: domains.voice.room.stages.now in BUSY)
        found = Port(domains.voice, tape, pace)
        _rewire(domains.voice, found, pace, tape, environ)
        spark.supervisor = Supervisor(domains.services(), spark.state, spark.clock, Policy(), lambda _, __: None)
        domains.register_actions(spark.supervisor)
        spark.supervisor.start()
        try:
            await spark.supervisor.settled()
            while domains.voice.status().stage is not Stage.idle:
                await asyncio.sleep(0.05)
            yield found
        finally:
            tape.end()
            await spark.stop()


def _rewire(service: VoiceService, found: Port, pace: Pace, tape: Tape, environ: dict[str, str]) -> None:
    """Put the tape where the microphone is, and note what the dialogue says."""
    made = service.ground.dialogue

    def local() -> Recognizer:
        recognizer = Recognizer(MODELS, SystemClock(), environ)
        recognizer.pace = pace
        return recognizer

    def dialogue(privacy: Callable[[], str], degraded: Callable[[], str]) -> Any:
        talker = made(privacy, degraded)
        hear = talker.hear

        async def noted(*given: Any) -> Reply:
            reply = await hear(*given)
            found.replies.append(reply)
            return reply

        setattr(talker, "hear", noted)  # noqa: B010 -- of this one alone
        return talker

    cards = Cards(tape)
    service.ground = replace(service.ground, cards=lambda: cards, local=local, dialogue=dialogue, now=pace.now)
    service.kit = Kit(service.ground)


@contextlib.contextmanager
def few_programs(own: Path) -> Iterator[str]:
    """The PATH while it runs."""
    folder, before = own / "bin", os.environ["PATH"]
    folder.mkdir()
    for name in PROGRAMS:
        if found := shutil.which(name):
            (folder / name).symlink_to(found)
    os.environ["PATH"] = str(folder)
    try:
        yield str(folder)
    finally:
        os.environ["PATH"] = before


async def measure(
    snrs: list[float | None], told: Callable[[Result], None] = lambda _: None
) -> dict[float | None, list[Result]]:
    """Hear all commands, for each SNR."""
    spoken = {snr: corpus(snr) for snr in snrs}
    for wanted in spoken.values():
        prepare(wanted)
    found: dict[float | None, list[Result]] = {}
    async with port() as here:
        for snr, commands in spoken.items():
            found[snr] = []
            for each in commands:
                found[snr].append(await here.hear(each))
                told(found[snr][-1])
    return found


def share(results: list[Result], right: Callable[[Result], bool] = lambda each: each.right) -> float:
    """Percent that are right."""
    return 100 * sum(map(right, results)) / len(results) if results else 0.0


def show(result: Result) -> None:
    """One line of what went wrong."""
    if not result.right:
        wanted, voice = result.spoken.command, result.spoken.voice.name
        said = f"{result.words!r} → {result.action or '-'} {result.args} ({result.outcome})" if result.woke else "not woken"
        print(f"  {voice:11} {result.spoken.kind:7} {result.spoken.words!r} {wanted.action} {wanted.args}: {said}", flush=True)


def table(found: dict[float | None, list[Result]]) -> None:
    """Shares by SNR, by kind of noise and by voice."""
    for snr, results in found.items():
        _row("quiet" if snr is None else f"{snr:g} dB", results)
        for kind in dict.fromkeys(each.spoken.kind for each in results if each.spoken.kind):
            _row(f"  {kind}", [each for each in results if each.spoken.kind == kind])
        for voice in VOICES:
            held = "" if voice.tune else " (held out)"
            _row(f"  {voice.name}{held}", [each for each in results if each.spoken.voice is voice])


def _row(name: str, results: list[Result]) -> None:
    woken = [each for each in results if each.woke]
    of = f"of {len(results)}"
    print(f"{name:24} right {share(results):5.1f} % {of}  woken {100 * len(woken) / max(1, len(results)):5.1f} %  "
          f"right of those {share(woken):5.1f} %")  # fmt: skip


def main(words: list[str]) -> None:
    """Measure and print."""
    snrs = [None if word == "quiet" else float(word) for word in words] or [None]
    table(asyncio.run(measure(snrs, show)))


if __name__ == "__main__":
    main(sys.argv[1:])
