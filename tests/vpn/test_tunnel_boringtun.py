"""boringtun: its dialect always; a real one where it is installed (`cargo install boringtun-cli`)."""

from __future__ import annotations

import shutil

import msgspec
import pytest

from appliance.core.vpn.keys import make_pair, make_preshared
from appliance.core.vpn.model import ActualPeer, Endpoint, PeerChange, WantedPeer
from appliance.hw.wireguard import userspace
from appliance.hw.wireguard.boringtun import anew
from appliance.hw.wireguard.uapi import parse
from tests.servers.netns import Net
from tests.vpn.sides import PORT, Side, pair

HEX = "ab" * 32


def test_its_answers_tell_ages_and_public_keys() -> None:
    text = f"own_public_key={HEX}\nlisten_port=51820\npublic_key={HEX}\nlast_handshake_time_sec=7\nerrno=0\n"
    device = parse(text, now=1000.0)
    assert device.public_key == device.peers[0].public_key
    assert device.peers[0].handshake == 993.0
    never = parse(f"own_public_key={HEX}\npublic_key={HEX}\nerrno=0\n", now=1000.0)
    assert never.peers[0].handshake == 0.0


def test_a_peer_that_changes_is_made_anew_with_all_it_has() -> None:
    old = ActualPeer("k", ("10.8.0.3/32",), Endpoint("192.0.2.9", 4), 25, "p", 1.0, 2, 3)
    changes = [PeerChange("gone", remove=True), PeerChange("k", keepalive=0), PeerChange("lost", keepalive=5)]
    assert list(anew(changes, {"k": old})) == [
        PeerChange("gone", remove=True),
        PeerChange("k", remove=True),
        PeerChange("k", create=True, allowed=old.allowed, endpoint=old.endpoint, preshared="p"),
    ]


@pytest.fixture
def boringtun(monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("boringtun-cli") is None:
        pytest.skip("boringtun-cli is not installed; it is on no list of Debian's")
    monkeypatch.setattr(userspace, "PROGRAMS", [each for each in userspace.PROGRAMS if each.backend == "boringtun"])


@pytest.mark.usefixtures("boringtun")
async def test_a_real_one_carries_a_tunnel_and_is_reconciled(net: Net) -> None:
    hub, spoke = await pair(net)
    assert hub.tunnel.backend == "boringtun"
    assert not await hub.reconcile()
    assert not await spoke.reconcile()
    seen = await hub.peer(spoke)
    assert seen.handshake > 1.7e9
    preshared, other = make_preshared(), make_pair().public
    hub.want(spoke.as_peer(preshared=preshared, keepalive=1), WantedPeer(other, ("10.8.0.9/32",)))
    spoke.want(hub.as_peer(endpoint="192.0.2.1", preshared=preshared))
    await hub.reconcile()
    await spoke.reconcile()
    assert not await hub.reconcile()
    await spoke.comes_to_reach(hub.address)
    hub.want(msgspec.structs.replace(hub.wanted.peers[0], keepalive=2))
    await hub.reconcile()
    assert [each.public_key for each in (await hub.read()).peers] == [spoke.keys.public]
    assert not await hub.reconcile()
    await hub.tunnel.rebind()
    await spoke.comes_to_reach(hub.address)
    await hub.tunnel.remove()
    assert hub.host.pids() == []


@pytest.mark.usefixtures("boringtun")
async def test_another_process_takes_over_where_one_was_killed(net: Net) -> None:
    side = Side(net.host("hub"), "10.8.0.1/24", port=PORT)
    await side.reconcile()
    (pid,) = side.host.pids()
    side.host.run("kill", "-KILL", str(pid))
    assert (await side.reconcile()).create
    assert not await side.reconcile()
