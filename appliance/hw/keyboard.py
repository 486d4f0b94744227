"""Bare USB keyboards through the kernel's input devices (evdev), US layout, without a terminal."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import evdev

log = logging.getLogger(__name__)

LOOK_AGAIN = 2.0
"""Seconds between looks for keyboards that were plugged in."""
NAMES = {
    "SLASH": "/", "DOT": ".", "COMMA": ",", "MINUS": "-", "EQUAL": "=", "SEMICOLON": ";", "APOSTROPHE": "'", "SPACE": " ",
    "ENTER": "\r", "ESC": "esc", "TAB": "\t",
}  # fmt: skip
SHIFTED = {"/": "?", ";": ":", "1": "!", "=": "+", "-": "_", ".": ">", ",": "<"}


class EvdevKeyboard:
    """Every keyboard that is plugged in, or one (implements ports.Keyboard).

    Args:
        path: An input device, or None for all keyboards, those plugged in later too.
        directory: Where input devices are.
    """

    def __init__(self, path: Path | None = None, directory: Path = Path("/dev/input")) -> None:
        self._path = path
        self._directory = directory
        self._open: dict[str, asyncio.Task[None]] = {}

    async def keys(self, on_key: Callable[[str], Awaitable[None]]) -> None:
        """Call `on_key` with each key pressed until cancelled. Raises OSError where a named device is not there."""
        try:
            while True:
                for device in await asyncio.to_thread(self._find):
                    self._open[device.path] = asyncio.create_task(self._read(device, on_key))
                await asyncio.sleep(LOOK_AGAIN)
        finally:
            for task in self._open.values():
                task.cancel()

    def _find(self) -> list[evdev.InputDevice[Any]]:
        import evdev

        if self._path is not None:
            return [] if str(self._path) in self._open else [evdev.InputDevice(str(self._path))]
        found = []
        for path in sorted(self._directory.glob("event*")):
            if str(path) in self._open:
                continue
            try:
                device = evdev.InputDevice(str(path))
            except OSError as error:
                log.debug("%s: %s", path, error)
                continue
            if is_keyboard(device):
                found.append(device)
            else:
                device.close()
        return found

    async def _read(self, device: evdev.InputDevice[Any], on_key: Callable[[str], Awaitable[None]]) -> None:
        import evdev

        log.info("keyboard %s (%s)", device.name, device.path)
        shift = False
        try:
            async for event in device.async_read_loop():
                if event.type != evdev.ecodes.EV_KEY:
                    continue
                name = key_name(evdev.ecodes.KEY.get(event.code, ""))
                if name in {"LEFTSHIFT", "RIGHTSHIFT"}:
                    shift = event.value != 0
                elif event.value == 1 and (key := character(name, shift=shift)):
                    await on_key(key)
        except OSError as error:
            log.warning("keyboard %s is gone: %s", device.name, error.strerror)
        finally:
            device.close()
            self._open.pop(device.path, None)


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
        return (SHIFTED.get(key) or key.upper()) if shift else key
    return key if key == "esc" or (key.startswith("F") and key[1:].isdigit()) else ""
