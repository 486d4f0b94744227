"""A real appliance, and consoles on channels in memory."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pyte
import pytest

from appliance import config, paths
from appliance.core.logs import LogRing
from appliance.core.model import Actor, Role
from appliance.runtime import Appliance
from appliance.screens.app import SparkApp
from appliance.screens.glyphs import Caps
from appliance.session.manager import Session, Sessions
from tests.session.rig import Memory
from tests.support import wait_for

COLOURS = re.compile(rb"\x1b\[[0-9;]*m")
"""Nobody asks Seen for colours, and pyte takes longer for them than for the text."""


class Seen:
    """One console, as its reader sees it."""

    def __init__(self, session: Session, channel: Memory, size: tuple[int, int]) -> None:
        self.session, self.channel, self.size = session, channel, size
        self.run: asyncio.Future[str | None] = asyncio.Future()
        self._read = 0
        self._text = ""
        self._begin()

    @property
    def app(self) -> SparkApp:
        assert isinstance(self.session.app, SparkApp)
        return self.session.app

    @property
    def display(self) -> str:
        """What stands on the terminal; only what came since the last look is read."""
        written = self.channel.written
        if self.size != (self._screen.columns, self._screen.lines) or len(written) < self._read:
            self._begin()
        if len(written) > self._read or not self._text:  # a screen of text is dear to make
            self._stream.feed(COLOURS.sub(b"", bytes(written[self._read :])))
            self._read = len(written)
            self._text = "\n".join(self._screen.display)
        return self._text

    @property
    def prose(self) -> str:
        """What stands there as one line, so that a sentence is found wherever it was wrapped."""
        return " ".join(self.display.replace("│", " ").split())

    def _begin(self) -> None:
        """A terminal with nothing on it."""
        self._screen = pyte.Screen(*self.size)
        self._stream = pyte.ByteStream(self._screen)
        self._read = 0
        self._text = ""

    async def shows(self, text: str) -> None:
        try:
            await wait_for(lambda: text in self.display or text in self.prose, 40)
        except AssertionError:
            raise AssertionError(f"{text!r} is not on:\n{self.display}") from None

    async def press(self, keys: str, then: str) -> None:
        """Type, once the first page is there, and wait for a text."""
        await wait_for(lambda: self.session.app is not None and self.app.page is not None and self.app.page.is_mounted)
        self.session.feed(keys.encode())
        await self.shows(then)

    async def fill(self, field: str, text: str) -> None:
        """Type into a field of a form, once it has the focus, in place of what stands there; and go on."""
        await wait_for(lambda: self.app.focused is not None and self.app.focused.id == f"field-{field}", 20)
        if text and getattr(self.app.focused, "value", ""):  # keys of bindings come by way of the app, later than letters
            self.session.feed(b"\x05\x15")
            await wait_for(lambda: getattr(self.app.focused, "value", None) == "", 20)
        if text:
            self.session.feed(text.encode())
            await wait_for(lambda: getattr(self.app.focused, "value", None) == text, 20)
        self.session.feed(b"\r")

    async def end(self) -> None:
        self.session.end()
        await asyncio.wait_for(asyncio.shield(self.run), 10)


class Bench:
    """The appliance and its consoles."""

    def __init__(self, appliance: Appliance) -> None:
        self.appliance = appliance
        self.sessions = Sessions(self._make, appliance.console, appliance.presence, appliance.loop)

    def _make(self, console: object, caps: Caps, driver_class: object) -> SparkApp:
        return SparkApp(console, caps, "dark", driver_class)  # type: ignore[arg-type]

    def open(self, caps: Caps | None = None, size: tuple[int, int] = (80, 24), role: Role = Role.admin) -> Seen:
        channel = Memory()
        session = self.sessions.create(Actor("ada", role, "console"), channel, caps or Caps(), size)
        seen = Seen(session, channel, size)
        seen.run = asyncio.ensure_future(self.sessions.run(session))
        return seen

    async def invoke(self, name: str, /, **args: object) -> object:
        return await self.appliance.dispatcher.invoke(name, args, Actor("ada", Role.admin, "console"), confirm=True)


@asynccontextmanager
async def running(home: Path, further: str = "", *, fresh: bool = True) -> AsyncIterator[Bench]:
    """A running appliance that was set up; `further` are settings of its own; where it is not fresh it was set up before."""
    (home / "config.toml").write_text(f"[telemetry]\ninterval_seconds = 0.5\nflush_seconds = 1\n{further}")
    where = paths.find()
    where.make()
    appliance = Appliance(config.load(where, os.environ), where, LogRing(), dict(os.environ))
    appliance.start([])
    assert appliance.supervisor is not None
    await appliance.supervisor.settled()
    bench = Bench(appliance)
    if fresh:
        await bench.invoke("setup.complete", admin="ada", password="correct horse")
    try:
        yield bench
    finally:
        await appliance.stop()


@pytest.fixture
async def bench(home: Path) -> AsyncIterator[Bench]:
    """A running appliance that was set up."""
    async with running(home) as bench:
        yield bench
