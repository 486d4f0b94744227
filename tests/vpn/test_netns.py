"""The namespaces that the other tests use."""

from __future__ import annotations

import socket

import pytest

from tests.servers.netns import NAMESPACES, Host, Net, needs_namespaces
from tests.support import wait_for_sync


def reaches(host: Host, address: str) -> bool:
    return "1 received" in host.run("ping", "-c1", "-W1", "-n", address, check=False)


def comes_to_reach(host: Host, address: str) -> bool:
    return bool(wait_for_sync(lambda: reaches(host, address)))


def test_two_hosts_reach_each_other_until_the_wire_is_cut(net: Net) -> None:
    a, b = net.host("a"), net.host("b")
    wire = net.wire(a, b, ["192.0.2.1/24", "2001:db8::1/64"], ["192.0.2.2/24", "2001:db8::2/64"])
    assert reaches(a, "192.0.2.2")
    assert reaches(a, "2001:db8::2")
    wire.cut()
    assert not reaches(a, "192.0.2.2")
    wire.join()
    assert comes_to_reach(a, "192.0.2.2")
    wire.swallow()
    assert not reaches(a, "192.0.2.2")
    wire.pass_again()
    assert comes_to_reach(a, "2001:db8::2")


def test_a_switch_joins_many(net: Net) -> None:
    hosts = [net.host(f"h{number}") for number in range(3)]
    net.switch(hosts, "198.51.100.0/24", "2001:db8:1::/64")
    assert reaches(hosts[0], "198.51.100.3")
    assert reaches(hosts[2], "2001:db8:1::2")


def test_behind_nat_one_reaches_out_and_is_not_reached(net: Net) -> None:
    inside, router, outside = net.host("in"), net.host("router"), net.host("out")
    net.wire(inside, router, "192.168.7.2/24", "192.168.7.1/24")
    uplink = net.wire(router, outside, "203.0.113.1/24", "203.0.113.2/24")
    inside.route("default", via="192.168.7.1")
    router.masquerade(uplink.first_end)
    outside.route("192.168.7.0/24", via="203.0.113.1")
    assert reaches(inside, "203.0.113.2")
    assert not reaches(outside, "192.168.7.2")


def test_sockets_made_within_stay_there(net: Net) -> None:
    a, b = net.host("a"), net.host("b")
    net.wire(a, b, "192.0.2.1/24", "192.0.2.2/24")

    def bound() -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind(("192.0.2.1", 0))
        return made

    with a.within(bound) as there:
        assert there.getsockname()[0] == "192.0.2.1"
    with pytest.raises(OSError, match="assign"):
        b.within(bound)


def test_nothing_is_left_behind() -> None:
    needs_namespaces()
    with Net() as net:
        host = net.host("gone")
        child = host.spawn("sleep", "100")
        assert (NAMESPACES / host.namespace).exists()
    assert child.wait(5) != 0
    assert not (NAMESPACES / host.namespace).exists()
