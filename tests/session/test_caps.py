"""What a terminal's environment promises."""

from __future__ import annotations

import pytest

from appliance.screens.glyphs import Caps, Colours
from appliance.session.caps import caps_of
from appliance.verbs.infer import picture_mode

CONSOLE = Caps(Colours.console, full_glyphs=False, mouse=False)


@pytest.mark.parametrize("term", ["linux", "vt220", "vt100", "dumb", "", "linux-16color"])
def test_a_plain_terminal_gets_the_console_set(term: str) -> None:
    assert caps_of({"TERM": term, "COLORTERM": "truecolor", "LANG": "de_DE.UTF-8"}) == CONSOLE


@pytest.mark.parametrize(
    ("environ", "colours"),
    [
        ({"TERM": "xterm"}, Colours.console),
        ({"TERM": "xterm-256color"}, Colours.indexed),
        ({"TERM": "tmux-256color"}, Colours.indexed),
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, Colours.true),
        ({"TERM": "screen-256color", "COLORTERM": "24bit"}, Colours.true),
        ({"TERM": "xterm-kitty"}, Colours.true),
        ({"TERM": "xterm-direct"}, Colours.true),
        ({"TERM": "xterm-256color", "COLORTERM": "no"}, Colours.indexed),
    ],
)
def test_colours(environ: dict[str, str], colours: Colours) -> None:
    assert caps_of(environ).colours is colours


@pytest.mark.parametrize(
    ("environ", "full"),
    [
        ({}, True),
        ({"LANG": "de_DE.UTF-8"}, True),
        ({"LANG": "C.utf8"}, True),
        ({"LANG": "C"}, False),
        ({"LANG": "de_DE.ISO-8859-1"}, False),
        ({"LANG": "de_DE.ISO-8859-1", "LC_ALL": "C.UTF-8"}, True),
        ({"LANG": "C.UTF-8", "LC_CTYPE": "POSIX"}, False),
    ],
)
def test_glyphs_follow_the_locale(environ: dict[str, str], full: bool) -> None:
    assert caps_of({"TERM": "xterm-256color", **environ}).full_glyphs is full


@pytest.mark.parametrize(
    ("term", "images"),
    [("xterm-kitty", "kitty"), ("xterm-ghostty", "kitty"), ("foot", "sixel"), ("xterm-256color", "none"), ("linux", "none")],
)
def test_images_follow_the_name(term: str, images: str) -> None:
    assert caps_of({"TERM": term}).images == images


@pytest.mark.parametrize(
    ("environ", "images", "drawn"),
    [
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, "kitty", "kitty"),
        ({"TERM": "tmux-256color", "KITTY_WINDOW_ID": "1"}, "none", "half-blocks"),
        ({"TERM": "xterm-ghostty"}, "kitty", "kitty"),
        ({"TERM": "mlterm"}, "sixel", "sixel"),
        ({"TERM": "linux"}, "none", "console"),
        ({"TERM": "vt220"}, "none", "console"),
        ({"TERM": "xterm-256color", "LANG": "C"}, "none", "console"),
        ({}, "none", "console"),
    ],
)
def test_the_command_line_draws_as_the_console_would(environ: dict[str, str], images: str, drawn: str) -> None:
    assert caps_of(environ).images == images
    assert picture_mode(environ) == drawn
