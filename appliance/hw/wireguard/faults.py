"""What errors of the kernel and of a tunnel's process mean for the operator."""

from __future__ import annotations

import errno
import os

from appliance.errors import TunnelError

RIGHT = "run the appliance with CAP_NET_ADMIN (its service unit does), or as root."
NEXT = {
    errno.EPERM: RIGHT,
    errno.EACCES: RIGHT,
    errno.EADDRINUSE: "choose another listen port, or end the program that has it: sudo ss -ulpn.",
    errno.ENODEV: "nothing: it is made anew at the next look.",
    errno.EEXIST: "see who has it: ip route show table all.",
    errno.EINVAL: "check the values of the tunnel and its peers.",
    errno.ENOBUFS: "nothing: it is tried again.",
    errno.EOPNOTSUPP: "sudo apt-get install wireguard-go, or boot a kernel with WireGuard.",
}
WHY = {errno.EPERM: "the kernel refused it (no right)", errno.EADDRINUSE: "the UDP port is taken"}


class ProcessEndedError(TunnelError):
    """The process that carries the interface is gone; its interface goes a moment later."""


def failed(doing: str, number: int, said: str = "") -> TunnelError:
    """An error number as an error for people.

    Args:
        doing: What was tried, as "set addresses of wg0".
        number: errno, positive.
        said: What the system said beside it.
    """
    why = WHY.get(number) or said or os.strerror(number)
    return TunnelError(
        f"Could not {doing}: {why} (errno {number}).", NEXT.get(number, "see the kernel's log: sudo dmesg | tail.")
    )


def wrapped(doing: str, error: Exception) -> TunnelError:
    """An exception of the system, or of pyroute2 (whose NetlinkError is no OSError but has a code), as TunnelError."""
    number = error.errno if isinstance(error, OSError) else getattr(error, "code", None)
    if isinstance(number, int):
        return failed(doing, number)
    return TunnelError(f"Could not {doing}: {error or type(error).__name__}.", "see the appliance's log.")
