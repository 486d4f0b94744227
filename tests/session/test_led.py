"""The status LED, on gpiozero's mock pins."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import gpiozero
import pytest
from gpiozero.pins.mock import MockFactory

from appliance.errors import AbsentError
from appliance.hw.led import GpioLed
from tests.support import wait_for_sync


@pytest.fixture
def pins(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    factory = MockFactory()
    monkeypatch.setattr(gpiozero.Device, "pin_factory", factory)
    yield factory
    factory.reset()


def changes(pin: Any) -> int:
    return len(pin.states)


def test_patterns(pins: Any) -> None:
    led = GpioLed(17)
    pin = pins.pin(17)
    assert not pin.state
    led.show("healthy")
    assert pin.state
    led.show("unhealthy")
    before = changes(pin)
    wait_for_sync(lambda: changes(pin) >= before + 4)
    led.show("healthy")
    after = changes(pin)
    led.show("healthy")
    assert changes(pin) == after
    assert pin.state
    led.show("off")
    assert not pin.state
    led.close()
    led.close()


def test_it_can_be_taken_again_after_close(pins: Any) -> None:
    led = GpioLed(17)
    led.show("healthy")
    led.close()
    led.show("healthy")
    assert pins.pin(17).state
    led.close()


def test_a_pin_in_use_is_absent(pins: Any) -> None:
    led = GpioLed(17)
    with pytest.raises(AbsentError, match="GPIO 17"):
        GpioLed(17)
    led.close()


def test_no_gpio_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpiozero.Device, "pin_factory", None)
    monkeypatch.setenv("GPIOZERO_PIN_FACTORY", "nosuch")
    with pytest.raises(AbsentError) as caught:
        GpioLed(17)
    assert "led_pin" in caught.value.next_step


def test_a_pin_library_that_is_named_and_missing_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpiozero.Device, "pin_factory", None)
    monkeypatch.setenv("GPIOZERO_PIN_FACTORY", "pigpio")
    monkeypatch.setitem(sys.modules, "pigpio", None)
    with pytest.raises(AbsentError, match="No LED on GPIO 17"):
        GpioLed(17)
