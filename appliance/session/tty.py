"""A local terminal given by two file descriptors, as a channel."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import select
import struct
import termios
import threading
import tty
from collections import deque
from collections.abc import Callable

log = logging.getLogger(__name__)

PIECE = 4096
"""Bytes written at one time."""
HIGH, LOW = 256 * 1024, 32 * 1024
"""Bytes that may wait for a slow terminal: above HIGH frames are dropped until LOW is reached."""


class RawMode:
    """Sets a terminal to raw mode and back."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._before = termios.tcgetattr(descriptor)

    def enter(self) -> None:
        """Keys come one by one, not echoed, without signals."""
        tty.setraw(self._descriptor, termios.TCSANOW)

    def enter_cbreak(self) -> None:
        """Keys come one by one, not echoed; Ctrl-C still ends the process."""
        tty.setcbreak(self._descriptor, termios.TCSANOW)

    def leave(self) -> None:
        """As it was before."""
        try:
            termios.tcsetattr(self._descriptor, termios.TCSANOW, self._before)  # DRAIN would wait for a stopped one
        except termios.error as error:
            log.debug("the terminal is gone: %s", error)


def window_size(descriptor: int) -> tuple[int, int]:
    """(columns, rows) of a terminal; (0, 0) where it does not tell (tty_ioctl(4))."""
    try:
        rows, columns, _, _ = struct.unpack("HHHH", fcntl.ioctl(descriptor, termios.TIOCGWINSZ, b"\0" * 8))
    except OSError:
        return 0, 0
    return columns, rows


class TtyChannel:
    """Writes in a thread of its own, so that a stopped terminal (Ctrl-S) stops nothing else; reads on the UI loop.

    Args:
        in_fd: Where keys come from.
        out_fd: Where frames go to.
    """

    def __init__(self, in_fd: int, out_fd: int) -> None:
        self._in, self._out = in_fd, out_fd
        self._loop = asyncio.get_running_loop()
        self._chunks: deque[bytes] = deque()
        self._waiting = 0
        self._changed = threading.Condition()
        self._closed = False
        self._abandoned = False
        self._paused = False
        self._on_resume: Callable[[], None] = lambda: None
        self.ended = asyncio.Event()
        """Set when everything was written after `close`, or the terminal is gone."""
        self._thread = threading.Thread(target=self._write_loop, name="tty-write", daemon=True)

    def open(self, on_data: Callable[[bytes], None], on_close: Callable[[], None], on_resume: Callable[[], None]) -> None:
        """Start; the callbacks come on the UI loop."""
        self._on_resume = on_resume
        self._loop.add_reader(self._in, self._read, on_data, on_close)
        self._thread.start()

    @property
    def paused(self) -> bool:
        """Too much waits for the terminal."""
        return self._paused

    def write(self, data: bytes) -> None:
        """Queue bytes."""
        with self._changed:
            if self._closed:
                return
            self._chunks.append(data)
            self._waiting += len(data)
            self._paused = self._waiting > HIGH or (self._paused and self._waiting > LOW)
            self._changed.notify()

    def close(self) -> None:
        """Write what waits, then end."""
        self._loop.remove_reader(self._in)
        with self._changed:
            self._closed = True
            self._changed.notify()

    def abandon(self) -> None:
        """Stop writing to a terminal that takes nothing; what waits for it is lost."""
        with self._changed:
            self._closed = True
            self._chunks.clear()
            self._waiting = 0
        self._abandoned = True
        try:
            termios.tcflush(self._out, termios.TCOFLUSH)  # lets a blocked write go on
        except (OSError, termios.error) as error:
            log.debug("terminal flush: %s", error)

    def _read(self, on_data: Callable[[bytes], None], on_close: Callable[[], None]) -> None:
        try:
            data = os.read(self._in, 4096)
        except BlockingIOError:
            return
        except OSError as error:  # the terminal was hung up (EIO)
            log.debug("terminal read: %s", error)
            data = b""
        if data:
            on_data(data)
        else:
            self._loop.remove_reader(self._in)
            on_close()

    def _write_loop(self) -> None:
        try:
            while (data := self._next()) is not None:
                while data and not self._abandoned:
                    data = data[self._write_piece(data[:PIECE]) :]
        except OSError as error:
            log.debug("terminal write: %s", error)
            with self._changed:
                self._closed = True
        self._tell(self.ended.set)

    def _write_piece(self, data: bytes) -> int:
        try:
            return os.write(self._out, data)
        except BlockingIOError:  # whoever shares the terminal made it non-blocking
            select.select([], [self._out], [], 1.0)
            return 0

    def _tell(self, callback: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError as error:  # the loop was closed in the meantime
            log.debug("terminal: %s", error)

    def _next(self) -> bytes | None:
        with self._changed:
            while not self._chunks and not self._closed:
                self._changed.wait()
            if not self._chunks:
                return None
            data = self._chunks.popleft()
            self._waiting -= len(data)
            if self._paused and self._waiting <= LOW:
                self._paused = False
                self._tell(self._on_resume)
            return data
