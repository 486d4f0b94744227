"""The VPN's service: what it puts right, what it outlives, who comes and goes, and whose time is over."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from appliance.core.alerts.rules import DEFAULTS
from appliance.core.clock import SystemClock
from appliance.core.model import Health
from appliance.core.state import Section
from appliance.core.vpn import keys
from appliance.core.vpn.desk import Wish
from appliance.core.vpn.ladder import Pace
from appliance.core.vpn.resolve import Resolver
from appliance.core.vpn.service import Rhythm
from appliance.core.vpn.status import PeerState
from appliance.errors import AbsentError, ConflictError, InvalidArgumentsError, TunnelError
from tests.servers.netns import Net
from tests.support import ManualClock, wait_for
from tests.vpn.rig import PORT, Bench, Spoke, ping, star


class Jumping(SystemClock):
    """A real clock whose date can be set."""

    ahead = 0.0

    def wall(self) -> float:
        return super().wall() + self.ahead


async def joined(bench: Bench, host: Any, name: str, folder: Path, **wish: Any) -> Spoke:
    """A peer that was added, and came in by its file."""
    await bench.desk.add(name, Wish(**wish))
    spoke = Spoke(host, folder / name)
    await spoke.up((await bench.desk.export(name))["text"])
    await bench.connected(name)
    return spoke


async def test_without_a_configuration_there_is_none_and_it_costs_nothing(tmp_path: Path) -> None:
    class Nowhere:
        name = "h"
        namespace = "none"

        def interface(self) -> str:
            return "wgnone"

    bench = Bench(Nowhere(), tmp_path, enabled=False)  # type: ignore[arg-type]
    bench._tunnel = None  # type: ignore[assignment,method-assign]  # whoever makes one fails
    await asyncio.to_thread(bench.store.open)
    with pytest.raises(AbsentError, match="no VPN is configured") as caught:
        await bench.service.start()
    assert "vpn.enabled" in caught.value.next_step
    await bench.desk.add("phone", Wish())
    status = bench.service.status()
    assert (status.is_active, status.total_peers, status.connected_peers) == (False, 1, 0)
    assert bench.state.get(Section.vpn).value == status
    assert reading(bench) == [("VPN peers", None)]
    await asyncio.to_thread(bench.store.close)


def reading(bench: Bench) -> list[tuple[str, float | None]]:
    """What the alert's rule measures now."""
    rule = next(rule for rule in DEFAULTS if rule.name == "vpn-peer")
    return [(each.subject, each.value) for each in rule.measure(bench.state)]


async def test_what_others_change_is_put_right_and_told(net: Net, tmp_path: Path) -> None:
    hub, (node,), _ = star(net, 1)
    bench = Bench(hub, tmp_path, endpoint=f"192.0.2.1:{PORT}")
    async with bench.life():
        await joined(bench, node, "box", tmp_path)
        assert await bench.service.reconcile() == "nothing"
        wg = bench.interface
        hub.run("wg", "set", wg, "peer", keys.make_pair().public, "allowed-ips", "10.9.9.9/32")
        hub.run("wg", "set", wg, "listen-port", "4711")
        hub.run("ip", "link", "set", wg, "mtu", "1300")
        hub.run("ip", "address", "add", "10.77.0.1/24", "dev", wg)
        told = await bench.service.reconcile(ours=False)
        for text in ("its port", "its MTU", "10.77.0.1/24 too many", "not known here"):
            assert text in told
        assert bench.service.status().foreign == (told,)
        assert await bench.service.reconcile(ours=False) == "nothing"
        assert await wait_for(lambda: ping(node, "10.8.0.2"))
        hub.run("ip", "link", "delete", wg)
        await bench.service.reconcile(ours=False)
        assert bench.service.status().foreign[-1] == "the interface was gone"
        await wait_for(lambda: ping(node, "10.8.0.2"), 30)
    await bench.remove()


async def test_a_process_that_was_killed_comes_back_by_itself(net: Net, tmp_path: Path) -> None:
    hub, (node,), _ = star(net, 1)
    bench = Bench(hub, tmp_path, endpoint=f"192.0.2.1:{PORT}", reconcile_seconds=1)
    async with bench.life():
        await joined(bench, node, "box", tmp_path)
        (pid,) = [pid for pid in hub.pids() if "wireguard-go" in Path(f"/proc/{pid}/comm").read_text()]
        os.kill(pid, signal.SIGKILL)
        await wait_for(lambda: "the interface was gone" in bench.service.status().foreign, 20)
        await wait_for(lambda: ping(node, "10.8.0.2"), 30)
        assert (await bench.service.health()).health is not Health.unhealthy
    await bench.remove()


async def test_the_tunnel_outlives_the_appliance(net: Net, tmp_path: Path) -> None:
    """Stopped and started again, the session goes on: same process, no new handshake needed."""
    hub, (node,), _ = star(net, 1)
    bench = Bench(hub, tmp_path, endpoint=f"192.0.2.1:{PORT}")
    async with bench.life():
        await joined(bench, node, "box", tmp_path)
    pids = [pid for pid in hub.pids() if "wireguard-go" in Path(f"/proc/{pid}/comm").read_text()]
    assert await wait_for(lambda: ping(node, "10.8.0.2"))
    bench.renew()
    async with bench.life():
        await bench.connected("box")
        assert bench.service.status().changes == 0
        assert pids == [pid for pid in hub.pids() if "wireguard-go" in Path(f"/proc/{pid}/comm").read_text()]
    await bench.remove()


async def test_a_name_that_means_another_address_is_followed(net: Net, tmp_path: Path) -> None:
    """The hub calls a peer by name; the peer moves, its name follows, and the ladder's first step finds it."""
    hub, (first, second), _ = star(net, 2)
    where = {"address": "192.0.2.2"}

    def lookup(host: str, port: int, *_: Any) -> list[tuple[Any, ...]]:
        assert host == "box.example"
        return [(2, 2, 17, "", (where["address"], port))]

    bench = Bench(hub, tmp_path, endpoint=f"192.0.2.1:{PORT}", resolver=Resolver(lookup))
    async with bench.life():
        await bench.desk.add("box", Wish(endpoint="box.example:51820"))
        text = (await bench.desk.export("box"))["text"].replace("Endpoint", "# Endpoint")  # it cannot call
        spoke = Spoke(first, tmp_path / "one")
        await spoke.up(text)
        await bench.connected("box")
        await asyncio.to_thread(first.run, "wg-quick", "down", str(spoke.file))
        where["address"] = "192.0.2.3"
        await bench.service.keeper.restart()  # type: ignore[union-attr]  # no waiting for three minutes of silence
        moved = Spoke(second, tmp_path / "two")
        await moved.up(text)
        await bench.connected("box", 30)
        assert bench.peer("box").endpoint == "192.0.2.3:51820"
    await bench.remove()


async def test_the_ladder_is_climbed_and_told(net: Net, tmp_path: Path) -> None:
    hub, _, _ = star(net, 1)
    bench = Bench(hub, tmp_path)
    async with bench.life():
        await bench.desk.add("box", Wish(endpoint="192.0.2.2:51820"))
        await wait_for(
            lambda: {each.step for each in bench.peer("box").attempts} == {"resolve", "rebind", "renew", "restart"}, 30
        )
        assert all(each.outcome for each in bench.peer("box").attempts)
    await bench.remove()


async def test_a_name_that_no_server_knows_keeps_nothing_waiting(net: Net, tmp_path: Path) -> None:
    """A resolver that hangs: the others are served, the health says why."""
    hub, (node,), _ = star(net, 1)

    def lookup(*_: Any) -> list[tuple[Any, ...]]:
        time.sleep(1.5)
        return []

    bench = Bench(hub, tmp_path, endpoint=f"192.0.2.1:{PORT}", resolver=Resolver(lookup, limit=0.2), rhythm=Rhythm(look=0.1))
    async with bench.life():
        await bench.desk.add("lost", Wish(endpoint="lost.example:51820"))
        await joined(bench, node, "box", tmp_path)
        report = await bench.service.health()
        assert report.health is Health.degraded
        assert "No name server answered for lost.example" in report.reason
        assert "No name server" in bench.peer("lost").reason
    await bench.remove()


@pytest.mark.parametrize(
    ("found", "told"), [((), "has no address"), (("0.0.0.0",), "is no machine"), (("10.8.0.77",), "into the tunnel")]
)
async def test_a_name_that_means_nonsense_harms_nobody_else(
    net: Net, tmp_path: Path, found: tuple[str, ...], told: str
) -> None:
    """Nothing, the address that servers give for blocked names, one inside of the VPN itself."""
    hub, (node,), _ = star(net, 1)
    resolver = Resolver(lambda _, port, *__: [(2, 2, 17, "", (address, port)) for address in found])
    bench = Bench(hub, tmp_path, endpoint=f"192.0.2.1:{PORT}", resolver=resolver, rhythm=Rhythm(look=0.1))
    async with bench.life():
        await bench.desk.add("lost", Wish(endpoint="lost.example:51820", networks=("10.8.0.77/32",)))
        await joined(bench, node, "box", tmp_path)
        assert await wait_for(lambda: ping(node, "10.8.0.2"))
        report = await bench.service.health()
        assert (report.health, told in report.reason) == (Health.degraded, True), report
    await bench.remove()


async def test_peers_that_come_and_go_are_events_and_alerts(net: Net, tmp_path: Path) -> None:
    hub, (node,), _ = star(net, 1)
    bench = Bench(hub, tmp_path, endpoint=f"192.0.2.1:{PORT}", ping_seconds=0.2)
    async with bench.life():
        await joined(bench, node, "box", tmp_path)
        await wait_for(lambda: bench.peer("box").latency_ms is not None, 10)
        assert bench.peer("box").loss == 0.0
        await wait_for(lambda: reading(bench) == [("box", 0.0)])
        await wait_for(lambda: len(bench.peer("box").history) > 3 and bench.peer("box").rx_bytes)
        await bench.desk.switch("box", enabled=False)
        await wait_for(lambda: bench.noted[-1][0] == "vpn.peer-down")
        assert bench.noted[-1][1]["severity"] == "info"
        assert reading(bench) == [("VPN peers", None)]
        await bench.desk.switch("box", enabled=True)
        await wait_for(lambda: ping(node, "10.8.0.2"), 30)
        await bench.connected("box")
        hub.run("wg", "set", bench.interface, "peer", bench.peer("box").public_key, "remove")
        await wait_for(lambda: bench.peer("box").state is PeerState.missing)
        assert reading(bench) == [("box", 1.0)]
        await wait_for(lambda: bench.noted[-1][1]["severity"] == "warning")
        assert (await bench.service.health()).health is Health.degraded
    await bench.remove()


async def test_whose_time_is_over_is_cut_off_but_not_by_a_clock_that_jumps(net: Net, tmp_path: Path) -> None:
    hub, (node,), _ = star(net, 1)
    clock = Jumping()
    bench = Bench(hub, tmp_path, endpoint=f"192.0.2.1:{PORT}", clock=clock)
    async with bench.life():
        await joined(bench, node, "box", tmp_path, expires=clock.wall() + 30)
        assert await bench.service.expire() == []
        clock.ahead = 20 * 365 * 86400.0
        assert await bench.service.expire() == []
        assert await wait_for(lambda: ping(node, "10.8.0.2"))
        assert bench.peer("box").state is PeerState.connected
        clock.ahead = 0.0
        clock.ahead = 40.0
        bench.service._trust = None
    bench.renew()
    async with bench.life():
        assert await bench.service.expire() == ["box"]
        await bench.service.reconcile()
        await wait_for(lambda: bench.peer("box").state is PeerState.expired)
        assert hub.run("wg", "show", bench.interface, "peers") == ""
        clock.ahead = 0.0
        assert (await bench.book.one("box")).peer.expired, "a clock that goes back brings nobody back"
        clock.ahead = 40.0
        with pytest.raises(ConflictError, match="time of box is over"):
            await bench.desk.switch("box", enabled=True)
        await bench.desk.switch("box", enabled=True, expires=clock.wall() + 3600)
        await wait_for(lambda: ping(node, "10.8.0.2"), 30)
    await bench.remove()


async def test_an_existing_hub_is_taken_over(net: Net, tmp_path: Path) -> None:
    """A hub's own wg-quick file: its peers come in without any change on their side."""
    hub, (node,), _ = star(net, 1)
    own, theirs, shared = keys.make_pair(), keys.make_pair(), keys.make_preshared()
    text = (
        f"[Interface]\nPrivateKey = {own.private}\nAddress = 10.8.0.2/24\nListenPort = {PORT}\nPostUp = false\n"
        f"[Peer]\n# laptop\nPublicKey = {theirs.public}\nPresharedKey = {shared}\nAllowedIPs = 10.8.0.9/32, 192.168.9.0/24\n"
    )
    client = (
        f"[Interface]\nPrivateKey = {theirs.private}\nAddress = 10.8.0.9/24\n[Peer]\nPublicKey = {own.public}\n"
        f"PresharedKey = {shared}\nAllowedIPs = 10.8.0.0/24\nEndpoint = 192.0.2.1:{PORT}\nPersistentKeepalive = 25\n"
    )
    bench = Bench(hub, tmp_path)
    async with bench.life():
        with pytest.raises(ConflictError, match="no address of its own"):
            await bench.desk.take(client, own_key=False)
        taken = await bench.desk.take(text, own_key=True)
        assert taken["peers"] == ["laptop"]
        assert taken["own_key"]
        assert "PostUp is ignored" in taken["ignored"][0]
        assert taken["settings"] == []
        await Spoke(node, tmp_path / "node").up(client)
        await bench.connected("laptop")
        assert bench.peer("laptop").networks == ("192.168.9.0/24",)
        assert await wait_for(lambda: ping(node, "10.8.0.2"))
        with pytest.raises(ConflictError):
            await bench.desk.take(text, own_key=True)
        assert (await bench.book.one("laptop")).peer.public_key == theirs.public
    await bench.remove()


async def test_peers_are_kept_apart_where_that_is_wanted(net: Net, tmp_path: Path) -> None:
    hub, nodes, _ = star(net, 3)
    bench = Bench(hub, tmp_path, endpoint=f"192.0.2.1:{PORT}", isolate=True)
    hub.forward()
    async with bench.life():
        for number, reach in enumerate(((), ("10.8.0.4/32",), ())):
            await joined(bench, nodes[number], f"n{number}", tmp_path, reach=reach)
        addresses = [bench.peer(f"n{number}").addresses[0].split("/")[0] for number in range(3)]
        assert addresses == ["10.8.0.1", "10.8.0.3", "10.8.0.4"]
        assert await wait_for(lambda: ping(nodes[0], "10.8.0.2"))
        assert await ping(nodes[0], "10.8.0.4") == 0
        assert await wait_for(lambda: ping(nodes[1], "10.8.0.4"))
        await bench.desk.change("n1", Wish(reach=()))
        assert await ping(nodes[1], "10.8.0.4") == 0
    await bench.remove()


async def test_what_contradicts_itself_is_refused(net: Net, tmp_path: Path) -> None:
    hub, _, _ = star(net, 1)
    bench = Bench(hub, tmp_path)
    async with bench.life():
        first = await bench.desk.add("one", Wish(networks=("192.168.7.0/24",)))
        for fault, wish in {
            "has this public key already": Wish(public_key=first.public_key),
            "overlaps 192.168.7.0/24 of the peer one": Wish(networks=("192.168.0.0/16",)),
            "overlaps 10.8.0.1/32": Wish(addresses=("10.8.0.1",)),
            "this hub's own address": Wish(addresses=("10.8.0.2",)),
            "no single address of 10.8.0.0/24": Wish(addresses=("10.9.0.1",)),
            "does not send everything to one peer": Wish(networks=("0.0.0.0/0",)),
            "no public key": Wish(public_key="x" * 44),
            "no place to reach": Wish(endpoint="nowhere"),
            "over already": Wish(expires=1.0),
        }.items():
            with pytest.raises((ConflictError, InvalidArgumentsError), match=fault):
                await bench.desk.add("two", wish)
        with pytest.raises(InvalidArgumentsError, match="no name of a peer"):
            await bench.desk.add("../x", Wish())
        with pytest.raises(ConflictError, match="There is a peer one already"):
            await bench.desk.add("one", Wish())
        assert {path.name for path in (tmp_path / "secrets").iterdir()} == {"vpn.key", "vpn.peer.one.key", "vpn.peer.one.psk"}
        await bench.desk.remove("one")
        assert {path.name for path in (tmp_path / "secrets").iterdir()} == {"vpn.key"}
        assert hub.run("wg", "show", bench.interface, "peers") == ""
    await bench.remove()


async def test_a_port_that_is_taken_is_told(net: Net, tmp_path: Path) -> None:
    import socket

    hub, _, _ = star(net, 1)
    held = hub.within(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with held:
        held.bind(("0.0.0.0", PORT))
        bench = Bench(hub, tmp_path)
        with pytest.raises(TunnelError, match="UDP port 51820"):
            async with bench.life():
                raise AssertionError("it started")
    await bench.remove()


async def test_no_secret_is_shown(net: Net, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Not in the state, the log, the events, or what values show of themselves; files are of mode 0600."""
    caplog.set_level("DEBUG")
    hub, (node,), _ = star(net, 1)
    bench = Bench(hub, tmp_path, endpoint=f"192.0.2.1:{PORT}")
    async with bench.life():
        await bench.desk.add("box", Wish())
        secrets = [path.read_text() for path in (tmp_path / "secrets").iterdir()]
        assert len(secrets) == 3
        await Spoke(node, tmp_path / "node").up((await bench.desk.export("box"))["text"])
        await bench.connected("box")
        keeper = bench.service.keeper
        assert keeper is not None
        shown = repr(
            (
                bench.state.get(Section.vpn).value,
                bench.noted,
                keeper.actual,
                keeper.entries,
                await bench.book.preshared(list(keeper.entries.values())),
            )
        )
        assert not [secret for secret in secrets if secret in shown + caplog.text]
        assert all(path.stat().st_mode & 0o777 == 0o600 for path in (tmp_path / "secrets").iterdir())
    await bench.remove()


async def test_250_peers(net: Net, tmp_path: Path) -> None:
    """A reconciliation of all takes no second, and a second one changes nothing."""
    hub, _, _ = star(net, 1)
    bench = Bench(hub, tmp_path, subnet="10.8.0.0/22", rhythm=Rhythm(look=3600))
    places = [f"10.8.{1 + number // 200}.{1 + number % 200}/32" for number in range(250)]
    text = "[Interface]\n" + "".join(
        f"[Peer]\nPublicKey = {keys.make_pair().public}\nPresharedKey = {keys.make_preshared()}\nAllowedIPs = {place}\n"
        for place in places
    )
    async with bench.life():
        taken = await bench.desk.take(text, own_key=False)
        assert len(taken["peers"]) == 250
        assert len(hub.run("wg", "show", bench.interface, "peers").split()) == 250
        hub.run("ip", "link", "delete", bench.interface)
        began = time.monotonic()
        await bench.service.reconcile()
        made = time.monotonic() - began
        began = time.monotonic()
        assert await bench.service.reconcile() == "nothing"
        again = time.monotonic() - began
        assert len(hub.run("wg", "show", bench.interface, "peers").split()) == 250
        (tmp_path / "figures").write_text(f"made in {made:.3f} s, looked at again in {again:.3f} s\n")
    await bench.remove()


def test_ages_do_not_follow_a_wall_clock_that_jumps() -> None:
    """A peer that shakes hands stays connected though the clock is set by a year; and without it is down after 180 s."""
    from appliance.core.vpn.gauge import Gauge
    from appliance.core.vpn.ladder import Ladder, Pace
    from appliance.core.vpn.model import ActualPeer
    from appliance.core.vpn.peers import Peer

    clock = ManualClock()
    peer = Peer("box", "k", ("10.8.0.5/32",))
    gauge = Gauge(clock, Ladder(clock, Pace()))

    def look(handshake: float) -> PeerState:
        gauge.read(peer, ActualPeer("k", (), None, 25, "", handshake, 100, 100), readable=True)
        return gauge.state

    shaken = clock.wall() - 10
    assert look(shaken) is PeerState.connected
    clock.wall_now += 365 * 86400
    clock.move(2)
    assert look(shaken) is PeerState.connected
    assert gauge.age == pytest.approx(12)
    clock.wall_now -= 2 * 365 * 86400
    clock.move(2)
    assert look(clock.wall() - 1) is PeerState.connected
    assert gauge.age == pytest.approx(1)
    clock.move(180)
    assert look(gauge._handshake) is PeerState.down


async def test_many_changes_while_peers_are_brought_back(net: Net, tmp_path: Path) -> None:
    """Peers are added, changed and removed while others are looked up and brought back: none of it ends the service."""
    hub, _, _ = star(net, 1)

    def slow(_: str, port: int, *__: Any) -> list[tuple[Any, ...]]:
        time.sleep(0.02)
        return [(2, 2, 17, "", ("192.0.2.9", port))]

    bench = Bench(
        hub, tmp_path, resolver=Resolver(slow), rhythm=Rhythm(look=0.01, pace=Pace(between=0.01, first=0.02, longest=0.02))
    )
    async with bench.life():
        for number in range(4):
            await bench.desk.add(f"lost{number}", Wish(endpoint=f"lost{number}.example:51820"))

        async def churn(name: str) -> None:
            await bench.desk.add(name, Wish())
            await bench.desk.switch(name, enabled=False)
            await bench.desk.remove(name)

        await asyncio.gather(*(churn(f"p{number}") for number in range(12)))
        await wait_for(lambda: all(bench.peer(f"lost{number}").attempts for number in range(4)), 20)
        assert {peer.name for peer in bench.service.status().peers} == {f"lost{number}" for number in range(4)}
    await bench.remove()
