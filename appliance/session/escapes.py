"""The control sequences that take a terminal over and give it back (XTerm Control Sequences; console_codes(4))."""

from __future__ import annotations

ENTER = "\x1b[?1049h\x1b[2J\x1b[?25l"
LEAVE = "\x1b[0m\x1b[?1049l\x1b[?25h"
MOUSE_ON = "\x1b[?1000h\x1b[?1003h\x1b[?1015h\x1b[?1006h"
MOUSE_OFF = "\x1b[?1000l\x1b[?1003l\x1b[?1015l\x1b[?1006l"
MODES_ON, MODES_OFF = "\x1b[?2004h\x1b[?7l", "\x1b[?2004l\x1b[?7h"
RESTORE = MOUSE_OFF + MODES_OFF + LEAVE
"""Gives a terminal back when nobody knows what was switched on."""
