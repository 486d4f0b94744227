"""Updates on the Lifecycle page: slots, the gate of a trial, what is newer; nothing made up off our image."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from appliance.core.actions import Action, Invocation, NoParams, Params
from appliance.core.catalog.update import Installing
from appliance.core.lifecycle.update.model import Checked, UpdateStatus
from appliance.core.model import Role
from appliance.core.state import Section
from appliance.screens.glyphs import Caps, Colours, unsafe
from tests.screens.conftest import Bench, Seen, running
from tests.support import wait_for
from tests.update import statuses

CONSOLE = Caps(Colours.console, full_glyphs=False, mouse=False)
SIZES = [(80, 24), (160, 48)]


@pytest.fixture
async def bench(home: Path) -> AsyncIterator[Bench]:
    async with running(home) as found:
        yield found


def put(bench: Bench, status: UpdateStatus) -> None:
    """Show a status; the one thing here that no machine of ours can be brought into."""
    bench.appliance.state.put(Section.update, status)


async def system(seen: Seen, then: str) -> None:
    """Go to the page's panel about the system; where all are seen, it is there already."""
    await seen.press("gz", "System")
    await seen.press("\t", then)


async def test_off_our_image_it_says_so_and_shows_no_slots(bench: Bench) -> None:
    seen = bench.open(CONSOLE)
    await seen.press("gz", "not started from our image")
    await seen.shows("apt install")
    await seen.press("\t", "c Check")
    assert "Slot" not in seen.display
    await seen.press("c", "not started from our image")
    await seen.end()


@pytest.mark.parametrize("key", ["c", "i", "b", "s", "p"])
async def test_off_our_image_its_keys_say_so_and_ask_nothing(bench: Bench, key: str) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []
    make = stand_in(bench, asked)
    for name in ("update.check", "update.install", "update.rollback", "update.reboot", "update.verify"):
        make(name)
    seen = bench.open(CONSOLE)
    await system(seen, "c Check")
    await seen.press(key, "This machine was not started from our image. Next: flash our image")
    assert "Really" not in seen.display
    assert asked == []
    await seen.end()


async def test_the_help_has_each_key_once(bench: Bench) -> None:
    seen = bench.open(CONSOLE, (100, 60))
    await seen.press("gz", "Backups")
    await seen.press("?", "This page")
    lines = seen.display.splitlines()
    assert len([line for line in lines if "Enter " in line and ("All" in line or "cursor is on" in line)]) == 1
    await seen.end()


async def test_a_panel_says_how_many_lines_it_has_no_room_for(bench: Bench) -> None:
    seen = bench.open(CONSOLE, (80, 36))
    await seen.press("gz", "In no backup")
    await seen.shows("more lines ─┘")
    wide = bench.open(CONSOLE, (160, 48))
    await wide.press("gz", "agents' packages, caches: they are made again")
    assert "more line" not in wide.display
    await seen.end()
    await wide.end()


@pytest.mark.parametrize("size", SIZES, ids=["console", "wide"])
async def test_slots_the_gate_and_what_is_newer_are_seen(bench: Bench, size: tuple[int, int]) -> None:
    put(bench, statuses.RUNS)
    seen = bench.open(CONSOLE, size)
    await system(seen, "from slot B, which is claimed")
    for told in ("Slot A", "Slot B, runs", "1.1.0", "former: b goes back to it", "claimed: every start boots it",
                 "1.3.0 is there", "i installs it", "1.2.0 was found healthy and kept"):  # fmt: skip
        await seen.shows(told)
    put(bench, replace(statuses.RUNS, doing="writing slot A", progress=0.5))
    await seen.shows("writing slot A 50%")
    put(bench, statuses.FELL)
    await seen.shows("1.3.0 was left again for 1.2.0")
    await seen.shows("not to be booted")
    put(bench, statuses.TRIAL)
    await seen.shows("trial of 1.3.0: 41 s steady of 60, 0 services hold it")
    await seen.shows("8 min 20 s left, then slot B is started again")
    await seen.shows("on trial: slot B is claimed")
    put(bench, statuses.HELD)
    await seen.shows("0 s steady of 60, 6 services hold it")
    await seen.shows("kafka: no broker answers")
    await seen.shows("and 2 services more")
    put(bench, statuses.WAITS)
    await seen.shows("1.3.0 in slot A: the next start tries it; s restarts, b takes it back")
    put(bench, replace(statuses.WAITS, newest=statuses.NEWER, check_problem="the disk is away"))
    await seen.shows("the last look failed: the disk is away")
    assert "i installs it" not in seen.display  # it is
    assert unsafe(seen.display.replace("\n", "")) == set()
    await seen.end()


async def test_a_small_screen_has_panels_and_a_viewer_is_offered_no_change(bench: Bench) -> None:
    put(bench, statuses.TRIAL)
    seen = bench.open(CONSOLE, role=Role.viewer)
    await seen.press("gz", "trial of 1.3.0: 41 s steady of 60, 0 services hold it")  # whatever panel is open
    await seen.shows("nothing is backed up")
    assert "logs: they are of this machine" not in seen.prose
    await seen.press("\t", "Slot A")
    assert "Install" not in seen.display
    await seen.press("\t", "logs: they are of this machine")
    await seen.press("\t", "nothing is backed up")
    assert "Slot A" not in seen.display
    await seen.end()


def stand_in(bench: Bench, asked: list[tuple[str, dict[str, Any]]], *, answer: Any = None) -> Callable[..., Action]:
    """Makes actions of the same form that only note what they were asked: no machine of a test is ever restarted."""

    def make(name: str, params: type[Params] = NoParams, *, dangerous: bool = True) -> Action:
        async def work(_: Invocation, given: Any) -> Any:
            asked.append((name, given.model_dump(exclude_defaults=True)))
            return answer

        found = Action(name, "Stand in", work, params, Role.admin, dangerous=dangerous, confirm_text=f"Really {name}?")
        bench.appliance.registry._actions[name] = found
        return found

    return make


async def test_keys_ask_and_then_do(bench: Bench) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []
    make = stand_in(bench, asked, answer=Checked("1.3.0 is newer than 1.2.0, which runs here.", statuses.NEWER))
    for name, params in (("update.install", Installing), ("update.reboot", NoParams)):
        make(name, params)
    stand_in(bench, asked, answer={"done": "slot A (1.1.0) is tried at the next start", "restart": ""})("update.rollback")
    make("update.check", dangerous=False)
    make("update.verify", dangerous=False)
    put(bench, statuses.RUNS)
    seen = bench.open(CONSOLE)
    await system(seen, "Slot A")
    await seen.press("c", "1.3.0 is newer than 1.2.0")
    await seen.press("i", "Really update.install?")
    await seen.press("\x1b", "not confirmed, not done")
    await seen.press("i", "Really update.install?")
    await seen.press("y", "the next start tries it")
    await seen.press("b", "Really update.rollback?")
    await seen.press("y", "slot A (1.1.0) is tried at the next start")
    await seen.press("s", "Really update.reboot?")
    await seen.press("y", "this machine starts again")
    await seen.press("p", "both slots are read again")
    assert [name.partition(".")[2] for name, _ in asked] == ["check", "install", "rollback", "reboot", "verify"]
    assert asked[1][1] == {"what": "1.3.0"}
    asked.clear()
    make("update.install", Installing, dangerous=False)
    put(bench, replace(statuses.RUNS, newest=None))
    await seen.shows("nothing is newer")
    await seen.press("i", "A release, or a bundle on this machine")
    await seen.fill("what", "/media/usb/prime-spark-1.3.0-arm64.raucb")
    await seen.fill("allow_older", "")
    await wait_for(lambda: asked, 20)
    assert asked == [("update.install", {"what": "/media/usb/prime-spark-1.3.0-arm64.raucb"})]
    await seen.end()
