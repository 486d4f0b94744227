"""Causes are planted in namespaces, one at a time: explain names each of them first."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from appliance.core.vpn import keys
from appliance.core.vpn.desk import Wish
from appliance.core.vpn.explain import Evidence, Theirs, explain
from appliance.core.vpn.peers import Peer
from appliance.core.vpn.service import Rhythm
from appliance.core.vpn.status import Finding
from appliance.core.vpn.wanted import Hub
from tests.servers.netns import Host, Net
from tests.support import wait_for
from tests.vpn.rig import PORT, Bench, NamespaceShell, Spoke, ping, star

CALLS = 7.0
"""Seconds in which a handshake is tried at least once."""
INPUT, OUTPUT = "type filter hook input priority 0;", "type filter hook output priority 0;"


class Case(Bench):
    """A hub, a node with its tunnel, and what is said of the peer "box"."""

    spoke: Spoke
    text: str

    async def first(self, watch: float = 1.0) -> Finding:
        """The most likely cause, after so many seconds of watching: a handshake is tried every five."""
        self.examiner._watch = watch
        answer = await self.examiner.explain("box")
        assert answer.findings[0].evidence or answer.findings[0].cause == "none"
        return answer.findings[0]

    async def cause(self, watch: float = 1.0) -> str:
        return (await self.first(watch)).cause


def firewall(host: Host, chain: str, family: str = "inet") -> None:
    """A chain of nftables on a host."""
    name = f"c{len(host.run('nft', 'list', 'tables').splitlines())}"
    host.run("nft", "-f", "-", text=f"table {family} {name} {{\n chain {name} {{\n {chain}\n }}\n}}\n")


@asynccontextmanager
async def case(net: Net, tmp_path: Path, *, up: bool = True, wish: Wish | None = None, **more: object) -> AsyncIterator[Case]:
    hub, (node,), _ = star(net, 1)
    more = {"endpoint": f"192.0.2.1:{PORT}", "rhythm": Rhythm(look=0.1), **more}
    bench = Case(hub, tmp_path, NamespaceShell({"box": node}), **more)
    bench.spoke = Spoke(node, tmp_path / "node")
    try:
        async with bench.life():
            await bench.desk.add("box", wish or Wish())
            bench.text = (await bench.desk.export("box"))["text"]
            if up:
                await bench.spoke.up(bench.text)
                await bench.connected("box")
            yield bench
    finally:
        await bench.remove()


async def test_a_connected_peer_has_no_cause(net: Net, tmp_path: Path) -> None:
    async with case(net, tmp_path) as bench:
        assert await bench.cause() == "none"


async def test_the_interface_is_gone(net: Net, tmp_path: Path) -> None:
    async with case(net, tmp_path) as bench:
        bench.host.run("ip", "link", "delete", bench.interface)
        assert await bench.cause() == "interface-missing"


async def test_the_interface_is_down(net: Net, tmp_path: Path) -> None:
    async with case(net, tmp_path) as bench:
        bench.host.run("ip", "link", "set", bench.interface, "down")
        assert await bench.cause() == "interface-down"


async def test_the_process_hangs(net: Net, tmp_path: Path) -> None:
    async with case(net, tmp_path) as bench:
        (pid,) = [pid for pid in bench.host.pids() if "wireguard-go" in Path(f"/proc/{pid}/comm").read_text()]
        os.kill(pid, signal.SIGSTOP)
        await wait_for(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")
        try:
            assert await bench.cause() == "process-dead"
        finally:
            os.kill(pid, signal.SIGCONT)


async def test_somebody_took_the_peer_out(net: Net, tmp_path: Path) -> None:
    async with case(net, tmp_path) as bench:
        bench.host.run("wg", "set", bench.interface, "peer", bench.peer("box").public_key, "remove")
        assert await bench.cause() == "missing"


async def test_somebody_gave_its_network_to_another_peer(net: Net, tmp_path: Path) -> None:
    async with case(net, tmp_path) as bench:
        other = keys.make_pair().public
        bench.host.run("wg", "set", bench.interface, "peer", other, "allowed-ips", bench.peer("box").addresses[0])
        assert await bench.cause() == "overlap"


async def test_it_is_off_or_over(net: Net, tmp_path: Path) -> None:
    async with case(net, tmp_path, up=False) as bench:
        await bench.desk.switch("box", enabled=False)
        assert await bench.cause() == "disabled"
        await bench.desk.switch("box", enabled=True)
        await bench.book.amend("box", lambda entry: entry.changed(expired=True, expires=1.0))
        assert await bench.cause() == "expired"


WAYS = {
    "port-closed": "192.0.2.2:4444",
    "unreachable": "192.0.2.99:51820",
    "no-route": "203.0.113.9:51820",
    "unresolved": "nowhere.invalid:51820",
}


@pytest.mark.parametrize("cause", WAYS)
async def test_the_endpoint_is_not_reached(net: Net, tmp_path: Path, cause: str) -> None:
    async with case(net, tmp_path, up=False, wish=Wish(endpoint=WAYS[cause])) as bench:
        assert await bench.cause() == cause


async def test_a_firewall_there_refuses(net: Net, tmp_path: Path) -> None:
    async with case(net, tmp_path, up=False, wish=Wish(endpoint="192.0.2.2:51820")) as bench:
        firewall(bench.spoke.host, f"{INPUT} udp dport 51820 reject with icmpx type admin-prohibited;")
        assert await bench.cause() == "firewall"


@pytest.mark.parametrize("chain", ["udp dport 51820 drop;", "policy drop; tcp dport 22 accept;"])
async def test_a_firewall_here_drops(net: Net, tmp_path: Path, chain: str) -> None:
    async with case(net, tmp_path, up=False) as bench:
        firewall(bench.host, f"{INPUT} {chain}")
        await bench.spoke.up(bench.text)
        found = await bench.first()
        assert (found.cause, "table inet c0, chain c0" in found.evidence[0]) == ("firewall", True)


async def test_the_keys_do_not_fit(net: Net, tmp_path: Path) -> None:
    """The node has other keys than the hub knows; the hub knows where it is, and calls in vain."""
    async with case(net, tmp_path, up=False, wish=Wish(endpoint="192.0.2.2:51820")) as bench:
        await bench.spoke.up(re.sub("PrivateKey = .*", f"PrivateKey = {keys.make_pair().private}", bench.text))
        assert await bench.cause(CALLS) == "key-mismatch"


async def test_the_other_side_says_that_its_keys_are_others(net: Net, tmp_path: Path) -> None:
    async with case(net, tmp_path, up=False, wish=Wish(node="box")) as bench:
        await bench.desk.change("box", Wish(node_interface=bench.spoke.interface))
        await bench.spoke.up(re.sub("PrivateKey = .*", f"PrivateKey = {keys.make_pair().private}", bench.text))
        found = await bench.first()
        assert found.cause == "key-mismatch"
        assert found.likelihood > 0.9
        assert "provision" in found.fix


async def test_the_preshared_keys_do_not_fit(net: Net, tmp_path: Path) -> None:
    async with case(net, tmp_path, up=False) as bench:
        await bench.spoke.up(re.sub("PresharedKey = .*", f"PresharedKey = {keys.make_preshared()}", bench.text))
        assert await bench.cause(CALLS) == "preshared-mismatch"


async def test_the_other_tunnel_is_not_up(net: Net, tmp_path: Path) -> None:
    async with case(net, tmp_path, up=False, wish=Wish(node="box", node_interface="wg-none")) as bench:
        assert await bench.cause() == "their-interface"


async def test_nobody_ever_came(net: Net, tmp_path: Path) -> None:
    async with case(net, tmp_path, up=False) as bench:
        assert await bench.cause() == "never-came"


async def test_the_clock_there_went_back(net: Net, tmp_path: Path) -> None:
    """It was here once; the other side's clock, asked over its shell, is a day behind, and handshakes do not come."""
    async with case(net, tmp_path, wish=Wish(node="box")) as bench:
        await bench.desk.change("box", Wish(node_interface=bench.spoke.interface))
        assert bench.shell is not None
        bench.shell.clock_ahead = -86400
        firewall(bench.spoke.host, f"{OUTPUT} meta l4proto udp drop;")
        await bench.service.keeper.restart()  # type: ignore[union-attr]
        assert await bench.cause(CALLS) == "clock"


async def test_large_packets_vanish(net: Net, tmp_path: Path) -> None:
    async with case(net, tmp_path) as bench:
        firewall(bench.spoke.host, "type filter hook ingress device eth0 priority 0; meta length > 1350 drop;", "netdev")
        found = await bench.first()
        assert found.cause == "mtu"
        assert re.search(r"vpn\.mtu 12[0-9][0-9]", found.fix), found.fix


async def test_peers_reach_nothing_behind_a_hub_that_does_not_forward(net: Net, tmp_path: Path) -> None:
    async with case(net, tmp_path, routed=("192.168.1.0/24",)) as bench:
        bench.host.sysctl("net.ipv4.ip_forward", "0")
        assert await bench.cause() == "forwarding"


async def test_a_machine_that_was_there_is_silent(net: Net, tmp_path: Path) -> None:
    async with case(net, tmp_path, wish=Wish(endpoint="192.0.2.2:51820")) as bench:
        await wait_for(lambda: ping(bench.spoke.host, "10.8.0.2"))
        firewall(bench.spoke.host, f"{INPUT} udp dport 51820 drop;")
        firewall(bench.spoke.host, f"{OUTPUT} udp sport 51820 drop;")
        await bench.service.keeper.restart()  # type: ignore[union-attr]
        assert await bench.cause(CALLS) == "vanished"


async def test_a_router_between_forgot_it(net: Net, tmp_path: Path) -> None:
    """Behind NAT without keepalive: after the hub began anew, it cannot find the peer, which has nothing to say."""
    hub, router, inner = net.host("hub"), net.host("router"), net.host("inner")
    net.wire(hub, router, "192.0.2.1/24", "192.0.2.254/24")
    net.wire(router, inner, "10.0.0.1/24", "10.0.0.2/24")
    inner.route("default", via="10.0.0.1")
    router.masquerade("eth0")
    bench = Case(hub, tmp_path, endpoint=f"192.0.2.1:{PORT}", rhythm=Rhythm(look=0.1))
    async with bench.life():
        await bench.desk.add("box", Wish(keepalive=0))
        bench.spoke = Spoke(inner, tmp_path / "node")
        await bench.spoke.up((await bench.desk.export("box"))["text"])
        assert await ping(inner, "10.8.0.2") == 3
        await bench.connected("box")
        await bench.service.keeper.restart()  # type: ignore[union-attr]
        assert await bench.cause() == "nat"
    await bench.remove()


# -- without a network -------------------------------------------------------------------------------------------------

BOX = Peer("box", keys.make_pair().public, ("10.8.0.5/32",))
OWN = keys.make_pair().public
HUB = Hub("wg0", 51820, ("10.8.0.2/24",), ("10.8.0.0/24",), 1420)


def seen(**more: object) -> Evidence:
    return Evidence(BOX, OWN, 51820, **{"interface": True, "up": True, "in_tunnel": True, **more})  # type: ignore[arg-type]


PURE = {
    "off": {"configured": False},
    "moved": {"resolved": ("192.0.2.9:51820",), "endpoint": "192.0.2.8:51820"},
    "clock": {"clock_stepped_s": 3600.0, "ever": True},
    "overlap": {"overlaps": ("10.8.0.0/28 of other and 10.8.0.5/32 of box",)},
    "no-endpoint": {"theirs": Theirs(True, True, BOX.public_key, 1, (OWN,))},
    "unknown": {"endpoint": "192.0.2.8:1", "ever": True},
}


@pytest.mark.parametrize("cause", PURE)
def test_causes_that_take_long_in_a_network(cause: str) -> None:
    assert explain(seen(**PURE[cause]))[0].cause == cause


def test_every_finding_says_what_to_do_and_they_are_in_order() -> None:
    many = explain(seen(
        route="no route", prohibited=True, port_refused=True, host_unreachable=True, endpoint="a:1", tx_grew=10, rx_grew=0,
        ever=True, input_dropped="x", overlaps=("y",), forwarding=False, forwards=True,
    ))  # fmt: skip
    assert len(many) >= 6
    assert [finding.likelihood for finding in many] == sorted((finding.likelihood for finding in many), reverse=True)
    assert all(finding.fix and finding.evidence for finding in many)
