"""Settings of the VPN."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, NoReturn

from pydantic import AfterValidator, Field, model_validator

from appliance.settingforms import SettingError
from appliance.settinggroups import Group, Port, env


def _refuse(message: str, next_step: str) -> NoReturn:
    raise SettingError(message, next_step)


def check_subnet(text: str) -> str:
    """A network with room for a hub and a peer. Raises SettingError."""
    try:
        whole = ipaddress.ip_network(text)
    except ValueError:
        _refuse("this is no network", 'write its first address and its length, such as "10.8.0.0/24".')
    if not whole.is_private or whole.num_addresses < 8:
        _refuse("a VPN needs a private network of 8 addresses or more", 'write one such as "10.8.0.0/24" or "fd00:8::/64".')
    return text


def check_subnet4(text: str) -> str:
    """An IPv4 network. Raises SettingError."""
    if ":" in text:
        _refuse("this is an IPv6 network", "set it as vpn.subnet6; vpn.subnet is IPv4.")
    return check_subnet(text)


def check_subnet6(text: str) -> str:
    """An IPv6 network, or none. Raises SettingError."""
    if text and ":" not in text:
        _refuse("this is no IPv6 network", 'write one such as "fd00:8::/64", or leave it empty.')
    return check_subnet(text) if text else text


def check_address(text: str) -> str:
    """An address, or none. Raises SettingError."""
    try:
        return str(ipaddress.ip_address(text)) if text else text
    except ValueError:
        _refuse("this is no address", 'write it alone, such as "10.8.0.2".')


def check_place(text: str) -> str:
    """HOST or HOST:PORT. Raises SettingError."""
    if text and re.fullmatch(r"([A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?", text) is None:
        _refuse("this is no HOST or HOST:PORT", 'write it such as "vpn.example.org", "203.0.113.7:51820" or "[2001:db8::7]".')
    return text


class VpnSettings(Group):
    """WireGuard, with this appliance as the hub. Off by default: nothing is opened, and nobody is contacted."""

    enabled: bool = False
    """Make the interface and let peers in."""
    interface: Annotated[str, Field(pattern=r"^[A-Za-z0-9_=+.-]{1,15}$")] = Field(
        "wg0", json_schema_extra=env("WIREGUARD_INTERFACE")
    )
    """Name of the interface."""
    port: Port = Field(51820, json_schema_extra=env("WIREGUARD_PORT"))
    """UDP port that is listened on."""
    subnet: Annotated[str, AfterValidator(check_subnet4)] = Field("10.8.0.0/24", json_schema_extra=env("VPN_SUBNET"))
    """Network of the VPN; peers get addresses from it."""
    subnet6: Annotated[str, AfterValidator(check_subnet6)] = ""
    """IPv6 network of the VPN, such as fd00:8::/64; empty for none."""
    address: Annotated[str, AfterValidator(check_address)] = ""
    """This hub's address in it; empty takes the second one, such as 10.8.0.2."""
    endpoint: Annotated[str, Field(max_length=260), AfterValidator(check_place)] = ""
    """Name or address under which peers reach this hub, with :PORT where the router forwards
    another one. Exported files have it."""
    dns: tuple[Annotated[str, AfterValidator(check_address)], ...] = ()
    """Name servers that exported files have."""
    mtu: Annotated[int, Field(ge=1280, le=9000)] = 1420
    """Largest packet inside the tunnel, bytes."""
    isolate: bool = False
    """Peers reach through the hub only what each is given (`vpn peer add --reach`); the hub itself they reach always."""
    routed: tuple[str, ...] = ()
    """Further networks that exported files route into the VPN, such as ["192.168.1.0/24"]."""
    reconcile_seconds: Annotated[float, Field(ge=1, le=3600)] = 30.0
    """Seconds between two comparisons of the tunnel with what it should be."""
    ping_seconds: Annotated[float, Field(ge=0, le=3600)] = 30.0
    """Seconds between two echo requests to each connected peer; 0 for none."""
    providers: bool = True
    """Show NetBird and Tailscale where they are installed; their own programs are asked, which ask their
    daemons on this machine."""

    @model_validator(mode="after")
    def _inside(self) -> VpnSettings:
        if self.address and ipaddress.ip_address(self.address) not in ipaddress.ip_network(self.subnet):
            _refuse(f"address {self.address} is not in subnet {self.subnet}", "write one of that network, or leave it empty.")
        for each in self.routed:
            try:
                ipaddress.ip_network(each)
            except ValueError:
                _refuse(f"routed: {each[:60]!r} is no network", 'write it such as "192.168.1.0/24".')
        return self
