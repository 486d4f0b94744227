"""A Textual driver on any byte channel: no signals, no threads, no global terminal.

Works against Textual 8.2.8, pinned; tests/session hold every private thing used here.
"""

from __future__ import annotations

import asyncio
import codecs
import logging
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, Protocol, TextIO

from textual import events
from textual._parser import ParseError
from textual._xterm_parser import XTermParser
from textual.driver import Driver
from textual.geometry import Size

from appliance.screens.glyphs import CONSOLE_TRANSLATE, Caps
from appliance.session.caps import size_of
from appliance.session.escapes import ENTER, LEAVE, MODES_OFF, MODES_ON, MOUSE_OFF, MOUSE_ON

if TYPE_CHECKING:
    from textual.app import App
    from textual.message import Message

log = logging.getLogger(__name__)

ESCAPE_WAIT = 0.12
"""Seconds after which a lone Escape is a key, not the start of a sequence."""
LONGEST_PASTE = 1 << 20
"""Characters that one paste or sequence may have; more is thrown away, to the last of it."""
PASTE_END = "\x1b[201~"
QUIET = 0.5
"""Seconds without a byte after which what was thrown away has ended, although it did not say so."""
CLEAR = b"\x1b[H\x1b[2J"
"""For terminals without a second screen: what was painted is still there."""
COMMANDS = re.compile(r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")
"""Operating system commands (pointer shape, title, clipboard), which older Linux consoles print."""


class Channel(Protocol):
    """Where a terminal's bytes go to."""

    def write(self, data: bytes) -> None:
        """Send; never blocks, and does nothing after the channel is closed."""

    @property
    def paused(self) -> bool:
        """The terminal does not take what was sent; frames are dropped until it does."""

    def close(self) -> None:
        """Hang up."""


class ChannelDriver(Driver):
    """Paints on a channel and reads keys from it. All methods run on the UI loop.

    Args:
        app: The App.
        channel: The terminal.
        caps: What it can show.
        size: Its size, (columns, rows).
        mouse: Textual's own wish; the terminal's capability decides too.
    """

    def __init__(
        self,
        app: App[Any],
        channel: Channel,
        caps: Caps,
        *,
        debug: bool = False,
        mouse: bool = True,
        size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(app, debug=debug, mouse=mouse and caps.mouse, size=size_of(*(size or (0, 0))))
        self._channel = channel
        self._caps = caps
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._parser: XTermParser | None = None
        self._unanswered = 0
        self._thrown: str | None = None
        """The last characters of what is being thrown away; None while nothing is."""
        self._tick: asyncio.TimerHandle | None = None
        self._painting = False
        self._owes_repaint = False
        self._lent = False
        self.dropped_frames = 0
        """Frames that a stalled terminal missed, since the start."""

    @property
    def can_suspend(self) -> bool:
        """Never: the process is the appliance."""
        return False

    def write(self, data: str) -> None:
        """Send one frame, or drop it while the terminal does not keep up."""
        if self._lent:
            return
        if self._channel.paused:
            self.dropped_frames += 1
            self._owes_repaint = True
            return
        self._send(data)

    def _send(self, data: str) -> None:
        text = COMMANDS.sub("", data).translate(CONSOLE_TRANSLATE) if self._caps.is_console else data
        self._channel.write(text.encode("utf-8", "replace"))

    def start_application_mode(self) -> None:
        """Take the terminal over."""
        self._parser = XTermParser()
        self._painting = True
        plain = self._caps.is_console
        self._send(ENTER + ("" if plain else MODES_ON) + (MOUSE_ON if self._mouse else ""))
        self._send_size()

    def disable_input(self) -> None:
        """Take no more keys."""
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None
        self._drop_parser()

    def _drop_parser(self) -> None:
        """End the parser's generator: a cache of Textual keeps the parser itself, and what it holds, for ever."""
        parser, self._parser = self._parser, None
        if parser is not None and not parser.is_eof:
            _parsed(parser.feed, "")
            parser._tokens.clear()

    def stop_application_mode(self) -> None:
        """Give the terminal back as it was."""
        self.disable_input()
        if self._painting:
            self._painting = False
            plain = self._caps.is_console
            self._send((MOUSE_OFF if self._mouse else "") + ("" if plain else MODES_OFF) + LEAVE)

    @property
    def plain(self) -> bool:
        """The terminal is a Linux console or simpler."""
        return self._caps.is_console

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows."""
        return self._size or size_of(0, 0)

    def lend(self, greeting: bytes) -> None:
        """Give the terminal away until `take_back`: nothing is painted meanwhile."""
        self.stop_application_mode()
        self._lent = True
        self._channel.write((CLEAR if self.plain else b"") + greeting)

    def take_back(self) -> None:
        """The terminal is ours again: paint everything anew."""
        if not self._lent:
            return
        self._lent = self._owes_repaint = False
        if self._app.is_running:
            self.start_application_mode()
            self._app.call_later(self._repaint)

    def feed(self, data: bytes) -> None:
        """Take bytes that were typed."""
        text = self._decode(data)
        if self._parser is None or not text:  # an empty text would mean the end of all input
            return
        if self._thrown is not None:
            text = self._throw(text)
        if text:
            self._dispatch(self._parser.feed, text)
        if self._tick is not None:
            self._tick.cancel()
        self._tick = self._loop.call_later(ESCAPE_WAIT if self._thrown is None else QUIET, self._on_tick)

    def _throw(self, text: str) -> str:
        """Throw away what belongs to a paste that was too long; what comes behind it is taken."""
        text = (self._thrown or "") + text
        end = text.find(PASTE_END)
        if end < 0:
            self._thrown = text[1 - len(PASTE_END) :]
            return ""
        self._thrown = None
        return text[end + len(PASTE_END) :]

    def _on_tick(self) -> None:
        self._tick = None
        self._thrown = None
        if (parser := self._parser) is not None:
            self._dispatch(lambda _: parser.tick(), "")

    def _dispatch(self, parse: Callable[[str], Iterable[Message]], text: str) -> None:
        messages, understood = _parsed(parse, text)
        for message in messages:
            self.process_message(message)
        self._unanswered = 0 if messages else self._unanswered + len(text)
        if not understood or self._unanswered > LONGEST_PASTE:
            self._thrown = "" if self._unanswered > LONGEST_PASTE else None
            self._unanswered = 0
            self._drop_parser()
            self._parser = XTermParser()

    def resize(self, columns: int, rows: int) -> None:
        """The terminal has another size."""
        self._size = size_of(columns, rows)
        if self._painting:
            self._send_size()

    def _send_size(self) -> None:
        size = Size(*(self._size or size_of(0, 0)))
        self.process_message(events.Resize(size, size))

    def resumed(self) -> None:
        """The terminal takes data again: paint everything anew where frames were dropped."""
        if self._painting and self._owes_repaint:
            self._owes_repaint = False
            self._app.call_later(self._repaint)

    def _repaint(self) -> None:
        screen = self._app.screen
        screen._compositor._dirty_regions.add(screen._compositor.size.region)
        screen.refresh(layout=True)

    def open_url(self, url: str, new_tab: bool = True) -> None:
        """A browser would open on the appliance, not where the reader sits: show the address instead."""
        self._app.notify(url, title="Open this address in your browser")

    def deliver_binary(
        self,
        binary: BinaryIO | TextIO,
        *,
        delivery_key: str,
        save_path: Path,
        open_method: Literal["browser", "download"] = "download",
        encoding: str | None = None,
        mime_type: str | None = None,
        name: str | None = None,
    ) -> None:
        """Files are not delivered through a terminal."""
        binary.close()
        self._app.notify(f"{name or save_path.name}: files are not sent through this terminal", severity="warning")


def _parsed(parse: Callable[[str], Iterable[Message]], text: str) -> tuple[list[Message], bool]:
    """What was typed, and whether it was understood: Textual's parser fails on numbers that are none, or too large."""
    found: list[Message] = []
    try:
        found.extend(parse(text))
    except (ParseError, EOFError, ArithmeticError, LookupError, TypeError, ValueError, RuntimeError) as error:
        log.debug("input not understood: %r", error)
        return found, False
    return found, True
