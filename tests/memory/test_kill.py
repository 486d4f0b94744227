"""kill -9 during every kind of write: what was acknowledged is there, and nothing else is left behind."""

from __future__ import annotations

import os
import random
import select
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.core.memory import codec
from tests.memory.killed import value_of
from tests.memory.rig import Rig, running
from tests.support import wait_for

ROUNDS = int(os.environ.get("PRIME_SPARK_EXAMPLES", "10"))


def acknowledged(home: Path, begin: int, seconds: float) -> Iterator[tuple[str, str, int]]:
    """Run the writer for some time, kill it, and yield (durability, key, number; -1 for a deletion) of what it was told."""
    command = [sys.executable, "-m", "tests.memory.killed", str(home), str(begin)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=False) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        ends = time.monotonic() + seconds
        said = b""
        while (left := ends - time.monotonic()) > 0:
            if select.select([child.stdout], [], [], left)[0]:
                said += os.read(child.stdout.fileno(), 65536)
        os.kill(child.pid, signal.SIGKILL)
        said += child.stdout.read()
        assert child.wait(10) == -signal.SIGKILL
    for line in said.decode().splitlines():
        if line.endswith("."):
            durability, key, number = line[:-1].split()
            yield durability, key, int(number)


async def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    chance = random.Random(5)
    known: dict[str, int] = {}
    """By key, the newest number that must be there; a negative one for its deletion, 0 for none."""
    begin, count = 0, 0
    for _ in range(ROUNDS):
        begun: dict[str, list[int]] = {}
        for durability, key, number in acknowledged(tmp_path / "memory", begin, chance.uniform(0.05, 0.4)):
            count += 1
            if durability == "begin":
                begun.setdefault(key, []).append(number)
            elif durability == "edge":
                known[key] = number
        begin += 1_000_000
        async with running(Rig(tmp_path / "memory")) as rig:
            for key in {*known, *begun}:
                floor = known.get(key, 0)
                possible = [floor, *(number for number in begun.get(key, []) if abs(number) > abs(floor))]
                known[key] = seen(await rig.memory.get(key), possible, key)
        check(tmp_path / "memory")
    assert count > 10 * ROUNDS


def seen(found: bytes | None, possible: list[int], key: str) -> int:
    """Which of the writes that may be there it is."""
    if found is None:
        gone = [number for number in possible if number <= 0]
        assert gone, f"{key} is lost; it may be one of {possible}"
        return gone[0]
    number = int.from_bytes(found[:8], "big")
    assert number in possible, f"{key} is {number}; it may be one of {possible}"
    assert found == value_of(number, len(found) - 8)
    return number


def check(home: Path) -> None:
    """Database, files and accounting agree."""
    with sqlite3.connect(home / "memory.sqlite") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        (stored, entries) = connection.execute("SELECT coalesce(sum(stored), 0), sum(stored > 0) FROM entries").fetchone()
        bodies = connection.execute("SELECT coalesce(sum(length(body)), 0) FROM bodies").fetchone()[0]
        totals = dict(connection.execute("SELECT name, value FROM totals"))
        named = connection.execute("SELECT count(*) FROM entries WHERE place = 'file'").fetchone()[0]
    files = [path for path in (home / "files").rglob("*") if path.is_file()]
    assert len(files) == named
    assert totals["stored"] == stored == bodies + sum(path.stat().st_size for path in files)
    assert totals["entries"] == entries
    for path in files:
        codec.decode(path.read_bytes(), str(path))


@pytest.mark.parametrize("name", ["stray", ".half.1.part"])
async def test_what_a_crash_left_is_removed_at_the_next_start(tmp_path: Path, name: str) -> None:
    async with running(Rig(tmp_path)) as rig:
        await rig.memory.set("k", random.Random(1).randbytes(100_000))
        (file,) = [path for path in (tmp_path / "files").rglob("*") if path.is_file()]
    (file.parent / name).write_bytes(b"half a valu")
    async with running(Rig(tmp_path)) as rig:
        await wait_for(lambda: rig.parts.front.up)
        assert await rig.memory.get("k") == random.Random(1).randbytes(100_000)
    check(tmp_path)
