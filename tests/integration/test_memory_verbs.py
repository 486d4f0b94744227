"""The memory on the command line: what goes in comes out, and no file is opened for a caller."""

from __future__ import annotations

import base64
from pathlib import Path

import msgspec
import pytest

from appliance.core.model import Role
from tests.integration.test_front import line
from tests.screens.conftest import Bench, bench  # noqa: F401


async def test_a_file_is_read_by_whoever_asks(bench: Bench, tmp_path: Path) -> None:  # noqa: F811
    body = bytes(range(256)) * 40
    (tmp_path / "f").write_bytes(body)
    assert (await line(bench, "memory", "set", "f", "--file", str(tmp_path / "f")))[0] == 0
    code, text = await line(bench, "memory", "get", "f", "--json")
    assert code == 0
    assert base64.b64decode(msgspec.json.decode(text)["value"]) == body


@pytest.mark.parametrize("name", ["/etc/passwd", "/proc/self/environ"])
async def test_over_ssh_no_file_of_the_appliance_is_read(bench: Bench, name: str) -> None:  # noqa: F811
    code, _ = await line(bench, "memory", "set", "leak", "--file", name, inside=Role.operator)
    assert code != 0
    assert (await line(bench, "memory", "get", "leak"))[0] == 1


async def test_json_stays_as_it_was_written(bench: Bench) -> None:  # noqa: F811
    text = '{"price": 1.10, "big": 12345678901234567890123}'
    assert (await line(bench, "memory", "set", "j", "--json-text", text))[0] == 0
    memory = bench.appliance.domains.memory.memory  # type: ignore[union-attr]
    looked = await memory.look_up("j")
    assert looked.record is not None
    assert looked.record.value.decode() == text
    assert (await line(bench, "memory", "set", "j", "--json-text", "{no"))[0] == 2


async def test_one_value_and_only_one(bench: Bench) -> None:  # noqa: F811
    assert (await line(bench, "memory", "set", "k"))[0] == 2
    assert (await line(bench, "memory", "set", "k", "v", "--json-text", "1"))[0] == 2
    assert (await line(bench, "memory", "delete", "k"))[0] == 1
