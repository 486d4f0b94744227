"""A hub and its peers through the service, in namespaces."""

from __future__ import annotations

import time
from pathlib import Path

from appliance.core.vpn.desk import Wish
from tests.servers.netns import Net
from tests.support import wait_for
from tests.vpn.rig import PORT, Bench, Spoke, ping, star


async def test_exported_files_bring_peers_in(net: Net, tmp_path: Path) -> None:
    """Five peers from nothing, each by its file and wg-quick; traffic flows to the hub and from peer to peer."""
    hub, nodes, _ = star(net, 5)
    hub.forward()
    bench = Bench(hub, tmp_path, endpoint=f"192.0.2.1:{PORT}")
    time.monotonic()
    async with bench.life():
        spokes = []
        for number, host in enumerate(nodes):
            await bench.desk.add(f"n{number}", Wish())
            exported = await bench.desk.export(f"n{number}")
            spoke = Spoke(host, tmp_path / f"n{number}")
            await spoke.up(exported["text"])
            spokes.append(spoke)
        for number in range(5):
            await bench.connected(f"n{number}")
        assert await wait_for(lambda: ping(nodes[0], "10.8.0.2"))
        assert await wait_for(lambda: ping(nodes[0], bench.peer("n4").addresses[0].split("/")[0]))
        status = bench.service.status()
        assert (status.is_active, status.total_peers, status.connected_peers) == (True, 5, 5)
        assert status.backend in {"kernel", "wireguard-go"}
        assert [event for event, _ in bench.noted].count("vpn.peer-up") == 5
    await bench.remove()


async def test_ipv6_inside_and_outside(net: Net, tmp_path: Path) -> None:
    """Peers get addresses of both kinds, and reach the hub by its IPv6 address from outside."""
    hub, node = net.host("hub"), net.host("node")
    net.wire(hub, node, "2001:db8::1/64", "2001:db8::2/64")
    bench = Bench(hub, tmp_path, endpoint="[2001:db8::1]", subnet6="fd00:8::/64")
    async with bench.life():
        added = await bench.desk.add("box", Wish())
        assert added.addresses == ("10.8.0.1/32", "fd00:8::1/128")
        spoke = Spoke(node, tmp_path / "box")
        await spoke.up((await bench.desk.export("box"))["text"])
        found = await bench.connected("box")
        assert found.endpoint.startswith("[2001:db8::2]:")
        assert await wait_for(lambda: ping(node, "fd00:8::2"))
        assert await wait_for(lambda: ping(node, "10.8.0.2"))
    await bench.remove()
