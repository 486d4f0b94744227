"""Values come back as they went in: bytes, digits and names; what is no text is not printed as one."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance.core.model import Role
from appliance.screens.values import wrap
from appliance.screens.widgets.lines import width_of
from tests.integration.test_front import line
from tests.screens.conftest import Bench, bench  # noqa: F401

BYTES = random.Random(3).randbytes(300_000)


@pytest.fixture
def big(tmp_path: Path) -> Path:
    (tmp_path / "big").write_bytes(BYTES)
    return tmp_path / "big"


async def test_bytes_are_told_and_come_back_in_a_file(bench: Bench, big: Path, tmp_path: Path) -> None:  # noqa: F811
    assert (await line(bench, "memory", "set", "b", "--file", str(big)))[0] == 0
    code, text = await line(bench, "memory", "get", "b")
    assert code == 0
    assert "binary, 300000 bytes" in text
    assert "memory get default:b --output FILE" in text
    assert len(text) < 1000
    code, text = await line(bench, "memory", "get", "b", "--output", str(tmp_path / "out"))
    assert (code, (tmp_path / "out").read_bytes()) == (0, BYTES)
    assert "300000 bytes" in text
    assert (await line(bench, "memory", "get", "b", "--output", str(tmp_path / "no" / "out")))[0] != 0
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["big", "out"]
    assert (await line(bench, "memory", "get", "b", "--output", str(tmp_path / "o2"), "--json"))[0] == 2


async def test_raw_is_the_bytes_and_nothing_else(bench: Bench, big: Path, home: Path) -> None:  # noqa: F811
    import asyncio

    assert (await line(bench, "memory", "set", "b", "--file", str(big)))[0] == 0
    words = [sys.executable, "-c", "from appliance.cli import main; main()", "memory", "get", "b", "--raw"]
    done = await asyncio.to_thread(subprocess.run, words, capture_output=True, env={**os.environ}, check=False, timeout=120)
    assert (done.returncode, done.stdout) == (0, BYTES)


async def test_far_away_no_file_is_written(bench: Bench, big: Path, tmp_path: Path) -> None:  # noqa: F811
    assert (await line(bench, "memory", "set", "b", "--file", str(big)))[0] == 0
    code, _ = await line(bench, "memory", "get", "b", "--output", str(tmp_path / "out"), inside=Role.viewer)
    assert code == 2
    assert not (tmp_path / "out").exists()
    code, text = await line(bench, "memory", "get", "b", inside=Role.viewer)
    assert code == 0
    assert "binary, 300000 bytes" in text
    assert "--output" not in text


@pytest.mark.parametrize("inside", [None, Role.viewer])
async def test_every_digit_is_shown(bench: Bench, inside: Role | None) -> None:  # noqa: F811
    body = '{"z":123456789012345678901234567890,"a":1.10,"f":0.1000000000000000055}'
    assert (await line(bench, "memory", "set", "n", "--json-text", body))[0] == 0
    for words in (("get", "n"), ("get", "n", "--json")):
        code, text = await line(bench, "memory", *words, inside=inside)
        assert code == 0
        assert all(digits in text for digits in ("123456789012345678901234567890", "1.10", "0.1000000000000000055")), text


@pytest.mark.parametrize(
    ("text", "told", "step"),
    [
        ('{"a":1,"a":2}', "the name 'a' twice", "give each name once"),
        ('[{"x":{"b":1,"c":2,"b":3}}]', "the name 'b' twice", "give each name once"),
        ("[" * 5000 + "]" * 5000, "nested too deeply", "levels deep"),
        ("[" * 501 + "]" * 501, "nested too deeply", "500 levels deep"),
        ('{"a":1e999}', "out of range", "1.7e308"),
        (r'{"a":"\ud800"}', "no JSON that can be kept", "half a pair"),
        ("{no", "no JSON that can be kept", "double quotes"),
    ],
)
async def test_json_that_cannot_be_kept_is_told(bench: Bench, text: str, told: str, step: str) -> None:  # noqa: F811
    code, said = await line(bench, "memory", "set", "j", "--json-text", text)
    assert code == 2
    assert told in said
    assert step in said.partition("next:")[2]
    assert (await line(bench, "memory", "stat", "j"))[0] == 1


async def test_nothing_is_shown_as_nothing_and_a_deletion_in_words(bench: Bench) -> None:  # noqa: F811
    assert (await line(bench, "memory", "set", "e", ""))[0] == 0
    assert "(empty: 0 bytes)" in (await line(bench, "memory", "get", "e"))[1]
    code, text = await line(bench, "memory", "delete", "e")
    assert (code, text.strip()) == (0, "default:e is deleted in every tier")


@pytest.mark.parametrize(
    "words", [("set", "k", "v", "--tags", "a,b"), ("list", "--tag", "a,b"), ("search", "x", "--tags", "a,b")]
)
async def test_two_tags_are_not_one(bench: Bench, words: tuple[str, ...]) -> None:  # noqa: F811
    code, text = await line(bench, "memory", *words)
    assert code == 2
    assert "--tags a --tags b" in text


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("memory", "set", "k" * 2000, "v"), "2000 bytes; the limit is 1024"),
        (("memory", "set", "k", "v", "--durability", "cloud"), "set s3.endpoint or documents.url"),
        (("sync", "conflict", "ab"), "last 4 characters at least"),
        (("sync", "resolve", "ab", "mine"), "last 4 characters at least"),
    ],
)
async def test_a_next_step_that_is_true(bench: Bench, words: tuple[str, ...], told: str) -> None:  # noqa: F811
    code, text = await line(bench, *words)
    assert code != 0
    assert told in text


async def test_the_old_form_for_programs_stays(bench: Bench) -> None:  # noqa: F811
    await bench.invoke("memory.set", key="j", json_text='{"a": [1, 2.5]}')
    await bench.invoke("memory.set", key="t", value="text")
    kept: Any = await bench.invoke("memory.get", key="j")
    assert kept["value"] == {"a": [1, 2.5]}
    kept = await bench.invoke("memory.get", key="t")
    assert kept["value"] == "text"
    code, text = await line(bench, "memory", "get", "j", "--json")
    found: dict[str, Any] = msgspec.json.decode(text)
    assert (code, found["encoding"], found["value"]) == (0, "json", {"a": [1, 2.5]})


def test_a_word_of_many_characters_is_cut_in_time() -> None:
    """A megabyte without a space: with the square of its length this would take minutes."""
    lines = wrap((("value  ", "muted"), ("x" * 1_000_000, "text")), 80)
    assert sum(len(text.strip()) for line in lines for text, _ in line[1:]) == 1_000_000
    assert max(width_of(line) for line in lines) <= 80
