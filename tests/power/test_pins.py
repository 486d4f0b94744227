"""gpiozero's devices on libgpiod: what is asked of the kernel. The kernel is played here; no header was at hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gpiod
import gpiozero
import pytest
from gpiod.line import Bias, Direction, Value
from gpiozero.exc import BadPinFactory, PinUnknownPi
from gpiozero.pins.local import LocalPiFactory

from appliance.errors import AbsentError
from appliance.hw import pins
from appliance.hw.gpio import MainsPin, MainsWiring
from appliance.hw.led import GpioLed


class Line:
    """What one program has of a chip (gpiod.LineRequest)."""

    def __init__(self, chip: Chip, number: int) -> None:
        self._chip, self._number = chip, number

    def reconfigure_lines(self, config: dict[int, gpiod.LineSettings]) -> None:
        self._chip.set(config)

    def get_value(self, number: int) -> Value:
        return self._chip.levels[number]

    def set_value(self, number: int, value: Value) -> None:
        self._chip.levels[number] = value

    def release(self) -> None:
        self._chip.held.remove(self._number)


class Chip:
    """A header: its lines' settings and levels (gpiod.Chip)."""

    def __init__(self) -> None:
        self.settings: dict[int, gpiod.LineSettings] = {}
        self.levels: dict[int, Value] = {}
        self.held: list[int] = []

    def request_lines(self, config: dict[int, gpiod.LineSettings], consumer: str) -> Line:
        (number,) = config
        if number in self.held:
            raise OSError(16, "Device or resource busy")
        self.held.append(number)
        self.set(config)
        return Line(self, number)

    def set(self, config: dict[int, gpiod.LineSettings]) -> None:
        for number, given in config.items():
            self.settings[number] = given
            if given.direction is Direction.OUTPUT:
                self.levels[number] = given.output_value

    def close(self) -> None:
        assert not self.held, "pins are given back first"


def unknown(_: LocalPiFactory) -> int:
    """A kernel whose device tree does not tell the board's revision."""
    raise PinUnknownPi("unable to locate Pi revision")


@pytest.fixture
def chip(monkeypatch: pytest.MonkeyPatch) -> Iterator[Chip]:
    """The header of a Raspberry Pi 5."""
    found = Chip()
    monkeypatch.setattr(pins, "header", lambda: found)
    monkeypatch.setattr(LocalPiFactory, "_get_revision", unknown)
    monkeypatch.delenv("GPIOZERO_PIN_FACTORY", raising=False)
    monkeypatch.setattr(gpiozero.Device, "pin_factory", None)
    yield found
    gpiozero.Device.pin_factory.close()


@pytest.mark.parametrize(("pull", "bias"), [("up", Bias.PULL_UP), ("down", Bias.PULL_DOWN), ("none", Bias.DISABLED)])
def test_mains_is_read_with_the_boards_resistor(chip: Chip, pull: Any, bias: Bias) -> None:
    pin = MainsPin(MainsWiring(6, True, pull))
    chip.levels[6] = Value.ACTIVE
    assert pin.mains() is True
    assert (chip.settings[6].direction, chip.settings[6].bias) == (Direction.INPUT, bias)
    chip.levels[6] = Value.INACTIVE
    assert pin.mains() is False
    pin.close()
    assert chip.held == []
    assert pin.mains() is False
    assert chip.held == [6]


def test_a_led_is_driven_and_given_back(chip: Chip) -> None:
    led = GpioLed(17)
    assert (chip.settings[17].direction, chip.levels[17]) == (Direction.OUTPUT, Value.INACTIVE)
    led.show("healthy")
    assert chip.levels == {17: Value.ACTIVE}
    led.show("off")
    assert chip.levels == {17: Value.INACTIVE}
    led.close()
    assert chip.held == []
    led.show("healthy")
    assert (chip.held, chip.levels[17]) == ([17], Value.ACTIVE)
    led.close()


def test_a_pin_that_another_program_has_is_absent(chip: Chip) -> None:
    chip.held.append(6)
    with pytest.raises(AbsentError, match="Device or resource busy"):
        MainsPin(MainsWiring(6)).mains()
    chip.held.clear()


def test_what_is_no_header_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pins, "CHIPS", "null")
    with pytest.raises(BadPinFactory, match="/dev/null: "):
        pins.header()
    monkeypatch.setattr(pins, "DEVICES", Path("/nowhere"))
    with pytest.raises(BadPinFactory, match="no /nowhere/"):
        pins.header()


def test_without_a_header_mains_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pins, "DEVICES", Path("/nowhere"))
    monkeypatch.delenv("GPIOZERO_PIN_FACTORY", raising=False)
    monkeypatch.setattr(gpiozero.Device, "pin_factory", None)
    with pytest.raises(AbsentError, match="no chip of a header here"):
        MainsPin(MainsWiring(6)).mains()
