"""A pin by which a power board tells of mains, through gpiozero."""

from __future__ import annotations

import logging
from typing import Any, Literal

import msgspec

from appliance.errors import AbsentError, DeviceError

log = logging.getLogger(__name__)

Pull = Literal["up", "down", "none"]


class MainsWiring(msgspec.Struct, frozen=True):
    """How a board shows that mains is there.

    Geekworm X1200, X1201, X1202: GPIO 6, high while there is mains. Geekworm X728: GPIO 6, low while there is mains.
    """

    pin: int = 6
    """BCM number."""
    high_is_mains: bool = True
    pull: Pull = "up"
    """The Pi's own resistor; GPIO 0 to 8 are pulled up when it starts (BCM2711 and RP1 data sheets), as these boards expect."""

    def driven(self, mains: bool) -> bool:
        """Whether only a board says so: a loose pin has the level of its resistor.

        Args:
            mains: What the pin was taken to say.
        """
        high = mains is self.high_is_mains
        return {"up": not high, "down": high, "none": False}[self.pull]

    @property
    def shown(self) -> str:
        """In words."""
        return f"GPIO {self.pin}, {'high' if self.high_is_mains else 'low'} on mains"


class MainsPin:
    """Reads the pin; takes it at the first reading, and again after close or an error.

    Args:
        wiring: Which pin, and what its levels mean.
    """

    def __init__(self, wiring: MainsWiring) -> None:
        self.wiring = wiring
        self._device: Any = None

    def mains(self) -> bool:
        """Whether the board says that mains is there; blocks for less than a millisecond once the pin was taken.

        Raises:
            AbsentError: This machine has no GPIO, or the pin is in use.
            DeviceError: The pin cannot be read.
        """
        if self._device is None:
            self._device = self._open()
        try:
            high = bool(self._device.pin.state)
        except Exception as error:
            log.debug("a pin cannot be read", exc_info=True)  # libraries of pins have errors of their own
            self.close()
            raise DeviceError(f"GPIO {self.wiring.pin} cannot be read: {error}.", "see: dmesg | tail") from error
        return high is self.wiring.high_is_mains

    def close(self) -> None:
        """Give the pin back; more than once is fine."""
        device, self._device = self._device, None
        if device is not None:
            device.close()

    def _open(self) -> Any:
        pull = {"up": True, "down": False, "none": None}[self.wiring.pull]
        try:
            import gpiozero

            from appliance.hw import pins

            pins.take_header()
            return gpiozero.InputDevice(self.wiring.pin, pull_up=pull, active_state=True if pull is None else None)
        except Exception as error:
            log.debug("a pin cannot be taken", exc_info=True)  # as above; and there may be no library at all
            step = "choose the pin that the board's maker names, or none, in the power settings."
            raise AbsentError(f"Mains cannot be read from GPIO {self.wiring.pin}: {error}.", step) from error
