"""A peer of the appliance's WireGuard network, in a network namespace of the guest; runs there, with the appliance's Python.

The peer's file comes as the first line of the program's variable CONF. It prints one line of JSON: the kind of the hub's
interface as the kernel tells it, and what came of the echo requests through the tunnel.
"""

from __future__ import annotations

PROGRAM = r"""
import json, pathlib, subprocess, time
from pyroute2 import IPRoute

def run(*words):
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}: {done.stderr}")
    return done.stdout

run("ip", "netns", "add", "peer")
run("ip", "link", "add", "outside", "type", "veth", "peer", "name", "inside", "netns", "peer")
run("ip", "address", "add", "192.0.2.1/24", "dev", "outside")
run("ip", "link", "set", "outside", "up")
run("ip", "-n", "peer", "address", "add", "192.0.2.2/24", "dev", "inside")
run("ip", "-n", "peer", "link", "set", "inside", "up")
run("ip", "-n", "peer", "link", "add", "wg-peer", "type", "wireguard")
own = next(line.split("=", 1)[1].strip() for line in CONF.splitlines() if line.startswith("Address"))
plain = "\n".join(line for line in CONF.splitlines() if line.split("=")[0].strip() not in ("Address", "DNS", "MTU"))
file = pathlib.Path("/run/peer.conf")
file.touch(0o600)
file.write_text(plain + "\n")
run("ip", "netns", "exec", "peer", "wg", "setconf", "wg-peer", str(file))
run("ip", "-n", "peer", "address", "add", own.split(",")[0], "dev", "wg-peer")
run("ip", "-n", "peer", "link", "set", "wg-peer", "up")
run("ip", "-n", "peer", "route", "replace", HUB + "/32", "dev", "wg-peer")
ping = subprocess.run(["ip", "netns", "exec", "peer", "ping", "-c", "5", "-W", "20", HUB], capture_output=True, text=True)
with IPRoute() as route:
    kinds = {link.get_attr("IFLA_IFNAME"): link.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") for link in route.get_links()}
hub = run("wg", "show", INTERFACE, "latest-handshakes").split()
print(json.dumps({"kind": kinds.get(INTERFACE), "ping": ping.returncode, "said": ping.stdout, "handshake": int(hub[1])}))
"""


def program(conf: str, hub: str, interface: str) -> str:
    """The program with its values: the peer's file, the hub's address in the tunnel, the hub's interface."""
    return f"CONF = {conf!r}\nHUB = {hub!r}\nINTERFACE = {interface!r}\n{PROGRAM}"
