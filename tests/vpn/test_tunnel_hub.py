"""A hub with spokes: what each may reach through it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from appliance.core.vpn.model import Rule
from appliance.errors import TunnelError
from tests.servers.netns import Net
from tests.vpn.sides import PORT, Side


async def star(net: Net, count: int) -> tuple[Side, list[Side]]:
    """A hub 10.8.0.1 and spokes 10.8.0.11, .12, … that know nothing but the hub."""
    hosts = [net.host("hub"), *(net.host(f"s{number}") for number in range(1, count + 1))]
    net.switch(hosts)
    hub = Side(hosts[0], ("10.8.0.1/24", "fd00:8::1/64"), port=PORT)
    spokes = [Side(host, (f"10.8.0.1{n}/24", f"fd00:8::1{n}/64")) for n, host in enumerate(hosts[1:], 1)]
    hub.want(*(spoke.as_peer() for spoke in spokes))
    await hub.reconcile()
    for spoke in spokes:
        spoke.want(hub.as_peer("10.8.0.0/24", "fd00:8::/64", "192.168.50.0/24", endpoint="192.0.2.1", keepalive=25))
    await asyncio.gather(*(spoke.reconcile() for spoke in spokes))
    await asyncio.gather(*(spoke.comes_to_reach(hub.address) for spoke in spokes))
    return hub, spokes


async def test_a_hub_and_five_spokes_come_up_from_nothing(net: Net) -> None:
    hub, spokes = await star(net, 5)
    assert all([await hub.reaches(spoke.address) for spoke in spokes])
    assert not any([await side.reconcile() for side in (hub, *spokes)])


async def test_rules_let_pass_what_they_allow_and_nothing_else(net: Net) -> None:
    hub, (one, two, three) = await star(net, 3)
    hub.host.sysctl("net.ipv6.conf.all.forwarding", "1")
    everyone = ("10.8.0.0/24", "fd00:8::/64")
    await hub.tunnel.firewall([
        Rule("10.8.0.11/32", everyone), Rule("fd00:8::11/128", everyone),
        Rule("10.8.0.12/32", ("10.8.0.13/32", "10.8.0.0/28")), Rule("10.8.0.13/32", ()),
    ])  # fmt: skip
    assert await one.reaches("10.8.0.12")
    assert await one.reaches("10.8.0.13")
    assert await one.reaches("fd00:8::12")
    assert await two.reaches("10.8.0.13")
    assert not await two.reaches("fd00:8::13"), "it has no rule for IPv6"
    assert not await three.reaches("10.8.0.11")
    assert not await three.reaches("10.8.0.12")
    assert await three.reaches(hub.address), "the hub itself is reached"
    await hub.tunnel.firewall([Rule("10.8.0.13/32", everyone)])
    assert await three.reaches("10.8.0.11"), "answers of those who may not begin come back"
    assert not await one.reaches("10.8.0.12")
    await hub.tunnel.firewall([])
    assert not await three.reaches("10.8.0.11")
    await hub.tunnel.firewall(None)
    assert await one.reaches("10.8.0.12"), "without rules the machine's own decide"


async def test_the_first_rule_that_fits_decides(net: Net) -> None:
    hub, (one, _) = await star(net, 2)
    await hub.tunnel.firewall([Rule("10.8.0.11/32", ()), Rule("10.8.0.0/24", ("10.8.0.0/24",))])
    assert not await one.reaches("10.8.0.12")
    await hub.tunnel.firewall([Rule("10.8.0.0/24", ("10.8.0.0/24",)), Rule("10.8.0.11/32", ())])
    assert await one.reaches("10.8.0.12")


async def test_a_network_behind_the_hub_needs_a_machine_that_forwards(net: Net) -> None:
    hub, (one, two) = await star(net, 2)
    lan = net.host("lan")
    net.wire(hub.host, lan, "192.168.50.1/24", "192.168.50.2/24")
    lan.route("10.8.0.0/24", via="192.168.50.1")
    rules = [Rule("10.8.0.11/32", ("192.168.50.0/24",))]
    with pytest.raises(TunnelError, match="passes no IPv4 on") as caught:
        await hub.tunnel.firewall(rules)
    assert "net.ipv4.ip_forward=1" in caught.value.next_step
    assert not await one.reaches("192.168.50.2")
    hub.host.sysctl("net.ipv4.ip_forward", "1")
    await hub.tunnel.firewall(rules)
    assert await one.reaches("192.168.50.2")
    assert not await two.reaches("192.168.50.2")


async def test_only_the_tunnels_own_table_is_replaced(net: Net) -> None:
    hub, (one,) = await star(net, 1)
    hub.host.run("nft", "add table inet mine; add chain inet mine c; add rule inet mine c tcp dport 22 accept")
    await hub.tunnel.firewall([Rule(f"{one.address}/32", ("10.8.0.0/24",))])
    before = hub.host.run("nft", "list", "ruleset")
    with pytest.raises(TunnelError, match=r"none: '10\.8\.0\.300/32'"):
        await hub.tunnel.firewall([Rule("10.8.0.300/32", ())])
    assert hub.host.run("nft", "list", "ruleset") == before, "a bad rule changes nothing"
    await hub.tunnel.firewall(None)
    await hub.tunnel.firewall(None)
    assert "tcp dport 22 accept" in hub.host.run("nft", "list", "ruleset")
    assert "prime-spark" not in hub.host.run("nft", "list", "ruleset")


async def test_250_peers_have_rules(net: Net) -> None:
    hub, (one,) = await star(net, 1)
    rules = [Rule(f"10.8.0.{number}/32", ("10.8.0.0/25", f"10.8.0.{number}/32")) for number in range(2, 252)]
    await hub.tunnel.firewall(rules)
    assert hub.host.run("nft", "list", "ruleset").count("ip saddr") == 500
    assert await one.reaches(hub.address)


async def test_without_nft_rules_are_refused_with_the_way_to_get_it(
    net: Net, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hub, _ = await star(net, 1)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TunnelError) as caught:
        await hub.tunnel.firewall([])
    assert caught.value.next_step == "sudo apt-get install nftables"
    await hub.tunnel.firewall(None)
    monkeypatch.undo()
