"""Switch machines off, and wake them over the network (Wake-on-LAN)."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from pydantic import Field

from appliance.core.actions import Params
from appliance.core.fleet.operations.host import Host
from appliance.core.fleet.operations.kind import Kind, Look
from appliance.core.fleet.operations.kinds.reboot import EVERY, GOING, UntoldError, life
from appliance.core.model import Role
from appliance.errors import CommandFailedError, ShellError

THERE = r"""
packet=$1; address=$2; port=$3; mac=$4
if command -v python3 >/dev/null 2>&1; then
  exec python3 -c 'import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
s.sendto(bytes.fromhex(sys.argv[1]), (sys.argv[2], int(sys.argv[3])))' "$packet" "$address" "$port"
elif command -v perl >/dev/null 2>&1; then
  exec perl -MSocket -e 'socket(my $s, PF_INET, SOCK_DGRAM, 17) or die "$!"; setsockopt($s, SOL_SOCKET, SO_BROADCAST, 1);
send($s, pack("H*", $ARGV[0]), 0, pack_sockaddr_in($ARGV[2], inet_aton($ARGV[1]))) or die "$!"' "$packet" "$address" "$port"
elif command -v etherwake >/dev/null 2>&1; then exec etherwake "$mac"
elif command -v ether-wake >/dev/null 2>&1; then exec ether-wake "$mac"
else echo 'there is neither python3, perl nor etherwake here' >&2; exit 127; fi
"""
OFF_WITHIN = 120.0
"""Seconds for a machine to go."""
SILENT = 3
"""Tries in a row without an answer after which it counts as off: one alone may be a link that was cut."""
QUICK = 2.0
"""Seconds that one of those tries may take: a new connection to where nobody is any more may take far longer to fail."""
LOOK = 4.0
"""Seconds to answer after which a machine counts as asleep; to wake one that is awake does no harm."""
LONGEST = 15.0
"""Seconds that a woken machine is given to answer one question; the first ones get less, for it may just be starting."""


def magic_packet(mac: str) -> bytes:
    """What a sleeping card listens for: six bytes of ones, then its address sixteen times.

    Args:
        mac: Six bytes in hex, with ":" or "-" between.

    Raises:
        ValueError: It is none.
    """
    address = bytes.fromhex(mac.replace(":", "").replace("-", ""))
    if len(address) != 6:
        raise ValueError(f"{mac!r} is no hardware address")
    return b"\xff" * 6 + address * 16


def wake(mac: str, address: str, port: int) -> None:
    """Send the packet from here. Raises ValueError, OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sock.sendto(magic_packet(mac), (address, port))


class Off(Params):
    """Nothing is asked."""


class On(Params):
    """How a machine is woken."""

    through: str = Field(
        "", max_length=63, description="A node of its network that sends the packet; from here where none is given"
    )
    address: str = Field("255.255.255.255", pattern=r"^[0-9.]{7,15}$", description="Broadcast address of its network")
    port: int = Field(9, ge=1, le=65535, description="UDP port")
    wait: float = Field(180.0, ge=1, le=3600, description="Seconds to wait until it answers")


class PowerOff(Kind):
    """Switch machines off."""

    name, summary, params = "power.off", "Switch machines off", Off
    role, watched, stays = Role.admin, False, False

    def words(self, args: Any) -> str:
        """See Kind."""
        return "switch off"

    def own_machine(self) -> str:
        """See Kind."""
        return "switched off"

    async def look(self, host: Host, args: Any) -> Look:
        """See Kind; one that does not answer once it was told to go is off."""
        try:
            await life(host)
        except ShellError:
            if host.planning:
                raise
            return Look(found={"on": False})
        mac = host.node.mac
        stays = "" if mac else "no hardware address (mac) of it is in the inventory, so it cannot be woken from here"
        return Look(found={"on": True}, diff="- on\n+ off", undo={} if mac else None, cannot_undo=stays)

    async def apply(self, host: Host, args: Any, look: Look) -> str:
        """See Kind."""
        loop = asyncio.get_running_loop()
        ends, silent = loop.time() + OFF_WITHIN, 0
        before = await life(host)
        await host.do(GOING, "poweroff", "poweroff", sudo=True)
        host.say(f"{host.name} was told to switch off")
        while loop.time() < ends:
            await asyncio.sleep(EVERY)
            try:
                now, silent = await life(host, QUICK), 0
            except (ShellError, UntoldError):
                silent += 1
                if silent < SILENT:
                    continue
                host.shell.off(host.name, "it was switched off from here")
                return "it does not answer any more"
            if now != before:
                raise host.failed("it was started anew instead", next_step="look at its firmware's power settings.")
        raise host.failed(f"it still answers after {OFF_WITHIN:g} s", next_step="look at it.")

    async def undo(self, host: Host, args: Any, look: Look) -> None:
        """See Kind."""
        await PowerOn().apply(host, On(), look)


class PowerOn(Kind):
    """Wake machines."""

    name, summary, params = "power.on", "Wake machines over the network", On
    dangerous, watched = False, False
    cannot_undo = "a machine that was woken is switched off by power.off"

    def words(self, args: Any) -> str:
        """See Kind."""
        return f"wake{f' through {args.through}' if args.through else ''}"

    async def look(self, host: Host, args: Any) -> Look:
        """See Kind."""
        try:
            await host.read("true", limit=min(host.limit, LOOK))
        except (ShellError, CommandFailedError):
            mac = host.node.mac
            why = "" if mac else f"no hardware address (mac) of {host.name} is in the inventory."
            step = f"`prime-spark fleet change {host.name} --mac …`."
            return Look(found={"on": False}, diff="- it does not answer\n+ on", refuse=why, next_step=step)
        return Look(found={"on": True})

    async def apply(self, host: Host, args: Any, look: Look) -> str:
        """See Kind."""
        loop = asyncio.get_running_loop()
        began, last, limit = loop.time(), "", QUICK
        while loop.time() - began < args.wait:
            await self._wake(host, args)
            try:
                await host.read("true", limit=min(host.limit, limit))
            except (ShellError, CommandFailedError) as error:
                last, limit = error.message, min(LONGEST, 1.5 * limit)
                host.shell.off(host.name, "it is being woken")  # a connection that was begun before it was there hangs on
                await asyncio.sleep(EVERY)
                continue
            return f"it answers after {loop.time() - began:.0f} s"
        raise ShellError(f"{host.name} was sent the packet and does not answer within {args.wait:g} s: {last}", "look at it.")

    async def _wake(self, host: Host, args: Any) -> None:
        mac = host.node.mac
        try:
            packet = magic_packet(mac)
            if not args.through:
                await asyncio.to_thread(wake, mac, args.address, args.port)
                return
        except (ValueError, OSError) as error:
            raise host.failed(f"the packet cannot be sent: {error}", next_step="look at mac and address.") from error
        command = ["sh", "-c", THERE, "sh", packet.hex(), args.address, str(args.port), mac]
        ran = await host.shell.run(args.through, command, limit=host.limit)
        if ran.exit_status:
            told = ran.stderr.decode("utf-8", "replace").strip()
            raise host.failed(f"{args.through} cannot send the packet: {told}", next_step="name another node of its network.")


KINDS = (PowerOff(), PowerOn())
