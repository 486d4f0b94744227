"""The clock, as the kernel's own discipline knows it (adjtimex(2))."""

from __future__ import annotations

import ctypes
import os
import shutil
import time
from dataclasses import dataclass

from appliance.core.doctor.model import Check, DoctorContext
from appliance.core.doctor.probe import in_thread
from appliance.core.model import CheckResult

TIME_ERROR, STA_UNSYNC = 5, 0x40
EARLIEST = 1_767_225_600.0
"""2026-01-01: before the appliance was written. A clock below it was never set."""
LARGE_ERROR = 1.0
"""Seconds of possible error above which times in events mislead."""


@dataclass(frozen=True)
class KernelClock:
    """What adjtimex(2) tells.

    Attributes:
        state: Its return value; 5 is TIME_ERROR.
        status: STA_ bits.
        max_error: Greatest possible error, seconds.
    """

    state: int
    status: int
    max_error: float

    @property
    def synchronised(self) -> bool:
        """Whether something keeps it in time."""
        return self.state != TIME_ERROR and not self.status & STA_UNSYNC


class _Timex(ctypes.Structure):
    """The head of struct timex; the rest is room."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


def read_kernel() -> KernelClock:
    """Ask the kernel; reading needs no rights. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    told = _Timex(modes=0)
    state = libc.adjtimex(ctypes.byref(told))
    if state < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return KernelClock(state, told.status, told.maxerror / 1e6)


def look(context: DoctorContext) -> CheckResult:
    """Read it, and know which daemon could mend it."""
    return judge(read_kernel(), time.time(), daemon(context))


def daemon(context: DoctorContext) -> str:
    """The time daemon that is installed: "chrony", "timesyncd", or nothing."""
    if shutil.which("chronyc", path=context.environ.get("PATH")):
        return "chrony"
    there = (context.root / "usr/lib/systemd/systemd-timesyncd").exists() or (
        context.root / "lib/systemd/systemd-timesyncd"
    ).exists()
    return "timesyncd" if there else ""


def judge(clock: KernelClock, now: float, keeper: str) -> CheckResult:
    """Whether the time can be trusted.

    Args:
        clock: The kernel's account.
        now: Seconds since the epoch, as the clock has it.
        keeper: Name of the installed daemon, or empty.
    """
    fix = {
        "chrony": "sudo systemctl enable --now chrony && chronyc tracking",
        "timesyncd": "sudo timedatectl set-ntp true && timedatectl timesync-status",
    }.get(keeper, "sudo apt-get install chrony")
    if now < EARLIEST:
        date = time.strftime("%Y-%m-%d", time.gmtime(now))
        return CHECK.failed(
            f"the clock says {date}, before this software was written",
            f"{fix}; without a network: sudo date -s 'YYYY-MM-DD hh:mm'",
        )
    if not clock.synchronised:
        return CHECK.warning("the kernel's clock is not synchronised with any source", fix)
    if clock.max_error > LARGE_ERROR:
        return CHECK.warning(f"synchronised, yet it may be off by {clock.max_error:.1f} s", fix)
    return CHECK.ok(f"synchronised; off by at most {1000 * clock.max_error:.0f} ms")


CHECK = Check("clock_sync", "Clock", in_thread(look))
