"""The tested program of the rig: the drivers as they are, told by lines what to do.

Argument: JSON of hw.ups.found.Wanted. Orders: {"probe": true} → names; {"read": name} → the reading, or its error;
{"detect": true} → what each driver says; {"pin": [6, true]} → drives a pin of gpiozero's mock factory.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import msgspec

from appliance.core.power.model import Ups
from appliance.errors import ApplianceError
from appliance.hw.ups.found import Wanted, drivers


class Program:
    """Finds UPSes and reads them."""

    def __init__(self, wanted: Wanted) -> None:
        self.drivers = drivers(wanted)
        self.upses: dict[str, Ups] = {}

    async def obey(self, order: dict[str, Any]) -> Any:
        if "probe" in order:
            found = [ups for driver in self.drivers for ups in await driver.probe()]
            self.upses = {ups.name: ups for ups in found}
            return [[ups.name, ups.kind, ups.interval] for ups in found]
        if "detect" in order:
            return await asyncio.to_thread(lambda: [driver.detect() for driver in self.drivers])
        if "pin" in order:
            return drive(*order["pin"])
        try:
            return await self.upses[order["read"]].read()
        except ApplianceError as error:
            return {"error": type(error).__name__, "message": error.message, "next": error.next_step}


def drive(number: int, high: bool) -> dict[str, bool]:
    from gpiozero import Device

    Device.ensure_pin_factory()
    pin = Device.pin_factory.pin(number)
    pin.drive_high() if high else pin.drive_low()
    return {"done": True}


async def main() -> None:
    program = Program(msgspec.json.decode(sys.argv[1], type=Wanted))
    while line := await asyncio.to_thread(sys.stdin.readline):
        answer = await program.obey(msgspec.json.decode(line))
        sys.stdout.write(msgspec.json.encode(answer).decode() + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main())
