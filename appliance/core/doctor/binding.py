"""Why a service cannot listen where its settings say, in the doctor's words."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

from appliance.core.doctor.checks import ports
from appliance.core.doctor.model import DoctorContext
from appliance.errors import ApplianceError

NOWHERE = "could not bind on any address"
"""What asyncio says, without a number, since Python 3.12.7 and 3.13 where no address of a name is this machine's."""


def refusal(error: Exception, host: str, port: int, group: str, root: Path = Path("/")) -> ApplianceError | None:
    """What a failed bind means for the operator; looks through /proc, so it blocks.

    Args:
        error: What the system said.
        host: Address that was asked for.
        port: TCP port that was asked for.
        group: The settings' group, which has `host` and `port`.
        root: Where /proc is looked for.

    Returns:
        The reason and its fix; None where the error is not about the address.
    """
    code = error.errno if isinstance(error, OSError) else None
    nowhere = code is None and str(error).startswith(NOWHERE)
    if isinstance(error, socket.gaierror | UnicodeError) or nowhere or code == errno.EADDRNOTAVAIL:  # no name: UnicodeError
        return ApplianceError(
            f"{group}.host {host!r} is no address of this machine.",
            f"set {group}.host to one of its addresses (`ip -brief address` lists them), or to 0.0.0.0 for all, and restart.",
        )
    if code == errno.EADDRINUSE:
        return _taken(host, port, group, root)
    if code == errno.EACCES:
        return ApplianceError(
            f"This user may not open port {port}.", f"set {group}.port to one of 1024 to 65535, and restart the appliance."
        )
    return None


def _taken(host: str, port: int, group: str, root: Path) -> ApplianceError:
    context = DoctorContext(environ={}, home=root, lock=root, ports=(), nas_path=root, model_dirs=(), root=root)
    owners = {pid for inode in ports.listeners(context).get(port, set()) for pid in ports.holders(context, inode)}
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    find = "" if owners else f"sudo ss -ltnp 'sport = :{port}' names it; "
    return ApplianceError(
        f"{where} is held by {ports.named(context, owners)}.",
        f"{find}stop it, or choose another port (`prime-spark config set {group}.port NUMBER`) and restart the appliance.",
    )
