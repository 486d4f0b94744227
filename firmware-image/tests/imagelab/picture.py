"""A screen as a picture, in the colours of the Linux console."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

from rich.console import Console
from rich.style import Style
from rich.text import Text

from imagelab.screen import Screen
from scripts.screenshots import FONT_SIZE, VGA

NAMES = {"brown": "yellow", "brightbrown": "bright_yellow"}
"""Colours that pyte calls otherwise than rich."""


def colour(name: str) -> str | None:
    """Rich's name of one of pyte's colours."""
    if name == "default":
        return None
    if len(name) == 6 and all(each in "0123456789abcdef" for each in name.lower()):
        return f"#{name}"
    name = NAMES.get(name, name)
    return name.replace("bright", "bright_") if name.startswith("bright") and "_" not in name else name


def painted(screen: Screen) -> Text:
    """The screen as text with its colours."""
    terminal, text = screen.terminal, Text()
    for row in range(terminal.lines):
        for column in range(terminal.columns):
            cell = terminal.buffer[row][column]
            style = Style(color=colour(cell.fg), bgcolor=colour(cell.bg), bold=cell.bold, reverse=cell.reverse)
            text.append(cell.data, style)
        text.append("\n")
    return text


def save(screen: Screen, file: Path, title: str = "Prime Spark") -> Path:
    """Write the screen as PNG, and return where it is."""
    console = Console(
        width=screen.terminal.columns,
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
        record=True,
        safe_box=False,
    )
    console.print(painted(screen), end="")
    svg = console.export_svg(title=title, theme=VGA).replace("<text ", '<text xml:space="preserve" ')
    drawing = file.with_suffix(".svg")
    drawing.write_text(svg.replace("font-size: 20px", f"font-size: {FONT_SIZE}px"), encoding="utf-8")
    subprocess.run(["rsvg-convert", "-o", str(file), str(drawing)], check=True)
    drawing.unlink()
    return file
