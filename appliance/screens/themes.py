"""The looks: what each role of text looks like in the dark, in the light, and on a 16-colour console."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from rich.style import Style
from textual.theme import BUILTIN_THEMES, Theme

from appliance.screens.glyphs import Caps, Colours

Role = Literal[
    "text",
    "muted",
    "accent",
    "ok",
    "warn",
    "bad",
    "title",
    "border",
    "bar",
    "bar-key",
    "bar-muted",
    "tab",
    "tab-on",
    "selected",
    "track",
    "spark",
    "head",
    "sim",
    "line-1",
    "line-2",
    "line-3",
    "line-4",
    "line-5",
    "line-6",
]
LINES: tuple[Role, ...] = ("line-1", "line-2", "line-3", "line-4", "line-5", "line-6")
"""Roles of the lines of a plot; a letter on each line says the same."""


@dataclass(frozen=True)
class Look:
    """Colours by role; "" is the terminal's own."""

    name: str
    back: str
    text: str
    muted: str
    accent: str
    ok: str
    warn: str
    bad: str
    border: str
    bar: str
    bar_text: str
    select: str
    select_text: str
    track: str
    lines: tuple[str, str, str, str, str, str] = ("", "", "", "", "", "")


DARK = Look(
    "dark",
    "#10141b",
    "#d5dde8",
    "#718096",
    "#58c4f6",
    "#5bd28b",
    "#f2c14e",
    "#ff6e6e",
    "#2c3a4d",
    "#1b2635",
    "#d5dde8",
    "#24476b",
    "#ffffff",
    "#27313f",
    ("#58c4f6", "#f2c14e", "#5bd28b", "#e08be0", "#ff9e64", "#c3ccd8"),
)
LIGHT = Look(
    "light",
    "#fbfcfd",
    "#1d2733",
    "#66748a",
    "#0a66c2",
    "#18763a",
    "#8f5f00",
    "#c3202c",
    "#c3ced9",
    "#e3eaf1",
    "#1d2733",
    "#cde2f8",
    "#0b1a29",
    "#dde5ec",
    ("#0a66c2", "#8f5f00", "#18763a", "#8a2b8a", "#b5460f", "#3d4a5c"),
)
CONSOLE = Look(
    "console-16",
    "black",
    "bright_white",
    "white",
    "bright_cyan",
    "bright_green",
    "bright_yellow",
    "bright_red",
    "bright_black",
    "blue",
    "bright_white",
    "cyan",
    "black",
    "bright_black",
    ("bright_cyan", "bright_yellow", "bright_green", "bright_magenta", "bright_red", "bright_white"),
)
LOOKS = {look.name: look for look in (DARK, LIGHT, CONSOLE)}


def look_for(caps: Caps, wanted: str) -> Look:
    """The look of a session: 16-colour terminals have one of their own."""
    return CONSOLE if caps.colours is Colours.console else LOOKS.get(wanted, DARK)


@lru_cache(maxsize=256)
def style_of(look: Look, role: Role) -> Style:
    """The style of a role."""
    fore: dict[str, tuple[str, str, bool]] = {
        "text": (look.text, look.back, False),
        "muted": (look.muted, look.back, False),
        "accent": (look.accent, look.back, False),
        "ok": (look.ok, look.back, False),
        "warn": (look.warn, look.back, True),
        "bad": (look.bad, look.back, True),
        "title": (look.accent, look.back, True),
        "border": (look.border, look.back, False),
        "head": (look.muted, look.back, True),
        "bar": (look.bar_text, look.bar, False),
        "bar-key": (look.accent, look.bar, True),
        "bar-muted": (look.muted, look.bar, False),
        "tab": (look.muted, look.back, False),
        "tab-on": (look.select_text, look.select, True),
        "selected": (look.select_text, look.select, False),
        "track": (look.track, look.back, False),
        "spark": (look.accent, look.back, False),
        "sim": ("black", look.warn, True),
    }
    if look is CONSOLE and role == "bar-muted":
        return Style(color="white", bgcolor=look.bar)
    if role in LINES:
        return Style(color=look.lines[LINES.index(role)], bgcolor=look.back)
    color, back, bold = fore[role]
    return Style(color=color, bgcolor=back, bold=bold)


def textual_theme(look: Look) -> Theme:
    """The same for Textual's own widgets (inputs)."""
    if look is CONSOLE:
        return replace(BUILTIN_THEMES["ansi-dark"], name="spark-console-16", primary="ansi_bright_cyan")
    return Theme(
        f"spark-{look.name}",
        primary=look.accent,
        secondary=look.accent,
        accent=look.accent,
        warning=look.warn,
        error=look.bad,
        success=look.ok,
        foreground=look.text,
        background=look.back,
        surface=look.back,
        panel=look.bar,
        dark=look is DARK,
    )
