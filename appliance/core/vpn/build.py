"""Wires the VPN together."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from appliance.core.ports import Clock, RemoteShell
from appliance.core.secrets import Secrets
from appliance.core.state import LiveState
from appliance.core.store import Store
from appliance.core.vpn.book import PeerBook
from appliance.core.vpn.desk import Desk
from appliance.core.vpn.evidence import Examiner
from appliance.core.vpn.model import Tunnel
from appliance.core.vpn.nodes import Nodes
from appliance.core.vpn.otherside import OtherSide
from appliance.core.vpn.service import Ground, VpnService
from appliance.core.vpn.tending import Note
from appliance.core.vpn.wanted import Hub
from appliance.settingvpn import VpnSettings


class Vpn(NamedTuple):
    """The VPN's service and what works on it."""

    service: VpnService
    desk: Desk
    other: OtherSide
    examiner: Examiner


def build(
    settings: VpnSettings,
    store: Store,
    secrets: Secrets,
    state: LiveState,
    clock: Clock,
    note: Note,
    make_tunnel: Callable[[str], Tunnel],
    shell: RemoteShell | None = None,
) -> Vpn:
    """The VPN, at rest.

    Args:
        settings: As the operator has them.
        store: Has the peers.
        secrets: Has the keys.
        state: Shown there.
        clock: For times.
        note: Tells of events.
        make_tunnel: Makes what carries the interface, by its name.
        shell: Reaches the peers' own machines; None where there is none.
    """
    book = PeerBook(store, secrets, clock, Hub.of(settings).addresses)
    service = VpnService(Ground(settings, book, state, clock, note, make_tunnel))
    nodes = Nodes(shell, settings.interface)
    return Vpn(service, Desk(service, nodes), OtherSide(service, nodes), Examiner(service, nodes))
