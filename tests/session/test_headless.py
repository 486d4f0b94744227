"""Keys without a screen: real terminals and pipes, the real dispatcher."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import sys
import termios
import tty
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from appliance import launch
from appliance.core import logs
from appliance.core.actions import Action, ActionRegistry, Invocation, NoParams
from appliance.core.clock import SystemClock
from appliance.core.dispatch import Dispatcher
from appliance.core.model import Actor, Health, Phase, Role, ServiceStatus
from appliance.core.state import LiveState, Section
from appliance.errors import ConflictError
from appliance.session import headless
from appliance.session.headless import HeadlessService, Line, Shortcuts, TerminalKeys, worst
from appliance.session.keyreader import KeyReader
from appliance.settings import Settings
from tests.session.rig import NoAudit
from tests.support import wait_for


class Desk:
    """Actions behind keys, and what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.done: list[str] = []
        registry = ActionRegistry()
        registry.add(
            self.action("services.status", "s", query=True, brief=lambda _: "9 healthy, 1 absent"),
            self.action("appliance.stop", "x", dangerous=True),
            self.action("thing.break", "b", error=ConflictError("It is broken.", "mend it.")),
            self.action("thing.crash", "c", error=RuntimeError("oh")),
            self.action("thing.function", "F5"),
        )
        self.shortcuts = Shortcuts(Dispatcher(registry, NoAudit()), Actor("pi", Role.admin, "headless"), self.said.append)

    def action(self, name: str, key: str, *, error: Exception | None = None, **more: Any) -> Action:
        async def handler(_: Invocation, __: Any) -> None:
            if error is not None:
                raise error
            self.done.append(name)

        return Action(
            name=name, summary=f"Does {name}", params=NoParams, role=Role.viewer, handler=handler, shortcut=key, **more
        )


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_a_key_is_answered_in_one_line(desk: Desk) -> None:
    await desk.shortcuts.press("s")
    assert desk.said == ["services.status: 9 healthy, 1 absent"]
    assert desk.done == ["services.status"]


async def test_the_keys_are_listed(desk: Desk) -> None:
    await desk.shortcuts.press("?")
    assert desk.said[0].startswith("keys: ")
    for part in ("s does services.status", "F5 does thing.function", "? list the keys"):
        assert part in desk.said[0]


async def test_a_dangerous_key_asks(desk: Desk) -> None:
    await desk.shortcuts.press("x")
    assert desk.done == []
    assert "Press y within 5 s" in desk.said[0]
    await desk.shortcuts.press("y")
    assert desk.done == ["appliance.stop"]
    assert desk.said[1] == "appliance.stop: done"


async def test_any_other_key_is_no(desk: Desk) -> None:
    await desk.shortcuts.press("x")
    await desk.shortcuts.press("s")
    await desk.shortcuts.press("y")
    assert desk.done == []
    assert desk.said[1:] == ["appliance.stop: not confirmed, not done", "no shortcut; ? lists them"]


async def test_a_late_yes_is_no(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headless, "CONFIRM_TIME", -1.0)
    await desk.shortcuts.press("x")
    await desk.shortcuts.press("y")
    assert desk.done == []


@pytest.mark.parametrize(
    ("key", "answer"), [("b", "thing.break: It is broken. Next: mend it."), ("c", "thing.crash failed: RuntimeError: oh")]
)
async def test_failures_are_answered_too(desk: Desk, key: str, answer: str) -> None:
    await desk.shortcuts.press(key)
    assert answer in desk.said[0]


@pytest.mark.parametrize(
    ("chunks", "keys"),
    [
        ([b"s?"], ["s", "?"]),
        ([b"\x1b[A\x1b[Bs"], ["s"]),
        ([b"\x1b", b"[", b"A", b"s"], ["s"]),
        ([b"\x1b[15~", b"\x1bOP", b"\x1b[[B"], ["F5", "F1", "F2"]),
        ([b"\x1b[200~xx\x1b[201~"], ["x", "x"]),
        ([b"\x1bx"], []),
        (["é".encode()[:1], "é".encode()[1:]], ["é"]),
        ([b"\xff\x00\x03s"], ["s"]),
        ([b"\x1b]0;title\x07s"], ["s"]),
        ([b"\x1b\x1bs"], ["esc"]),
    ],
)
def test_what_keys_bytes_are(chunks: list[bytes], keys: list[str]) -> None:
    reader = KeyReader()
    found = [key for chunk in chunks for key in reader.feed(chunk)]
    assert found == keys
    assert not reader.waiting


def test_a_lone_escape_is_a_key_and_half_a_sequence_is_none() -> None:
    reader = KeyReader()
    assert reader.feed(b"\x1b") == []
    assert reader.waiting
    assert reader.flush() == ["esc"]
    assert reader.feed(b"\x1b[1") == []
    assert reader.flush() == []
    assert reader.feed(b"s") == ["s"]


async def test_a_serial_line(tmp_path: Path) -> None:
    """A pseudo-terminal stands where the serial line's device would: both are a tty."""
    master, slave = os.openpty()
    before = termios.tcgetattr(slave)
    pressed: list[str] = []

    async def on_key(key: str) -> None:
        pressed.append(key)

    reading = asyncio.create_task(TerminalKeys(Path(os.ttyname(slave))).keys(on_key))
    await wait_for(lambda: not termios.tcgetattr(slave)[3] & termios.ICANON)
    for chunk in (b"s", b"\x1b", b"[", b"A"):
        os.write(master, chunk)
    os.write(master, b"\x1b")
    await wait_for(lambda: pressed == ["s", "esc"])
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    assert termios.tcgetattr(slave) == before
    os.close(master)
    os.close(slave)


async def test_a_line_that_is_hung_up_ends() -> None:
    reading, writing = os.pipe()
    pressed: list[str] = []

    async def on_key(key: str) -> None:
        pressed.append(key)

    os.write(writing, b"ab")
    os.close(writing)
    await asyncio.wait_for(Line(reading).read(on_key), 10)
    assert pressed == ["a", "b"]
    os.close(reading)


async def test_ctrl_c_still_ends_the_process() -> None:
    master, slave = os.openpty()
    raw = headless.RawMode(slave)
    raw.enter_cbreak()
    assert termios.tcgetattr(slave)[tty.LFLAG] & termios.ISIG
    raw.leave()
    os.close(master)
    os.close(slave)


class Flaky:
    """A keyboard that is not there at first (ports.Keyboard)."""

    def __init__(self) -> None:
        self.there = False
        self.pressed: Callable[[str], Awaitable[None]] | None = None

    def sources(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return (("flaky",) if self.pressed is not None else ()), ()

    async def keys(self, on_key: Callable[[str], Awaitable[None]]) -> None:
        if not self.there:
            raise FileNotFoundError(2, "No such file or directory")
        self.pressed = on_key
        await asyncio.Event().wait()


class Light:
    """A LED that remembers (ports.StatusLed)."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def show(self, pattern: str) -> None:
        self.shown.append(pattern)

    def close(self) -> None:
        self.shown.append("closed")


async def test_a_keyboard_that_comes_back(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headless, "LOOK_AGAIN", 0.01)
    monkeypatch.setattr(headless, "ALIVE_AFTER", 0.05)
    flaky, light = Flaky(), Light()
    state = LiveState(SystemClock())
    service = HeadlessService({"keys": flaky}, desk.shortcuts, state, light)
    await service.start()
    running = asyncio.create_task(service.run())

    async def health() -> Health:
        return (await service.health()).health

    async def is_now(wanted: Health) -> bool:
        return await health() is wanted

    await wait_for(lambda: is_now(Health.degraded))
    assert "No such file" in (await service.health()).reason
    flaky.there = True
    await wait_for(lambda: is_now(Health.healthy))
    assert flaky.pressed is not None
    await flaky.pressed("s")
    assert desk.done == ["services.status"]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await service.stop()
    assert light.shown[0] == "healthy"
    assert light.shown[-2:] == ["off", "closed"]


def test_the_led_shows_the_worst() -> None:
    def status(health: Health) -> ServiceStatus:
        return ServiceStatus("a", "", Phase.running, health, "")

    assert worst(()) == "healthy"
    assert worst((status(Health.healthy), status(Health.absent))) == "healthy"
    assert worst((status(Health.degraded), status(Health.healthy))) == "degraded"
    assert worst((status(Health.degraded), status(Health.unhealthy))) == "unhealthy"
    assert LiveState(SystemClock()).get(Section.services).value is None


async def test_keys_that_mean_nothing_are_not_told(desk: Desk) -> None:
    for key in "hunter2":
        await desk.shortcuts.press(key)
    assert set(desk.said) == {"no shortcut; ? lists them"}


class Bench:
    """A service on keyboards of which the test says what they see."""

    def __init__(self, desk: Desk, *sources: tuple[tuple[str, ...], tuple[str, ...]]) -> None:
        boards = {str(number): Told(each) for number, each in enumerate(sources)}
        self.service = HeadlessService(boards, desk.shortcuts, LiveState(SystemClock()), None)


class Told:
    """A keyboard (ports.Keyboard)."""

    def __init__(self, sources: tuple[tuple[str, ...], tuple[str, ...]]) -> None:
        self._sources = sources

    def sources(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return self._sources

    async def keys(self, on_key: Callable[[str], Awaitable[None]]) -> None:
        await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("sources", "health", "told"),
    [
        ([], Health.absent, "no keyboard is there"),
        ([((), ())], Health.absent, "no keyboard is there"),
        ([((), ("event3 (Permission denied)",))], Health.degraded, "event3 (Permission denied)"),
        ([(("this terminal",), ()), ((), ("event3 (in use)",))], Health.healthy, "keys from this terminal"),
    ],
)
async def test_health_says_what_is_read(desk: Desk, sources: list[Any], health: Health, told: str) -> None:
    report = await Bench(desk, *sources).service.health()
    assert (report.health, told in report.reason) == (health, True), report


async def test_terminal_keys_are_a_source_only_while_they_are_read(tmp_path: Path) -> None:
    master, slave = os.openpty()
    keys = TerminalKeys(Path(os.ttyname(slave)))

    async def on_key(key: str) -> None:
        raise AssertionError(key)

    assert keys.sources() == ((), ())
    reading = asyncio.create_task(keys.keys(on_key))
    await wait_for(lambda: keys.sources() == ((os.ttyname(slave),), ()))
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    assert keys.sources() == ((), ())
    os.close(master)
    os.close(slave)


@pytest.mark.parametrize(
    ("name", "own", "boards"),
    [("/dev/tty1", True, {"this terminal"}), ("/dev/console", True, {"this terminal"}),
     ("/dev/pts/3", False, {"this terminal", "USB keyboards"}), ("/dev/ttyS0", False, {"this terminal", "USB keyboards"})],
)  # fmt: skip
def test_a_key_of_the_machines_own_keyboard_comes_once(
    monkeypatch: pytest.MonkeyPatch, name: str, own: bool, boards: set[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.FileIO(os.open(os.devnull, os.O_RDONLY))))
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(os, "ttyname", lambda _: name)
    assert launch.on_own_screen() is own
    assert set(launch._keyboards(Settings())) == boards


def test_the_keyboard_is_left_to_a_console_on_the_machines_own_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.FileIO(os.open(os.devnull, os.O_RDONLY))))
    monkeypatch.delenv(launch.CONSOLE_UNIT, raising=False)
    assert set(launch._keyboards(Settings())) == {"USB keyboards"}
    monkeypatch.setenv(launch.CONSOLE_UNIT, "1")
    assert launch._keyboards(Settings()) == {}


def test_keys_are_answered_at_any_level_of_the_log(tmp_path: Path) -> None:
    root = logging.getLogger()
    before, handlers = root.level, list(root.handlers)
    ring = logs.configure("WARNING", "text", None, stderr=False)
    try:
        logging.getLogger("appliance.anything").info("not kept")
        launch.answer("appliance.stop: stopping")
        assert [line.message for line in ring.lines()] == ["appliance.stop: stopping"]
    finally:
        root.setLevel(before)
        root.handlers[:] = handlers
