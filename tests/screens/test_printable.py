"""What one user writes does not steer the terminal of another."""

from __future__ import annotations

import logging
from typing import Any

import msgspec
import pytest

from appliance.core.logs import formatter_for
from appliance.core.printable import printable
from appliance.errors import ApplianceError
from appliance.errortext import error_text
from appliance.verbs import render
from tests.screens.conftest import Bench

CLIPBOARD = "\x1b]52;c;ZXZpbA==\x07"
NAME = f"/tmp/{CLIPBOARD}\u202egpj[/x].jpg"


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain ░ °C – ä", "plain ░ °C – ä"),
        ("\x1b[2J", r"\x1b[2J"),
        ("\x9b31m\x7f", r"\x9b31m\x7f"),
        ("a\u202eb\u2066c", r"a\u202eb\u2066c"),
        ("two\nlines\t", r"two\nlines\t"),
        ("\udcff", r"\udcff"),
        ("no\xa0break", "no\xa0break"),
    ],
)
def test_controls_are_made_visible(raw: str, shown: str) -> None:
    assert printable(raw) == shown


def test_lines_stay_where_they_are_meant() -> None:
    assert printable("a\nb\x1b", keep="\n") == "a\nb\\x1b"


async def test_a_file_name_reaches_no_screen_as_a_command(bench: Bench) -> None:
    """A picture whose name is an escape sequence: Jobs, the job's dialog, Logs and the text twin show it as text."""
    job: Any = await bench.invoke("inference.run", paths=[NAME])
    done = await bench.invoke("job.wait", job_id=job.job_id)
    bench.appliance.logs.handle(logging.LogRecord("x", logging.ERROR, "", 0, "read %s", (NAME,), None))
    seen = bench.open(size=(160, 30))
    await seen.press("4", r"\x1b]52")
    await seen.press("\r", "arrows to scroll")
    await seen.shows(r"\u202egpj")
    await seen.press("q", "Jobs")
    await seen.press("5", r"read /tmp/\x1b]52;c;ZXZpbA==\x07")
    for bad in (CLIPBOARD, "\x1b]52", "\u202e"):
        assert bad not in seen.channel.text
    assert seen.app._exception is None
    await seen.end()
    rows = msgspec.to_builtins([done])
    for text in (
        render.as_text(rows, 160, colour=False),
        render.as_text(rows[0], 80, colour=False),
        render.as_text(NAME, 80, colour=False),
    ):
        assert "\x1b" not in text
        assert r"\x1b]52" in text


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_log_line_is_one_line_without_controls(form: str) -> None:
    """A message forges no line, and a traceback keeps its own."""
    try:
        raise OSError(f"no such {CLIPBOARD}")
    except OSError as error:
        record = logging.LogRecord(
            "x", logging.ERROR, "", 0, "bad\nERROR forged %s", (NAME,), (OSError, error, error.__traceback__)
        )
    text = formatter_for(form).format(record)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert not any(line.startswith("ERROR forged") for line in text.splitlines())
    assert "Traceback" in text


def test_an_error_is_told_without_controls() -> None:
    assert error_text(ApplianceError(f"{NAME} is gone.", "look")) == f"error: {printable(NAME)} is gone.\nnext: look"
