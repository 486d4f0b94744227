"""The thread of one source: opens it, reads it, and opens it again when it fails.

A call into a driver that never returns holds its thread, and nothing else: `stop` does not wait for it for long.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from appliance.core.backoff import backoff
from appliance.core.figures import counted
from appliance.core.inference.sources.frames import Feed, Frame, Mailbox, Shot
from appliance.core.inference.sources.model import SourceState
from appliance.core.ports import Clock
from appliance.errors import SourceError

log = logging.getLogger(__name__)

STEADY = 10.0
"""Seconds of frames after which what failed before is forgotten."""
AHEAD = 5.0
"""Seconds that a file's frame waits for its time at most: where its times leap, the rest of it is reckoned from there."""


@dataclass(frozen=True)
class Patience:
    """How long to wait before another try, seconds."""

    first: float = 0.5
    longest: float = 30.0


@dataclass
class Progress:
    """What a reader says of itself; it alone writes, others read.

    Attributes:
        state: Opening, running, retrying or ended.
        error: Why it is tried again, or why a file ended early; None else.
        next_try: Monotonic, while it is tried again.
        frames: That arrived.
        skipped: Not wanted by the rate.
        damaged: That could not be decoded.
        reconnects: Tries after the first.
        newest: When the newest frame arrived, monotonic; None before the first.
        beat: When the thread last came back from the driver, monotonic; None while it is not in it.
        arrivals: Of the last frames, monotonic.
        problem: The newest picture that could not be decoded.
    """

    state: SourceState = SourceState.opening
    error: SourceError | None = None
    next_try: float = 0.0
    frames: int = 0
    skipped: int = 0
    damaged: int = 0
    reconnects: int = 0
    newest: float | None = None
    beat: float | None = None
    width: int | None = None
    height: int | None = None
    problem: SourceError | None = None
    arrivals: deque[float] = field(default_factory=lambda: deque(maxlen=256))


class Pace:
    """Which frames are wanted, at a rate a second."""

    def __init__(self, rate: float) -> None:
        self._step = 1 / rate
        self._due: float | None = None
        self._last = 0.0

    def wants(self, moment: float) -> bool:
        """Whether the frame of this moment is; moments may begin again from the start."""
        if self._due is None or moment < self._last:
            self._due = moment
        self._last = moment
        if moment + 1e-6 < self._due:
            return False
        self._due = max(self._due + self._step, moment)
        return True

    def until_due(self, moment: float) -> float:
        """Seconds from this moment until the next one is wanted."""
        return max(0.0, self._due - moment) if self._due is not None else 0.0


class Times:
    """When a file's frames are due; its times may begin anywhere, and leap."""

    def __init__(self) -> None:
        self._begin: float | None = None

    def until(self, position: float) -> float:
        """Seconds until the frame at this place is due."""
        now = time.monotonic()
        if self._begin is None:
            self._begin = now - position
        ahead = self._begin + position - now
        if ahead > AHEAD:
            self._begin -= ahead - AHEAD
        return min(max(0.0, ahead), AHEAD)


@dataclass(frozen=True)
class Manner:
    """How a source is read.

    Attributes:
        rate: Most frames a second that are wanted.
        real_time: A file's frames come at their times.
        repeat: A file begins again at its end.
        finite: It has an end, and gives the same frames each time: what failed half-way is not read again.
        every: All frames are wanted; they wait for their turn.
    """

    rate: float
    real_time: bool = False
    repeat: bool = False
    finite: bool = False
    every: bool = False


class Reader:
    """Reads one source in a thread of its own.

    Args:
        name: Of the source.
        open_feed: Opens it; blocks; raises SourceError. It is given the event that `stop` sets.
        mailbox: Where wanted frames go.
        manner: How to read it.
        clock: For the frames' times.
        patience: Between two tries.
    """

    def __init__(
        self, name: str, open_feed: Callable[[threading.Event], Feed], mailbox: Mailbox, manner: Manner, clock: Clock,
        patience: Patience,
    ) -> None:  # fmt: skip
        self.progress = Progress()
        self.mailbox = mailbox
        self._name = name
        self._open_feed = open_feed
        self._manner = manner
        self._clock = clock
        self._patience = patience
        self._stop = threading.Event()
        self._feed: Feed | None = None
        self._lost = 0
        """Damaged parts of feeds that are closed, and pictures that could not be decoded."""
        self._thread = threading.Thread(target=self._run, name=f"source {name}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Have it end; returns at once."""
        self._stop.set()
        self.mailbox.close()

    @property
    def alive(self) -> bool:
        """Whether its thread has not ended."""
        return self._thread.is_alive()

    @property
    def beat(self) -> float | None:
        """When the thread last came back from the driver or the disk, monotonic; None while it is not in it."""
        beat = self.progress.beat
        own: float | None = getattr(self._feed, "beat", None)
        return beat if beat is None or own is None else max(beat, own)

    def _run(self) -> None:
        try:
            self._lives()
            if not self._stop.is_set():
                self.progress.state = SourceState.ended
        finally:
            self.mailbox.close()

    def _lives(self) -> None:
        """Open, read, and again, until it is to stop or has ended."""
        failures = 0
        while not self._stop.is_set():
            began, before = time.monotonic(), self.progress.frames
            error = self._life()
            came = self.progress.frames - before
            if error is not None and came and self._manner.finite:
                self.progress.error = SourceError(f"It ended early: {error.message}", error.next_step)
                return
            if error is None and not (self._manner.repeat and came):
                return
            if error is not None:
                failures = 1 if came and time.monotonic() - began >= STEADY else failures + 1
                self._rest(failures, error)

    def _rest(self, failures: int, error: SourceError) -> None:
        progress = self.progress
        pause = backoff(failures, self._patience.first, self._patience.longest)
        if failures == 1:
            log.warning("source %s: %s", self._name, error.message)
        progress.error, progress.next_try = error, time.monotonic() + pause
        progress.state = SourceState.retrying
        self._stop.wait(pause)
        progress.reconnects += 1
        progress.state = SourceState.opening

    def _life(self) -> SourceError | None:
        """From opening to the end; the reason where it failed."""
        self.progress.beat = time.monotonic()
        try:
            feed = self._open_feed(self._stop)
        except SourceError as error:
            return error
        except Exception as error:  # noqa: BLE001 logged there, without its text
            return self._unexpected("opened", error)
        self._feed = feed
        try:
            return self._follow(feed)
        except SourceError as error:
            return error
        except Exception as error:  # noqa: BLE001 logged there, without its text
            return self._unexpected("read", error)
        finally:
            self._lost += feed.damaged
            self._count_damaged(0)
            self._feed = None
            self._close(feed)

    def _close(self, feed: Feed) -> None:
        try:
            feed.close()
        except Exception as error:  # noqa: BLE001 logged without its text, which may hold an address with its password
            log.error("source %s was not closed in order: %s", self._name, type(error).__name__)

    def _unexpected(self, done: str, error: Exception) -> SourceError:
        """Told without its text, which may hold an address with its password."""
        log.error("source %s cannot be %s: %s", self._name, done, type(error).__name__)
        return SourceError(f"It cannot be {done}: {type(error).__name__}.", "see docs/sources.md for what may be wrong.")

    def _follow(self, feed: Feed) -> SourceError | None:
        pace, times, first = Pace(self._manner.rate), Times(), self.progress.frames
        while not self._stop.is_set():
            shot = feed.read()
            if shot is None:
                return self._at_end(feed.damaged, self.progress.frames - first)
            if self._manner.real_time and shot.position is not None:
                self._rest_for(times.until(shot.position))
            self._arrived(feed.damaged)
            if self._manner.every:
                self._rest_for(pace.until_due(time.monotonic()))
            if pace.wants(time.monotonic() if shot.position is None else shot.position):
                self._give(shot)
            else:
                self.progress.skipped += 1
        return None

    def _rest_for(self, seconds: float) -> None:
        self.progress.beat = None
        self._stop.wait(seconds)
        self.progress.beat = time.monotonic()

    def _at_end(self, damaged: int, frames: int) -> SourceError | None:
        if self._stop.is_set():
            return None
        if not frames:
            return SourceError("It has no frame that can be decoded.", "play it with another program; copy it again.")
        if damaged:
            text = f"{counted(damaged, 'part')} of it could not be decoded."
            self.progress.error = SourceError(text, "play it with another program; copy it again.")
        return None

    def _arrived(self, damaged: int) -> None:
        progress = self.progress
        progress.frames += 1
        progress.newest = progress.beat = time.monotonic()
        progress.arrivals.append(progress.newest)
        self._count_damaged(damaged)
        if progress.state is not SourceState.running:
            progress.state, progress.error, progress.next_try = SourceState.running, None, 0.0

    def _count_damaged(self, here: int) -> None:
        self.progress.damaged = self._lost + here

    def _give(self, shot: Shot) -> None:
        try:
            rgb = shot.rgb()
        except SourceError as error:
            self._lost += 1
            self.progress.damaged += 1
            self.progress.problem = error
            return
        self.progress.height, self.progress.width = rgb.shape[:2]
        self.progress.beat = None
        self.mailbox.put(Frame(rgb, shot.source or self._name, time.monotonic(), self._clock.wall()))
        self.progress.beat = time.monotonic()
