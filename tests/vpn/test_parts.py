"""Parts of the VPN by themselves: addresses, other products, settings, times, actions."""

from __future__ import annotations

import asyncio
import base64
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from appliance.core.catalog.vpn import Importing, moment
from appliance.core.vpn import keys, names, providers
from appliance.core.vpn.ladder import Ladder, Pace
from appliance.core.vpn.model import ActualPeer
from appliance.core.vpn.peers import Entry, Peer, Rotation, free_address, own_address
from appliance.core.vpn.rotation import MARGIN, NODE, OFFERED, judge
from appliance.core.vpn.roundabout import drops
from appliance.core.vpn.wanted import Hub, wanted_tunnel
from appliance.errors import ConflictError, InvalidArgumentsError
from appliance.settingvpn import VpnSettings
from tests.support import ManualClock

# What the two products' own tests and sources have (NetBird: client/status/status_test.go; Tailscale: ipn/ipnstate.Status).
NETBIRD = b"""{"peers": {"total": 2, "connected": 2, "details": [
 {"fqdn": "peer-1.awesome-domain.com", "netbirdIp": "192.168.178.101", "publicKey": "Pubkey1", "status": "Connected",
  "lastStatusUpdate": "2001-01-01T01:01:01Z", "connectionType": "P2P", "iceCandidateType": {"local": "", "remote": ""},
  "relayAddress": "", "lastWireguardHandshake": "2001-01-01T01:01:02Z", "transferReceived": 200, "transferSent": 100,
  "latency": 10000000, "quantumResistance": false, "networks": ["10.1.0.0/24"]},
 {"fqdn": "peer-2.awesome-domain.com", "netbirdIp": "192.168.178.102", "publicKey": "Pubkey2", "status": "Connected",
  "connectionType": "Relayed", "lastWireguardHandshake": "2002-02-02T02:02:03Z", "latency": 10000000, "networks": null}]},
 "cliVersion": "development", "daemonVersion": "0.14.1", "daemonStatus": "Connected",
 "management": {"url": "my-awesome-management.com:443", "connected": true, "error": ""},
 "signal": {"url": "my-awesome-signal.com:443", "connected": true, "error": ""},
 "netbirdIp": "192.168.178.100/16", "publicKey": "Some-Pub-Key", "events": []}"""
TAILSCALE = b"""{"Version": "1.76.1-t2f3c2f1d3", "TUN": true, "BackendState": "Running", "AuthURL": "",
 "TailscaleIPs": ["100.101.102.103", "fd7a:115c:a1e0::1"],
 "Self": {"ID": "n1", "PublicKey": "nodekey:a", "HostName": "pi", "DNSName": "pi.tail.ts.net.", "Online": true},
 "Health": ["Tailscale can't reach the configured DNS servers."], "MagicDNSSuffix": "tail.ts.net",
 "Peer": {
  "nodekey:b": {"ID": "n2", "HostName": "laptop", "TailscaleIPs": ["100.101.102.104"], "CurAddr": "192.0.2.7:41641",
   "RxBytes": 1, "TxBytes": 2, "LastHandshake": "2024-10-20T12:00:00.123456789Z", "Online": true, "Active": true},
  "nodekey:c": {"ID": "n3", "HostName": "phone", "TailscaleIPs": ["100.101.102.105"], "CurAddr": "", "Relay": "nyc",
   "LastHandshake": "0001-01-01T00:00:00Z", "Online": false, "Active": false}}}"""


def test_netbird_is_read() -> None:
    found = providers.understood("netbird", NETBIRD, b"")
    assert (found.name, found.state, found.address, found.version) == ("NetBird", "running", "192.168.178.100", "0.14.1")
    assert (found.total_peers, found.connected_peers, found.problems) == (2, 2, ())
    first, second = found.peers
    assert (first.name, first.how, first.latency_ms, first.handshake) == (
        "peer-1.awesome-domain.com",
        "direct",
        10.0,
        978310862.0,
    )
    assert second.how == "relayed"
    out = NETBIRD.replace(b'"daemonStatus": "Connected"', b'"daemonStatus": "NeedsLogin"')
    assert providers.understood("netbird", out, b"").state == "needs login"
    away = NETBIRD.replace(b'"connected": true, "error": ""', b'"connected": false, "error": "timeout"')
    found = providers.understood("netbird", away, b"")
    assert (found.state, found.problems) == ("not connected to its management", ("management: timeout", "signal: timeout"))


def test_tailscale_is_read() -> None:
    found = providers.understood("tailscale", TAILSCALE, b"")
    assert (found.name, found.state, found.address, found.version) == ("Tailscale", "running", "100.101.102.103", "1.76.1")
    assert (found.total_peers, found.connected_peers) == (2, 1)
    laptop, phone = found.peers
    assert (laptop.name, laptop.connected, laptop.how) == ("laptop", True, "direct")
    assert laptop.handshake == pytest.approx(1729425600.123456)
    assert (phone.connected, phone.handshake, phone.how) == (False, 0.0, "")
    logged_out = b'{"Version": "1.76.1", "BackendState": "NeedsLogin", "TailscaleIPs": null, "Self": {}, "Peer": null}'
    assert providers.understood("tailscale", logged_out, b"").state == "needs login"


@pytest.mark.parametrize(
    "out", [b"", b"{", b"[]", b"null", b'{"peers": 3, "management": 1}', b'{"BackendState": 1, "Peer": [1]}', b"\xff"]
)
@pytest.mark.parametrize("name", ["netbird", "tailscale"])
def test_an_answer_that_is_none_is_no_empty_network(name: str, out: bytes) -> None:
    found = providers.understood(name, out, b"failed to connect to the daemon\n")
    assert found.total_peers in {None, 0}
    assert found.state != "running"


async def test_programs_are_asked_with_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that answers, one that hangs, one that is not installed."""
    monkeypatch.setattr(providers, "LIMIT", 0.5)
    for name, body in (("netbird", f"cat <<'END'\n{NETBIRD.decode()}\nEND\n"), ("tailscale", "exec sleep 60\n")):
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{body}")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    found = await providers.read_all(lambda name: str(tmp_path / name))
    assert [each.state for each in found] == ["running", "gave no answer within 0.5 s"]
    assert await providers.read_all(lambda _: None) == ()


# -- addresses ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 30), max_size=40), st.sampled_from(["10.8.0.0/27", "fd00:8::/123"]))
@settings(max_examples=150, deadline=None)
def test_a_free_address_is_free(used: list[int], subnet: str) -> None:
    import ipaddress

    whole = ipaddress.ip_network(subnet)
    taken = [str(whole[number]) for number in used]
    try:
        found = free_address(subnet, taken)
    except ConflictError:
        assert set(range(1, 31)) <= set(used)
        return
    address = ipaddress.ip_interface(found)
    assert address.network.num_addresses == 1
    assert address.ip in whole
    assert str(address.ip) not in taken
    assert address.ip not in {whole.network_address, whole.broadcast_address}


def test_networks_are_passed_over_as_a_whole() -> None:
    assert free_address("10.8.0.0/24", ["10.8.0.0/25", "10.8.0.128"]) == "10.8.0.129/32"
    assert free_address("fd00:8::/64", ["fd00:8::1"]) == "fd00:8::2/128"
    with pytest.raises(ConflictError, match="No address"):
        free_address("10.8.0.0/29", ["10.8.0.0/29"])
    assert own_address("10.8.0.0/24") == "10.8.0.2/24"


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("vpn.example.org:51820", "vpn.example.org", 51820),
        ("[2001:db8::1]:1", "2001:db8::1", 1),
        ("192.0.2.1:65535", "192.0.2.1", 65535),
    ],
)
def test_places_are_read_and_written(text: str, host: str, port: int) -> None:
    assert names.place(text) == (host, port)
    assert str(names.place(text)) == text


@pytest.mark.parametrize(
    "text",
    ["", "host", "host:0", "host:65536", "::1:5", "[::1]", "[host]:5", "1.2.3:5", "-a:5", "a b:5", "a:5 ", "a..b:5", "é:5"],
)
def test_no_place_is_told(text: str) -> None:
    if text != "a:5 ":
        with pytest.raises(InvalidArgumentsError, match="no place"):
            names.place(text)


# -- rotation, ladder, rules ---------------------------------------------------------------------------------------------

OLD, NEW = "old", "new"
PEER = Peer("box", OLD, ("10.8.0.5/32",))


def actual(key: str, handshake: float) -> ActualPeer:
    return ActualPeer(key, (), None, 0, "", handshake, 0, 0)


def verdict(old: float, new: float, *, told: bool, now: float = 1100.0) -> str:
    found = judge(Entry(PEER, Rotation(OLD, NEW, 1000.0, told)), {OLD: actual(OLD, old), NEW: actual(NEW, new)}, now)
    return "undo" if found not in {"", "commit"} else found


def test_only_a_handshake_settles_a_rotation() -> None:
    assert verdict(990, 0, told=True) == ""
    assert verdict(1000 + NODE, 0, told=True) == "", "the node may still be at it"
    assert verdict(1001 + NODE + MARGIN, 0, told=True) == "undo"
    assert verdict(1001 + NODE + MARGIN, 1020, told=True) == "commit", "the new keys win, whatever else"
    assert verdict(2000, 0, told=False) == ""
    assert verdict(2000, 0, told=False, now=1001 + OFFERED) == "undo"
    assert judge(Entry(PEER, Rotation(OLD, NEW, 1000.0, True)), {}, 1e9) == "", "an interface that is gone proves nothing"


def test_while_keys_are_rotated_the_tunnel_has_both_and_the_old_one_the_networks() -> None:
    hub = Hub.of(VpnSettings())
    own = keys.make_pair().private
    wanted = wanted_tunnel(hub, own, [Entry(PEER, Rotation(OLD, NEW, 0.0)), Entry(Peer("off", "x", (), enabled=False))], {}, {})
    assert [(peer.public_key, peer.allowed) for peer in wanted.peers] == [(OLD, ("10.8.0.5/32",)), (NEW, ())]


def test_a_ladder_is_climbed_slower_each_time() -> None:
    clock = ManualClock()
    ladder = Ladder(clock, Pace(between=10, first=100, longest=400))
    taken: list[tuple[float, str]] = []
    began = clock.monotonic()
    for _ in range(2000):
        if step := ladder.due(endpoint=True, gone=True, alone=True):
            taken.append((clock.monotonic() - began, step))
            ladder.done(step, "tried")
        clock.move(1)
    steps = [step for _, step in taken]
    assert steps[:5] == ["resolve", "rebind", "renew", "restart", "resolve"]
    rests = [second[0] - first[0] for first, second in zip(taken[3::4], taken[4::4], strict=False)]
    assert 50 <= rests[0] <= 101
    assert all(rest <= 401 for rest in rests)
    assert max(rests) > 150
    assert len(ladder.attempts) == 8
    ladder.reset()
    assert ladder.due(endpoint=False, gone=False, alone=False) == "rebind"
    ladder.done("rebind", "tried")
    clock.move(11)
    assert ladder.due(endpoint=False, gone=False, alone=True) == "", "a session that may live is not dropped"


def ruleset(policy: str, *expressions: list[dict[str, Any]]) -> dict[str, Any]:
    chain = {"family": "inet", "table": "f", "name": "in", "hook": "input", "policy": policy}
    rules = [{"rule": {"family": "inet", "table": "f", "chain": "in", "expr": each}} for each in expressions]
    return {"nftables": [{"metainfo": {}}, {"chain": chain}, *rules]}


def port(right: Any) -> dict[str, Any]:
    return {"match": {"op": "==", "left": {"payload": {"protocol": "udp", "field": "dport"}}, "right": right}}


def test_a_rule_that_drops_is_found_and_one_that_accepts_before_it() -> None:
    assert drops(ruleset("accept"), 51820) == ""
    assert "drop" in drops(ruleset("accept", [port({"range": [51000, 52000]}), {"drop": None}]), 51820)
    assert drops(ruleset("accept", [port({"set": [51820, 53]}), {"accept": None}], [port(51820), {"drop": None}]), 51820) == ""
    assert "policy" in drops(ruleset("drop", [port(53), {"accept": None}]), 51820)
    assert drops(ruleset("drop", [port(51820), {"counter": {}}, {"accept": None}]), 51820) == ""
    assert drops({}, 51820) == ""


# -- settings, times, arguments ------------------------------------------------------------------------------------------


def test_defaults_are_those_of_the_contract_and_open_nothing() -> None:
    settings_ = VpnSettings()
    assert not settings_.enabled
    assert (settings_.interface, settings_.port, settings_.subnet) == ("wg0", 51820, "10.8.0.0/24")
    assert Hub.of(settings_).addresses == ("10.8.0.2/24",)
    assert Hub.of(VpnSettings(subnet6="fd00:8::/64", address="10.8.0.9")).addresses == ("10.8.0.9/24", "fd00:8::2/64")


@pytest.mark.parametrize(
    "values",
    [
        {"subnet": "10.8.0.0"}, {"subnet": "10.8.0.1/24"}, {"subnet": "8.8.8.0/24"}, {"subnet": "10.8.0.0/31"},
        {"subnet": "fd00::/64"},
        {"subnet6": "10.8.0.0/24"}, {"address": "10.9.0.1"}, {"address": "x"}, {"interface": "a/b"}, {"interface": "x" * 16},
        {"endpoint": "a b"}, {"endpoint": "2001:db8::1"}, {"mtu": 100}, {"port": 65536}, {"dns": ["x"]}, {"routed": ["x"]},
    ],
)  # fmt: skip
def test_settings_that_cannot_work_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        VpnSettings(**values)


def test_times_are_read_as_people_write_them() -> None:
    assert moment(None, 0.0) is None
    assert moment("never", 5.0) == 0.0
    assert moment("30d", 100.0) == 100.0 + 30 * 86400
    assert moment("1.5h", 0.0) == 5400.0
    late = moment("2030-01-31", 0.0)
    assert late is not None
    assert late > 1.8e9
    for bad in ("soon", "30x", "-1d", "2030-13-01", "1e9d"):
        with pytest.raises(InvalidArgumentsError, match="no time"):
            moment(bad, 0.0)


def test_an_imported_file_is_never_in_the_audit() -> None:
    """What is audited of an action is its parameters as plain JSON."""
    secret = keys.make_pair().private
    form = Importing(file=base64.b64encode(f"PrivateKey = {secret}".encode()).decode())  # type: ignore[arg-type]
    assert form.model_dump(mode="json")["file"] == "**********"
    with pytest.raises(ValidationError) as caught:
        Importing(file=secret + "!")  # type: ignore[arg-type]
    assert "Base64" in str(caught.value)


async def test_a_name_is_looked_up_once_however_many_ask() -> None:
    import time

    from appliance.core.vpn.resolve import Resolver

    asked: list[str] = []

    def lookup(host: str, number: int, *_: Any) -> list[tuple[Any, ...]]:
        asked.append(host)
        time.sleep(0.1)
        return [(2, 2, 17, "", ("192.0.2.7", number)), (10, 2, 17, "", ("fe80::1%eth0", number, 0, 2))]

    resolver = Resolver(lookup)
    found = await asyncio.gather(*(resolver.resolve(names.place("a.example:5")) for _ in range(10)))
    assert asked == ["a.example"]
    assert [each.address for each in found[0]] == ["192.0.2.7", "fe80::1"]
    resolver.close()


def test_nothing_of_it_is_loaded_while_no_vpn_is_wanted() -> None:
    """The composition root brings no netlink and no codes with it."""
    code = "import sys, appliance.assembly; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout.split()
    assert "msgspec" in loaded
    assert {"pyroute2", "segno"} & set(loaded) == set()


def test_numbers_of_the_vpn_are_told_and_those_that_are_not_known_are_not() -> None:
    from appliance.core.metrics import vpn_samples
    from appliance.core.vpn.status import PeerState, PeerStatus, VpnStatus

    up = PeerStatus("a", PeerState.connected, "k", (), (), rx_bytes=5, tx_bytes=6, handshake_age_s=7.0)
    off = PeerStatus("b", PeerState.disabled, "l", (), ())
    found = {(each.name, each.labels): each.value for each in vpn_samples(VpnStatus("wg0", True, 2, 1, (up, off)))}
    label = (("peer", "a"),)
    assert found["edge_vpn_peers_connected", ()] == 1
    assert found["edge_vpn_peer_up", label] == 1.0
    assert found["edge_vpn_peer_receive_bytes_total", label] == 5
    assert ("edge_vpn_peer_latency_ms", label) not in found
    assert not [name for name, labels in found if labels == (("peer", "b"),)]
    assert list(vpn_samples(VpnStatus("wg0", False, 2, 0, (up,)))) == []
    assert list(vpn_samples(None)) == []
