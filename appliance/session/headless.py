"""Keyboard shortcuts without a screen: one key, one action, one line that says what came of it."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from appliance.core.actions import Action, ActionRegistry
from appliance.core.dispatch import Dispatcher
from appliance.core.model import Actor, Health, HealthReport, ServiceStatus
from appliance.core.ports import Keyboard, StatusLed
from appliance.core.state import LiveState, Section
from appliance.errors import ApplianceError, ConfirmationRequiredError
from appliance.session.tty import RawMode

log = logging.getLogger(__name__)

CONFIRM_TIME = 5.0
"""Seconds in which a dangerous action's "y" must come."""


class Shortcuts:
    """Carries out what a key stands for.

    Args:
        dispatcher: Carries actions out.
        actor: Who presses the keys.
        say: Takes the answer, one line.
    """

    def __init__(self, dispatcher: Dispatcher, actor: Actor, say: Callable[[str], None]) -> None:
        self._dispatcher = dispatcher
        self._actor = actor
        self._say = say
        self._asked: tuple[Action, float] | None = None

    async def press(self, key: str) -> None:
        """One key was pressed."""
        asked, self._asked = self._asked, None
        if asked is not None:
            await self._confirmed(asked, key)
        elif key == "?":
            self._say(describe(self._dispatcher.registry))
        elif (action := by_shortcut(self._dispatcher.registry).get(key)) is not None:
            await self._carry_out(action, confirm=False)
        elif key.isprintable() and key:
            self._say(f"{key}: no shortcut; ? lists them")

    async def _confirmed(self, asked: tuple[Action, float], key: str) -> None:
        action, until = asked
        if key == "y" and asyncio.get_running_loop().time() <= until:
            await self._carry_out(action, confirm=True)
        else:
            self._say(f"{action.name}: not confirmed, not done")

    async def _carry_out(self, action: Action, *, confirm: bool) -> None:
        try:
            result = await self._dispatcher.invoke(action.name, {}, self._actor, confirm=confirm)
        except ConfirmationRequiredError as error:
            self._asked = (action, asyncio.get_running_loop().time() + CONFIRM_TIME)
            self._say(f"{action.name}: {error.message} Press y within {CONFIRM_TIME:.0f} s.")
        except ApplianceError as error:
            self._say(f"{action.name}: {error}")
        else:
            self._say(f"{action.name}: {action.brief(result) if action.brief else 'done'}")


def by_shortcut(registry: ActionRegistry) -> dict[str, Action]:
    """Key → action."""
    return {action.shortcut: action for action in registry if action.shortcut}


def describe(registry: ActionRegistry) -> str:
    """All shortcuts in one line."""
    keys = (f"{key} {action.summary.lower()}" for key, action in sorted(by_shortcut(registry).items()))
    return "keys: " + "; ".join([*keys, "? list the keys"])


class TerminalKeys:
    """Keys from a terminal or a serial line (implements ports.Keyboard).

    Args:
        path: The device, or None for standard input.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path

    async def keys(self, on_key: Callable[[str], Any]) -> None:
        """Read characters until cancelled or the line is hung up. Raises OSError."""
        descriptor = 0 if self._path is None else os.open(self._path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        raw = RawMode(descriptor) if os.isatty(descriptor) else None
        pressed: asyncio.Queue[str] = asyncio.Queue(64)
        loop = asyncio.get_running_loop()
        if raw is not None:
            raw.enter_cbreak()
        loop.add_reader(descriptor, _read_into, descriptor, pressed)
        try:
            while key := await pressed.get():
                await on_key(key)
        finally:
            loop.remove_reader(descriptor)
            if raw is not None:
                raw.leave()
            if self._path is not None:
                os.close(descriptor)


def _read_into(descriptor: int, pressed: asyncio.Queue[str]) -> None:
    try:
        data = os.read(descriptor, 64)
    except BlockingIOError:
        return
    except OSError as error:
        log.debug("keys: %s", error)
        data = b""
    if not data:
        asyncio.get_running_loop().remove_reader(descriptor)
    for char in data.decode("utf-8", "ignore") or ("" if data else "\0"):
        if pressed.full():
            log.warning("keys come faster than they are carried out; one is dropped")
            return
        pressed.put_nowait("" if char == "\0" else char)


class HeadlessService:
    """Reads keys from every given keyboard and shows health on the LED (implements ports.Service).

    Args:
        keyboards: Where keys come from, by name.
        shortcuts: What they do.
        state: For the LED.
        led: The status LED, or None.
    """

    name = "headless"
    summary = "Keyboard shortcuts without a screen"
    depends = ("store",)

    def __init__(self, keyboards: dict[str, Keyboard], shortcuts: Shortcuts, state: LiveState, led: StatusLed | None) -> None:
        self._keyboards = keyboards
        self._shortcuts = shortcuts
        self._state = state
        self._led = led
        self._failed: dict[str, str] = {}

    async def start(self) -> None:
        """Nothing is held yet."""
        self._failed.clear()

    async def run(self) -> None:
        """Read keys until cancelled."""
        async with asyncio.TaskGroup() as group:
            for name, keyboard in self._keyboards.items():
                group.create_task(self._read(name, keyboard))
            group.create_task(self._show())

    async def _read(self, name: str, keyboard: Keyboard) -> None:
        try:
            await keyboard.keys(self._shortcuts.press)
            self._failed[name] = "hung up"
        except OSError as error:
            self._failed[name] = error.strerror or str(error)
        log.warning("no keys from %s: %s", name, self._failed[name])

    async def _show(self) -> None:
        while True:
            if self._led is not None:
                self._led.show(worst(self._state.get(Section.services).value or ()))
            await asyncio.sleep(1)

    async def stop(self) -> None:
        """Put the light out."""
        if self._led is not None:
            self._led.show("off")
            self._led.close()

    async def health(self) -> HealthReport:
        """Degraded where a keyboard cannot be read."""
        if self._failed:
            text = ", ".join(f"{name} ({reason})" for name, reason in self._failed.items())
            return HealthReport(Health.degraded, f"no keys from {text}", "connect it again, then restart this service.")
        return HealthReport(Health.healthy, f"keys from {', '.join(self._keyboards) or 'nowhere'}")


def worst(statuses: tuple[ServiceStatus, ...]) -> str:
    """The LED's pattern: the worst health of all services; absent ones do not count."""
    found = {status.health for status in statuses}
    return next((health.value for health in (Health.unhealthy, Health.degraded) if health in found), "healthy")
