"""The command line without an appliance, and what it says of faults."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance import cli, paths
from appliance.verbs.client import SocketClient
from appliance.verbs.context import Context
from appliance.verbs.nouns import NOUNS
from tests.integration.test_front import line
from tests.screens.conftest import Bench, bench  # noqa: F401

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def alone(home: Path) -> Run:
    """Runs a command line where no appliance runs; (exit code, what it wrote)."""

    def run(*words: str) -> tuple[int, str]:
        where, out = paths.find(), io.StringIO()
        context = Context(SocketClient(where.api_socket), where, {"PRIME_SPARK_HOME": str(home)}, out, 120, colour=False)
        return cli.run(words, context, out), out.getvalue()

    return run


@pytest.mark.parametrize("words", [("audit", "list"), ("job", "list"), ("user", "add", "ada"), ("memory", "get", "x")])
def test_what_needs_an_appliance_says_so(alone: Run, words: tuple[str, ...]) -> None:
    code, text = alone(*words)
    assert (code, "No appliance runs here" in text) == (3, True), text


def test_the_help_lists_every_noun(alone: Run) -> None:
    code, text = alone("--help")
    assert code == 0
    assert {noun for noun in NOUNS if f"\n  {noun} " not in text} == set()
    assert alone("job", "--help")[0] == 0


@pytest.mark.parametrize(("typed", "near"), [("statuss", "status"), ("jbo", "job"), ("servces", "services")])
def test_a_slip_gets_a_suggestion(alone: Run, typed: str, near: str) -> None:
    code, text = alone(typed)
    assert (code, f"Did you mean {near!r}?" in text) == (2, True), text


async def test_the_nouns_are_those_of_the_registry(bench: Bench) -> None:  # noqa: F811
    assert set(NOUNS) == {action.name.partition(".")[0] for action in bench.appliance.registry}
    code, text = await line(bench, "job", "lst")
    assert (code, "Did you mean 'list'?" in text) == (2, True), text


async def test_pictures_that_are_refused_are_told_once_with_what_to_do(bench: Bench, tmp_path: Path) -> None:  # noqa: F811
    bad = tmp_path / "bad.png"
    bad.write_text("not a picture")
    code, text = await line(bench, "infer", str(bad))
    assert code == 1
    assert (text.count(str(bad)), "1 of 1" in text, text.count("next: ")) == (1, False, 1), text
    code, text = await line(bench, "infer", str(bad), str(tmp_path / "gone.png"))
    assert code == 1
    told = [row for row in text.splitlines() if "Next: " in row]
    assert [row.count(str(tmp_path)) for row in told] == [1, 1], text
    assert "2 of 2 files" in text


async def test_nobody_is_removed_without_asking(bench: Bench) -> None:  # noqa: F811
    """Whoever is not there is told to be so; whoever is, is asked about."""
    code, text = await line(bench, "user", "remove", "bob2")
    assert (code, "No user is called 'bob2'" in text) == (1, True), text
    code, text = await line(bench, "user", "remove", "ada")
    assert (code, "Remove the user ada" in text) == (5, True), text
    assert [user.name for user in await asyncio.wait_for(bench.appliance.accounts.users(), 5)] == ["ada"]
