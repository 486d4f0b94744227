"""The configuration protocol of WireGuard in user space (wireguard.com/xplatform): lines of key=value over a UNIX socket.

A request is `get=1` or `set=1` with what is to be set; an empty line ends it and its answer. The answer's last line is errno=,
0 or what went wrong. Keys are in hexadecimal. A `set` is carried out line by line: what stands before a bad line is done.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Iterator
from pathlib import Path

from appliance.core.vpn.model import ActualPeer, Changes, Endpoint, PeerChange
from appliance.errors import TunnelError
from appliance.hw.wireguard.device import Device, key_text, network, public_of, raw_key
from appliance.hw.wireguard.faults import ProcessEndedError, failed, wrapped

ANSWER_SECONDS = 5.0
LARGEST_ANSWER = 2**24
"""Bytes; 250 peers take 0.1 MB."""
AGAIN = "restart the tunnel: prime-spark vpn reconcile."


def render(changes: Changes) -> str:
    """Lines of a `set` for the WireGuard part of changes, without its head. Raises ValueError for what is no key or network."""
    lines: list[str] = []
    if changes.private_key is not None:
        lines.append(f"private_key={raw_key(changes.private_key).hex()}")
    if changes.listen_port is not None:
        lines.append(f"listen_port={int(changes.listen_port)}")
    if changes.fwmark is not None:
        lines.append(f"fwmark={int(changes.fwmark)}")
    for peer in changes.peers:
        lines += _render_peer(peer)
    return "".join(f"{line}\n" for line in lines)


def _render_peer(change: PeerChange) -> Iterator[str]:
    yield f"public_key={raw_key(change.public_key).hex()}"
    if change.remove:
        yield "remove=true"
        return
    if not change.create:
        yield "update_only=true"
    if change.preshared is not None:
        yield f"preshared_key={raw_key(change.preshared).hex()}"
    if change.endpoint is not None:
        yield f"endpoint={place_text(change.endpoint)}"
    if change.keepalive is not None:
        yield f"persistent_keepalive_interval={int(change.keepalive)}"
    if change.allowed is not None:
        yield "replace_allowed_ips=true"
        yield from (f"allowed_ip={ipaddress.ip_network(each)}" for each in change.allowed)


def place_text(place: Endpoint) -> str:
    """ADDRESS:PORT, with brackets around IPv6."""
    address = ipaddress.ip_address(place.address)
    return f"[{address}]:{int(place.port)}" if address.version == 6 else f"{address}:{int(place.port)}"


def place(text: str) -> Endpoint:
    """What `place_text` wrote."""
    address, _, port = text.rpartition(":")
    return Endpoint(str(ipaddress.ip_address(address.strip("[]"))), int(port))


def parse(text: str, now: float | None = None) -> Device:
    """An answer to `get`. Raises ValueError where it is none.

    Args:
        text: Its lines.
        now: The wall clock, where handshakes are told by their age (boringtun).
    """
    device: dict[str, str] = {}
    peers: list[dict[str, str]] = []
    allowed: list[list[str]] = []
    for line in text.splitlines():
        name, mark, value = line.partition("=")
        if not mark:
            raise ValueError("a line without =")
        if name == "public_key":
            peers.append({name: value})
            allowed.append([])
        elif name == "allowed_ip":
            allowed[-1].append(value)
        else:
            (peers[-1] if peers and name != "errno" else device)[name] = value
    own = device.get("own_public_key")  # boringtun keeps the private one to itself
    return Device(
        key_text(bytes.fromhex(own)) if own else public_of(bytes.fromhex(device.get("private_key", "00" * 32))),
        int(device.get("listen_port", 0)),
        int(device.get("fwmark", 0)),
        tuple(_peer(values, networks, now) for values, networks in zip(peers, allowed, strict=True)),
    )


def _handshake(values: dict[str, str], now: float | None) -> float:
    seconds = int(values.get("last_handshake_time_sec", 0)) + int(values.get("last_handshake_time_nsec", 0)) / 1e9
    if now is None:
        return seconds
    return now - seconds if "last_handshake_time_sec" in values else 0.0


def _peer(values: dict[str, str], networks: list[str], now: float | None) -> ActualPeer:
    return ActualPeer(
        public_key=key_text(bytes.fromhex(values["public_key"])),
        allowed=tuple(network(*each.split("/", 1)) for each in networks),
        endpoint=place(values["endpoint"]) if "endpoint" in values else None,
        keepalive=int(values.get("persistent_keepalive_interval", 0)),
        preshared=key_text(bytes.fromhex(values.get("preshared_key", "00" * 32))),
        handshake=_handshake(values, now),
        rx_bytes=int(values.get("rx_bytes", 0)),
        tx_bytes=int(values.get("tx_bytes", 0)),
    )


def error_number(answer: str) -> int:
    """The errno of an answer, positive; 0 for success. Raises ValueError where it has none."""
    name, _, value = answer.rstrip("\n").rpartition("\n")[2].partition("=")
    if name != "errno":
        raise ValueError("an answer without errno")
    return abs(int(value))


async def ask(path: Path, request: str, limit: float = ANSWER_SECONDS) -> str:
    """The answer to one request, without the empty line.

    Args:
        path: The interface's socket.
        request: Its lines; the empty one is added.
        limit: Seconds for all of it.

    Raises:
        OSError: Nobody listens there, or we may not ask (FileNotFoundError, ConnectionRefusedError, PermissionError).
        TunnelError: Somebody listens and does not answer.
    """
    try:
        async with asyncio.timeout(limit):
            return await _exchange(path, request)
    except TimeoutError:
        raise TunnelError(f"The process of {path.stem} does not answer within {limit:g} s.", AGAIN) from None
    except (EOFError, ConnectionResetError, BrokenPipeError):
        raise ProcessEndedError(f"The process of {path.stem} ended while it was asked.", AGAIN) from None


async def _exchange(path: Path, request: str) -> str:
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        writer.write(f"{request}\n".encode())
        await writer.drain()
        answer = bytearray()
        while not answer.endswith(b"\n\n"):
            part = await reader.read(2**16)
            if not part or len(answer) > LARGEST_ANSWER:
                raise EOFError
            answer += part
    finally:
        writer.close()
    return answer[:-1].decode(errors="replace")


class UapiCarrier:
    """An interface that a process of ours or another's carries."""

    def __init__(self, path: Path, backend: str) -> None:
        self.path, self.backend = path, backend

    async def read(self) -> Device:
        """As it is."""
        answer = await self._asked("get=1\n", "read")
        try:
            return await asyncio.to_thread(self._parse, answer)
        except (ValueError, KeyError, IndexError) as error:
            raise TunnelError(f"The process of {self.path.stem} gave an answer that is none: {error}.", AGAIN) from None

    def _parse(self, answer: str) -> Device:
        return parse(answer)

    async def change(self, changes: Changes) -> None:
        """All in one request."""
        try:
            lines = await asyncio.to_thread(render, changes)
        except ValueError as error:
            raise TunnelError(f"A value for {self.path.stem} is none: {error}.", "correct it; nothing was changed.") from None
        if lines:
            await self._asked(f"set=1\n{lines}", "configure")

    async def rebind(self, device: Device) -> None:
        """The same port again opens the socket anew and forgets the addresses that were sent from."""
        await self._asked(f"set=1\nlisten_port={device.listen_port}\n", "open the UDP port of")

    async def _asked(self, request: str, doing: str) -> str:
        doing = f"{doing} {self.path.stem}"
        try:
            answer = await ask(self.path, request)
        except (FileNotFoundError, ConnectionRefusedError):
            raise ProcessEndedError(f"Could not {doing}: its process ended.", AGAIN) from None
        except OSError as error:
            raise wrapped(doing, error) from None
        try:
            number = error_number(answer)
        except ValueError as error:
            raise TunnelError(f"Could not {doing}: {error}.", AGAIN) from None
        if number:
            raise failed(doing, number, "the process refused a value" if number == 22 else "")
        return answer
