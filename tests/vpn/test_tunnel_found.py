"""What can carry a tunnel here; its processes; echo requests."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from appliance.core.doctor.checks.vpn import look
from appliance.core.vpn.model import Probe
from appliance.errors import AbsentError, TunnelError
from appliance.hw.wireguard import ping, userspace
from appliance.hw.wireguard.found import find
from appliance.hw.wireguard.space import Space
from appliance.hw.wireguard.tunnel import WireGuardTunnel
from appliance.hw.wireguard.userspace import Userspace
from tests.servers.netns import SOCKETS, Host, Net, needs_wireguard
from tests.support import needs_program
from tests.unit.doctor_support import Machine
from tests.vpn.sides import Side, pair


def program(folder: Path, name: str, text: str = "#!/bin/sh\nexit 1\n") -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


CASES = {
    "running": ({"sys/module/wireguard/version": "1.0\n"}, [], "kernel"),
    "module": ({"lib/modules/6.6.1/modules.dep": "kernel/drivers/net/wireguard/wireguard.ko.xz: x\n"}, [], "kernel"),
    "builtin": ({"lib/modules/6.6.1/modules.builtin": "kernel/drivers/net/wireguard/wireguard.ko\n"}, [], "kernel"),
    "go": ({"dev/net/tun": ""}, ["wireguard-go"], "wireguard-go"),
    "both": ({"dev/net/tun": ""}, ["boringtun-cli", "wireguard-go"], "wireguard-go"),
    "boringtun": ({"dev/net/tun": ""}, ["boringtun-cli"], "boringtun"),
    "no tun": ({}, ["wireguard-go"], ""),
    "nothing": ({"dev/net/tun": ""}, [], ""),
    "neither": ({}, [], ""),
}


@pytest.mark.parametrize("case", CASES)
def test_it_finds_what_the_doctor_finds(machine: Machine, tmp_path: Path, case: str) -> None:
    files, programs, backend = CASES[case]
    for name, text in ({"proc/sys/kernel/osrelease": "6.6.1\n"} | files).items():
        path = machine.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for name in programs:
        program(tmp_path / "bin", name)
    environ = {"PATH": str(tmp_path / "bin")}
    found = find(machine.root, environ)
    assert found.backend == backend
    told = look(machine.context(environ=environ))
    assert (told.status == "ok") == bool(backend)
    if backend:
        assert found.must() == backend
    else:
        assert told.fix == found.next_step
        with pytest.raises(AbsentError):
            found.must()


async def test_without_any_program_there_is_a_way_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AbsentError) as caught:
        await Userspace("wgnone", Space(), tmp_path).start()
    assert caught.value.next_step == "sudo apt-get install wireguard-go"


async def test_without_a_tun_device_the_module_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program(tmp_path / "bin", "wireguard-go")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(userspace, "TUN", tmp_path / "tun")
    with pytest.raises(AbsentError, match="which wireguard-go needs") as caught:
        await Userspace("wgnone", Space(), tmp_path).start()
    assert caught.value.next_step == "sudo modprobe tun"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("#!/bin/sh\necho first; echo cannot open the device >&2; exit 1\n", "ended at once: cannot open the device"),
        ("#!/bin/sh\nexit 0\n", "ended at once: it said nothing"),
        ("no program\n", "Exec format error"),
    ],
)
async def test_a_program_that_does_not_start_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, said: str
) -> None:
    program(tmp_path / "bin", "wireguard-go", text)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(userspace, "TUN", Path("/dev/null"))
    with pytest.raises(TunnelError, match=said):
        await Userspace("wgnone", Space(), tmp_path).start()


async def test_a_program_that_makes_no_socket_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program(tmp_path / "bin", "wireguard-go", f"#!/bin/sh\necho $$ >{tmp_path}/pid\nexec sleep 60\n")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(userspace, "TUN", Path("/dev/null"))
    monkeypatch.setattr(userspace, "START_SECONDS", 0.5)
    process = Userspace("wgnone", Space(), tmp_path)
    with pytest.raises(TunnelError, match=r"made no socket for wgnone within 0\.5 s"):
        await process.start()
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()


async def test_a_process_writes_as_much_as_it_likes_and_no_file_grows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = "#!/bin/sh\nfor n in $(seq 5000); do echo a line that says little 2>/dev/null; done; exit 1\n"
    program(tmp_path / "bin", "wireguard-go", text)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(userspace, "TUN", Path("/dev/null"))
    with pytest.raises(TunnelError, match="a line that says"):
        await Userspace("wgnone", Space(), tmp_path).start()


async def test_a_stale_socket_is_cleared_away(net: Net) -> None:
    host = net.host("hub")
    name = host.interface()
    SOCKETS.mkdir(exist_ok=True)
    path = SOCKETS / f"{name}.sock"
    path.write_text("left behind")
    tunnel = WireGuardTunnel(name, netns=host.namespace, ways=("userspace",))
    assert await tunnel.read() is None
    assert await tunnel.ensure()
    assert stat.S_ISSOCK(path.stat().st_mode)
    assert not await tunnel.ensure()


async def test_the_program_gets_no_secret_by_its_environment(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_PASSWORD", "very-secret")
    side = Side(net.host("hub"), "10.8.0.1/24")
    await side.reconcile()
    (pid,) = side.host.pids()
    assert b"very-secret" not in Path(f"/proc/{pid}/environ").read_bytes()
    assert Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:3] == [b"wireguard-go", b"-f", side.tunnel.name.encode()]


UNPRIVILEGED = """
import asyncio, sys
from appliance.core.vpn.model import Changes
from appliance.errors import TunnelError
from appliance.hw.wireguard.tunnel import WireGuardTunnel

async def main():
    tunnel = WireGuardTunnel(sys.argv[1], ways=("userspace",))
    for call in (tunnel.read, tunnel.ensure, lambda: tunnel.apply(Changes(mtu=1400, up=True)), lambda: tunnel.firewall([])):
        try:
            print(await call())
        except TunnelError as error:
            print(error.message, "|", error.next_step)
    actual = await tunnel.read()
    if actual is not None:
        print(actual.mtu, actual.up, (await tunnel.ping("127.0.0.1")).received)
        await tunnel.remove()

asyncio.run(main())
"""


def as_nobody(host: Host, name: str, rights: str, *, owner: int) -> list[str]:
    """What the script above prints as a user without rights but these, where the sockets' directory belongs to somebody."""
    needs_program("setpriv")
    SOCKETS.mkdir(exist_ok=True)
    whom = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", f"--inh-caps={rights}", f"--ambient-caps={rights}"]
    mounted = f'mount -t tmpfs -o uid={owner},mode=755 none {SOCKETS} && exec "$@"'
    if "ok" not in host.run(*whom, sys.executable, "-c", "import appliance; print('ok')", check=False):
        pytest.skip("this Python may only be run by its owner")
    return host.run("unshare", "-m", "sh", "-c", mounted, "sh", *whom, sys.executable, "-c", UNPRIVILEGED, name).splitlines()


def test_a_user_with_the_right_to_the_network_can_carry_one(net: Net) -> None:
    host = net.host("hub")
    said = as_nobody(host, host.interface(), "+net_admin,+net_raw", owner=65534)
    assert said == ["None", "True", "None", "False", "1400 True 3"]
    assert host.pids() == []


def test_a_user_without_it_is_told_what_is_missing(net: Net) -> None:
    host = net.host("hub")
    said = as_nobody(host, host.interface(), "+net_admin,+net_raw", owner=0)
    assert "may not be written by this user (uid 65534). | sudo chown 65534 /var/run/wireguard" in said[1]
    said = as_nobody(host, host.interface(), "-all", owner=65534)
    assert said[0] == "None"
    assert all("CAP_NET_ADMIN" in line for line in (said[1], said[3]))
    assert "there is no such interface" in said[2]


async def test_echoes_are_counted(net: Net) -> None:
    hub, spoke = await pair(net)
    probe = await spoke.tunnel.ping(hub.address, count=4)
    assert (probe.sent, probe.received) == (4, 4)
    assert probe.rtt_ms is not None
    assert 0 < probe.rtt_ms < 1000
    assert await spoke.tunnel.ping("10.8.0.77", count=2, limit=0.05) == Probe(2, 0, None)
    assert await spoke.tunnel.ping("172.31.0.1", count=2, limit=30) == Probe(2, 0, None), "no route: nothing left"
    assert (await spoke.tunnel.ping("fd00:8::1", size=1372, whole=True)).received == 3
    assert await spoke.tunnel.ping("fd00:8::1", size=1373, whole=True, limit=30) == Probe(3, 0, None), "larger than the MTU"
    assert (await spoke.tunnel.ping("fd00:8::1", size=1373)).received == 3, "in pieces"


async def test_unprivileged_sockets_do_as_well(net: Net) -> None:
    hub, spoke = await pair(net)
    spoke.host.sysctl("net.ipv4.ping_group_range", "0 2147483647")
    assert (await spoke.tunnel.ping(hub.address)).received == 3
    assert (await spoke.tunnel.ping("fd00:8::1", size=1372, whole=True)).received == 3
    assert (await spoke.tunnel.ping(hub.address, size=1393, whole=True, limit=30)).received == 0


async def test_a_peer_that_drops_half_is_told_so(net: Net) -> None:
    hub, spoke = await pair(net)
    hub.host.run("nft", "add table inet lossy; add chain inet lossy in { type filter hook input priority 0; }; "
                        "add rule inet lossy in icmp type echo-request numgen inc mod 2 0 drop")  # fmt: skip
    probe = await spoke.tunnel.ping(hub.address, count=10, limit=0.3)
    assert (probe.sent, probe.received) == (10, 5)


async def test_what_is_no_address_is_told() -> None:
    with pytest.raises(TunnelError, match=r"'vpn\.example' is no address"):
        await ping.Pinger(Space()).ping("vpn.example")


async def test_where_echoes_are_forbidden_the_way_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(ping.socket, "socket", refused)
    with pytest.raises(TunnelError, match="may not be sent") as caught:
        await ping.Pinger(Space()).ping("127.0.0.1")
    assert "ping_group_range" in caught.value.next_step


def test_checksums_are_those_of_the_rfc() -> None:
    assert ping.checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0x220D
    assert ping.checksum(b"\x01") == 0xFEFF


def test_answers_to_others_are_not_taken() -> None:
    kind, token = ping.KINDS[4], b"12345678"
    packet = bytes([0, 0, 0, 0, 0, 1, 0, 7]) + token
    assert ping.sequence_of(kind, packet, token, with_header=False) == 7
    assert ping.sequence_of(kind, b"\x45" + bytes(19) + packet, token, with_header=True) == 7
    for wrong in (b"", packet[:12], bytes([8]) + packet[1:], packet[:8] + b"87654321"):
        assert ping.sequence_of(kind, wrong, token, with_header=False) is None


def test_this_machine_can_carry_one() -> None:
    needs_wireguard()
    assert find().backend
