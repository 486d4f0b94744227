"""Other VPN products on this machine, as their own programs tell of them: NetBird and Tailscale. Nothing is changed there."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from appliance.core.vpn.status import ProviderPeer, ProviderStatus

LIMIT = 5.0
"""Seconds for one program."""
LARGEST = 8 << 20
"""Bytes of an answer."""
PEERS = 250
"""Peers of one product that are shown; all are counted."""
PROGRAMS: Mapping[str, tuple[str, ...]] = {"netbird": ("status", "--json"), "tailscale": ("status", "--json")}
NEVER = 0.0


def parse_netbird(document: Mapping[str, Any]) -> ProviderStatus:
    """What `netbird status --json` says (client/status/status.go: OutputOverview).

    Raises:
        KeyError, TypeError, ValueError: It is not what that program writes.
    """
    found = document.get("peers") or {}
    details = found.get("details") or ()
    management, signal = document["management"], document.get("signal") or {}
    problems = [f"management: {management['error']}"] if management.get("error") else []
    problems += [f"signal: {signal['error']}"] if signal.get("error") else []
    daemon = str(document.get("daemonStatus") or "")
    said = {"NeedsLogin": "needs login", "LoginFailed": "login failed", "SessionExpired": "needs login"}.get(daemon, "")
    state = said or ("running" if management["connected"] else "not connected to its management")
    return ProviderStatus(
        name="NetBird", state=state,
        address=str(document.get("netbirdIp") or "").partition("/")[0], version=str(document.get("daemonVersion") or ""),
        total_peers=int(found.get("total", len(details))), connected_peers=int(found.get("connected", 0)),
        peers=tuple(_netbird_peer(each) for each in details[:PEERS]), problems=tuple(problems),
    )  # fmt: skip


def _netbird_peer(peer: Mapping[str, Any]) -> ProviderPeer:
    how = {"P2P": "direct", "Relayed": "relayed"}.get(str(peer.get("connectionType") or ""), "")
    connected = peer["status"] == "Connected"
    latency = float(peer.get("latency") or 0) / 1e6  # a Go duration: nanoseconds
    return ProviderPeer(
        name=str(peer.get("fqdn") or peer.get("publicKey") or ""), address=str(peer.get("netbirdIp") or ""),
        connected=connected, how=how if connected else "", latency_ms=latency if connected and latency > 0 else None,
        handshake=_moment(peer.get("lastWireguardHandshake")),
    )  # fmt: skip


TAILSCALE = {
    "Running": "running", "Stopped": "stopped", "NeedsLogin": "needs login",
    "NeedsMachineAuth": "waits for an admin's approval", "NoState": "not started", "Starting": "starting",
}  # fmt: skip


def parse_tailscale(document: Mapping[str, Any]) -> ProviderStatus:
    """What `tailscale status --json` says (ipn/ipnstate: Status).

    Raises:
        KeyError, TypeError, ValueError: It is not what that program writes.
    """
    state = str(document["BackendState"])
    peers = list((document.get("Peer") or {}).values())
    own = document.get("TailscaleIPs") or (document.get("Self") or {}).get("TailscaleIPs") or ()
    return ProviderStatus(
        name="Tailscale", state=TAILSCALE.get(state, state), address=str(own[0]) if own else "",
        version=str(document.get("Version") or "").partition("-")[0], total_peers=len(peers),
        connected_peers=sum(bool(each.get("Online")) for each in peers),
        peers=tuple(_tailscale_peer(each) for each in peers[:PEERS]),
        problems=tuple(str(each) for each in document.get("Health") or ())[:8],
    )  # fmt: skip


def _tailscale_peer(peer: Mapping[str, Any]) -> ProviderPeer:
    addresses = peer.get("TailscaleIPs") or ("",)
    active = bool(peer.get("Active"))
    how = "direct" if active and peer.get("CurAddr") else "relayed" if active and peer.get("Relay") else ""
    name = str(peer.get("HostName") or peer.get("DNSName") or "")
    return ProviderPeer(name, str(addresses[0]), bool(peer.get("Online")), how, None, _moment(peer.get("LastHandshake")))


def _moment(text: object) -> float:
    """A time as Go writes it; its zero, the year 1, is none."""
    if not isinstance(text, str) or text.startswith("0001-"):
        return NEVER
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return NEVER


PARSERS: Mapping[str, Callable[[Mapping[str, Any]], ProviderStatus]] = {"netbird": parse_netbird, "tailscale": parse_tailscale}
TITLES = {"netbird": "NetBird", "tailscale": "Tailscale"}


async def read_all(which: Callable[[str], str | None] = shutil.which) -> tuple[ProviderStatus, ...]:
    """Ask every product that is installed here.

    Args:
        which: Finds a program, as shutil.which.
    """
    there = [(name, path) for name in PROGRAMS if (path := await asyncio.to_thread(which, name))]
    return tuple(await asyncio.gather(*(_read(name, path, PROGRAMS[name]) for name, path in there)))


async def _read(name: str, path: str, arguments: Sequence[str]) -> ProviderStatus:
    title = TITLES[name]
    try:
        process = await asyncio.create_subprocess_exec(
            path, *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
    except OSError as error:
        return ProviderStatus(title, f"cannot be asked: {error.strerror}")
    try:
        async with asyncio.timeout(LIMIT):
            out, err = await process.communicate()
    except TimeoutError:
        return ProviderStatus(title, f"gave no answer within {LIMIT:g} s")
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return understood(name, out, err)


def understood(name: str, out: bytes, err: bytes) -> ProviderStatus:
    """A program's answer as a status; what cannot be read is told, and never taken for an empty network."""
    title, said = TITLES[name], err.decode(errors="replace").strip().splitlines()
    if not out.strip() or len(out) > LARGEST:
        return ProviderStatus(title, said[0][:200] if said else "said nothing that can be read")
    try:
        return PARSERS[name](msgspec.json.decode(out))
    except (msgspec.DecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        return ProviderStatus(title, f"its answer is not understood: {type(error).__name__}")
