"""Every page on a real appliance: what it shows, and that a Linux console can show it."""

from __future__ import annotations

import asyncio
import gc
import re
import weakref

import pytest

from appliance.core.model import Health, Role
from appliance.core.state import Section
from appliance.screens.glyphs import Caps, Colours, unsafe
from appliance.screens.page import Page
from appliance.screens.tabs import LETTERS, TABS
from tests.screens.conftest import Bench
from tests.support import wait_for

CONSOLE = Caps(Colours.console, full_glyphs=False, mouse=False)
EXPECTED = {
    "1": "Host", "2": "Detail", "3": "Results", "4": "Jobs", "5": "following", "6": "Rules", "7": "Audit", "9": "not there",
    "0": "Synchronisation", "8": "Meaning",
}  # fmt: skip
COLOURS = re.compile(r"\x1b\[[0-9;]*?(?:38|48);[25];")


def printed(data: bytes) -> str:
    """The bytes without escape sequences."""
    return re.sub(r"\x1b(\[[0-9;?<>$]*[A-Za-z]|[^\[])", "", data.decode())


@pytest.mark.parametrize("size", [(80, 24), (160, 48)])
async def test_every_page_keeps_to_the_console(bench: Bench, size: tuple[int, int]) -> None:
    """No glyph outside the console's fonts and no colour beyond 16 leaves the driver, dialogs included."""
    seen = bench.open(CONSOLE, size)
    for key, text in EXPECTED.items():
        await seen.press(key, text)
    await seen.press("gt", "Outbox")
    await seen.press("gn", "range ends now")
    await seen.press("8", "Meaning")
    await seen.press("?", "Everywhere")
    await seen.press("\x1b", "Meaning")
    await seen.press(":", "narrow down")
    await seen.press("restart", "service: restart")
    await seen.press("\x1b", "Meaning")
    data = bytes(seen.channel.written)
    assert unsafe(printed(data)) == set()
    assert not COLOURS.search(data.decode())
    await seen.end()


async def test_truecolor_terminals_get_truecolor(bench: Bench) -> None:
    """The same pages in 24-bit colour: the check above can fail."""
    seen = bench.open()
    await seen.shows("Host")
    assert b"38;2;" in bytes(seen.channel.written)
    await seen.end()


async def test_overview_shows_the_numbers_of_the_state(bench: Bench) -> None:
    """What stands on the screen is what the host said."""
    seen = bench.open()
    sample = bench.appliance.state.get("host").value  # type: ignore[arg-type]
    await seen.shows(f"{sample.disk_usage:.0f} %")
    there = [each for each in bench.appliance.supervisor.statuses() if each.health is not Health.absent]  # type: ignore[union-attr]
    for status in there[:4]:
        await seen.shows(status.name)
    await seen.end()


async def test_a_bad_service_turns_the_screen_bad(bench: Bench) -> None:
    """Health that turns bad is seen without a key pressed."""
    seen = bench.open()
    await seen.press("2", "Detail")
    await seen.press("G", "telemetry")

    def broken() -> None:
        raise OSError(5, "no such reading")

    bench.appliance.domains.telemetry._probe.read = broken  # type: ignore[attr-defined,method-assign]
    await seen.shows("unhealthy")
    await seen.end()


async def test_palette_asks_before_danger_and_says_no(bench: Bench) -> None:
    """A dangerous action from the palette is confirmed, and Esc means no."""
    seen = bench.open()
    await seen.shows("Host")
    await seen.press(":", "narrow down")
    await seen.press("appliance stop", "appliance: stop")
    await seen.press("\r", "All services and all consoles end")
    await seen.press("\x1b", "not confirmed")
    assert not bench.appliance.stopping.is_set()
    await seen.press(":", "narrow down")
    await seen.press("appliance stop", "appliance: stop")
    await seen.press("\r", "All services and all consoles end")
    seen.session.feed(b"y")
    await wait_for(bench.appliance.stopping.is_set)
    await seen.end()


async def test_a_viewer_is_refused_and_told_why(bench: Bench) -> None:
    """The dispatcher's answer stands on the screen."""
    seen = bench.open(role=Role.viewer)
    await seen.press("2", "Detail")
    await seen.press("r", "needs the role operator")
    await seen.end()


async def test_alert_is_acknowledged_with_a_key(bench: Bench) -> None:
    """Firing, a key, acknowledged by name, in the audit."""
    from dataclasses import replace

    engine = bench.appliance.domains.alerts._engine
    engine.rules = tuple(replace(rule, threshold=-1.0) for rule in engine.rules if rule.name == "memory")  # no other one fires
    seen = bench.open()
    await seen.press("6", "firing")
    await seen.press("a", "seen by ada")
    await seen.press("7", "alert.acknowledge")
    await seen.end()


@pytest.mark.parametrize("size", [(20, 5), (1, 1), (0, 0), (500, 3)])
async def test_odd_sizes_harm_nothing(bench: Bench, size: tuple[int, int]) -> None:
    """Every page survives terminals of any size, and is whole again afterwards."""
    seen = bench.open()
    await seen.shows("Host")
    for _, page, _ in TABS[1:]:
        seen.session.resize(*size)
        seen.session.feed(f"g{LETTERS[page]}".encode())
        await wait_for(lambda page=page: isinstance(seen.app.screen, Page) and seen.app.screen.page == page)  # type: ignore[misc]
        seen.session.resize(80, 24)
    await seen.press("1", "Host")
    assert not seen.run.done()
    await seen.end()


async def test_wizard_opens_only_before_there_is_an_admin(bench: Bench) -> None:
    """Set up: no wizard. Not set up: the wizard makes the admin."""
    seen = bench.open()
    await seen.shows("Host")
    assert "First run" not in seen.display
    await seen.end()
    await bench.appliance.store.write(lambda connection: connection.execute("DELETE FROM users"))
    await bench.appliance.domains.setup.refresh()
    seen = bench.open()
    await seen.shows("again")
    seen.session.feed(b"\r")
    await wait_for(lambda: seen.app.focused is not None and seen.app.focused.id == "field-admin")
    seen.session.feed(b"\r")
    await wait_for(lambda: seen.app.focused is not None and seen.app.focused.id == "field-password")
    seen.session.feed(b"battery staple\r")
    await wait_for(lambda: seen.app.focused is not None and seen.app.focused.id == "field-again")
    await seen.press("battery staple\r", "may log in over SSH")
    assert await bench.appliance.accounts.check_password("admin", "battery staple") is not None
    assert "battery staple" not in seen.channel.text
    await seen.end()


async def test_nothing_of_a_closed_console_stays(bench: Bench) -> None:
    """Four real consoles, closed in another order than opened: no App, no watch and no presence is left."""
    gc.collect()
    watches = len(bench.appliance.state._watches)
    seen = [bench.open() for _ in range(4)]
    for index, each in enumerate(seen):
        await each.press(str(index + 3), EXPECTED[str(index + 3)])
    left = [weakref.ref(each.app) for each in seen]
    for index in (2, 0, 3, 1):
        await seen[index].end()
    await wait_for(lambda: not bench.appliance.state.get(Section.sessions).value)
    assert len(bench.appliance.state._watches) == watches
    await wait_for(lambda: gc.collect() >= 0 and not any(ref() is not None for ref in left))


async def test_overview_hides_no_device_on_a_small_terminal(bench: Bench) -> None:
    """All kinds of hardware are named at 80 x 24."""
    seen = bench.open(CONSOLE)
    for device in bench.appliance.state.get(Section.devices).value:
        await seen.shows(device.kind)
    await seen.end()


async def test_a_filter_is_seen_while_it_is_typed(bench: Bench) -> None:
    """The line to type into is not behind the footer."""
    seen = bench.open()
    await seen.press("5", "following")
    await seen.press("/", "text that lines must contain")
    await seen.press("nothing-has-this", "/nothing-has-this")
    await seen.shows(" f Follow")
    await seen.end()


async def test_a_key_whose_work_breaks_off_says_so(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """A fault of ours is no dead key."""
    seen = bench.open()
    await seen.press("5", "following")

    async def breaks() -> None:
        raise RuntimeError("the ground is gone")

    seen.app.flows.start(breaks(), "probe")
    await seen.shows("RuntimeError: the ground is gone")
    assert "a key's work broke off" in caplog.text
    await seen.press("?", "This page")


async def test_a_console_that_is_closed_while_it_opens_does_not_fail(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """At any moment of its opening: after so many turns of the loop."""
    for turns in range(0, 60, 3):
        seen = bench.open()
        for _ in range(turns):
            await asyncio.sleep(0)
        await seen.end()
        assert "failed" not in seen.channel.text, (turns, seen.channel.text[-400:])
    assert not [each for each in caplog.messages if "console failed" in each]
