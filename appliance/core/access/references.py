"""Secrets that lie elsewhere: what is unreachable is told, and its last good value used while that lives; never a default."""

from __future__ import annotations

import base64
import binascii
import json
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from appliance.core.access.errors import SecretAwayError, SecretGoneError
from appliance.core.ports import Clock
from appliance.errors import ApplianceError, StoreError

log = logging.getLogger(__name__)

KEPT = "kept"
"""Folder of last good values, beside the secrets."""
LARGEST = 64 << 10
"""Bytes of a secret."""
PAUSE = 10.0
"""Seconds after a failure in which the same source is not asked again."""
Fetch = Callable[[str], bytes]
"""(what stands behind the colon) → the value; blocks. Raises SecretAwayError, SecretGoneError."""
Write = Callable[[Path, bytes], None]
"""Writes a file of mode 0600."""


class SecretStatus(msgspec.Struct, frozen=True):
    """A secret that lies elsewhere, as people see it."""

    name: str
    reference: str
    here: bool
    """There is a value to use."""
    age: float | None
    """Seconds since it was fetched; None where it never was."""
    kept: bool
    """It is the last good one: the source does not answer now."""
    problem: str
    next_step: str
    changed: bool
    """Another value than the one that is in use: a start takes it up."""


@dataclass
class _Held:
    value: bytes
    wall: float
    monotonic: float | None
    """None where it is of a run before this one."""


class References:
    """Fetches, keeps and hands out; may be called from any thread.

    Args:
        given: Reference by name.
        sources: What fetches, by what stands before the colon.
        folder: Where last good values lie.
        write: Writes a private file.
        clock: Both clocks.
        keep_seconds: How long a last good value lives; 0: in memory alone, as long as this process.
    """

    def __init__(
        self, given: Mapping[str, str], sources: Mapping[str, Fetch], folder: Path, write: Write, clock: Clock,
        keep_seconds: float,
    ) -> None:  # fmt: skip
        self.given, self._sources, self._folder = dict(given), dict(sources), folder
        self._write, self._clock, self._keep = write, clock, keep_seconds
        self._held: dict[str, _Held] = {}
        self._used: dict[str, bytes] = {}
        self._problems: dict[str, ApplianceError] = {}
        self._quiet: dict[str, tuple[float, ApplianceError]] = {}
        self._lock = threading.Lock()
        self.background = False
        """Somebody refreshes: whoever asks for a secret does not wait for the network."""

    def get(self, name: str) -> bytes:
        """The value. Blocks where it was never fetched. Raises SecretAwayError, SecretGoneError."""
        with self._lock:
            held = self._held.get(name)
            if (held is None or name in self._problems) and not self.background:
                self._refresh(name)
            value = self._living(name)
            self._used[name] = value
            return value

    def refresh(self) -> None:
        """Fetch all of them; blocks."""
        for name in self.given:
            with self._lock:
                self._refresh(name)

    def _refresh(self, name: str) -> None:
        kind, _, where = self.given[name].partition(":")
        try:
            value = self._fetch(kind, where)
        except SecretGoneError as error:  # it was taken away there: no value of it is good any more
            self._held.pop(name, None)
            self._forget(name)
            self._fail(name, error)
        except (SecretAwayError, StoreError) as error:
            self._fail(name, error)
            if name not in self._held and (found := self._read(name)) is not None:
                self._held[name] = found
        else:
            self._problems.pop(name, None)
            self._take(name, value, keep=kind == "vault")

    def _fetch(self, kind: str, where: str) -> bytes:
        until, before = self._quiet.get(kind, (0.0, None))
        if before is not None and self._clock.monotonic() < until:
            raise before
        try:
            value = self._sources[kind](where)
        except SecretAwayError as error:
            if error.whole:  # whatever else lies there is as far away
                self._quiet[kind] = self._clock.monotonic() + PAUSE, error
            raise
        if not value or len(value) > LARGEST:
            wrong = "empty" if not value else f"larger than {LARGEST} bytes"
            raise SecretAwayError(f"It is {wrong} there.", "put it right there.")
        return value

    def _fail(self, name: str, error: ApplianceError) -> None:
        before = self._problems.get(name)
        if before is None or before.message != error.message:
            log.warning("the secret %s cannot be fetched from %s: %s", name, self.given[name], error.message)
        self._problems[name] = error

    def _take(self, name: str, value: bytes, *, keep: bool) -> None:
        before = self._held.get(name)
        self._held[name] = _Held(value, self._clock.wall(), self._clock.monotonic())
        stale = before is None or before.value != value or self._clock.wall() - before.wall > 3600
        if keep and self._keep and stale:
            body = {"reference": self.given[name], "fetched": self._clock.wall(), "value": base64.b64encode(value).decode()}
            try:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._write(self._folder / name, json.dumps(body).encode())
            except OSError as error:
                log.warning("the last good value of %s is not kept: %s", name, error.strerror)

    def _read(self, name: str) -> _Held | None:
        if not self._keep:
            return None
        path = self._folder / name
        try:
            body = json.loads(path.read_bytes())
            if body["reference"] != self.given[name]:
                return None
            return _Held(base64.b64decode(body["value"], validate=True), float(body["fetched"]), None)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, binascii.Error) as error:
            log.warning("the last good value of %s cannot be read: %s", name, error)
            return None

    def _forget(self, name: str) -> None:
        try:
            (self._folder / name).unlink(missing_ok=True)
        except OSError as error:
            log.warning("the last good value of %s cannot be removed: %s", name, error.strerror)

    def _age(self, held: _Held) -> float:
        """Seconds; by the monotonic clock where it can tell, for a wall clock that is set makes nothing old or young."""
        if held.monotonic is not None:
            return self._clock.monotonic() - held.monotonic
        return max(0.0, self._clock.wall() - held.wall)

    def _living(self, name: str) -> bytes:
        """The value while it lives. Raises SecretAwayError, SecretGoneError."""
        held, problem = self._held.get(name), self._problems.get(name)
        if held is not None and (problem is None or not self._keep or self._age(held) < self._keep):
            return held.value
        if isinstance(problem, SecretGoneError):
            raise problem
        told = problem.message if problem is not None else "It was not fetched yet."
        old = f" Its last good value is {self._age(held) / 3600:.0f} h old, and used no more." if held is not None else ""
        step = problem.next_step if problem is not None else "wait a moment."
        raise SecretAwayError(f"The secret {name} cannot be had: {told}{old}", step)

    def status(self) -> list[SecretStatus]:
        """All, by name."""
        with self._lock:
            return [self._status(name) for name in sorted(self.given)]

    def _status(self, name: str) -> SecretStatus:
        held, problem = self._held.get(name), self._problems.get(name)
        try:
            value: bytes | None = self._living(name)
        except (SecretAwayError, SecretGoneError):
            value = None
        used = self._used.get(name)
        return SecretStatus(
            name, self.given[name], value is not None, None if held is None else self._age(held),
            value is not None and problem is not None, problem.message if problem is not None else "",
            problem.next_step if problem is not None else "", value is not None and used is not None and used != value,
        )  # fmt: skip
