"""The lab itself: its networks, tunnels, cuts, power and names."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from appliance import config, paths
from tests.lab import units
from tests.lab.base import is_hidden
from tests.lab.client import Lab, LabError
from tests.lab.plan import FLEET
from tests.lab.wake import woken
from tests.support import wait_for_sync

NODES = ["control-pc", "spark-agent", "nas", "primecore1", "primecore2", "primecore3", "primecore4"]


def reaches(lab: Lab, source: str, address: str) -> bool:
    return "1 received" in lab.exec(source, "ping", "-c1", "-W1", "-n", address, check=False)


def comes_to_reach(lab: Lab, source: str, address: str) -> None:
    wait_for_sync(lambda: reaches(lab, source, address), 30, f"{source} reaches {address}")


def test_seven_nodes_are_up_under_their_own_names(lab: Lab) -> None:
    nodes = [node for node in lab.status()["nodes"] if node["role"]]
    assert [node["name"] for node in nodes] == NODES
    assert {node["state"] for node in nodes} == {"on"}
    for name in ("nas", "primecore4"):
        assert lab.exec(name, "hostname").strip() == name
        assert lab.exec(name, "cat", "/etc/hostname").strip() == name
    assert len({lab.exec(name, "cat", "/proc/sys/kernel/random/boot_id") for name in NODES}) == 7


def test_the_tunnels_join_the_hub_with_every_node_and_the_nat_is_a_nat(lab: Lab) -> None:
    for address in ("198.18.8.3", "198.18.8.11", "198.18.8.14"):
        comes_to_reach(lab, "control-pc", address)
    assert reaches(lab, "primecore1", "198.18.8.2")
    assert reaches(lab, "control-pc", "203.0.113.11")
    assert not reaches(lab, "primecore1", "192.0.2.100")


def test_the_owners_key_is_let_in_by_a_real_ssh_server_with_its_own_host_key(lab: Lab) -> None:
    told = lab.node("primecore2")
    with lab.network_of("control-pc"):
        scanned = subprocess.run(
            ["ssh-keyscan", "-t", "ed25519", told["address"]], capture_output=True, text=True, check=True
        ).stdout
        shown = subprocess.run(["ssh-keygen", "-lf", "-"], input=scanned, capture_output=True, text=True, check=True).stdout
        command = [
            "ssh",
            "-i",
            str(lab.key),
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
            "-o",
            "BatchMode=yes",
        ]
        said = subprocess.run([*command, f"root@{told['address']}", "hostname"], capture_output=True, text=True, check=True)
    assert shown.split()[1] == told["host_key"]
    assert said.stdout.strip() == "primecore2"


@pytest.mark.parametrize(
    ("first", "second", "address"), [("control-pc", "nas", "192.0.2.49"), ("control-pc", "primecore1", "203.0.113.11")]
)
def test_a_cut_is_between_two_nodes_and_heals(lab: Lab, first: str, second: str, address: str) -> None:
    lab.cut(first, second)
    lab.cut(second, first)
    assert [first, second] in lab.status()["cuts"]
    assert not reaches(lab, first, address)
    assert reaches(lab, first, "203.0.113.12")
    assert reaches(lab, "spark-agent", address)
    lab.heal(second, first)
    assert reaches(lab, first, address)
    assert lab.status()["cuts"] == []


def test_a_slow_link_is_slow_and_others_are_not(lab: Lab) -> None:
    lab.slow("control-pc", "primecore1", rate=800)
    server = (
        "import socket; s = socket.create_server(('', 5555)); c, _ = s.accept(); n = 0\nwhile (d := c.recv(65536)): n += len(d)"
    )
    listening = subprocess.Popen(lab.inside("primecore1", ["python3", "-c", server]))
    send = "import socket, time; c = socket.create_connection(('203.0.113.11', 5555)); b = time.monotonic(); "
    send += "c.sendall(bytes(100_000)); c.shutdown(1); c.recv(1); print(time.monotonic() - b)"
    try:
        wait_for_sync(lambda: ":5555" in lab.exec("primecore1", "ss", "-ltn"), message="it listens")
        took = float(lab.exec("control-pc", "python3", "-c", send))
    finally:
        listening.kill()
        listening.wait()
    assert took > 0.7  # 800 000 bits at 800 kbit/s, less what the bucket holds
    lab.heal()
    assert lab.status()["slow"] == []


def test_a_delay_that_the_kernel_cannot_make_is_refused_in_words(lab: Lab) -> None:
    probe = "tc qdisc add dev lo root netem delay 1ms && tc qdisc del dev lo root"
    if subprocess.run(lab.inside("nas", ["sh", "-c", probe]), capture_output=True, check=False).returncode == 0:
        lab.slow("control-pc", "nas", delay=50)
        assert lab.status()["slow"] == [["control-pc", "nas", "50 ms"]]
        return
    with pytest.raises(LabError, match="no netem"):
        lab.slow("control-pc", "nas", delay=50)


def test_a_reboot_brings_a_node_back_with_what_it_had_written_and_a_new_boot(lab: Lab) -> None:
    before = lab.node("primecore2")
    boot = lab.exec("primecore2", "cat", "/proc/sys/kernel/random/boot_id")
    lab.exec("primecore2", "sh", "-c", "echo kept > /root/kept; echo gone > /tmp/gone; ip link add probe0 type bridge")
    lab.exec("primecore2", "reboot")
    wait_for_sync(lambda: lab.node("primecore2")["boots"] > before["boots"], 30, "it is back")
    assert lab.exec("primecore2", "cat", "/root/kept").strip() == "kept"
    assert lab.exec("primecore2", "ls", "/tmp") == ""
    assert "probe0" not in lab.exec("primecore2", "ip", "link")
    assert lab.exec("primecore2", "cat", "/proc/sys/kernel/random/boot_id") != boot
    assert float(lab.exec("primecore2", "cat", "/proc/uptime").split()[0]) < 60
    comes_to_reach(lab, "control-pc", "198.18.8.12")


def test_a_killed_node_is_gone_at_once_and_wakes_by_its_card(lab: Lab) -> None:
    card = lab.node("spark-agent")["mac"]
    lab.kill("spark-agent")
    assert lab.node("spark-agent")["state"] == "off"
    assert not reaches(lab, "control-pc", "192.0.2.92")
    with pytest.raises(LabError, match="is off"):
        lab.exec("spark-agent", "true")
    packet = "ff" * 6 + card.replace(":", "") * 16
    code = "import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.setsockopt(1, socket.SO_BROADCAST, 1); "
    code += f"s.sendto(bytes.fromhex('{packet}'), ('192.0.2.255', 9))"
    lab.exec("control-pc", "python3", "-c", code)
    wait_for_sync(lambda: lab.node("spark-agent")["state"] == "on", 30, "it woke")
    comes_to_reach(lab, "control-pc", "192.0.2.92")


def test_only_whole_magic_packets_wake() -> None:
    card = bytes.fromhex("027073000031")
    assert woken(b"head" + b"\xff" * 6 + card * 16 + b"tail") == "02:70:73:00:00:31"
    assert woken(b"\xff" * 7 + card * 16) == "02:70:73:00:00:31"
    assert woken(b"\xff" * 6 + card * 15) is None
    assert woken(b"\xff" * 3 + card * 16) is None


def test_an_added_node_is_empty_and_lets_only_the_owner_in(lab: Lab) -> None:
    name = f"new{int(time.time())}"
    made = lab.add(name)
    assert (made["state"], made["vpn_address"]) == ("on", "")
    assert len(lab.exec(name, "cat", "/root/.ssh/authorized_keys").splitlines()) == 1
    assert lab.exec(name, "ls", "/etc/wireguard") == ""
    assert reaches(lab, "control-pc", made["address"])
    with pytest.raises(LabError, match="already"):
        lab.add(name)


@pytest.mark.parametrize(
    ("path", "hidden"), [("/home/pi/prime-spark", True), ("/tmp/x", True), ("/opt/x", False), ("/rooted", False)]
)
def test_a_checkout_in_a_home_that_nodes_do_not_see_is_given_to_the_appliances_node(path: str, hidden: bool) -> None:
    assert is_hidden(Path(path)) is hidden


def test_a_command_for_a_node_keeps_its_options(lab: Lab) -> None:
    said = subprocess.run(
        [sys.executable, "-m", "tests.lab", "--name", lab.name, "exec", "nas", "ls", "--help"],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert said.stdout.startswith("Usage: ls"), said.stderr


def test_unknown_nodes_and_labs_are_said_in_words(lab: Lab) -> None:
    with pytest.raises(LabError, match="there is no node nowhere; next"):
        lab.cut("nas", "nowhere")
    with pytest.raises(LabError, match="next: choose from control-pc"):
        lab.kill("nowhere")
    with pytest.raises(LabError, match="cannot be cut off from itself"):
        lab.cut("nas", "nas")
    with pytest.raises(LabError, match="No lab nothing runs here"):
        Lab("nothing").status()
    with pytest.raises(LabError, match="no node nobody in the lab's plan"):
        Lab("nothing").up(nodes="nobody")
    assert lab.up() is False


def test_the_configuration_for_the_servers_is_one_that_the_appliance_takes(tmp_path: Path) -> None:
    addresses = {plan.name: plan.address for plan in FLEET}
    (tmp_path / "config.toml").write_text("\n".join(units.configuration(addresses)))
    told = config.load(paths.find({"PRIME_SPARK_HOME": str(tmp_path)}), {})
    assert (told.s3.endpoint, told.kafka.bootstrap_servers) == ("203.0.113.14:9000", "203.0.113.14:9092")
    assert (told.analytics.host, set(told.ups.nut)) == ("203.0.113.14", {"nas"})
    assert told.documents.url.endswith(f"/{units.DATABASE}")
