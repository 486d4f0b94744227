"""Which device each request goes to, in one look at all that wait: who waits before it counts."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Sequence

from appliance.core.inference.engine import scheduler
from appliance.core.inference.engine.device import EngineDevice
from appliance.core.inference.engine.queue import Item
from appliance.core.inference.engine.scheduler import Candidate, Choice
from appliance.core.inference.model import ModelVersion
from appliance.errors import AbsentError, ModelError

log = logging.getLogger(__name__)

Kind = tuple[str, frozenset[str]]
"""Requests for one model that failed on the same devices: where one of them has to wait, so have the others behind it."""


def kind(item: Item) -> Kind:
    """Of a request."""
    return item.key, frozenset(item.failed)


class Line:
    """One look at what waits, the most urgent first: how much work waits for each device before a request."""

    def __init__(self) -> None:
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._waits: dict[Kind, tuple[str, float, float]] = {}

    def ahead(self, device: str) -> float:
        """Seconds of work that wait for it so far."""
        return self._seconds[device]

    def waits(self, item: Item) -> bool:
        """Whether it need not be looked at: it waits behind its like, and nobody else would answer sooner."""
        if (told := self._waits.get(kind(item))) is None:
            return False
        device, each, most = told
        if self._seconds[device] > most:
            return False
        self._seconds[device] += each
        return True

    def add(self, item: Item, device: str, each: float, slack: float) -> None:
        """This one has to wait for a device.

        Args:
            item: The request.
            device: For which it waits.
            each: Seconds of work that one such request is.
            slack: Seconds of further work before one of its kind, from which on another device is better.
        """
        self._waits[kind(item)] = device, each, self._seconds[device] + slack
        self._seconds[device] += each


class Chooser:
    """Picks devices.

    Args:
        devices: In the order of preference.
        power: See engine.build.
    """

    def __init__(self, devices: Sequence[EngineDevice], power: Callable[[], str | None]) -> None:
        self._devices = devices
        self._power = power
        self._dumb = False
        """The power mode could not be had when it was asked for last."""

    def possible(self, version: ModelVersion) -> None:
        """Raises AbsentError where no device can ever run it."""
        if all(device.lacks(version) for device in self._devices):
            raise AbsentError(
                f"No device can run {version.key}: {self.why(version)}.", "add a file of a kind that a device runs."
            )

    def why(self, version: ModelVersion) -> str:
        """Why devices do not run it now."""
        told = (
            f"{each.name}: {each.lacks(version) or each.reason}"
            for each in self._devices
            if not each.works or each.lacks(version)
        )
        return "; ".join(told) or "there is none"

    def choose(self, item: Item, line: Line) -> tuple[Choice, float]:
        """The device for a request, and how many seconds of further work may wait before it until another is better."""
        candidates = [self._candidate(device, item, line) for device in self._devices]
        power = self._mode()
        choice = scheduler.choose(candidates, power)
        chosen = next((each for each in candidates if each.name == choice.name), None)
        return choice, scheduler.slack(chosen, candidates, power) if chosen is not None else 0.0

    def _candidate(self, device: EngineDevice, item: Item, line: Line) -> Candidate:
        version = item.request.model
        error = item.failed.get(device.name) or device.broken(version.key)
        down = error.message if error is not None else "" if device.works else device.reason
        loaded = device.loaded.get(version.key)
        reading = device.reading
        return Candidate(
            device.name, device.lacks(version), down, device.hot, bool(reading and reading.throttled), device.free,
            device.wait() + line.ahead(device.name), loaded.pace.expected() if loaded else None, missing=device.missing,
        )  # fmt: skip

    def _mode(self) -> str | None:
        try:
            mode = self._power()
        except Exception:
            if not self._dumb:
                log.exception("the power mode is not known, and left out of account")
            self._dumb = True
            return None
        self._dumb = False
        return mode

    def hopeless(self, item: Item, choice: Choice) -> ModelError | AbsentError:
        """What to tell the caller of a request that no device takes."""
        able = [device for device in self._devices if not device.lacks(item.request.model)]
        known = [item.failed.get(device.name) or device.broken(item.key) for device in able]
        errors = [error for error in known if error is not None]
        if len(errors) == len(able) == 1:
            return errors[0]
        if errors:
            return ModelError(f"{item.key} ran on no device: {choice.reason}", errors[-1].next_step)
        return AbsentError(f"No device can run {item.key} now: {choice.reason}.", "see `prime-spark doctor`.")
