"""The terminal that this runs in: can it show the console?"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import struct
import sys

from appliance.core.doctor.model import Check, DoctorContext
from appliance.core.doctor.probe import in_thread
from appliance.core.model import CheckResult

GIO_UNIMAP = 0x4B66
"""ioctl that reads a Linux console font's table of characters (linux/kd.h)."""
NEEDED = "─│┌┐└┘├┤┬┴┼█░▒●…°"
"""What every screen draws with on a Linux console."""
SMALLEST = (80, 24)
FONT_FIX = "sudo apt-get install console-setup && sudo dpkg-reconfigure -plow console-setup (UTF-8, Terminus) && sudo setupcon"


def look(context: DoctorContext) -> CheckResult:
    """Its kind, its character set, its font, its size."""
    kind = context.environ.get("TERM", "")
    if kind in {"", "dumb", "unknown"}:
        return CHECK.warning(
            f"TERM is {kind or 'not set'}: no console here; verbs and --json work",
            "use a real terminal, or: export TERM=xterm-256color",
        )
    charset = next((context.environ[name] for name in ("LC_ALL", "LC_CTYPE", "LANG") if context.environ.get(name)), "")
    if "utf" not in charset.lower():
        return CHECK.warning(
            f"the locale is {charset or 'not set'}, not a UTF-8 one", "sudo update-locale LANG=C.UTF-8, then log in again"
        )
    if not sys.stdout.isatty():
        return CHECK.ok(f"{kind}, {charset}; the output is no terminal, so its size and font were not looked at")
    size = os.get_terminal_size(sys.stdout.fileno())
    font = console_font(sys.stdout.fileno()) if kind == "linux" else None
    return judge(kind, (size.columns, size.lines), font)


def console_font(descriptor: int) -> frozenset[str] | None:
    """The characters that a Linux console's font has; None where this is no such console."""
    room = 16384
    pairs = array.array("H", bytes(4 * room))
    request = bytearray(struct.pack("@H0QQ", room, pairs.buffer_info()[0]))
    try:
        fcntl.ioctl(descriptor, GIO_UNIMAP, request, True)
    except OSError as error:
        if error.errno in {errno.ENOTTY, errno.EINVAL}:
            return None
        raise
    count = struct.unpack_from("@H", request)[0]
    return frozenset(chr(code) for code in pairs[: 2 * count : 2])


def judge(kind: str, size: tuple[int, int], font: frozenset[str] | None) -> CheckResult:
    """Whether the console looks as it should.

    Args:
        kind: TERM.
        size: Columns and rows.
        font: Characters of a Linux console's font; None for other terminals.
    """
    missing = "" if font is None else "".join(sign for sign in NEEDED if sign not in font)
    if missing:
        return CHECK.warning(f"the console's font lacks {missing}", FONT_FIX)
    if size[0] < SMALLEST[0] or size[1] < SMALLEST[1]:
        return CHECK.warning(
            f"{kind} has {size[0]}×{size[1]} characters; 80×24 are wanted", "make the window larger, or the font smaller"
        )
    return CHECK.ok(f"{kind}, {size[0]}×{size[1]}" + ("" if font is None else f", font of {len(font)} characters"))


CHECK = Check("terminal", "Terminal", in_thread(look))
