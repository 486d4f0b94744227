"""The Voice page on consoles of a real appliance: every stage, its keys through the dispatcher, what it watches."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance.core.actions import Invocation
from appliance.core.model import Role
from appliance.core.state import Section
from appliance.core.voice.model import Outcome, Reply, Stage
from appliance.screens.glyphs import Caps, Colours, unsafe
from tests.screens import voices
from tests.screens.conftest import Bench, running
from tests.screens.test_pages import COLOURS, printed
from tests.support import wait_for

PLAIN = Caps(Colours.console, full_glyphs=False, mouse=False)
"""A Linux console."""


@pytest.fixture
async def bench(home: Path) -> AsyncIterator[Bench]:
    """An appliance whose own voice is switched off: what it shows is put by the test."""
    async with running(home, '[voice]\nenabled = "no"\n') as bench:
        yield bench


class Told:
    """Stands behind actions of the voice, and keeps what the dispatcher lets through."""

    def __init__(self, bench: Bench) -> None:
        self._registry = bench.appliance.registry
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def answer(self, name: str, result: Any) -> None:
        """Let an action answer so."""

        async def handler(_: Invocation, params: Any) -> Any:
            self.calls.append((name, params.model_dump(exclude_defaults=True)))
            return result

        self._registry._actions[name] = replace(self._registry.get(name), handler=handler)


def put(bench: Bench, status: Any, level: Any = None) -> None:
    bench.appliance.state.put(Section.voice, status)
    if level is not None:
        bench.appliance.state.put(Section.sound, level)


async def test_without_a_microphone_it_says_why_and_no_meter_is_alive(bench: Bench) -> None:
    put(bench, voices.absent())
    seen = bench.open(PLAIN)
    await seen.press("gq", "No microphone was found. Next: connect a USB microphone.")
    await seen.shows("no microphone: nothing is measured")
    assert "dB" not in seen.display
    assert "level" not in seen.display
    assert unsafe(printed(bytes(seen.channel.written))) == set()
    await seen.end()


STAGES: tuple[tuple[Stage, dict[str, Any], str], ...] = (
    (Stage.idle, {}, 'say "hey spark" or "hey prime"'), (Stage.muted, {}, "m lets it hear again"),
    (Stage.listening, {"hearing": "restart the tel"}, '"restart the tel"'), (Stage.thinking, {}, "recognises"),
    (Stage.acting, {}, "does what was said"), (Stage.speaking, {}, "Esc silences it"),
    (Stage.following, {}, "without its name"), (Stage.confirming, {"asking": "Restart telemetry?"}, "Restart telemetry?"),
)  # fmt: skip


@pytest.mark.parametrize(("caps", "size"), [(PLAIN, (80, 24)), (Caps(), (160, 48))], ids=["console", "wide"])
async def test_every_stage_is_seen_as_it_comes(bench: Bench, caps: Caps, size: tuple[int, int]) -> None:
    put(bench, voices.status(), voices.level())
    seen = bench.open(caps, size)
    await seen.press("gq", "IDLE")
    await seen.shows("-31 dB")
    await seen.shows("113°")
    for stage, more, text in STAGES:
        put(bench, voices.status(stage, **more))
        await seen.shows(stage.value.upper())
        await seen.shows(text)
    put(bench, voices.status(degraded="The cloud is away.", engines=(voices.AWAY, voices.LOCAL)))
    await seen.shows("The cloud is away. attic (stt): it does not answer.")
    if caps is PLAIN:
        data = bytes(seen.channel.written)
        assert unsafe(printed(data)) == set()
        assert not COLOURS.search(data.decode())
    await seen.end()


async def test_the_panels_one_by_one_and_all_at_once(bench: Bench) -> None:
    many = tuple(voices.utterance(number, words=f"say number {number}") for number in range(50))
    put(bench, voices.status(utterances=many, engines=(voices.AWAY, voices.LOCAL)), voices.level())
    seen = bench.open(PLAIN)
    await seen.press("gq", "say number 8")
    assert "say number 40" not in seen.display
    await seen.press("G", "say number 49")
    await seen.press("\t", "speech recognition; last")
    await seen.press("\t", "✗ unhealthy")
    await seen.press("\t", "whoever is heard may do what the role operator may")
    await seen.press("\t", "say number 49")
    seen.session.resize(160, 48)
    seen.size = (160, 48)
    for text in ("Direction", "say number 49", "speech recognition; last", "✗ unhealthy", "whoever is heard", "Desk Speaker"):
        await seen.shows(text)
    await seen.end()


async def test_an_utterance_opens_with_its_times(bench: Bench) -> None:
    put(bench, voices.status(utterances=(voices.utterance(note="barged in"), voices.utterance(1))))
    seen = bench.open(PLAIN)
    await seen.press("gq", "what is the battery")
    await wait_for(lambda: seen.app.focused is not None and seen.app.focused.id == "heard")
    await seen.press("\r", "How long each part took")
    for text in ("barged in", "hey spark, score 0.83", "last sound to action", "655 ms"):
        await seen.shows(text)
    await seen.press("\x1b", "Heard")
    await seen.end()


async def test_the_sound_is_watched_only_while_the_page_is_seen(bench: Bench) -> None:
    put(bench, voices.status(), voices.level())

    def watched() -> bool:
        return any(Section.sound in watch.sections for watch in bench.appliance.state._watches)

    seen = bench.open(PLAIN)
    await seen.press("1", "Host")
    assert not watched()
    await seen.press("gq", "-31 dB")
    await wait_for(watched)
    bench.appliance.state.put(Section.sound, voices.level(rms_db=-12.0))
    await seen.shows("-12 dB")
    await seen.press("1", "Host")
    await wait_for(lambda: not watched())
    await seen.end()


async def test_a_sound_that_stops_coming_leaves_no_meter(bench: Bench) -> None:
    put(bench, voices.status(), voices.level())
    seen = bench.open(PLAIN)
    await seen.press("gq", "-31 dB")
    await seen.shows("no sound has come for some seconds")
    assert "dB" not in seen.display
    await seen.end()


async def test_keys_do_what_they_say_through_the_dispatcher(bench: Bench) -> None:
    """Each with the arguments that its action takes, and with a question before what is dangerous."""
    told = Told(bench)
    told.answer("voice.listen", voices.utterance(words="show the alerts", reply="There is no alert."))
    told.answer("voice.mute", {"muted": True})
    told.answer("voice.record", {"seconds": 3.0})
    told.answer("voice.play", {"seconds": 3.0})
    told.answer("voice.say", {"engine": "local", "place": "local", "seconds": 0.4})
    told.answer("voice.privacy", {"privacy": "cloud"})
    told.answer("voice.engines", (voices.LOCAL, voices.AWAY))
    told.answer("voice.parameters", [{"name": "AGCGAIN", "value": 3.0}, {"name": "HPFONOFF", "value": 0.0}])
    told.answer("voice.tune", {"name": "AGCGAIN", "value": 5.0})
    told.answer("voice.recordings", [{"key": "voice/u1", "time": voices.NOW, "words": "what is", "bytes": 3200}])
    told.answer("voice.forget", {"forgotten": 1})
    put(bench, voices.status())
    seen = bench.open(PLAIN)
    await seen.press("gq", "IDLE")
    await seen.press(" ", '"show the alerts": There is no alert.')
    await seen.press("m", "the microphone gives nothing any more")
    await seen.press("t", "recorded, and played back")
    await seen.press("s", "Say aloud")
    await seen.fill("text", "good evening")
    await seen.shows("said")
    await seen.press("p", "now: edge-only")
    await seen.press("c", "may leave the house from now on")
    await seen.press("y", "privacy is cloud")
    await seen.press("e", "1 of 2 engines are not well")
    await seen.press("n", "Parameter of the array")
    await seen.press("\r", "AGCGAIN: 3")
    await seen.fill("value", "5")
    await seen.shows("AGCGAIN is set")
    await seen.press("f", "Forget a recording")
    await seen.press("\r", "is deleted for good")
    await seen.press("y", "forgotten")
    assert told.calls == [
        ("voice.listen", {}), ("voice.mute", {"muted": True}), ("voice.record", {"seconds": 3.0}), ("voice.play", {}),
        ("voice.say", {"text": "good evening"}), ("voice.privacy", {"mode": "cloud"}), ("voice.engines", {}),
        ("voice.parameters", {}), ("voice.tune", {"name": "AGCGAIN", "value": 5.0}), ("voice.recordings", {}),
        ("voice.forget", {"key": "all"}),
    ]  # fmt: skip
    await seen.end()


async def test_what_is_asked_is_confirmed_or_declined_on_the_screen(bench: Bench) -> None:
    told = Told(bench)
    put(bench, voices.status(Stage.listening))
    asked = Reply("Restart telemetry?", Outcome.asked, "service.restart", expects="confirm")
    seen = bench.open(PLAIN)
    for key, word, outcome in (("y", "yes", Outcome.done), ("\x1b", "no", Outcome.declined)):
        told.calls.clear()
        told.answer("voice.ask", asked)
        await seen.press("gq" if word == "yes" else "", "Voice")
        await seen.press("a", "as if it was spoken")
        await seen.fill("text", "restart telemetry")
        await wait_for(lambda: seen.app.focused is not None and seen.app.focused.id == "field-aloud")
        seen.session.feed(b"\r")
        await seen.shows("Restart telemetry?")
        told.answer("voice.ask", Reply(f"It is {outcome.value}.", outcome))
        await seen.press(key, f"It is {outcome.value}.")
        assert [call for _, call in told.calls] == [{"text": "restart telemetry"}, {"text": word}]
    told.answer("voice.cancel", {"cancelled": True})
    await seen.press("\x1b", "ended")
    assert told.calls[-1] == ("voice.cancel", {})
    await seen.end()


async def test_whoever_may_not_is_told_so(bench: Bench) -> None:
    put(bench, voices.status())
    seen = bench.open(PLAIN, role=Role.viewer)
    await seen.press("gq", "IDLE")
    assert "m Mute" not in seen.display
    await seen.press("m", "voice.mute needs the role operator")
    await seen.press("t", "voice.record needs the role operator")
    await seen.press("s", "voice.say needs the role operator")
    await seen.press("p", "voice.privacy needs the role operator")
    await seen.press("n", "voice.tune needs the role operator")
    await seen.press("f", "voice.recordings needs the role operator")
    await seen.end()
