"""The protocol of WireGuard in user space: text, sockets that misbehave, and a real process that refuses."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.core.vpn.keys import make_pair
from appliance.core.vpn.model import ActualPeer, Changes, Endpoint, PeerChange
from appliance.errors import TunnelError
from appliance.hw.wireguard import uapi
from appliance.hw.wireguard.faults import ProcessEndedError
from appliance.hw.wireguard.tunnel import WireGuardTunnel
from appliance.hw.wireguard.uapi import UapiCarrier, error_number, parse, place, place_text, render
from tests.servers.netns import SOCKETS, Net

RAW = bytes(range(32))
KEY, HEX = base64.b64encode(RAW).decode(), RAW.hex()
ANSWER = f"""private_key={"77" * 32}
listen_port=51820
fwmark=51
public_key={HEX}
preshared_key={"00" * 32}
protocol_version=1
endpoint=[2001:db8::7]:4444
last_handshake_time_sec=1800000000
last_handshake_time_nsec=500000000
tx_bytes=1
rx_bytes=2
persistent_keepalive_interval=25
allowed_ip=10.8.0.3/32
allowed_ip=fd00:8::3/128
public_key={"ab" * 32}
preshared_key={HEX}
protocol_version=1
last_handshake_time_sec=0
last_handshake_time_nsec=0
tx_bytes=0
rx_bytes=0
persistent_keepalive_interval=0
errno=0
"""


def test_an_answer_is_read() -> None:
    device = parse(ANSWER)
    assert (device.listen_port, device.fwmark, len(device.peers)) == (51820, 51, 2)
    assert len(device.public_key) == 44
    one, two = device.peers
    assert one == ActualPeer(
        KEY, ("10.8.0.3/32", "fd00:8::3/128"), Endpoint("2001:db8::7", 4444), 25, "", 1_800_000_000.5, 2, 1
    )
    assert (two.preshared, two.endpoint, two.allowed, two.handshake) == (KEY, None, (), 0.0)


def test_a_fresh_interface_has_no_key() -> None:
    assert parse("listen_port=0\nerrno=0\n").public_key == ""


@pytest.mark.parametrize(
    "text", ["banana\n", "allowed_ip=10.0.0.0/8\n", "public_key=zz\n", f"public_key={HEX}\nendpoint=x:y\n"]
)
def test_what_is_no_answer_is_refused(text: str) -> None:
    with pytest.raises((ValueError, IndexError)):
        parse(text)


def test_changes_become_lines() -> None:
    change = PeerChange(
        KEY, create=True, allowed=("10.8.0.3/32",), endpoint=Endpoint("2001:DB8::7", 51820), keepalive=25, preshared=""
    )
    text = render(Changes(private_key=KEY, listen_port=51820, fwmark=0, peers=(PeerChange(KEY, remove=True), change)))
    assert text.splitlines() == [
        f"private_key={HEX}", "listen_port=51820", "fwmark=0",
        f"public_key={HEX}", "remove=true",
        f"public_key={HEX}", f"preshared_key={'00' * 32}", "endpoint=[2001:db8::7]:51820",
        "persistent_keepalive_interval=25", "replace_allowed_ips=true", "allowed_ip=10.8.0.3/32",
    ]  # fmt: skip


def test_a_peer_that_vanished_is_not_made_by_a_change() -> None:
    lines = render(Changes(peers=(PeerChange(KEY, keepalive=5),))).splitlines()
    assert lines == [f"public_key={HEX}", "update_only=true", "persistent_keepalive_interval=5"]


@pytest.mark.parametrize(
    "peer",
    [
        PeerChange("10.8.0.3\nlisten_port=1"), PeerChange(KEY + "\n"), PeerChange(KEY, preshared="x\nremove=true"),
        PeerChange(KEY, allowed=("10.8.0.3/32\nremove=true",)), PeerChange(KEY, endpoint=Endpoint("::1\nremove=true", 1)),
    ],
)  # fmt: skip
def test_nothing_is_smuggled_into_lines(peer: PeerChange) -> None:
    with pytest.raises(ValueError, match=r"key|network|address"):
        render(Changes(peers=(peer,)))


@settings(deadline=None)
@given(st.ip_addresses(), st.integers(1, 65535))
def test_places_survive(address, port: int) -> None:
    assert place(place_text(Endpoint(str(address), port))) == Endpoint(str(address), port)


@pytest.mark.parametrize(("answer", "number"), [("errno=0\n", 0), ("errno=-22\n", 22), ("a=b\nerrno=98\n", 98)])
def test_the_error_stands_last(answer: str, number: int) -> None:
    assert error_number(answer) == number


@asynccontextmanager
async def serving(path: Path, answer: Callable[[asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[UapiCarrier]:
    """A process that answers so."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\n\n")
        await answer(writer)
        writer.close()

    server = await asyncio.start_unix_server(handle, str(path))
    async with server:
        yield UapiCarrier(path, "wireguard-go")


async def test_an_answer_in_pieces_is_put_together(tmp_path: Path) -> None:
    async def slowly(writer: asyncio.StreamWriter) -> None:
        for letter in f"{ANSWER}\n":
            writer.write(letter.encode())
            await writer.drain()

    async with serving(tmp_path / "wg0.sock", slowly) as carrier:
        assert len((await carrier.read()).peers) == 2


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"errno=1\n\n", "no right"),
        (b"errno=-98\n\n", "UDP port is taken"),
        (b"listen_port=1\n\n", "an answer without errno"),
        (b"banana\nerrno=0\n\n", "an answer that is none"),
        (b"listen_port=", "ended while it was asked"),
        (b"", "ended while it was asked"),
        (b"\xff\xff=1\nerrno=x\n\n", "invalid literal"),
    ],
)
async def test_bad_answers_are_told(tmp_path: Path, answer: bytes, said: str) -> None:
    async def bad(writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()

    async with serving(tmp_path / "wg0.sock", bad) as carrier:
        with pytest.raises(TunnelError, match=said) as caught:
            await carrier.read()
        assert caught.value.next_step


async def test_a_process_that_is_silent_is_not_waited_for_long(tmp_path: Path) -> None:
    silent = asyncio.Event()

    async def never(_: asyncio.StreamWriter) -> None:
        await silent.wait()

    async with serving(tmp_path / "wg0.sock", never):
        with pytest.raises(TunnelError, match=r"does not answer within 0\.05 s"):
            await uapi.ask(tmp_path / "wg0.sock", "get=1\n", 0.05)
        silent.set()


async def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(ProcessEndedError, match="its process ended"):
        await UapiCarrier(tmp_path / "wg0.sock", "wireguard-go").read()


async def test_a_real_process_refuses_bad_values_with_22(net: Net) -> None:
    host = net.host("hub")
    tunnel = WireGuardTunnel(host.interface(), netns=host.namespace, ways=("userspace",))
    await tunnel.ensure()
    path = SOCKETS / f"{tunnel.name}.sock"
    key = f"public_key={make_pair().public.encode().hex()[:64]}\n"
    for lines in (
        "private_key=zz\n", "listen_port=70000\n", f"{key}endpoint=nowhere\n", f"{key}allowed_ip=10.8.0.0/99\n", "banana=1\n",
    ):  # fmt: skip
        assert error_number(await uapi.ask(path, f"set=1\n{lines}")) == 22, lines
    assert error_number(await uapi.ask(path, "get=1\n")) == 0
