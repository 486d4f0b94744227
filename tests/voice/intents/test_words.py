"""Names as people say them, near sentences, and answers that say what is not known."""

from __future__ import annotations

import pytest

from appliance.core.model import HostSample
from appliance.core.power.model import Phase, PowerStatus, Setting, Supply
from appliance.core.state import LiveState, Section
from appliance.core.voice.intents.answers import answer
from appliance.core.voice.intents.model import Command
from appliance.core.voice.intents.near import corrected, may_be
from appliance.core.voice.intents.spoken import aloud, forms, series, span
from tests.support import ManualClock
from tests.voice.intents.rig import fill


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("primecore3", {"prime core three", "primecore three"}), ("control-pc", {"control pc", "control computer"}),
        ("redis", {"redis"}), ("alert-channels", {"alert channels"}), ("cpu_usage", {"cpu usage"}), ("node10", {"node ten"}),
        ("front_door", {"front door"}), ("KitchenCam", {"kitchen cam"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_names_are_said_as_people_say_them(name: str, said: set[str]) -> None:
    assert set(forms(name)) == said


@pytest.mark.parametrize(
    ("heard", "meant", "may"),
    [
        ("restart the memry service", "restart the memory service", True),
        ("restart memory service", "restart the memory service", True),
        ("stop the source door", "start the source door", False),
        ("silence the disk alert", "unsilence the disk alert", False),
        ("mute", "unmute", False),
        ("do not restart redis", "restart redis", False),
        ("how is prime core two", "how is prime core three", False),
        ("switch on the camera", "switch off the camera", False),
        ("restart redis", "restart all redis", False),
        ("enable the schedule", "disable the schedule", False),
        ("restart kafka", "restart redis", False),
    ],
)
def test_what_differs_must_be_of_no_weight(heard: str, meant: str, may: bool) -> None:
    assert may_be(heard, meant) is may


def test_strange_words_are_put_right_or_left() -> None:
    words = {"restart", "the", "memory", "service", "silence", "two", "three", "inference", "disk", "stop"}
    assert corrected("restart the memry service", words) == "restart the memory service"
    assert corrected("silence the disc", words) == "silence the disk"
    assert corrected("restart the kitchen service", words) == ""
    assert corrected("unsilence the disk", words) == ""
    assert corrected("restart the tree", words) == ""
    assert corrected("banana", words) == ""


def test_texts_are_made_fit_to_be_read_aloud() -> None:
    text = aloud("**Task** `01a2021d-ae1a-74ed-a281-5806d0ab6a98` failed.")
    assert text == "Task failed."
    assert len(aloud("One two three. " * 100)) <= 400
    assert series(["a1", "b", "c"]) == "a one, b and c"
    assert [span(each) for each in (1, 12, 300, 7200, 400_000)] == ["1 second", "12 seconds", "5 minutes", "2 hours", "5 days"]


def _power(**given: object) -> PowerStatus:
    return PowerStatus(Setting.auto, Phase.battery, 0.0, "no UPS answers", **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("intent", "power", "text"),
    [
        ("battery", _power(), "The battery's charge is not known: no UPS answers."),
        ("battery", _power(percent=81.6, charging=True), "The battery is at 82 percent, charging."),
        ("battery", _power(percent=50.0, percent_age=120.0), "The battery is at 50 percent, as of 2 minutes ago."),
        ("runtime", _power(), "How long the battery lasts is not known: no UPS answers."),
        ("runtime", _power(percent=50.0, runtime=1800.0), "30 minutes left on battery."),
        ("supply", _power(supply=Supply.mains), "On mains."),
        ("supply", _power(), "Mains or battery is not known: no UPS answers."),
    ],
)
def test_power_is_told_as_it_is_known(intent: str, power: PowerStatus, text: str) -> None:
    state = LiveState(ManualClock())
    state.put(Section.power, power)
    assert answer(state, Command(f"power.status/{intent}"), 0.0) == text


def test_what_nothing_has_told_is_not_known_and_what_is_old_says_so() -> None:
    clock = ManualClock()
    state = LiveState(clock)
    question = Command("host.show/temperature")
    assert answer(state, question, 0.0) == "That is not known: nothing has told of the host yet."
    state.put(Section.host, HostSample(
        time=0.0, hostname="vm", cpu_usage=None, cpu_per_core=(), memory_usage=10.0, memory_total=2**30, memory_used=2**29,
        swap_usage=None, disk_usage=50.0, disk_total=2**31, disk_free=2**30, temperature_c=48.2, throttled=None, load_1m=0.0,
        load_5m=0.0, load_15m=0.0, uptime_s=7200.0, network=(), process_cpu=None, process_rss=0,
    ))  # fmt: skip
    assert answer(state, question, 0.0) == "48 degrees Celsius."
    assert answer(state, Command("host.show/cpu"), 0.0) == "The processor's load is not known yet."
    clock.move(60)
    assert answer(state, question, 0.0) == "48 degrees Celsius. That was 60 seconds ago."


def test_a_machine_is_told_with_what_is_not_known_of_it() -> None:
    state = LiveState(ManualClock())
    fill(state)
    one = {"nodes": ["primecore3"]}
    told = answer(state, Command("fleet.status/one", one), 0.0)
    assert told == "Prime core three is healthy: it answers; processor 12 percent, memory not known."
    assert answer(state, Command("fleet.status/temperature", one), 0.0) == (
        "Temperature of prime core three: not known, because it answers."
    )
    assert answer(state, Command("fleet.status"), 0.0) == "3 of 3 machines healthy."
    assert answer(state, Command("service.list/down"), 0.0) == "Redis: it is slow."


def test_the_last_job_is_the_one_that_is_the_last_when_it_is_said() -> None:
    from appliance.core.actions import ActionRegistry
    from appliance.core.model import JobState, JobStatus
    from appliance.core.voice.intents.understanding import Understanding
    from appliance.core.voice.model import Transcript
    from tests.voice.intents.rig import cancel_job

    state, registry = LiveState(ManualClock()), ActionRegistry()
    registry.add(cancel_job())
    known = Understanding(registry, state)
    said = Transcript("cancel the last job", "test")
    assert known.read(said) is None
    for name in ("a", "b"):
        state.put(Section.jobs, (JobStatus(name, "bench", "ann", JobState.running, 0.0),))
        before = known.grammar
        command = known.read(said)
        assert command is not None
        assert command.args == {"job_id": name}
    assert known.grammar is before
