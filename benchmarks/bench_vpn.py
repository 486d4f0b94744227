"""Tunnels in network namespaces: how soon they are up, what a look at 250 peers takes, how soon a moved end is found, and
what goes through, beside wireguard-go set up by hand in the same run.
"""

from __future__ import annotations

import asyncio
import base64
import tempfile
import time
from functools import partial
from pathlib import Path

import msgspec

from appliance.core.vpn.keys import make_preshared
from appliance.core.vpn.model import Endpoint, Rule, WantedPeer
from appliance.core.vpn.reconcile import diff
from benchmarks.rows import Figure, at_most
from benchmarks.vpn_rig import Bare, iperf, middle, missing, seconds_since, tell
from tests.servers.netns import Net
from tests.support import wait_for_sync
from tests.vpn.sides import PORT, Side

SPOKES = 5
PEERS = 250
ROUNDS = 3
EVERYONE = "10.8.0.0/16"


def run() -> list[Figure]:
    """All of it; nothing where it cannot be measured."""
    if problem := missing():
        tell(f"vpn: not measured: {problem}")
        return []
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_measured(Path(folder)))


async def _measured(folder: Path) -> list[Figure]:
    return [
        await _from_nothing(folder),
        *await _many(folder),
        *await _moved(),
        *await _through(folder),
    ]


def _star(net: Net) -> tuple[Side, list[Side]]:
    hosts = [net.host("hub"), *(net.host(f"s{number}") for number in range(SPOKES))]
    net.switch(hosts)
    hub = Side(hosts[0], "10.8.0.1/16", port=PORT)
    spokes = [Side(host, f"10.8.0.{number}/16") for number, host in enumerate(hosts[1:], 11)]
    hub.want(*(spoke.as_peer() for spoke in spokes))
    for spoke in spokes:
        spoke.want(hub.as_peer(EVERYONE, endpoint="192.0.2.1", keepalive=25))
    return hub, spokes


async def _from_nothing(folder: Path) -> Figure:
    """No process, no interface, nothing imported; until every spoke's echo came back. All six machines are this one."""
    with Net() as net:
        hub, spokes = _star(net)
        began = time.perf_counter()
        await hub.reconcile()
        await asyncio.gather(*(spoke.reconcile() for spoke in spokes))
        await asyncio.gather(*(spoke.comes_to_reach(hub.address) for spoke in spokes))
        ours = seconds_since(began)
    with Net() as net:
        hub, spokes = _star(net)
        bare = [Bare(side.host, side.wanted, folder) for side in (hub, *spokes)]
        began = time.perf_counter()
        for each in bare:
            each.up()
        for each in bare[1:]:
            wait_for_sync(partial(each.reaches, hub.address), 30)
        theirs = seconds_since(began)
    return at_most(f"hub and {SPOKES} peers up from nothing, traffic flows", ours, "s", 3.0, "wireguard-go, wg, ip", theirs)


def _peer(number: int) -> WantedPeer:
    key = base64.b64encode((number + 1000).to_bytes(32, "big")).decode()
    allowed = (f"10.8.{1 + number // 250}.{number % 250 + 1}/32", f"10.{100 + number // 250}.{number % 250}.0/24")
    return WantedPeer(key, allowed, keepalive=25, preshared=make_preshared())


async def _many(folder: Path) -> list[Figure]:
    """A hub whose 250 peers are all new, then the same again, then one that changed. Each has a network that is routed."""
    with Net() as net:
        hub = Side(net.host("hub"), "10.8.0.1/16", port=PORT)
        await hub.reconcile()
        hub.want(*(_peer(number) for number in range(PEERS)))
        began = time.perf_counter()
        changes = await hub.reconcile()
        first = seconds_since(began)
        assert len(changes.peers) == PEERS
        began = time.perf_counter()
        changes = await hub.reconcile()
        second = seconds_since(began)
        assert not changes, "the second run changes nothing"
        hub.want(*hub.wanted.peers[1:], msgspec.structs.replace(hub.wanted.peers[0], keepalive=0))
        actual = await hub.read()
        began = time.perf_counter()
        assert len(diff(hub.wanted, actual).peers) == 1
        compared = seconds_since(began)
        longest = await _longest_hold(hub)
        bare = Bare(net.host("bare"), msgspec.structs.replace(hub.wanted, name=hub.host.interface()), folder)
        bare.host.interfaces.append(bare.wanted.name)
        bare.up()
        began = time.perf_counter()
        bare.sync("syncconf")
        synced = seconds_since(began)
    return [
        at_most(f"reconcile of {PEERS} new peers, with {PEERS} routes", first, "s", 1.0),
        at_most(f"the same again ({PEERS} peers, nothing changes)", second, "s", 1.0, "wg syncconf alone", synced),
        Figure(f"of that, comparing {PEERS} peers", round(compared * 1000, 1), "ms"),
        Figure("longest time that a look at them holds the loop", round(longest * 1000, 1), "ms"),
    ]


async def _longest_hold(hub: Side) -> float:
    """How late a task that wants to run every millisecond is, at most, while the tunnel is read and compared."""
    worst, ended = 0.0, False

    async def watch() -> None:
        nonlocal worst
        while not ended:
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            worst = max(worst, seconds_since(began) - 0.001)

    watching = asyncio.create_task(watch())
    for _ in range(5):
        await asyncio.to_thread(diff, hub.wanted, await hub.read())
    ended = True
    await watching
    return worst


async def _moved() -> list[Figure]:
    """The hub gets another address and the spoke is told; then the spoke itself moves."""
    told: list[float] = []
    moved: list[float] = []
    for _ in range(ROUNDS):
        with Net() as net:
            hub, (spoke, *_) = _star(net)
            await hub.reconcile()
            await spoke.reconcile()
            await spoke.comes_to_reach(hub.address)
            hub.host.readdress("eth0", "192.0.2.201/24")
            assert not await spoke.reaches(hub.address)
            began = time.perf_counter()
            spoke.want(msgspec.structs.replace(spoke.wanted.peers[0], endpoint=Endpoint("192.0.2.201", PORT)))
            await spoke.reconcile()
            await spoke.comes_to_reach(hub.address)
            told.append(seconds_since(began))
            began = time.perf_counter()
            spoke.host.readdress("eth0", "192.0.2.99/24")
            await spoke.tunnel.rebind()
            await spoke.comes_to_reach(hub.address)
            moved.append(seconds_since(began))
    return [
        Figure("a moved endpoint, from being told to traffic, median of 3", round(middle(told), 3), "s"),
        Figure("our own address changed, rebind to traffic, median of 3", round(middle(moved), 3), "s"),
    ]


async def _through(folder: Path) -> list[Figure]:
    """Turn and turn about, so that a noisy machine is noisy for all."""
    with Net() as net:
        hub, (one, two, *_) = _star(net)
        for side in (hub, one, two):
            await side.reconcile()
        for side in (one, two):
            await side.comes_to_reach(hub.address)
        left, right = _by_hand(net, folder)
        ours, theirs, ruled, free = [], [], [], []
        rules = [Rule(f"10.8.{1 + number // 250}.{number % 250 + 1}/32", (EVERYONE,)) for number in range(PEERS - 1)]
        for _ in range(ROUNDS):
            ours.append(await asyncio.to_thread(iperf, one.host, hub.host, hub.address))
            theirs.append(await asyncio.to_thread(iperf, left.host, right.host, "10.9.0.1"))
            await hub.tunnel.firewall([*rules, Rule("10.8.0.11/32", (EVERYONE,))])
            ruled.append(await asyncio.to_thread(iperf, one.host, two.host, two.address))
            await hub.tunnel.firewall(None)
            free.append(await asyncio.to_thread(iperf, one.host, two.host, two.address))
    return [
        Figure("TCP through one tunnel", round(middle(ours)), "Mbit/s", None, "wireguard-go, wg, ip", round(middle(theirs))),
        Figure(
            f"TCP through the hub, {PEERS} peers' rules", round(middle(ruled)), "Mbit/s", None, "no rules", round(middle(free))
        ),
    ]


def _by_hand(net: Net, folder: Path) -> tuple[Bare, Bare]:
    """The same pair without us, on a switch of its own."""
    hosts = [net.host("right"), net.host("left")]
    net.switch(hosts, "198.51.100.0/24")
    right, left = Side(hosts[0], "10.9.0.1/24", port=PORT), Side(hosts[1], "10.9.0.2/24")
    right.want(left.as_peer())
    left.want(right.as_peer(endpoint="198.51.100.1", keepalive=25))
    made = Bare(left.host, left.wanted, folder), Bare(right.host, right.wanted, folder)
    for each in (made[1], made[0]):
        each.up()
    wait_for_sync(lambda: made[0].reaches("10.9.0.1"), 30)
    return made
