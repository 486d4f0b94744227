"""The Voice page on consoles of a real appliance: every stage, its keys through the dispatcher, what it watches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from appliance.core.actions import Invocation
from appliance.core.model import Role
from appliance.core.state import Section
from appliance.core.voice.model import Outcome, Reply, Stage
from appliance.screens.glyphs import Caps, Colours, unsafe
from appliance.screens.widgets.grid import Grid
from tests.screens import voices
from tests.screens.conftest import Bench, running
from tests.screens.test_pages import COLOURS, printed
from tests.support import wait_for

PLAIN = Caps(Colours.console, full_glyphs=False, mouse=False)
"""A Linux console."""


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    """An appliance whose own voice is switched off: each test puts what it shows, and has consoles of its own."""
    home: Path = tmp_path_factory.mktemp("voice") / "home"
    home.mkdir(mode=0o700)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRIME_SPARK_HOME", str(home))
        async with running(home, '[voice]\nenabled = "no"\n') as made:
            yield made


class Told:
    """Stands behind actions of the voice, and keeps what the dispatcher lets through."""

    def __init__(self, bench: Bench) -> None:
        self._registry = bench.appliance.registry
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def answer(self, name: str, result: Any, when: asyncio.Event | None = None) -> None:
        """Let an action answer so; not before a moment, where one is given."""

        async def handler(_: Invocation, params: Any) -> Any:
            self.calls.append((name, params.model_dump(exclude_defaults=True)))
            if when is not None:
                await when.wait()
            return result

        self._registry._actions[name] = replace(self._registry.get(name), handler=handler)


def put(bench: Bench, status: Any, level: Any = None) -> None:
    """What the service says of itself from now on."""
    assert bench.appliance.domains is not None
    service = bench.appliance.domains.voice
    service.status = lambda: status  # type: ignore[method-assign]
    service.publish()
    if level is not None:
        bench.appliance.state.put(Section.sound, level)


STAGES: tuple[tuple[Stage, dict[str, Any], str], ...] = (
    (Stage.idle, {}, 'say "hey spark" or "hey prime"'), (Stage.muted, {}, "m lets it hear again"),
    (Stage.listening, {"hearing": "restart the tel"}, '"restart the tel"'), (Stage.thinking, {}, "recognises"),
    (Stage.acting, {}, "does what was said"), (Stage.speaking, {}, "Esc silences it"),
    (Stage.following, {}, "without its name"), (Stage.confirming, {"asking": "Restart telemetry?"}, "Restart telemetry?"),
)  # fmt: skip


async def test_every_stage_is_seen_as_it_comes(bench: Bench) -> None:
    """Absent with its reason and no meter, then all others, with glyphs and colours of a console."""
    put(bench, voices.absent())
    seen = bench.open(PLAIN)
    await seen.press("gq", "No microphone was found. Next: connect a USB microphone.")
    await seen.shows("no microphone: nothing is measured")
    assert "dB" not in seen.display
    assert "level" not in seen.display
    put(bench, voices.status(), voices.level())
    for text in ("IDLE", "-31 dB", "113°"):
        await seen.shows(text)
    for stage, more, text in STAGES:
        put(bench, voices.status(stage, **more))
        await seen.shows(stage.value.upper())
        await seen.shows(text)
    put(bench, voices.status(degraded="The cloud is away.", engines=(voices.AWAY, voices.LOCAL)))
    await seen.shows("The cloud is away. attic (stt): it does not answer.")
    data = bytes(seen.channel.written)
    assert unsafe(printed(data)) == set()
    assert not COLOURS.search(data.decode())
    await seen.end()


async def test_the_panels_one_by_one_and_all_at_once(bench: Bench) -> None:
    many = tuple(voices.utterance(number, words=f"say number {number}", note="barged in") for number in range(50))
    put(bench, voices.status(utterances=many, engines=(voices.AWAY, voices.LOCAL)), voices.level())
    seen = bench.open(PLAIN)
    await seen.press("gq", "say number 8")
    assert "say number 40" not in seen.display
    newer = voices.utterance(99, words="say it anew")
    put(bench, voices.status(utterances=(newer, *many), engines=(voices.AWAY, voices.LOCAL)))
    await seen.shows("say it anew")
    assert seen.app.screen.query_one("#heard", Grid).key == "u99", "the cursor goes on to the newest"
    await seen.press("G", "say number 49")
    await seen.press("\t", "speech recognition; last")
    await seen.press("\t", "✗ unhealthy")
    await seen.press("\t", "whoever is heard may do what the role operator may")
    await seen.press("\t", "say number 49")
    await seen.press("\r", "How long each part took")
    for text in ("barged in", "hey spark, score 0.83", "last sound to action", "655 ms"):
        await seen.shows(text)
    await seen.press("\x1b", "Heard")
    put(bench, voices.status(Stage.confirming, asking="Restart telemetry?", engines=(voices.AWAY,)), voices.level())
    seen.session.resize(160, 48)
    seen.size = (160, 48)
    await seen.shows("Direction")
    for text in ("CONFIRMING", "Restart telemetry?", "speech recognition; last", "✗ unhealthy", "whoever is heard"):
        await seen.shows(text)
    await seen.end()


async def test_the_sound_is_watched_only_while_the_page_is_seen(bench: Bench) -> None:
    """And one that stops coming leaves no meter."""
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
    await seen.shows("no sound has come for some seconds")
    assert "dB" not in seen.display
    await seen.press("1", "Host")
    await wait_for(lambda: not watched())
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
    await refused(bench)


async def refused(bench: Bench) -> None:
    """A viewer is told why not, before anything is typed."""
    seen = bench.open(PLAIN, role=Role.viewer)
    await seen.press("gq", "IDLE")
    assert "m Mute" not in seen.display
    for key, name in (("m", "mute"), ("t", "record"), ("s", "say"), ("p", "privacy"), ("n", "tune"), ("f", "forget")):
        await seen.press(key, f"voice.{name} needs the role operator")
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
