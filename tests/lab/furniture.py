"""What nodes are furnished with: keys, names, tunnels, servers, and the appliance's home in control-pc."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance.core.fleet.keys import OwnKey
from appliance.core.secrets import Secrets
from tests.lab import base, units
from tests.lab.plan import HUB, ROUTER_WAN, VPN_PORT, VPN_SUBNET, Plan

if TYPE_CHECKING:
    from tests.lab.node import LabNode

HOME = "/srv/prime-spark"
"""The appliance's home in control-pc."""
WG = "wg0"


def host_key() -> tuple[bytes, str, str]:
    """A new key pair: private, public, and the fingerprint as `ssh-keygen -lf` prints it."""
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(form.Encoding.OpenSSH, form.PublicFormat.OpenSSH).decode()
    digest = hashlib.sha256(base64.b64decode(public.split()[1])).digest()
    fingerprint = "SHA256:" + base64.b64encode(digest).decode().rstrip("=")
    return key.private_bytes(form.Encoding.PEM, form.PrivateFormat.OpenSSH, form.NoEncryption()), public, fingerprint


class Keys:
    """Who is let in: the lab's owner, and the appliance of control-pc.

    Args:
        directory: The lab's.
    """

    def __init__(self, directory: Path) -> None:
        private, public, _ = host_key()
        own = directory / "id_ed25519"
        own.touch(mode=0o600)
        own.write_bytes(private)
        (directory / "id_ed25519.pub").write_text(f"{public} owner@lab\n")
        self.owner = f"{public} owner@lab"
        secrets = directory / "home/data/secrets"
        for folder in (directory / "home", directory / "home/data", secrets):
            folder.mkdir(mode=0o700, exist_ok=True)
        self.appliance = OwnKey(Secrets(secrets, {}), "prime-spark@control-pc").public()


def hosts(plans: list[Plan]) -> str:
    """All of /etc/hosts."""
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost", *(f"{plan.address} {plan.name}" for plan in plans)]
    return "\n".join(lines) + "\n"


def tunnels(nodes: list[LabNode], folder: Path) -> None:
    """WireGuard on all of them, with control-pc as the hub; none where it is not there."""
    hub = next((node for node in nodes if node.plan.name == HUB.name), None)
    if hub is None or len(nodes) < 2:
        return
    keys = {node.plan.name: _wireguard_keys() for node in nodes}
    text = f"[Interface]\nPrivateKey = {keys[HUB.name][0]}\nAddress = {HUB.vpn_address}/24\nListenPort = {VPN_PORT}\n"
    for node in nodes:
        if node is not hub:
            public, address = keys[node.plan.name][1], node.plan.vpn_address
            text += f"\n# {node.plan.name}\n[Peer]\nPublicKey = {public}\nAllowedIPs = {address}/32\n"
            _tunnel(node, _spoke(node.plan, keys[node.plan.name][0], keys[HUB.name][1]))
    _tunnel(hub, text)


def _spoke(plan: Plan, private: str, hub: str) -> str:
    endpoint = HUB.address if plan.place == "lan" else ROUTER_WAN
    return (
        f"[Interface]\nPrivateKey = {private}\nAddress = {plan.vpn_address}/24\n\n[Peer]\nPublicKey = {hub}\n"
        f"Endpoint = {endpoint}:{VPN_PORT}\nAllowedIPs = {VPN_SUBNET}\nPersistentKeepalive = 25\n"
    )


def _tunnel(node: LabNode, text: str) -> None:
    base.folder(node.top, "etc/wireguard").chmod(0o700)
    base.write(node.top, f"etc/wireguard/{WG}.conf", text, 0o600)
    base.enable(node.top, f"wg-quick@{WG}.service", "wg-quick@.service")


def _wireguard_keys() -> tuple[str, str]:
    private = subprocess.run(["wg", "genkey"], capture_output=True, text=True, check=True).stdout.strip()
    public = subprocess.run(["wg", "pubkey"], input=private, capture_output=True, text=True, check=True).stdout.strip()
    return private, public


def servers(node: LabNode) -> None:
    """The heavy servers that the design has on a node."""
    for name in node.plan.services:
        for path, (text, mode) in units.files(name, node.plan).items():
            base.write(node.top, path, text, mode)
        base.enable(node.top, f"{name}.service")
        node.services.append(f"{name}.service")


def appliance(node: LabNode) -> None:
    """The appliance as a service of a node that sees the checkout; started by hand, or by `lab console`."""
    program = Path(__file__).resolve().parents[2] / ".venv/bin/prime-spark"
    text = units.unit(
        "Prime Spark", Type="simple", Environment=f"PRIME_SPARK_HOME={HOME}", ExecStart=f"{program} headless",
        WorkingDirectory="/root", Restart="on-failure", TimeoutStopSec="15s",
    )  # fmt: skip
    base.write(node.top, units.own("prime-spark"), text)
    base.link(node.top, "usr/local/bin/prime-spark", str(program))


def home(directory: Path, nodes: list[dict[str, Any]], options: dict[str, Any]) -> None:
    """The appliance's configuration in control-pc: the lab's nodes with their host keys, and what the full lab has.

    One that is there already is kept: its owner may have changed it.
    """
    path = directory / "home/config.toml"
    if path.exists():
        return
    lines = ["# Written by the lab.", *_vpn()]
    if options["pace"]:
        lines += ["", "[fleet]", f"metrics_seconds = {options['pace']:g}", "facts_seconds = 10"]
    lines += _fleet(nodes)
    if options["full"]:
        lines += ["", *units.configuration({node["name"]: node["address"] for node in nodes})]
        Secrets(directory / "home/data/secrets", {}).put("s3.secret_key", units.S3_SECRET.encode())
    path.touch(mode=0o600)
    path.write_text("\n".join(lines) + "\n")


def _fleet(nodes: list[dict[str, Any]]) -> list[str]:
    lines = []
    for node in nodes:
        values = {name: node[name] for name in ("role", "vpn_address", "host_key", "groups", "mac") if node[name]}
        lines += ["", f"[fleet.nodes.{node['name']}]", f'host = "{node["address"]}"']
        lines += [f"{name} = {json.dumps(value)}" for name, value in values.items()]
        lines += [f"services = {json.dumps(['ssh.service', *node['services']])}"]
    return lines


def _vpn() -> list[str]:
    return [
        "[vpn]", "enabled = true", f'interface = "{WG}"', f'subnet = "{VPN_SUBNET}"', f'address = "{HUB.vpn_address}"',
        f"port = {VPN_PORT}", f'endpoint = "{ROUTER_WAN}:{VPN_PORT}"', "providers = false",
    ]  # fmt: skip
