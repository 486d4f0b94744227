"""What is to be done to a tunnel: as little as possible, and nothing the second time."""

from __future__ import annotations

import base64

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.core.vpn.keys import make_pair, public_of
from appliance.core.vpn.model import (
    ActualPeer,
    ActualTunnel,
    Changes,
    Endpoint,
    PeerChange,
    WantedPeer,
    WantedTunnel,
)
from appliance.core.vpn.reconcile import diff, routes_of

PRIVATE = make_pair().private
OTHER = make_pair().private


def key(number: int) -> str:
    return base64.b64encode(number.to_bytes(32, "big")).decode()


def peer(number: int, *allowed: str, **values) -> WantedPeer:
    return WantedPeer(key(number), allowed or (f"10.8.{number // 250}.{number % 250 + 3}/32",), **values)


def tunnel(*peers: WantedPeer, **values) -> WantedTunnel:
    given = {"private_key": PRIVATE, "listen_port": 51820, "addresses": ("10.8.0.2/16",), "mtu": 1420} | values
    return WantedTunnel("wg0", peers=peers, **given)


def carried_out(changes: Changes, actual: ActualTunnel | None) -> ActualTunnel:
    """What a tunnel is after changes, by WireGuard's rules: a network belongs to the peer that got it last."""
    if actual is None:
        assert changes.create
        actual = ActualTunnel("wg0", "", 40000, (), 1420, False, (), ())
    peers = {each.public_key: each for each in actual.peers}
    for change in changes.peers:
        if change.remove:
            del peers[change.public_key]
            continue
        assert change.create == (change.public_key not in peers)
        old = peers.get(change.public_key) or ActualPeer(change.public_key, (), None, 0, "", 0.0, 0, 0)
        peers[change.public_key] = msgspec.structs.replace(
            old,
            allowed=old.allowed if change.allowed is None else change.allowed,
            endpoint=old.endpoint if change.endpoint is None else change.endpoint,
            keepalive=old.keepalive if change.keepalive is None else change.keepalive,
            preshared=old.preshared if change.preshared is None else change.preshared,
        )
        for other in peers.values() if change.allowed else ():
            if other.public_key != change.public_key:
                left = tuple(each for each in other.allowed if each not in (change.allowed or ()))
                peers[other.public_key] = msgspec.structs.replace(other, allowed=left)
    return msgspec.structs.replace(
        actual,
        public_key=actual.public_key if changes.private_key is None else public_of(changes.private_key),
        listen_port=actual.listen_port if changes.listen_port is None else changes.listen_port,
        fwmark=actual.fwmark if changes.fwmark is None else changes.fwmark,
        mtu=actual.mtu if changes.mtu is None else changes.mtu,
        up=actual.up or changes.up,
        addresses=tuple(each for each in actual.addresses if each not in changes.remove_addresses) + changes.add_addresses,
        routes=tuple(each for each in actual.routes if each not in changes.remove_routes) + changes.add_routes,
        peers=tuple(peers.values()),
    )


def made(wanted: WantedTunnel) -> ActualTunnel:
    return carried_out(diff(wanted, None), None)


HISTORIES = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
NETWORKS = st.sampled_from([*(f"10.8.0.{n}/32" for n in range(3, 12)), "192.168.7.0/24", "fd00:8::7/128", "fd00:9::/64"])
PLACES = st.none() | st.builds(Endpoint, st.sampled_from(["192.0.2.7", "2001:db8::7"]), st.sampled_from([51820, 40000]))


@st.composite
def tunnels(draw) -> WantedTunnel:
    """Tunnels that desired.check would let pass: a network has one owner."""
    owners = draw(st.dictionaries(NETWORKS, st.integers(1, 6)))
    peers = [
        WantedPeer(
            key(number),
            tuple(net for net, owner in owners.items() if owner == number),
            endpoint=draw(PLACES),
            keepalive=draw(st.sampled_from([0, 25])),
            preshared=draw(st.sampled_from(["", key(99), key(98)])),
        )
        for number in draw(st.sets(st.integers(1, 6)))
    ]
    return WantedTunnel(
        "wg0",
        draw(st.sampled_from([PRIVATE, OTHER])),
        draw(st.sampled_from([0, 51820, 51821])),
        tuple(draw(st.sets(st.sampled_from(["10.8.0.2/24", "10.9.0.2/24", "fd00:8::2/64"])))),
        draw(st.sampled_from([1280, 1420])),
        tuple(peers),
        routes=draw(st.booleans()),
        fwmark=draw(st.sampled_from([0, 7])),
    )


@HISTORIES
@given(wanted=tunnels(), before=st.none() | tunnels())
def test_changes_make_it_as_wanted_and_then_there_are_none(wanted: WantedTunnel, before: WantedTunnel | None) -> None:
    actual = None if before is None else made(before)
    after = carried_out(diff(wanted, actual), actual)
    assert diff(wanted, after) == Changes()
    assert {each.public_key: set(each.allowed) for each in after.peers} == {
        each.public_key: set(each.allowed) for each in wanted.peers
    }


@HISTORIES
@given(wanted=tunnels(), before=tunnels())
def test_no_peer_that_stays_is_removed_or_made(wanted: WantedTunnel, before: WantedTunnel) -> None:
    staying = {each.public_key for each in wanted.peers} & {each.public_key for each in before.peers}
    touched = {change.public_key for change in diff(wanted, made(before)).peers if change.create or change.remove}
    assert staying & touched == set()


@HISTORIES
@given(wanted=tunnels(), before=tunnels())
def test_a_network_is_given_up_before_another_peer_gets_it(wanted: WantedTunnel, before: WantedTunnel) -> None:
    """Who only gains, gains what nobody has any more. (Of peers that swap networks, one has to begin.)"""
    actual = made(before)
    before_all = {each.public_key: set(each.allowed) for each in actual.peers}
    holders = {net: each.public_key for each in actual.peers for net in each.allowed}
    for change in diff(wanted, actual).peers:
        held = {net for net, owner in holders.items() if owner == change.public_key}
        if not change.remove and change.allowed is not None:
            pure_gain = before_all.get(change.public_key, set()) <= set(change.allowed)
            for net in change.allowed:
                assert not pure_gain or holders.get(net, change.public_key) == change.public_key
        for net in held if change.remove or change.allowed is not None else ():
            del holders[net]
        holders |= dict.fromkeys(change.allowed or (), change.public_key)


def test_a_new_tunnel_gets_all() -> None:
    changes = diff(tunnel(peer(1, endpoint=Endpoint("192.0.2.1", 51820), keepalive=25)), None)
    assert changes.create
    assert changes.up
    assert (changes.private_key, changes.listen_port, changes.add_addresses) == (PRIVATE, 51820, ("10.8.0.2/16",))
    (only,) = changes.peers
    assert only.create
    assert only.endpoint == Endpoint("192.0.2.1", 51820)


def test_only_what_differs_is_changed() -> None:
    before = tunnel(peer(1), peer(2), peer(3))
    after = tunnel(peer(1), peer(2, keepalive=25), peer(3))
    assert diff(after, made(before)) == Changes(peers=(PeerChange(key(2), keepalive=25),))


def test_a_pre_shared_key_is_taken_away() -> None:
    changes = diff(tunnel(peer(1)), made(tunnel(peer(1, preshared=key(9)))))
    assert changes.peers == (PeerChange(key(1), preshared=""),)


def test_a_peer_that_roamed_is_left_where_it_is() -> None:
    actual = made(tunnel(peer(1, endpoint=Endpoint("192.0.2.99", 4444))))
    assert not diff(tunnel(peer(1)), actual)


@pytest.mark.parametrize("spelling", ["2001:db8::7", "2001:DB8:0:0::7"])
def test_an_endpoint_that_resolved_to_the_same_is_no_change(spelling: str) -> None:
    actual = made(tunnel(peer(1, endpoint=Endpoint("2001:db8::7", 51820))))
    assert not diff(tunnel(peer(1, endpoint=Endpoint(spelling, 51820))), actual)
    moved = diff(tunnel(peer(1, endpoint=Endpoint(spelling, 51821))), actual)
    assert moved.peers == (PeerChange(key(1), endpoint=Endpoint(spelling, 51821)),)


def test_what_somebody_added_to_the_interface_goes() -> None:
    wanted = tunnel(peer(1))
    actual = made(wanted)
    foreign = ActualPeer(key(77), ("10.8.0.77/32",), None, 0, "", 0.0, 0, 0)
    altered = msgspec.structs.replace(
        actual, peers=(*actual.peers, foreign), addresses=(*actual.addresses, "10.66.0.1/24", "fe80::1/64")
    )
    changes = diff(wanted, altered)
    assert changes.peers == (PeerChange(key(77), remove=True),)
    assert changes.remove_addresses == ("10.66.0.1/24",), "the kernel's own fe80:: address stays"


def test_routes_of_others_stay_and_are_not_made_twice() -> None:
    wanted = tunnel(peer(1, "10.8.0.3/32", "192.168.7.0/24"))
    actual = msgspec.structs.replace(made(wanted), routes=(), foreign_routes=("192.168.7.0/24", "172.16.0.0/12"))
    assert not diff(wanted, actual)


def test_a_route_of_ours_goes_with_its_peer() -> None:
    before = made(tunnel(peer(1), peer(2, "192.168.7.0/24")))
    assert before.routes == ("192.168.7.0/24",)
    assert diff(tunnel(peer(1)), before).remove_routes == ("192.168.7.0/24",)
    assert diff(tunnel(peer(1), peer(2, "192.168.7.0/24"), routes=False), before).remove_routes == ("192.168.7.0/24",)


def test_no_route_is_needed_where_an_address_covers_it_and_none_takes_everything() -> None:
    assert routes_of(tunnel(peer(1, "10.8.0.3/32", "0.0.0.0/0", "::/0", "fd00:9::/64", "10.7.0.0/16"))) == (
        "10.7.0.0/16",
        "fd00:9::/64",
    )


def test_any_port_will_do_once_the_system_chose_one() -> None:
    wanted = tunnel(listen_port=0)
    assert diff(wanted, None).listen_port is None
    assert not diff(wanted, made(wanted))


def test_one_of_250_is_found() -> None:
    peers = [peer(number, keepalive=25) for number in range(250)]
    actual = made(tunnel(*peers))
    assert not diff(tunnel(*reversed(peers)), actual), "their order means nothing"
    assert diff(tunnel(*peers[:-1]), actual).peers == (PeerChange(key(249), remove=True),)


def test_no_secret_is_shown() -> None:
    changes = diff(tunnel(peer(1, preshared=key(9))), None)
    text = f"{changes!r} {changes.peers!r} {tunnel(peer(1, preshared=key(9)))!r}"
    assert PRIVATE not in text
    assert key(9) not in text
