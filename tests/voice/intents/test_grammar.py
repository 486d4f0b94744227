"""The grammar of a whole appliance: everything can be said or is denied for a reason, and means what it should."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from appliance.core.actions import ActionRegistry
from appliance.core.state import LiveState, Section
from appliance.core.voice.intents.book import book
from appliance.core.voice.intents.grammar import MOST, Grammar
from appliance.core.voice.intents.listing import examples
from appliance.core.voice.intents.names import names
from appliance.core.voice.intents.understanding import Understanding
from appliance.core.voice.model import Transcript
from appliance.core.voice.words import normal
from tests.screens.conftest import Bench, running
from tests.support import ManualClock, wait_for
from tests.voice.intents.rig import fill

pytestmark = pytest.mark.asyncio(loop_scope="module")

COMMANDS = """
what is the battery level|power.status/battery|{}
How long will the battery last?|power.status/runtime|{}
are we on mains power|power.status/supply|{}
set the power mode to off grid|power.mode|{"mode": "off-grid"}
could you switch to on grid mode please|power.mode|{"mode": "on-grid"}
Is the V.P.N. up?|vpn.status|{}
how many peers are connected|vpn.status/peers|{}
restart the inference service|service.restart|{"name": "inference"}
please restart analytics|service.restart|{"name": "analytics"}
which services are down|service.list/down|{}
what is wrong|appliance.status/problems|{}
how are you|appliance.status|{}
what is the status|appliance.status|{}
what is your status|appliance.status|{}
shut down|appliance.stop|{}
power off|appliance.stop|{}
reboot|local/restart|{}
restart the appliance|local/restart|{}
what is the CPU usage|host.show/cpu|{}
how full is the disk|host.show/disk|{}
how hot are you|host.show/temperature|{}
are there any alerts|alert.list|{}
acknowledge the alerts|alert.acknowledge-all|{}
silence the disk alert for 10 minutes|alert.silence|{"rule": "disk", "minutes": 10}
silence the disk alert for twenty five minutes|alert.silence|{"rule": "disk", "minutes": 25}
silence the disk alert for 120 minutes|alert.silence|{"rule": "disk", "minutes": 120}
mute the temperature alarm for an hour|alert.silence|{"rule": "temperature", "minutes": 60}
how is the fleet|fleet.status|{}
how is prime core three|fleet.status/one|{"nodes": ["primecore3"]}
how is primecore3|fleet.status/one|{"nodes": ["primecore3"]}
is the control p c up|fleet.status/one|{"nodes": ["control-pc"]}
is the control computer up|fleet.status/one|{"nodes": ["control-pc"]}
what is the temperature of prime core two|fleet.status/temperature|{"nodes": ["primecore2"]}
reboot prime core 2|fleet.reboot|{"nodes": ["primecore2"]}
switch off all nodes|fleet.power-off|{"nodes": ["all"]}
put prime core two into maintenance|fleet.maintenance|{"node": "primecore2"}
end the maintenance of prime core two|fleet.maintenance|{"node": "primecore2", "off": true}
show me the open tasks|task.list|{}
run the vision task|task.submit|{"type": "vision"}
what did you see last|inference.results/last|{}
which model is active|model.list/active|{}
how is kafka|streams.status|{}
synchronize with the cloud|sync.run|{}
log list with level warning|log.list|{"level": "WARNING"}
power restore|power.restore|{}
show the memory namespaces|memory.namespaces|{}
what time is it|local/time|{}
what can you do|local/help|{}
""".strip().splitlines()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    """A whole appliance."""
    home: Path = tmp_path_factory.mktemp("understanding") / "home"
    home.mkdir(mode=0o700)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRIME_SPARK_HOME", str(home))
        async with running(home) as made:
            state = made.appliance.state
            await wait_for(lambda: (found := state.get(Section.tasks).value) and len(found.workers[0].capabilities) >= 3, 30)
            yield made


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def registry(bench: Bench) -> ActionRegistry:
    return bench.appliance.registry


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def known(bench: Bench) -> Understanding:
    """With the appliance's own names, and a fleet."""
    state, own = LiveState(ManualClock()), bench.appliance.state
    fill(state)
    for section in (Section.services, Section.rules, Section.tasks, Section.inference, Section.trends):
        state.put(section, own.get(section).value)
    return Understanding(bench.appliance.registry, state)


async def test_every_action_can_be_said_or_is_denied_for_a_reason(registry: ActionRegistry, known: Understanding) -> None:
    sayable = {entry.saying.do.partition("/")[0] for entry in known.grammar.entries if not entry.saying.wants}
    for action in registry:
        assert (action.name in sayable) != bool(book().reason(action.name)), action.name
    assert len(sayable) > 100


async def test_no_sentence_is_for_an_action_that_is_not_there(registry: ActionRegistry) -> None:
    named = {saying.do.partition("/")[0] for saying in book().say} - {"local"}
    listed = {name for each in book().denied.values() for name in each}
    there = {action.name for action in registry}
    assert {name for name in (named | listed) - there if not name.startswith("voice.")} == set()
    assert not named & listed


async def test_secrets_are_never_asked_for_aloud(registry: ActionRegistry) -> None:
    asking = {each.name for each in registry if "password" in each.params.model_fields}
    assert len(asking) > 3
    assert {name for name in asking if not book().reason(name)} == set()


async def test_every_example_means_its_own_action(registry: ActionRegistry, known: Understanding) -> None:
    count = 0
    for each in examples(registry, known.grammar):
        for text in each.says:
            if "…" not in text:
                command = known.grammar.match(normal(text))
                assert command is not None, text
                assert command.action == each.action, text
                count += 1
    assert count > 250


async def test_every_29th_sentence_is_understood(known: Understanding) -> None:
    texts = known.grammar.texts
    assert 1000 < len(texts) <= MOST
    assert all(text == normal(text) for text in texts[::7])
    assert [text for text in texts[::29] if known.grammar.match(text) is None] == []


@pytest.mark.parametrize("line", COMMANDS, ids=lambda line: line.partition("|")[0])
async def test_a_sentence_means(known: Understanding, line: str) -> None:
    words, intent, args = line.split("|")
    command = known.read(Transcript(words, "test"))
    assert command is not None
    assert (command.intent, command.args) == (intent, json.loads(args))
    assert command.confidence == 1.0


async def test_many_names_stay_within_the_bound(registry: ActionRegistry) -> None:
    state = LiveState(ManualClock())
    fill(state)
    many = {**names(state), "node": tuple((normal(f"machine {number}"), f"m{number}") for number in range(300))}
    grammar = Grammar(registry, {**many, "nodes": many["node"]}, book())
    assert len(grammar.texts) <= MOST
    found = grammar.match(normal("reboot machine 299"))
    assert found is not None
    assert found.args == {"nodes": ["m299"]}
    few = {**names(state), "nodes": many["node"][:12], "node": many["node"][:12]}
    texts = Grammar(registry, few, book()).texts
    assert len(texts) <= MOST
    assert {"reboot machine eleven", "set power mode to auto", "what is battery level", "is the vpn up"} <= set(texts)


async def test_the_appliance_answers_by_its_own_state(bench: Bench) -> None:
    from appliance.core.voice.intents.dialogue import Dialogue
    from appliance.core.voice.intents.model import Ground
    from appliance.core.voice.model import Outcome
    from appliance.settingvoice import VoiceSettings
    from tests.voice.intents.rig import VOICE

    spine, begun = bench.appliance, list[str]()
    assert spine.domains is not None
    llm = spine.domains.llm
    dialogue = Dialogue(Ground(
        spine.dispatcher, spine.state, spine.clock, VoiceSettings(), lambda: llm.gateway, lambda: "edge-only",
    ))  # fmt: skip
    await dialogue.prepare()

    async def told(_: str) -> None:
        raise AssertionError("no language model is there")

    async def say(words: str) -> tuple[Outcome, str]:
        reply = await dialogue.hear(Transcript(words, "test"), VOICE, begun.append, told)
        return reply.outcome, reply.text

    for words, text in (
        ("what is the battery level", "The battery's charge is not known"), ("is the vpn up", "No VPN is configured."),
        ("how is the fleet", "No machine is in the fleet yet."), ("what did you see last", "Nothing was looked at yet."),
        ("restart the telemetry service", "Telemetry was restarted"), ("how is kafka", "The link to Kafka is absent"),
        ("are there any alerts", "No alert is active."), ("when does the certificate expire", "The certificate ends on"),
    ):  # fmt: skip
        outcome, answer = await say(words)
        assert outcome is Outcome.done
        assert answer.startswith(text)
    outcome, answer = await say("why is the sky blue")
    assert (outcome, "no language model is configured" in answer) == (Outcome.unknown, True)
    rows = [each for each in await spine.audit.entries(50) if each.via == "voice"]
    assert {(each.action, each.outcome) for each in rows} == {("service.restart", "started"), ("service.restart", "ok")}


async def test_numbers_in_examples_fit_the_words_beside_them(registry: ActionRegistry, known: Understanding) -> None:
    texts = [text for each in examples(registry, known.grammar) for text in each.says]
    assert any(text.endswith("for ten minutes") for text in texts)
    assert not [text for text in texts if " one minutes" in text]
