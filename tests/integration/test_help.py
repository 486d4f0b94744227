"""The help says what each noun is about and what its commands do, where an appliance runs or none; texts name real commands."""

from __future__ import annotations

import asyncio
import io
import re
import tomllib
from pathlib import Path

import click
import pytest

from appliance import cli, paths
from appliance.verbs.client import SocketClient
from appliance.verbs.context import Context
from appliance.verbs.nouns import FILE, NOUNS
from scripts.commands import table
from tests.integration.test_front import line
from tests.screens.conftest import Bench, bench  # noqa: F401

ROOT = Path(__file__).parents[2]
TOLD = re.compile(r"`prime-spark ([a-z][^`…|\n]*)`")


async def test_every_noun_has_a_text_of_its_own(bench: Bench) -> None:  # noqa: F811
    nouns = {action.name.partition(".")[0] for action in bench.appliance.registry}
    assert nouns == set(NOUNS)
    code, text = await line(bench, "--help")
    assert code == 0
    assert not re.search(r"Actions on \w+s\b", text)
    for noun in sorted(nouns - {"config", "doctor"}):
        code, text = await line(bench, noun, "--help")
        assert code == 0
        assert NOUNS[noun][:40] in " ".join(text.split()), text
    found = await asyncio.to_thread(table, [action.describe() for action in bench.appliance.registry])
    assert tomllib.loads(FILE.read_text()) == found, "write it anew: .venv/bin/python -m scripts.commands"


def away(home: Path, *words: str) -> tuple[int, str]:
    """A command line where no appliance runs: (exit code, what it wrote)."""
    where, out = paths.find({"PRIME_SPARK_HOME": str(home)}), io.StringIO()
    context = Context(SocketClient(where.api_socket), where, {}, out, 120, colour=False)
    return cli.run(words, context, out), out.getvalue()


def test_a_noun_lists_its_commands_where_no_appliance_runs(tmp_path: Path) -> None:
    code, text = away(tmp_path, "voice", "--help")
    assert (code, "Let the microphone hear again." in text) == (0, True), text
    code, text = away(tmp_path, "backup", "--help")
    assert (code, "restore-cancel" in text, " restore " in text) == (0, True, True), text
    code, text = away(tmp_path, "voice", "unmute", "--help")
    assert (code, "Let the microphone hear again." in text, "while an appliance runs" in text) == (0, True, True), text


@pytest.mark.parametrize("words", [("voice", "mute"), ("voice", "nonsense", "--all"), ("backup", "run", "--json")])
def test_a_command_of_an_appliance_says_that_none_runs(tmp_path: Path, words: tuple[str, ...]) -> None:
    code, text = away(tmp_path, *words)
    assert (code, f"{words[0]} {words[1]} asks it" in text) == (3, True), text


def wrong(told: str, context: Context) -> str:
    """Why nobody could call a command of a text; empty where it is as the text has it, or leaves something out."""
    command: click.Command = cli.root()
    words = re.sub(r"\{[^}]*\}", "x", told).split()
    ctx = click.Context(command, obj=context)
    try:
        while words and isinstance(command, click.Group) and not words[0].startswith("-"):
            _, found, words = command.resolve_command(ctx, words)
            assert found is not None
            command, ctx = found, click.Context(found, parent=ctx, info_name=found.name)
        if words:
            command.make_context(command.name, words, parent=ctx.parent)
    except (click.MissingParameter, click.BadParameter):  # a name that stands for one, and what the text does not tell
        return ""
    except click.UsageError as error:
        return f"{told}: {error.message}"
    return ""


async def test_commands_that_texts_tell_of_can_be_called(bench: Bench) -> None:  # noqa: F811
    """A next step that names a command must name one that exists, and takes these words."""
    where = bench.appliance.paths
    context = Context(SocketClient(where.api_socket), where, {}, io.StringIO(), 120, colour=False)
    files = [*sorted((ROOT / "appliance").rglob("*.py")), *sorted((ROOT / "docs").glob("*.md"))]
    told = {found[1].strip() for each in files for found in TOLD.finditer(each.read_text())}
    assert len(told) > 100
    found = await asyncio.to_thread(lambda: [reason for each in sorted(told) if (reason := wrong(each, context))])
    assert found == []
    assert "extra argument" in await asyncio.to_thread(wrong, "voice mute no", context)
