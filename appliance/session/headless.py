"""Keyboard shortcuts without a screen: one key, one action, one line that says what came of it."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from appliance.core.actions import Action, ActionRegistry
from appliance.core.dispatch import Dispatcher
from appliance.core.model import Actor, Health, HealthReport, ServiceStatus
from appliance.core.ports import Keyboard, StatusLed
from appliance.core.state import LiveState, Section
from appliance.errors import AbsentError, ApplianceError, ConfirmationRequiredError
from appliance.session.keyreader import KeyReader
from appliance.session.tty import RawMode

log = logging.getLogger(__name__)

CONFIRM_TIME = 5.0
"""Seconds in which a dangerous action's "y" must come."""
ESCAPE_WAIT = 0.15
"""Seconds after which an Escape is a key of its own; a slow serial line needs some."""
LOOK_AGAIN = 5.0
"""Seconds between attempts to read a keyboard that could not be read."""
ALIVE_AFTER = 1.0
"""Seconds of reading after which a keyboard counts as there again."""


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
        elif key.isprintable() and key:  # not which: it may be a part of something secret
            self._say("no shortcut; ? lists them")

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

    A serial line's speed is set outside, with stty(1) or its unit.

    Args:
        path: The device, or None for standard input.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._reading = False

    def sources(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The terminal or line, while it is read."""
        name = "this terminal" if self._path is None else str(self._path)
        return ((name,) if self._reading else ()), ()

    async def keys(self, on_key: Callable[[str], Awaitable[None]]) -> None:
        """Read keys until cancelled or the line is hung up. Raises OSError."""
        descriptor = 0 if self._path is None else os.open(self._path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        raw = RawMode(descriptor) if os.isatty(descriptor) else None
        if raw is not None:
            raw.enter_cbreak()
        self._reading = True
        try:
            await Line(descriptor).read(on_key)
        finally:
            self._reading = False
            if raw is not None:
                raw.leave()
            if self._path is not None:
                os.close(descriptor)


class Line:
    """Reads keys from one descriptor.

    Args:
        descriptor: A terminal, a serial line or a pipe.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._reader = KeyReader()
        self._pressed: asyncio.Queue[str | None] = asyncio.Queue(64)
        self._timer: asyncio.TimerHandle | None = None

    async def read(self, on_key: Callable[[str], Awaitable[None]]) -> None:
        """Call `on_key` with each key until the line is hung up. Raises OSError where it cannot be watched."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._descriptor, self._take)
        try:
            while (key := await self._pressed.get()) is not None:
                await on_key(key)
        finally:
            loop.remove_reader(self._descriptor)
            if self._timer is not None:
                self._timer.cancel()

    def _take(self) -> None:
        try:
            data = os.read(self._descriptor, 64)
        except BlockingIOError:
            return
        except OSError as error:
            log.debug("keys: %s", error)
            data = b""
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not data:
            loop.remove_reader(self._descriptor)
            self._put([None])
            return
        self._put(self._reader.feed(data))
        if self._reader.waiting:
            self._timer = loop.call_later(ESCAPE_WAIT, lambda: self._put(self._reader.flush()))

    def _put(self, keys: Sequence[str | None]) -> None:
        for key in keys:
            if self._pressed.full():
                log.warning("keys come faster than they are carried out; some are dropped")
                if key is not None:
                    return
                self._pressed.get_nowait()
            self._pressed.put_nowait(key)


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
    depends: tuple[str, ...] = ("store",)

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
                group.create_task(self._keep_reading(name, keyboard))
            group.create_task(self._show())

    async def _keep_reading(self, name: str, keyboard: Keyboard) -> None:
        """Read one keyboard, and again after it failed: cables are pulled and put back."""
        while True:
            reading = asyncio.ensure_future(keyboard.keys(self._shortcuts.press))
            try:
                await asyncio.wait({reading}, timeout=ALIVE_AFTER)
                if not reading.done() and self._failed.pop(name, None) is not None:
                    log.info("keys come from %s again", name)
                await reading
                self._note(name, "hung up")
            except (OSError, AbsentError) as error:
                self._note(name, str(error))
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)  # it gives its terminal back
            await asyncio.sleep(LOOK_AGAIN)

    def _note(self, name: str, reason: str) -> None:
        if self._failed.get(name) != reason:
            log.warning("no keys from %s: %s", name, reason)
        self._failed[name] = reason

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
        """Degraded where a keyboard cannot be read, absent where there is none."""
        if self._failed:
            text = ", ".join(f"{name} ({reason})" for name, reason in self._failed.items())
            return HealthReport(Health.degraded, f"no keys from {text}", "connect it; it is looked for every few seconds.")
        found = [keyboard.sources() for keyboard in self._keyboards.values()]
        reading = [name for names, _ in found for name in names]
        denied = [name for _, names in found for name in names]
        details = {"reading": reading, "denied": denied}
        if reading:
            return HealthReport(Health.healthy, f"keys from {', '.join(reading)}", details=details)
        if denied:
            text, hint = f"no keyboard can be read: {', '.join(denied)}", "log out there, or: sudo usermod -aG input $USER"
            return HealthReport(Health.degraded, text, hint, details)
        return HealthReport(Health.absent, "no keyboard is there", "connect one, or set headless.serial.", details)


def worst(statuses: tuple[ServiceStatus, ...]) -> str:
    """The LED's pattern: the worst health of all services; absent ones do not count."""
    found = {status.health for status in statuses}
    return next((health.value for health in (Health.unhealthy, Health.degraded) if health in found), "healthy")
