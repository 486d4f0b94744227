"""Which device, and why: the policy alone."""

from __future__ import annotations

import pytest

from appliance.core.inference.engine.counts import Counts
from appliance.core.inference.engine.scheduler import Candidate, choose
from appliance.core.inference.status import Fallback

HAILO, CPU = Candidate("Hailo", expected=0.02), Candidate("CPU", expected=0.2)


def busy(wait: float, **more: object) -> Candidate:
    return Candidate("Hailo", free=False, wait=wait, expected=0.02, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("candidates", "power", "name", "reason", "wanted"),
    [
        ([HAILO, CPU], None, "Hailo", "Hailo is first", ""),
        ([CPU], None, "CPU", "it is the only device", ""),
        ([Candidate("Hailo", lacks="no HEF of this model"), CPU], None, "CPU", "Hailo: no HEF of this model", ""),
        ([Candidate("Hailo", down="it stalled"), CPU], None, "CPU", "Hailo: it stalled", "Hailo"),
        ([Candidate("Hailo", down="no card", missing=True), CPU], None, "CPU", "Hailo: no card", ""),
        (
            [Candidate("Hailo", lacks="no HEF of this model", down="no card", missing=True), CPU],
            None, "CPU", "Hailo: no card", "",
        ),
        ([Candidate("Hailo", hot="it is hot (91 °C)"), CPU], None, "CPU", "Hailo: it is hot (91 °C)", "Hailo"),
        (
            [Candidate("Hailo", hot="it is hot (91 °C)"), Candidate("CPU", lacks="no ONNX file of this model")],
            None, "Hailo", "Hailo is first, though it is hot (91 °C)", "",
        ),
        ([busy(0.5), CPU], "performance", "CPU", "Hailo is busy: 520 ms, here 200 ms, power mode performance", ""),
        ([busy(0.5), CPU], "balanced", "CPU", "Hailo is busy: 520 ms, here 200 ms, power mode balanced", ""),
        ([busy(0.5), CPU], None, "CPU", "Hailo is busy: 520 ms, here 200 ms", ""),
        ([busy(0.3), CPU], "performance", "CPU", "Hailo is busy: 320 ms, here 200 ms, power mode performance", ""),
        ([busy(0.3), CPU], "balanced", "Hailo", "Hailo is first", ""),
        ([busy(9.0), CPU], "power-saving", "Hailo", "Hailo is first", ""),
        ([busy(0.375, throttled=True), CPU], None, "CPU", "Hailo is busy: 405 ms, here 200 ms", ""),
        ([busy(0.375), CPU], None, "Hailo", "Hailo is first", ""),
        ([busy(9.0), Candidate("CPU", expected=0.2, free=False)], None, "Hailo", "Hailo is first", ""),
        ([busy(9.0), Candidate("CPU")], None, "Hailo", "Hailo is first", ""),
    ],
)  # fmt: skip
def test_the_choice(candidates: list[Candidate], power: str | None, name: str, reason: str, wanted: str) -> None:
    choice = choose(candidates, power)
    assert (choice.name, choice.reason, choice.wanted) == (name, reason, wanted)


def test_no_choice_says_why_and_whether_there_could_be_one() -> None:
    never = choose([Candidate("Hailo", lacks="no HEF"), Candidate("CPU", lacks="no ONNX file")], None)
    assert (never.name, never.possible, never.reason) == ("", False, "Hailo: no HEF; CPU: no ONNX file")
    now = choose([Candidate("Hailo", down="it stalled"), Candidate("CPU", lacks="no ONNX file")], None)
    assert (now.name, now.possible, now.reason) == ("", True, "Hailo: it stalled")


def test_fallbacks_in_a_row_are_one_line_and_the_lines_are_bounded() -> None:
    counts = Counts()
    first = Fallback(time=1.0, model="m@1", wanted="Hailo", used="CPU", reason="stalled", count=2)
    assert counts.fell_back(first)
    assert not counts.fell_back(Fallback(time=2.0, model="m@1", wanted="Hailo", used="CPU", reason="stalled"))
    assert [(each.count, each.time) for each in counts.last] == [(3, 2.0)]
    for number in range(100):
        counts.fell_back(Fallback(time=3.0, model=f"n{number}@1", wanted="Hailo", used="CPU", reason="stalled"))
    assert (len(counts.last), counts.fallbacks) == (20, 103)
    assert counts.last[0].model == "n99@1"


def test_times_fall_into_their_bars() -> None:
    counts = Counts()
    assert (counts.times(), counts.per_second(0.0)) == ((None, None), None)
    for milliseconds in (0.5, 1.0, 1.5, 99.0, 10_000.0):
        counts.served(milliseconds, 100.0)
    bars = dict(counts.histogram())
    assert (bars[1.0], bars[2.0], bars[100.0], bars[None]) == (2, 1, 1, 1)
    assert counts.times() == (1.5, 10_000.0)
    assert counts.per_second(100.5) == 5.0
    assert counts.per_second(105.0) == 1.0
    assert counts.per_second(200.0) == 0.0
