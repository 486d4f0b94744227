"""The Power page: what is known and what is not, the keys, the plan, a simulated outage, narrow and wide."""

from __future__ import annotations

from typing import Any

import pytest
from textual.widgets import TextArea

from appliance.core.model import Health, Role
from appliance.core.power.model import (
    Coming,
    Level,
    Phase,
    PiPower,
    PlanStatus,
    PowerStatus,
    RunState,
    Setting,
    StageState,
    StageStatus,
    StepStatus,
    Supply,
    UpsReading,
    UpsStatus,
)
from appliance.errors import DeviceError
from appliance.screens import power_view as view
from appliance.screens.glyphs import CONSOLE, Caps, Colours, unsafe
from appliance.screens.widgets.lines import Line
from tests.power.rig import FakeDriver, FakeUps, Log, StandInHost
from tests.screens.conftest import Bench, Seen
from tests.support import wait_for

PLAIN = Caps(Colours.console, full_glyphs=False, mouse=False)
NOW = 1_800_000_000.0


def text_of(lines: list[Line]) -> str:
    return "\n".join("".join(piece for piece, _ in line) for line in lines)


def status(**more: Any) -> PowerStatus:
    values: dict[str, Any] = {"setting": Setting.auto, "phase": Phase.unknown, "since": 0.0, "reason": "no UPS answers"}
    return PowerStatus(**{**values, **more})


def ups(**more: Any) -> UpsStatus:
    reading = UpsReading(time=NOW, monotonic=1.0, supply=Supply.battery, percent=54.0, voltage=12.5, power=21.0)
    values: dict[str, Any] = {"name": "nut:rack", "kind": "nut", "health": Health.healthy, "reason": "OB", "reading": reading}
    return UpsStatus(**{**values, **more})


def test_what_is_not_known_is_a_dash_and_never_mains() -> None:
    told = text_of([view.flow_line(status(), CONSOLE), *view.fact_lines(status(), CONSOLE)])
    assert "mains ─?─▶ [no UPS]" in told
    assert "battery –" in told
    assert "– unknown" in told
    for name in ("left", "voltage", "on it"):
        assert f" {name:<9}–" in told
    assert unsafe(told.replace("\n", "")) == set()
    assert "on mains or not is unknown" in text_of([tuple(view.trouble(status()))])


@pytest.mark.parametrize(
    ("supply", "text"), [(Supply.mains, "mains ──▶"), (Supply.battery, "mains ─✗─▶"), (Supply.unknown, "mains ─?─▶")]
)
def test_the_flow_says_where_the_power_comes_from(supply: Supply, text: str) -> None:
    assert text in text_of([view.flow_line(status(supply=supply, upses=(ups(feeds_us=True),)), CONSOLE)])


@pytest.mark.parametrize("phase", Phase)
def test_every_phase_has_a_sign_of_the_console(phase: Phase) -> None:
    sign, _ = view.badge(phase, CONSOLE)
    assert phase.value in sign
    assert unsafe(sign) == set()


def test_facts_say_who_reckons_how_old_and_what_comes() -> None:
    told = text_of(view.fact_lines(status(
        phase=Phase.critical, percent=8.0, percent_age=12.0, level=Level.critical, runtime=300.0, runtime_by="trend",
        grace_s=42.0, setting=Setting.off_grid, setting_by="ada", shed=True, routing="edge-only",
        pi=PiPower(flags=("under-voltage",), input_volts=4.7, halt_wakes=True),
    ), CONSOLE))  # fmt: skip
    for text in (
        "8 % critical, 12 s old", "5 min by how the charge falls", "in 42 s, unless mains comes back", "off-grid, set by ada",
        "edge-only, load is shed", "under-voltage, 4.70 V; wakes after a halt",
    ):  # fmt: skip
        assert text in told


def test_a_silent_ups_shows_no_old_figures_as_new() -> None:
    (row,) = view.ups_rows([ups(health=Health.unhealthy, reason="upsd is gone.", failed=3)], CONSOLE)
    cells = [cell if isinstance(cell, str) else cell[0] for cell in row.cells]
    assert cells[1:7] == ["✗ unhealthy", "–", "–", "–", "–", "–"]
    assert cells[-2:] == ["3", "upsd is gone."]


def test_stages_say_when_or_what_failed() -> None:
    step = StepStatus("stop-services", "sources", StageState.failed, "sources did not stop")
    stages = (
        StageStatus("shed", "the phase is low", 20, 3, "measured", (step,), StageState.failed, "the phase is low", NOW, 3.0),
        StageStatus("halt", "the phase is shutdown", 30, 30, "limit"),
    )
    plan = PlanStatus(2, state=RunState.running, stages=stages, needs=30)
    rows = view.stage_rows(plan, [Coming("halt: halt", "the phase is shutdown", 90.0)])
    told = [" | ".join(cell if isinstance(cell, str) else cell[0] for cell in row.cells) for row in rows]
    assert told[0] == "shed | failed | 3 s | 3 s | the phase is low: sources did not stop"
    assert told[1] == "halt | waiting | 30 s ? | – | in 1 min 30 s: the phase is shutdown"
    assert view.plan_note(plan) == "version 2, running, needs 30 s"


def test_the_charge_is_drawn_with_its_gaps_and_with_console_glyphs() -> None:
    history = tuple((NOW - 3600 + 30 * at, None if 40 < at < 60 else 90.0 - at / 2) for at in range(120))
    lines = view.plot_lines(status(history=history), 70, 12, fine=False, now=NOW)
    assert unsafe(text_of(lines).replace("\n", "")) == set()
    assert len(lines) == 12
    assert "%" in text_of(lines)
    assert "no charge was told" in text_of(view.plot_lines(status(), 70, 12, fine=False))


class Powered:
    """A bench whose appliance has a UPS that the test speaks for, and a machine that only records."""

    def __init__(self, bench: Bench) -> None:
        assert bench.appliance.domains is not None
        self.bench, self.log = bench, Log()
        self.power = bench.appliance.domains.power
        self.ups = FakeUps("nut:rack@127.0.0.1", runtime=1800.0, voltage=13.1)
        self.power.hands.tools.host = StandInHost(self.log)
        self.power.finder._make = lambda: [FakeDriver(self.ups)]
        self.power.finder._drivers = None

    async def phase(self, phase: Phase) -> None:
        await wait_for(lambda: self.power.control.state.phase is phase, 20)


@pytest.fixture
async def powered(bench: Bench) -> Powered:
    made = Powered(bench)
    await made.power.finder.search()
    await made.phase(Phase.grid)
    return made


async def test_without_a_ups_the_page_says_so(bench: Bench) -> None:
    seen = bench.open(PLAIN)
    await seen.press("gp", "on mains or not is unknown")
    assert unsafe(seen.display.replace("\n", "")) == set()
    await seen.press("s", "What an outage would do")
    await seen.fill("percent", "80")
    await seen.fill("minutes", "30")
    await seen.shows("nothing is done")
    await seen.press("\x1b", "Plan")
    await seen.end()


async def test_an_outage_is_seen_as_it_happens(powered: Powered) -> None:
    seen = powered.bench.open(PLAIN)
    await seen.press("gp", "● grid")
    powered.ups.values.update(supply=Supply.battery, percent=80.0)
    await seen.shows("▲ battery")
    await seen.shows("the phase is low")
    assert unsafe(seen.display.replace("\n", "")) == set()
    await seen.press("\t", "Charge, %")
    await seen.press("\t", "grid → battery")
    await seen.press("\t", "nut:rack@127.0.0.1")
    await seen.press("\t", "the default plan")
    await seen.press("5", "BATTERY 80 %")
    powered.ups.error = DeviceError("gone.", "look.")
    await seen.shows("BATTERY –")
    powered.ups.error = None
    powered.ups.values.update(supply=Supply.mains)
    await wait_for(lambda: "BATTERY" not in seen.display, 20)
    await seen.end()


async def test_the_mode_by_its_key(powered: Powered) -> None:
    seen = powered.bench.open()
    await seen.press("gp", "● grid")
    await seen.press("m", "as if there were never mains")
    await seen.press("o", "the mode is off-grid")
    await seen.shows("off-grid, set by ada")
    await seen.press("m", "as if there were never mains")
    await seen.press("a", "the mode is auto")
    await seen.end()


async def type_in(seen: Seen, text: str) -> None:
    """Type at the begin of the editor; keys of bindings come sooner than letters."""
    seen.session.feed(text.replace("\n", "\r").encode())
    await wait_for(lambda: seen.app.screen.query_one(TextArea).text.startswith(text), 20)


async def test_the_plan_is_edited_checked_and_kept(powered: Powered) -> None:
    seen = powered.bench.open(size=(160, 48))
    await seen.press("gp", "● grid")
    await seen.press("p", "stop-services")
    await seen.press("\x1b", "UPSes")
    await seen.press("e", "margin_seconds = 60")
    await type_in(seen, "# ours\n")
    await seen.press("\x13", "Use this power plan")
    await seen.press("y", "version 1 of the plan")
    assert powered.power.runner.kept.document.startswith("# ours")
    await seen.press("e", "# ours")
    await type_in(seen, "nonsense\n")
    await seen.press("\x13", "not valid TOML")
    await seen.press("\x1b", "nonsense")
    await seen.press("\x1b", "UPSes")
    assert powered.power.runner.kept.version == 1
    await seen.press("x", "No power plan is being carried out")
    await seen.press("d", "Nothing is left over of the last run")
    await seen.end()


async def test_a_wide_terminal_shows_all_panels(powered: Powered) -> None:
    seen = powered.bench.open(size=(160, 48))
    await seen.press("gp", "● grid")
    for text in ("Plan", "Charge, %", "Events", "UPSes", "nut:rack@127.0.0.1", "unknown → grid", "13.10 V"):
        await seen.shows(text)
    await seen.press("v", "battery percent")
    await seen.end()


async def test_a_viewer_looks_and_changes_nothing(powered: Powered) -> None:
    seen = powered.bench.open(role=Role.viewer)
    await seen.press("gp", "● grid")
    assert "m Mode" not in seen.display
    await seen.press("m", "needs the role operator")
    await seen.press("e", "needs the role admin")
    await seen.press("x", "needs the role admin")
    assert powered.power.control.setting is Setting.auto
    await seen.end()
