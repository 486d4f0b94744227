"""Runs under Debian's own Python and umockdev: makes an I2C bus and power supplies, and the tested program as a child.

One JSON object a line on standard input. Its own are carried out and answered with {"done": true}:

    {"chips": {"54": {"2": 51200}}}   registers of the chips, by address; words as the data sheets have them; others keep theirs
    {"fault": {"54": 5}}              errno of every transfer to an address (0: none); EREMOTEIO where nothing is said of one
    {"hang": true}                    the bus answers nothing more, until {"hang": false}
    {"unplug": true}                  the bus's node disappears, until {"unplug": false}
    {"supply": ["BAT0", {"type": "Battery"}]}, {"attribute": ["BAT0", "capacity", "80"]}, {"remove": "BAT0"}
    {"written": true}                 answered with what was written: [[address, register, word], …]

Any other goes to the child, whose answer of one line is passed on.
"""

from __future__ import annotations

import errno
import json
import os
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import gi

gi.require_version("UMockdev", "1.0")
from gi.repository import GLib, UMockdev  # noqa: E402

I2C_SLAVE, I2C_FUNCS, I2C_SMBUS = 0x703, 0x705, 0x720
READ, WORD_DATA = 1, 3
FUNCTIONS = 0x0EFF0009
"""As of a Raspberry Pi's bus: I2C, and SMBus emulated."""
BUS = """P: /devices/platform/soc/1.i2c/i2c-1/i2c-dev/i2c-1
N: i2c-1
E: DEVNAME=/dev/i2c-1
E: SUBSYSTEM=i2c-dev
A: dev=89:1\\n
"""


class Bus:
    """Chips with registers of two bytes, the high byte first."""

    def __init__(self) -> None:
        self.chips: dict[int, dict[int, int]] = {}
        self.faults: dict[int, int] = {}
        self.written: list[tuple[int, int, int]] = []
        self.hangs = False
        self.held: list[Any] = []
        self.address = 0

    def transfer(self, _: Any, client: Any) -> bool:
        """Answer an ioctl as the kernel does for a chip that holds these registers."""
        request, argument = client.get_request(), client.get_arg()
        if self.hangs:
            self.held.append(client)
            return True
        if request == I2C_FUNCS:
            argument.resolve(0, 8).update(0, struct.pack("Q", FUNCTIONS))
        elif request == I2C_SLAVE:
            self.address = struct.unpack("Q", bytes(argument.retrieve()))[0]
        elif request == I2C_SMBUS:
            fault = self.smbus(argument.resolve(0, 16))
            client.complete(-1 if fault else 0, fault)
            return True
        else:
            client.complete(-1, errno.ENOTTY)
            return True
        client.complete(0, 0)
        return True

    def let_go(self) -> bool:
        """Fail what hangs, as the kernel does in the end."""
        while self.held:
            self.held.pop().complete(-1, errno.ETIMEDOUT)
        return False

    def smbus(self, block: Any) -> int:
        way, register, size = struct.unpack("BB2xI", bytes(block.retrieve())[:8])
        if fault := self.faults.get(self.address, 0 if self.address in self.chips else errno.EREMOTEIO):
            return fault
        if size != WORD_DATA:
            return errno.EOPNOTSUPP
        data = block.resolve(8, 34)
        if way == READ:
            data.update(0, struct.pack(">H", self.chips[self.address].get(register, 0)))
        else:
            word = struct.unpack(">H", bytes(data.retrieve())[:2])[0]
            self.written.append((self.address, register, word))
            self.chips[self.address][register] = word
        return 0


class Rig:
    """The simulated machine and the child that runs on it."""

    def __init__(self, command: list[str]) -> None:
        self.testbed = UMockdev.Testbed.new()
        self.testbed.add_from_string(BUS)
        self.bus = Bus()
        handler = UMockdev.IoctlBase()
        handler.connect("handle-ioctl", self.bus.transfer)
        self.testbed.attach_ioctl("/dev/i2c-1", handler)
        self.node = Path(self.testbed.get_root_dir()) / "dev/i2c-1"
        self.supplies: dict[str, str] = {}
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

    def obey(self, order: dict[str, Any]) -> Any:
        """Carry out an order of the rig's own; None for one of the child's."""
        bus = self.bus
        if "chips" in order:
            for address, registers in order["chips"].items():
                bus.chips.setdefault(int(address), {}).update({int(key): word for key, word in registers.items()})
        elif "fault" in order:
            bus.faults = {int(address): number for address, number in order["fault"].items()}
        elif "hang" in order:
            bus.hangs = order["hang"]
            if not bus.hangs:
                GLib.idle_add(bus.let_go)
        elif "unplug" in order:
            self.node.rename(self.node.with_name("aside")) if order["unplug"] else self.node.with_name("aside").rename(
                self.node
            )
        elif "supply" in order:
            name, values = order["supply"]
            attributes = [part for key, value in values.items() for part in (key, f"{value}\n")]
            self.supplies[name] = self.testbed.add_device("power_supply", name, None, attributes, [])
        elif "attribute" in order:
            name, key, value = order["attribute"]
            self.testbed.set_attribute(self.supplies[name], key, f"{value}\n")
        elif "remove" in order:
            self.testbed.remove_device(self.supplies.pop(order["remove"]))
        elif "written" in order:
            return bus.written
        else:
            return None
        return {"done": True}

    def serve(self, loop: GLib.MainLoop) -> None:
        """Take orders until there are no more; runs beside the loop that answers the child's ioctls."""
        try:
            for line in sys.stdin:
                answer = self.obey(json.loads(line))
                if answer is None:
                    self.child.stdin.write(line)
                    said = self.child.stdout.readline()
                else:
                    said = json.dumps(answer) + "\n"
                sys.stdout.write(said)
                sys.stdout.flush()
        finally:
            self.child.kill()
            self.child.wait()
            loop.quit()


def main() -> None:
    """Serve until standard input ends."""
    loop = GLib.MainLoop()
    rig = Rig(sys.argv[1:])
    threading.Thread(target=rig.serve, args=(loop,), daemon=True).start()
    loop.run()
    os._exit(0)  # a hung ioctl's thread would be waited for


if __name__ == "__main__":
    main()
