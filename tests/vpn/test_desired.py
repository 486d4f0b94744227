"""What is refused before anything is done, and what is said about it."""

from __future__ import annotations

import base64

import msgspec
import pytest

from appliance.core.vpn.desired import check, faults
from appliance.core.vpn.keys import make_pair
from appliance.core.vpn.model import Endpoint, WantedPeer, WantedTunnel
from appliance.errors import ConflictError, InvalidArgumentsError

PAIR = make_pair()
ANN, BOB = make_pair().public, make_pair().public
NAMES = {ANN: "ann", BOB: "bob"}


def peer(key: str = ANN, *allowed: str, **values) -> WantedPeer:
    return WantedPeer(key, allowed or ("10.8.0.3/32",), **values)


def tunnel(*peers: WantedPeer, **values) -> WantedTunnel:
    given = {"name": "wg0", "private_key": PAIR.private, "listen_port": 51820, "addresses": ("10.8.0.2/24",), "mtu": 1420}
    return WantedTunnel(peers=peers, **(given | values))


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (tunnel(name="wg zero"), "'wg zero' is no name of an interface"),
        (tunnel(name="a-name-that-is-too-long"), "no name of an interface"),
        (tunnel(private_key="secret-that-is-none"), "private key is none: it has 19 characters"),
        (tunnel(listen_port=70000), "70000 is no UDP port"),
        (tunnel(fwmark=-1), "-1 is no mark"),
        (tunnel(mtu=100), "An MTU of 100 does not work"),
        (tunnel(mtu=1200, addresses=("fd00:8::2/64",)), "does not work where IPv6 is used"),
        (tunnel(addresses=("10.8.0.2/33",)), "'10.8.0.2/33' is no address"),
        (tunnel(peer("short")), "public key of peer short… is none"),
        (tunnel(peer(ANN, preshared="short")), "pre-shared key of peer ann is none"),
        (tunnel(peer(ANN, keepalive=70000)), "keepalive of 70000"),
        (tunnel(peer(ANN, "10.8.0.3/24")), "Was 10.8.0.0/24 meant, or 10.8.0.3/32"),
        (tunnel(peer(ANN, "banana")), "'banana' of peer ann is no network"),
        (tunnel(peer(ANN, endpoint=Endpoint("0.0.0.0", 51820))), "cannot be reached at 0.0.0.0"),
        (tunnel(peer(ANN, endpoint=Endpoint("192.0.2.1", 0))), "port 0"),
    ],
)
def test_a_bad_value_is_named(wanted: WantedTunnel, said: str) -> None:
    with pytest.raises(InvalidArgumentsError) as caught:
        check(wanted, NAMES)
    assert said in caught.value.message
    assert caught.value.next_step
    assert "secret-that-is-none" not in str(caught.value)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (tunnel(peer(ANN), peer(ANN, "10.8.0.4/32")), "2 peers have the key of peer ann"),
        (tunnel(peer(PAIR.public)), "has this tunnel's own key"),
        (tunnel(addresses=("10.8.0.2/24", "10.8.0.2/32")), "has the address 10.8.0.2 2 times"),
        (tunnel(peer(ANN), peer(BOB)), "10.8.0.3/32 belongs to peer"),
        (tunnel(peer(ANN, "10.8.0.2/32")), "10.8.0.2 is this tunnel's own address, and also that of peer ann"),
        (tunnel(peer(ANN, "0.0.0.0/0")), "All traffic of this machine (0.0.0.0/0) would go to peer ann"),
        (
            tunnel(peer(ANN, "192.0.2.0/24", endpoint=Endpoint("192.0.2.9", 51820))),
            "peer ann is reached at 192.0.2.9, which 192.0.2.0/24 would send into the tunnel itself",
        ),
    ],
)
def test_a_contradiction_is_named(wanted: WantedTunnel, said: str) -> None:
    with pytest.raises(ConflictError) as caught:
        check(wanted, NAMES)
    assert said in caught.value.message


def test_all_faults_are_told_at_once() -> None:
    wanted = tunnel(peer(ANN, "banana"), peer("short"), mtu=1)
    assert len(faults(wanted)) == 3
    with pytest.raises(InvalidArgumentsError, match="2 more such"):
        check(wanted)


def test_a_network_inside_anothers_is_a_hint_and_passes() -> None:
    wanted = tunnel(peer(ANN, "10.9.0.0/16"), peer(BOB, "10.9.7.0/24"))
    check(wanted, NAMES)
    (hint,) = faults(wanted, NAMES)
    assert not hint.fatal
    assert "10.9.7.0/24 of peer bob lies inside 10.9.0.0/16 of peer ann" in hint.message
    assert set(hint.peers) == {ANN, BOB}


def test_the_machines_own_networks_are_not_taken() -> None:
    with pytest.raises(ConflictError, match=r"overlaps 10\.8\.0\.0/24, which this machine reaches through eth0"):
        check(tunnel(), elsewhere={"10.8.0.0/24": "eth0"})
    check(tunnel(), elsewhere={"10.0.0.0/8": "eth0"})
    assert [fault.fatal for fault in faults(tunnel(), elsewhere={"10.0.0.0/8": "eth0", "0.0.0.0/0": "eth0"})] == [False]


def test_all_traffic_may_be_allowed_where_others_route() -> None:
    check(tunnel(peer(ANN, "0.0.0.0/0", "::/0"), routes=False))


def test_a_usual_hub_passes_with_250_peers() -> None:
    peers = [
        WantedPeer(
            base64.b64encode(number.to_bytes(32, "big")).decode(), (f"10.8.1.{number}/32", f"fd00:8::1:{number}/128"),
            endpoint=Endpoint("192.0.2.1", 1000 + number), keepalive=25,
        )
        for number in range(1, 251)
    ]  # fmt: skip
    wanted = tunnel(*peers)
    assert faults(wanted) == ()
    twice = msgspec.structs.replace(wanted, peers=(*peers[:-1], msgspec.structs.replace(peers[-1], allowed=("10.8.1.1/32",))))
    assert [fault.kind for fault in faults(twice)] == ["overlap"]
