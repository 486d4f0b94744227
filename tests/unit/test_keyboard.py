"""Bare keyboards: the kernel's events under umockdev, through the real evdev library."""

from __future__ import annotations

import asyncio
import builtins
import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from evdev import ecodes

from appliance.errors import AbsentError
from appliance.hw import keyboard
from appliance.hw.keyboard import EvdevKeyboard, character, key_name
from tests.support import wait_for

DEVICE = """P: /devices/pci0000:00/usb1/1-1/input/input{number}/event{number}
N: input/event{number}
E: DEVNAME=/dev/input/event{number}
E: SUBSYSTEM=input
A: dev=13:{minor}\\n

"""
CHILD = """
import asyncio, json, os, sys
from pathlib import Path
from appliance.hw import keyboard
keyboard.LOOK_AGAIN = 0.05
pressed = []
plan = json.loads(sys.argv[1])
node = Path(os.environ["UMOCKDEV_DIR"], "dev/input/event5")
aside = node.with_name("unplugged")

async def main():
    done = asyncio.Event()
    async def on_key(key):
        pressed.append(key)
        if len(pressed) == plan["count"]:
            done.set()
    if plan.get("later"):
        node.rename(aside)
    board = keyboard.EvdevKeyboard(Path(plan["path"]) if "path" in plan else None)
    reading = asyncio.create_task(board.keys(on_key))
    if plan.get("later"):
        while not plan.setdefault("looks", board._find() == []):
            await asyncio.sleep(0)
        aside.rename(node)
    async with asyncio.timeout(20):
        await done.wait()
    opened = sorted(board._open)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    print(json.dumps({"pressed": pressed, "opened": opened}))

asyncio.run(main())
"""

needs_umockdev = pytest.mark.skipif(shutil.which("umockdev-run") is None, reason="apt install umockdev: this was NOT tested")


def ioctls(number: int, name: str, codes: list[int]) -> str:
    """What the kernel answers about a device, as umockdev records it."""
    keys = bytearray(96)
    for code in codes:
        keys[code // 8] |= 1 << code % 8
    title = name.encode() + b"\0"
    return "\n".join(
        [
            f"@DEV /dev/input/event{number}", "EVIOCGVERSION 0 01000100", "EVIOCGID 0 0300341256780001",
            "EVIOCGEFFECTS 0 00000000",
            f"EVIOCGNAME {len(title)} {title.ljust(256, bytes(1)).hex().upper()}", "EVIOCGBIT(0,4) 4 03000000",
            f"EVIOCGBIT(1,96) 96 {keys.hex().upper()}", "",
        ]
    )  # fmt: skip


def evemu(*keys: tuple[str, int]) -> str:
    """Events of keys: down 1, up 0, repeated 2."""
    lines = []
    for step, (name, value) in enumerate(keys):
        lines.append(f"E: {step / 100:.6f} {ecodes.EV_KEY:04x} {ecodes.ecodes['KEY_' + name]:04x} {value:04d}")
        lines.append(f"E: {step / 100:.6f} 0000 0000 0000")
    return "\n".join(lines) + "\n"


async def pressed_on(directory: Path, events: str, **plan: Any) -> dict[str, list[str]]:
    """What the driver makes of a keyboard and a power button, in a child process that sees them as real ones."""
    command = ["umockdev-run"]
    letters = [*range(1, 89), 96, 97, 98, 100, 125, 126]
    for number, name, codes in ((5, "Test Keyboard", letters), (6, "Power Button", [ecodes.KEY_POWER])):
        described, answers = directory / f"{number}.umockdev", directory / f"{number}.ioctl"
        described.write_text(DEVICE.format(number=number, minor=64 + number))
        answers.write_text(ioctls(number, name, codes))
        command += ["-d", str(described), "-i", f"/dev/input/event{number}={answers}"]
    (directory / "events").write_text(events)
    command += ["-e", f"/dev/input/event5={directory / 'events'}", "--", sys.executable, "-c", CHILD, json.dumps(plan)]
    root = Path(keyboard.__file__).parents[2]
    done = await asyncio.to_thread(subprocess.run, command, cwd=root, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.umockdev
@needs_umockdev
async def test_keys_of_a_keyboard_and_of_nothing_else(tmp_path: Path) -> None:
    events = evemu(
        ("H", 1), ("H", 2), ("H", 2), ("H", 0), ("LEFTSHIFT", 1), ("SLASH", 1), ("SLASH", 0), ("G", 1), ("G", 0),
        ("LEFTSHIFT", 0), ("SLASH", 1), ("SLASH", 0), ("LEFTCTRL", 1), ("C", 1), ("C", 0), ("LEFTCTRL", 0),
        ("F5", 1), ("F5", 0), ("ESC", 1), ("ESC", 0),
        ("KP7", 1), ("KP7", 0), ("CAPSLOCK", 1), ("CAPSLOCK", 0), ("Y", 1), ("Y", 0),
    )  # fmt: skip
    seen = await pressed_on(tmp_path, events, count=8)
    assert seen["pressed"] == ["h", "?", "G", "/", "F5", "esc", "7", "y"]
    assert seen["opened"] == ["/dev/input/event5"]


@pytest.mark.umockdev
@needs_umockdev
async def test_a_keyboard_that_is_plugged_in_later(tmp_path: Path) -> None:
    seen = await pressed_on(tmp_path, evemu(("A", 1), ("A", 0)), count=1, later=True)
    assert seen == {"pressed": ["a"], "opened": ["/dev/input/event5"]}


@pytest.mark.umockdev
@needs_umockdev
async def test_one_named_device(tmp_path: Path) -> None:
    seen = await pressed_on(tmp_path, evemu(("B", 1), ("B", 0)), count=1, path="/dev/input/event5")
    assert seen["pressed"] == ["b"]


class Pulled:
    """A device that gives its events, then is pulled out."""

    def __init__(self, path: str, *events: SimpleNamespace) -> None:
        self.path, self.name, self.closed = path, "pulled", False
        self._events = events

    async def async_read_loop(self) -> AsyncIterator[SimpleNamespace]:
        for event in self._events:
            yield event
        raise OSError(errno.ENODEV, "No such device")

    def close(self) -> None:
        self.closed = True


async def test_a_keyboard_that_is_pulled_out_is_looked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyboard, "LOOK_AGAIN", 0.01)
    down = SimpleNamespace(type=ecodes.EV_KEY, code=ecodes.KEY_A, value=1)
    board = EvdevKeyboard()
    given: list[Pulled] = []

    def find() -> list[Pulled]:
        if board._open or len(given) == 2:
            return []
        given.append(Pulled("/dev/input/event5", down))
        return given[-1:]

    monkeypatch.setattr(board, "_find", find)
    pressed: list[str] = []

    async def on_key(key: str) -> None:
        pressed.append(key)

    reading = asyncio.create_task(board.keys(on_key))
    await wait_for(lambda: pressed == ["a", "a"])
    await wait_for(lambda: all(device.closed for device in given) and not board._open)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)


async def test_a_key_that_fails_is_logged_and_the_keyboard_stays(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def on_key(key: str) -> None:
        raise RuntimeError(key)

    device = Pulled("/dev/input/event5", SimpleNamespace(type=ecodes.EV_KEY, code=ecodes.KEY_A, value=1))
    await EvdevKeyboard()._read(device, on_key)  # type: ignore[arg-type]
    assert "could not be carried out" in caplog.text
    assert device.closed


async def test_a_named_device_that_is_not_there(tmp_path: Path) -> None:
    async def on_key(key: str) -> None:
        raise AssertionError(key)

    with pytest.raises(FileNotFoundError, match="nothing"):
        await EvdevKeyboard(tmp_path / "nothing").keys(on_key)


async def test_a_file_is_no_keyboard(tmp_path: Path) -> None:
    async def on_key(key: str) -> None:
        raise AssertionError(key)

    plain = tmp_path / "event0"
    plain.write_text("")
    with pytest.raises(OSError, match="Inappropriate ioctl"):
        await EvdevKeyboard(plain).keys(on_key)
    assert EvdevKeyboard(directory=tmp_path)._find() == []


async def test_without_the_library_it_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: Any, **more: Any) -> Any:
        if name == "evdev":
            raise ImportError(name)
        return real(name, *args, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(AbsentError, match="not installed"):
        EvdevKeyboard()._find()


@pytest.mark.parametrize(
    ("name", "shift", "typed"),
    [
        ("A", False, "a"), ("A", True, "A"), ("1", True, "!"), ("2", True, "@"), ("SLASH", True, "?"), ("SEMICOLON", True, ":"),
        ("KP5", True, "5"), ("F10", False, "F10"), ("ESC", True, "esc"), ("ENTER", False, "\r"), ("VOLUMEUP", False, ""),
        ("FN", False, ""), ("BACKSLASH", True, "|"),
    ],
)  # fmt: skip
def test_us_layout(name: str, shift: bool, typed: str) -> None:
    assert character(name, shift=shift) == typed


def test_codes_with_several_names() -> None:
    assert key_name(ecodes.KEY[ecodes.KEY_MUTE]) in {"MIN_INTERESTING", "MUTE"}
    assert key_name("KEY_A") == "A"


class Asked(Pulled):
    """A device that says whether it can be had alone."""

    def __init__(self, path: str, refusal: int = 0) -> None:
        super().__init__(path)
        self._refusal = refusal
        self.grabs = 0

    def grab(self) -> None:
        self.grabs += 1
        if self._refusal:
            raise OSError(self._refusal, os.strerror(self._refusal))


@pytest.fixture
def boards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Asked]:
    """Keyboards by path; the library opens these."""
    found: dict[str, Asked] = {}

    def device(path: str) -> Asked:
        if path not in found:
            raise PermissionError(errno.EACCES, "Permission denied")
        return found[path]

    monkeypatch.setattr("evdev.InputDevice", device)
    monkeypatch.setattr(keyboard, "is_keyboard", lambda _: True)
    return found


def test_what_cannot_be_had_alone_is_not_read(boards: dict[str, Asked], tmp_path: Path) -> None:
    """Else passwords that are typed for somebody else are read here."""
    paths = [tmp_path / f"event{number}" for number in range(3)]
    for path in paths:
        path.write_text("")
    for path, refusal in zip(paths, (0, errno.EBUSY), strict=False):
        boards[str(path)] = Asked(str(path), refusal)
    board = EvdevKeyboard(directory=tmp_path, seat=tmp_path / "seat")
    assert [device.path for device in board._find()] == [str(paths[0])]
    assert [device.grabs for device in boards.values()] == [1, 1]
    assert [device.closed for device in boards.values()] == [False, True]
    assert board.sources() == ((), (f"{paths[1]} (another program holds it)", f"{paths[2]} (Permission denied)"))


async def test_whoever_is_logged_in_keeps_the_keyboards(
    boards: dict[str, Asked], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyboard, "LOOK_AGAIN", 0.01)
    path, seat = tmp_path / "event0", tmp_path / "seat"
    path.write_text("")
    seat.write_text("IS_SEAT0=1\nACTIVE=c1\nACTIVE_UID=1000\n")
    boards[str(path)] = held = Asked(str(path))

    async def quiet() -> AsyncIterator[SimpleNamespace]:
        await asyncio.Event().wait()
        yield SimpleNamespace()

    held.async_read_loop = quiet  # type: ignore[method-assign]

    async def on_key(key: str) -> None:
        raise AssertionError(key)

    board = EvdevKeyboard(directory=tmp_path, seat=seat)
    reading = asyncio.create_task(board.keys(on_key))
    await wait_for(lambda: "somebody is logged in" in str(board.sources()[1]))
    assert held.grabs == 0
    seat.write_text("IS_SEAT0=1\n")
    await wait_for(lambda: board.sources() == ((f"pulled ({path})",), ()))
    seat.write_text("IS_SEAT0=1\nACTIVE=2\n")
    await wait_for(lambda: held.closed and board.sources()[0] == ())
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
