"""Files of systemd-networkd and wpa_supplicant."""

from __future__ import annotations

from appliance.core.lifecycle.firstboot.model import Identity, Interface, Radio

LINKS, RADIOS = "etc/systemd/network/1?-prime-spark-*.network", "etc/wpa_supplicant/wpa_supplicant-*.conf"
KINDS = {"wired": "Type=ether\nKind=!*", "wifi": "Type=wlan"}
"""What systemd.network(5) calls them; bridges and the like are no wires."""
HEAD = "# Written at every start from the identity of this machine.\n"


def files(identity: Identity) -> dict[str, tuple[str, int]]:
    """(text, mode) by path below the root."""
    links = {each.name: each for each in identity.interfaces}
    for radio in identity.radios:  # a Wi-Fi of which nothing else is said gets its addresses from the router
        if "wifi" not in links:
            links.setdefault(radio.interface, Interface(radio.interface))
    wireless = {"wifi", *(each.interface for each in identity.radios)}
    found = {_file(name): (link(each, wireless=name in wireless), 0o644) for name, each in links.items()}
    for name in sorted({each.interface for each in identity.radios}):
        mine = [each for each in identity.radios if each.interface == name]
        found[RADIOS.replace("*", name)] = (supplicant(mine), 0o600)
    return found


def _file(name: str) -> str:
    """Where it lies: of those that fit, the first counts, and so one interface's goes before its kind's."""
    return f"etc/systemd/network/{11 if name in KINDS else 10}-prime-spark-{name}.network"


def link(wish: Interface, *, wireless: bool = False) -> str:
    """How one interface gets its addresses (systemd.network(5)); the rest is as where nothing is said of it."""
    lines = ["[Match]", KINDS.get(wish.name, f"Name={wish.name}"), "", "[Link]", "RequiredForOnline=no", ""]
    lines += ["[Network]", f"DHCP={'yes' if wish.dhcp else 'no'}", "MulticastDNS=yes"]
    if wireless:
        lines.append("IgnoreCarrierLoss=3s")
    for name, values in (("Address", wish.address), ("Gateway", wish.gateway), ("DNS", wish.dns)):
        lines += [f"{name}={value}" for value in values]
    if wish.search:
        lines.append(f"Domains={' '.join(wish.search)}")
    dns = ["UseDNS=no"] if wish.dns else []  # those of the file, and none beside them
    metric = ["RouteMetric=2048"] if wireless else []  # a wire goes first
    domains = [] if wish.search else ["UseDomains=yes"]
    for section, keys in (("DHCPv4", [*dns, *metric, *domains]), ("DHCPv6", dns), ("IPv6AcceptRA", [*dns, *metric])):
        if keys:
            lines += ["", f"[{section}]", *keys]
    return HEAD + "\n".join(lines) + "\n"


def supplicant(radios: list[Radio]) -> str:
    """The networks of one interface (wpa_supplicant.conf(5)); earlier ones are preferred."""
    country = next((each.country for each in radios if each.country), "")
    head = f"{HEAD}ctrl_interface=DIR=/run/wpa_supplicant\nupdate_config=0\n" + (f"country={country}\n" if country else "")
    return head + "".join(_network(each, len(radios) - index) for index, each in enumerate(radios))


def _network(radio: Radio, priority: int) -> str:
    lines = [f"ssid={radio.ssid.encode().hex()}", f"priority={priority}"]  # in hexadecimal no sign can mean anything else
    if radio.hidden:
        lines.append("scan_ssid=1")
    if radio.security == "open":
        lines.append("key_mgmt=NONE")
    elif radio.security == "wpa3":
        lines += ["key_mgmt=SAE", "ieee80211w=2", f"sae_password={radio.passphrase.encode().hex()}"]
    else:
        lines += ["key_mgmt=WPA-PSK WPA-PSK-SHA256", f"psk={radio.psk}"]
    return "network={\n" + "".join(f"    {line}\n" for line in lines) + "}\n"
