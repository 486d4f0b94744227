"""Bare USB keyboards through the kernel's input devices (evdev), US layout, without a terminal.

A keyboard that is read here is grabbed (EVIOCGRAB): what is typed goes to the appliance and nowhere else, and nothing that
is meant for somebody else is ever seen here. While somebody is logged in at the machine's own screen, keyboards are theirs.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliance.errors import AbsentError

if TYPE_CHECKING:
    import evdev

log = logging.getLogger(__name__)

LOOK_AGAIN = 2.0
"""Seconds between looks for keyboards that were plugged in."""
SEAT = Path("/run/systemd/seats/seat0")
"""What logind tells of the machine's own screen and keyboard."""
NAMES = {
    "SLASH": "/", "DOT": ".", "COMMA": ",", "MINUS": "-", "EQUAL": "=", "SEMICOLON": ";", "APOSTROPHE": "'", "SPACE": " ",
    "GRAVE": "`", "BACKSLASH": "\\", "LEFTBRACE": "[", "RIGHTBRACE": "]", "ENTER": "\r", "KPENTER": "\r", "ESC": "esc",
    "TAB": "\t", "KPPLUS": "+", "KPMINUS": "-", "KPASTERISK": "*", "KPSLASH": "/", "KPDOT": ".",
    **{f"KP{digit}": str(digit) for digit in range(10)},
}  # fmt: skip
"""What a key types on a US keyboard; letters, digits and F keys are named as they type."""
SHIFTED = dict(zip("`1234567890-=[]\\;',./", '~!@#$%^&*()_+{}|:"<>?', strict=True))
"""The same with Shift."""
SHIFTS = frozenset({"LEFTSHIFT", "RIGHTSHIFT"})
CHORDS = frozenset({"LEFTCTRL", "RIGHTCTRL", "LEFTALT", "RIGHTALT", "LEFTMETA", "RIGHTMETA"})
"""While one of these is held, keys mean something else, and here nothing."""


class EvdevKeyboard:
    """Every keyboard that is plugged in, or one (implements ports.Keyboard).

    Args:
        path: An input device, or None for all keyboards, those plugged in later too.
        directory: Where input devices are.
        seat: What logind tells of the machine's own screen and keyboard (sd-login(3)).
    """

    def __init__(self, path: Path | None = None, directory: Path = Path("/dev/input"), seat: Path = SEAT) -> None:
        self._path = path
        self._directory = directory
        self._seat = seat
        self._open: dict[str, asyncio.Task[None]] = {}
        self._names: dict[str, str] = {}
        self._denied: dict[str, str] = {}

    def sources(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """(keyboards that are read, what is there and cannot be read, and why)."""
        names = tuple(f"{self._names[path]} ({path})" for path in sorted(self._open) if path in self._names)
        return names, tuple(f"{path} ({reason})" for path, reason in sorted(self._denied.items()))

    async def keys(self, on_key: Callable[[str], Awaitable[None]]) -> None:
        """Call `on_key` with each key pressed until cancelled; a keyboard that is pulled out is looked for again.

        Raises:
            OSError: A named device was never there, or is no input device.
            AbsentError: The library is not installed.
        """
        if self._path is not None and not self._path.exists():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self._path))
        try:
            while True:
                for device in await asyncio.to_thread(self._find) if self._ours() else ():
                    self._open[str(device.path)] = asyncio.create_task(self._read(device, on_key))
                await asyncio.sleep(LOOK_AGAIN)
        finally:
            for task in self._open.values():
                task.cancel()

    def _ours(self) -> bool:
        """Nobody is logged in at this machine's screen; where somebody is, their keyboards are given back."""
        self._denied.clear()
        if self._path is not None or not seat_taken(self._seat):
            return True
        self._denied["USB keyboards"] = "somebody is logged in at this machine's own screen"
        for task in self._open.values():
            task.cancel()
        return False

    def _find(self) -> list[evdev.InputDevice[Any]]:
        """Devices that are there and not read yet; blocks."""
        evdev = _library()
        paths = [self._path] if self._path is not None else sorted(self._directory.glob("event*"))
        found = []
        for path in paths:
            if str(path) in self._open or not path.exists():
                continue
            try:
                device = evdev.InputDevice(str(path))
            except OSError as error:
                if self._path is not None and error.errno != errno.ENODEV:
                    raise
                self._denied[str(path)] = error.strerror or str(error)
                continue
            if (self._path is not None or is_keyboard(device)) and self._grabbed(device):
                found.append(device)
            else:
                device.close()
        return found

    def _grabbed(self, device: evdev.InputDevice[Any]) -> bool:
        """Take it for ourselves alone; what others hear too is not listened to."""
        try:
            device.grab()
        except OSError as error:
            held = error.errno == errno.EBUSY
            self._denied[str(device.path)] = "another program holds it" if held else f"not to be had alone: {error.strerror}"
            return False
        return True

    async def _read(self, device: evdev.InputDevice[Any], on_key: Callable[[str], Awaitable[None]]) -> None:
        import evdev

        log.info("keyboard %s (%s)", device.name, device.path)
        self._names[str(device.path)] = str(device.name)
        held: set[str] = set()
        try:
            async for event in device.async_read_loop():
                if event.type != evdev.ecodes.EV_KEY:
                    continue
                name = key_name(evdev.ecodes.KEY.get(event.code, ""))
                if name in SHIFTS | CHORDS:
                    (held.add if event.value else held.discard)(name)
                elif event.value == 1 and not held & CHORDS and (key := character(name, shift=bool(held & SHIFTS))):
                    await on_key(key)
        except OSError as error:
            log.warning("keyboard %s is gone: %s", device.name, error.strerror)
        except Exception:
            log.exception("a key of %s could not be carried out", device.name)
        finally:
            device.close()
            self._open.pop(str(device.path), None)
            self._names.pop(str(device.path), None)


def _library() -> Any:
    try:
        import evdev
    except ImportError as error:
        raise AbsentError(
            "The evdev library is not installed.", "pip install evdev, or set headless.keyboard to nothing."
        ) from error
    return evdev


def seat_taken(seat: Path) -> bool:
    """Somebody is logged in at this screen. Without logind nobody can tell, and False is said: the grab still holds."""
    try:
        return any(line.startswith("ACTIVE=") and line != "ACTIVE=" for line in seat.read_text().splitlines())
    except FileNotFoundError:
        return False


def is_keyboard(device: evdev.InputDevice[Any]) -> bool:
    """It has the letters and Enter (a power button has neither)."""
    import evdev

    keys = set(device.capabilities().get(evdev.ecodes.EV_KEY, ()))
    return {evdev.ecodes.KEY_A, evdev.ecodes.KEY_Z, evdev.ecodes.KEY_ENTER} <= keys


def key_name(names: str | tuple[str, ...] | list[str]) -> str:
    """The kernel's name without KEY_ (some codes have several names)."""
    first = names if isinstance(names, str) else names[0]
    return first.removeprefix("KEY_")


def character(name: str, *, shift: bool) -> str:
    """What a key types: "a", "A", "?", "F5", "esc"; empty for keys that type nothing."""
    key = NAMES.get(name, name)
    if len(key) == 1:
        key = key.lower()
        return (SHIFTED.get(key) or key.upper()) if shift and not name.startswith("KP") else key
    return key if key == "esc" or (key.startswith("F") and key[1:].isdigit()) else ""
