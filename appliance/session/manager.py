"""Opens and ends consoles: one App on one terminal each, seen by all others in the presence."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from appliance.core.events import new_id
from appliance.core.fleet.terminals import ShellEnd
from appliance.core.model import Actor, SessionInfo
from appliance.errors import ConflictError
from appliance.screens.glyphs import Caps
from appliance.session.caps import caps_of, size_of
from appliance.session.driver import Channel, ChannelDriver
from appliance.session.guard import settle
from appliance.session.remote import Bridge, greeting

if TYPE_CHECKING:
    from textual.app import App

    from appliance.core.console import Console
    from appliance.core.presence import Presence

log = logging.getLogger(__name__)

FAILED = "This console failed ({}) and was closed; the log says where. Nothing else was touched: open it again.\r\n"


class AppFactory(Protocol):
    """Makes the App of one session."""

    def __call__(self, console: Console, caps: Caps, driver_class: Any, /) -> App[Any]:
        """The App, not yet running."""


class Session:
    """One console. Its methods run on the UI loop."""

    def __init__(self, app: App[Any], console: Console, channel: Channel, session_id: str, term: str) -> None:
        self.app: App[Any] | None = app
        self._term = term
        self._bridge: Bridge | None = None
        self._lending = False
        self.console = console
        self.channel = channel
        self.session_id = session_id

    @property
    def _driver(self) -> ChannelDriver | None:
        driver = self.app._driver if self.app is not None else None
        return driver if isinstance(driver, ChannelDriver) else None

    def feed(self, data: bytes) -> None:
        """Bytes were typed."""
        if self._bridge is not None:
            self.console.touch()
            self._bridge.feed(data)
        elif driver := self._driver:
            driver.feed(data)

    def resize(self, columns: int, rows: int) -> None:
        """The terminal changed its size."""
        if driver := self._driver:
            driver.resize(columns, rows)
            if self._bridge is not None:
                self._bridge.resize(*size_of(columns, rows))
            self.console.resized(*size_of(columns, rows))

    def resumed(self) -> None:
        """The terminal takes data again."""
        if self._bridge is not None:
            self._bridge.resumed()
        elif driver := self._driver:
            driver.resumed()

    def end(self) -> None:
        """Close the console, and the shell that its terminal was given to."""
        if self._bridge is not None:
            self._bridge.leave("the session was closed")
        if self.app is not None:
            self.app.exit()

    async def hand_over(self, node: str) -> ShellEnd:
        """Give the terminal to a shell on a node until it ends, is left, or is cut off.

        Raises:
            ApplianceError: There is none to be had; the terminal was not touched.
        """
        driver = self._driver
        if driver is None or self._lending:
            raise ConflictError("This console's terminal is given away already.", "come back first: Ctrl-].")
        self._lending = True
        try:
            far = await self.console.shell(node, self._term, *driver.size)
            bridge = Bridge(far, self.channel, node, plain=driver.plain)
            driver.lend(greeting(node, far.user))
            self._bridge = bridge
            try:
                return await bridge.run()
            finally:
                self._bridge = None
                driver.take_back()
        finally:
            self._lending = False


class Sessions:
    """All consoles.

    Args:
        factory: Makes an App.
        console_for: The appliance as an actor in a session sees it.
        presence: Where sessions are shown; lives on the core loop.
        core: The core loop.
    """

    def __init__(
        self,
        factory: AppFactory,
        console_for: Callable[[Actor, str], Console],
        presence: Presence,
        core: asyncio.AbstractEventLoop,
    ) -> None:
        self._factory = factory
        self._console_for = console_for
        self._presence = presence
        self._core = core
        self._open: dict[str, Session] = {}
        self._shells: dict[str, Bridge] = {}

    def __len__(self) -> int:
        return len(self._open)

    def count(self, via: str) -> int:
        """Sessions open through one front."""
        return sum(key.startswith(f"{via}-") for key in self._open)

    def create(self, actor: Actor, channel: Channel, caps: Caps, size: tuple[int, int], term: str = "") -> Session:
        """Prepare a console; `run` starts it. On the UI loop."""
        session_id = f"{actor.via}-{new_id()[-8:]}"
        columns, rows = size_of(*size)

        def driver(app: App[Any], *, debug: bool = False, mouse: bool = True, size: tuple[int, int] | None = None) -> Any:
            return ChannelDriver(app, channel, caps, debug=debug, mouse=mouse, size=size or (columns, rows))

        console = self._console_for(actor, session_id)
        app = self._factory(console, caps, driver)
        settle(app, caps)
        session = Session(app, console, channel, session_id, term)
        console.hand_over = session.hand_over
        info = SessionInfo(session_id, actor.name, actor.role, actor.via, actor.origin, time.time(), columns, rows)
        self._core.call_soon_threadsafe(self._presence.add, info, self._ender(session))
        self._open[session_id] = session
        return session

    def _ender(self, session: Session) -> Callable[[], None]:
        """What ends a session, from any thread."""
        loop = asyncio.get_running_loop()

        def end() -> None:
            loop.call_soon_threadsafe(session.end)

        return end

    async def shell(
        self, actor: Actor, channel: Channel, node: str, term: str, size: tuple[int, int], opened: Callable[[Bridge], None]
    ) -> ShellEnd:
        """A shell on a node in the place of a console. On the UI loop.

        Args:
            actor: Who asks.
            channel: Their terminal.
            node: Where.
            term: Kind of their terminal.
            size: Its columns and rows.
            opened: Called with what takes keys, sizes and the end.

        Raises:
            ApplianceError: It could not be opened.
        """
        session_id = f"{actor.via}-{new_id()[-8:]}"
        columns, rows = size_of(*size)
        console = self._console_for(actor, session_id)
        far = await console.shell(node, term, columns, rows)
        bridge = Bridge(far, channel, node, user=actor.name, plain=caps_of({"TERM": term}).is_console)
        info = SessionInfo(
            session_id, actor.name, actor.role, actor.via, actor.origin, time.time(), columns, rows, screen=f"shell {node}"
        )
        loop = asyncio.get_running_loop()

        def close() -> None:
            loop.call_soon_threadsafe(bridge.leave, "the session was closed")

        self._core.call_soon_threadsafe(self._presence.add, info, close)
        self._shells[session_id] = bridge
        try:
            opened(bridge)
            channel.write(greeting(node, far.user))
            return await bridge.run()
        finally:
            del self._shells[session_id]
            self._core.call_soon_threadsafe(self._presence.remove, session_id)

    async def run(self, session: Session) -> str | None:
        """Run a console until its reader quits, its terminal closes, or it is ended; returns what the App returns."""
        app = session.app
        if app is None:
            raise RuntimeError("a session runs once")
        result: str | None = None
        try:
            result = await app.run_async()
            if app._exception is not None:
                session.channel.write(FAILED.format(type(app._exception).__name__).encode())
        except Exception:
            log.exception("console %s failed", session.session_id)
        finally:
            session.app = None
            session.console.close()
            self._open.pop(session.session_id, None)
            self._core.call_soon_threadsafe(self._presence.remove, session.session_id)
            session.channel.close()
        return result

    def end_all(self, via: str = "", user: str = "") -> None:
        """Close every console, or those of one front, or of one user; on the UI loop."""
        for session_id, session in list(self._open.items()):
            if session_id.startswith(f"{via}-" if via else "") and user in {"", session.console.actor.name}:
                session.end()
        for session_id, bridge in list(self._shells.items()):
            if session_id.startswith(f"{via}-" if via else "") and user in {"", bridge.user}:
                bridge.leave("the session was closed")
