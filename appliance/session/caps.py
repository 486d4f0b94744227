"""Tells from a terminal's environment what it can show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from appliance.screens.glyphs import Caps, Colours

PLAIN = ("linux", "vt100", "vt102", "vt220", "dumb", "ansi", "cons25")
TRUE = ("kitty", "alacritty", "foot", "ghostty", "wezterm", "direct")


def caps_of(environ: Mapping[str, str]) -> Caps:
    """What a terminal with these TERM, COLORTERM, LANG variables can do (terminfo(5); COLORTERM by custom)."""
    term = environ.get("TERM", "")
    if not term or term.startswith(PLAIN):
        return Caps(Colours.console, full_glyphs=False, mouse=False)
    true = environ.get("COLORTERM") in {"truecolor", "24bit"} or any(name in term for name in TRUE)
    colours = Colours.true if true else Colours.indexed if "256" in term else Colours.console
    return Caps(colours, full_glyphs=speaks_utf8(environ), mouse=True, images=images_of(environ))


def speaks_utf8(environ: Mapping[str, str]) -> bool:
    """False only where the locale names another encoding; SSH clients often send none."""
    locale = environ.get("LC_ALL") or environ.get("LC_CTYPE") or environ.get("LANG") or ""
    if locale in {"C", "POSIX"}:
        return False
    return "." not in locale or "utf" in locale.lower()


def images_of(environ: Mapping[str, str]) -> Literal["none", "kitty", "sixel"]:
    """The picture protocol that the terminal's name promises, or kitty's own variable, but not through a multiplexer."""
    term = environ.get("TERM", "")
    inside_kitty = bool(environ.get("KITTY_WINDOW_ID")) and not term.startswith(("tmux", "screen"))
    if "kitty" in term or "ghostty" in term or inside_kitty:
        return "kitty"
    return "sixel" if term in {"foot", "mlterm"} or "sixel" in term else "none"


LARGEST = 1000, 400
"""Columns and rows that are painted at most, whatever a client claims."""


def size_of(columns: int, rows: int) -> tuple[int, int]:
    """The size to paint: a terminal that tells none, as serial lines do, has 80 x 24 (RFC 4254, section 6.2)."""
    return (min(columns, LARGEST[0]) if columns > 0 else 80, min(rows, LARGEST[1]) if rows > 0 else 24)
