"""Colours of one session, whatever other sessions in this process show.

Rich's styles remember their first escape codes, and Textual shares styles between Apps: a style first painted in
truecolor would stay truecolor on a 16-colour console. So colours are brought down before they are painted.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

from rich.color import Color, ColorSystem, ColorType
from rich.segment import Segment
from rich.style import Style
from textual.color import Color as Background
from textual.filter import LineFilter

from appliance.screens.glyphs import Colours

SYSTEMS: dict[Colours, tuple[ColorSystem, Literal["standard", "256", "truecolor"]]] = {
    Colours.console: (ColorSystem.STANDARD, "standard"),
    Colours.indexed: (ColorSystem.EIGHT_BIT, "256"),
    Colours.true: (ColorSystem.TRUECOLOR, "truecolor"),
}
"""Rich's two names of each."""


class Downgrade(LineFilter):
    """Brings every colour of a line down to what the terminal has.

    Args:
        system: What it has.
        eight_behind: It has no bright backgrounds (the Linux console, console_codes(4)).
    """

    def __init__(self, system: ColorSystem, *, eight_behind: bool = False) -> None:
        super().__init__()
        self._system = system
        self._eight_behind = eight_behind

    def apply(self, segments: list[Segment], background: Background) -> list[Segment]:
        """The same line in fewer colours."""
        system, eight = self._system, self._eight_behind
        return [Segment(text, lowered(style, system, eight) if style else style, control) for text, style, control in segments]


@lru_cache(maxsize=4096)
def lowered(style: Style, system: ColorSystem, eight_behind: bool) -> Style:
    """The style in a colour system; a new object, which shares no remembered escape codes."""
    behind = _lower(style.bgcolor, system)
    if eight_behind and behind is not None and behind.number is not None:
        behind = Color.from_ansi(behind.number % 8)
    return style + Style(color=_lower(style.color, system), bgcolor=behind)


def _lower(color: Color | None, system: ColorSystem) -> Color | None:
    if color is None or color.type is ColorType.DEFAULT:
        return None
    return color.downgrade(system)
