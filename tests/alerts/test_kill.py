"""Killed with -9 while a message is under way, or waits: it is delivered by the next run, with the same id."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from tests.alerts.sink import Sink
from tests.support import wait_for

ROOT = Path(__file__).resolve().parents[2]


@asynccontextmanager
async def running(folder: Path, url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """The process; it is killed at the end."""
    child = await asyncio.create_subprocess_exec(sys.executable, "-m", "tests.alerts.killed", str(folder), url, cwd=ROOT)
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


def rows(folder: Path, state: str) -> list[tuple[str]]:
    with closing(sqlite3.connect(folder / "spark.db")) as connection:
        return connection.execute("SELECT delivery_id FROM alert_deliveries WHERE state = ?", (state,)).fetchall()


@pytest.mark.parametrize("answer", [None, (503, {}, b"later")], ids=["under way", "waits"])
async def test_a_kill_loses_no_message(tmp_path: Path, server: Sink, answer: tuple[int, dict[str, str], bytes] | None) -> None:
    server.answer(answer)
    async with running(tmp_path, server.url) as child:
        await wait_for(lambda: server.got, 30)
        await wait_for(lambda: rows(tmp_path, "waiting"), 30)
        child.kill()
        await child.wait()
    server.answer((200, {}, b""))
    async with running(tmp_path, server.url):
        await wait_for(lambda: rows(tmp_path, "delivered"), 30)
    assert len({each.headers["webhook-id"] for each in server.got}) == 1
    assert rows(tmp_path, "waiting") == []
    assert all(each.json["alerts"][0]["labels"]["alertname"] == "cpu" for each in server.got)
