"""A status LED on a GPIO pin, through gpiozero."""

from __future__ import annotations

import logging
from typing import Any

from appliance.errors import AbsentError

log = logging.getLogger(__name__)

BLINK = {"degraded": (0.8, 0.8), "unhealthy": (0.15, 0.15)}
"""Seconds on and off."""


class GpioLed:
    """One LED (implements ports.StatusLed).

    Args:
        pin: BCM number.

    Raises:
        AbsentError: This machine has no GPIO, or the pin is in use.
    """

    def __init__(self, pin: int) -> None:
        self._pin = pin
        self._led: Any = _open(pin)
        self._shown = "off"

    def show(self, pattern: str) -> None:
        """Show "healthy" (on), "degraded" (slow blink), "unhealthy" (fast blink) or "off"; takes the pin again after close."""
        if pattern == self._shown:
            return
        if self._led is None:
            self._led = _open(self._pin)
        self._shown = pattern
        if pattern in BLINK:
            self._led.blink(*BLINK[pattern])
        elif pattern == "healthy":
            self._led.on()
        else:
            self._led.off()

    def close(self) -> None:
        """Give the pin back; more than once is fine."""
        led, self._led, self._shown = self._led, None, "off"
        if led is not None:
            led.close()


def _open(pin: int) -> Any:
    try:
        import gpiozero

        from appliance.hw import pins

        pins.take_header()
        return gpiozero.LED(pin)
    except Exception as error:
        log.debug("a pin cannot be taken", exc_info=True)  # pin libraries have errors of their own, or are not there
        raise AbsentError(f"No LED on GPIO {pin}: {error}.", "take headless.led_pin out of the settings.") from error
