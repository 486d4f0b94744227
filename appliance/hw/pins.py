"""The pins of a Raspberry Pi's header for gpiozero, through the kernel's character devices and libgpiod.

gpiozero's own way to a Pi 5 is lgpio: it has no wheel for Python 3.13, and cannot be imported where the working directory is
read-only, as a service's is. Inputs with their resistor and outputs are all that is wanted here.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import gpiod
from gpiod.line import Bias, Direction, Value
from gpiozero import Device
from gpiozero.exc import BadPinFactory, PinFixedPull, PinInvalidFunction, PinInvalidPull, PinSetInput, PinUnknownPi
from gpiozero.pins.local import LocalPiFactory, LocalPiPin

HEADERS = frozenset({"pinctrl-rp1", "pinctrl-bcm2711", "pinctrl-bcm2835"})
"""What drivers call the chip behind the header: of the Pi 5, of the Pi 4, of those before. Its lines have BCM's numbers."""
DEVICES, CHIPS = Path("/dev"), "gpiochip*"
PULLS = {"up": Bias.PULL_UP, "down": Bias.PULL_DOWN, "floating": Bias.DISABLED}
OWNER = "prime-spark"
FORTY_PINS = 0xD04170
"""Revision code of a Raspberry Pi 5; gpiozero asks for one to know which pins there are, and all since 2014 have the same."""


def take_header() -> None:
    """Have gpiozero reach pins this way, unless another one was chosen (GPIOZERO_PIN_FACTORY) or is in use.

    Raises:
        BadPinFactory: No chip of a header can be opened.
    """
    if Device.pin_factory is None and "GPIOZERO_PIN_FACTORY" not in os.environ:
        Device.pin_factory = HeaderFactory()


def header() -> gpiod.Chip:
    """The chip behind the header. Raises BadPinFactory."""
    reasons = []
    for path in sorted(DEVICES.glob(CHIPS)):
        try:
            chip = gpiod.Chip(str(path))
        except OSError as error:
            reasons.append(f"{path}: {error.strerror}")
            continue
        label = chip.get_info().label
        if label in HEADERS:
            return chip
        chip.close()
        reasons.append(f"{path} is {label}")
    raise BadPinFactory(f"no chip of a header here ({', '.join(reasons) or f'no {DEVICES / CHIPS}'})")


class HeaderFactory(LocalPiFactory):  # type: ignore[misc]
    """Makes the pins."""

    def __init__(self) -> None:
        super().__init__()
        self.chip: gpiod.Chip | None = header()
        self.pin_class = HeaderPin

    def _get_revision(self) -> int:
        """Of the board, as its firmware says; where the kernel's device tree has no place for that, any board with 40 pins."""
        try:
            return int(super()._get_revision())
        except PinUnknownPi:
            return FORTY_PINS

    def close(self) -> None:
        """Give all of them back; more than once is fine."""
        super().close()
        chip, self.chip = self.chip, None
        if chip is not None:
            chip.close()


class HeaderPin(LocalPiPin):  # type: ignore[misc]
    """One pin: the kernel gives it to one program at a time, from its first use to its end."""

    def __init__(self, factory: HeaderFactory, info: Any) -> None:
        super().__init__(factory, info)
        self._request: gpiod.LineRequest | None = None
        self._take("input", "floating")

    def _take(self, function: str, pull: str, state: bool = False) -> None:
        way = Direction.OUTPUT if function == "output" else Direction.INPUT
        bias = Bias.AS_IS if function == "output" else PULLS[pull]
        wanted: dict[Any, gpiod.LineSettings | None] = {
            self._number: gpiod.LineSettings(way, bias=bias, output_value=Value(int(state)))
        }
        if self._request is None:
            self._request = self.factory.chip.request_lines(wanted, OWNER)
        else:
            self._request.reconfigure_lines(wanted)
        self._function, self._pull = function, pull

    def close(self) -> None:
        """Give it back; more than once is fine."""
        request, self._request = self._request, None
        if request is not None:
            request.release()

    def output_with_state(self, state: bool) -> None:
        """Drive it, from the first moment at this level."""
        self._take("output", "floating", bool(state))

    def input_with_pull(self, pull: str) -> None:
        """Listen, with that resistor."""
        self._take("input", self._resistor(pull))

    def _resistor(self, pull: str) -> str:
        if pull not in PULLS:
            raise PinInvalidPull(f"{pull!r} is no resistor of {self!r}")
        if self.info.pull not in (pull, ""):
            raise PinFixedPull(f"{self!r} has a resistor on the board: pulled {self.info.pull}")
        return pull

    def _get_function(self) -> str:
        return self._function

    def _set_function(self, value: str) -> None:
        if value not in ("input", "output"):
            raise PinInvalidFunction(f"{value!r} is no function of {self!r}")
        self._take(value, "floating")

    def _get_state(self) -> bool:
        if self._request is None:  # it was given back, and is taken again
            self._take(self._function, self._pull)
        assert self._request is not None
        return bool(self._request.get_value(self._number) is Value.ACTIVE)

    def _set_state(self, value: bool) -> None:
        if self._function == "input":
            raise PinSetInput(f"{self!r} is an input")
        if self._request is None:
            self._take(self._function, self._pull, bool(value))
        else:
            self._request.set_value(self._number, Value(int(bool(value))))

    def _get_pull(self) -> str:
        return self._pull

    def _set_pull(self, value: str) -> None:
        if self._function != "input":
            raise PinFixedPull(f"{self!r} is an output")
        self._take("input", self._resistor(value))
