"""`sync run` waits for its end: what it did, the conflicts that wait, and a failure that is one."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.integration.test_front import line
from tests.memory.rig import Rig
from tests.screens.conftest import Bench, bench  # noqa: F401
from tests.screens.test_conflicts import MINE, THEIRS, by_hand, other, undecided  # noqa: F401
from tests.servers.postgres import PostgresServer


async def test_conflicts_are_counted_and_a_result_is_told(other: Rig, bench: Bench) -> None:  # noqa: F811
    await undecided(bench, other, MINE, THEIRS)
    code, text = await line(bench, "sync", "run")
    assert code == 0
    assert "1 conflict waits for a decision; list: sync conflicts" in text
    assert "documents" in text
    code, text = await line(bench, "sync", "run", "--json")
    job: dict[str, Any] = msgspec.json.decode(text)
    assert (code, job["state"], job["result"][0]["waiting"], job["error"]) == (0, "completed", 1, "")
    assert job["message"].startswith("documents: pushed 0, pulled 0, 1 conflict to decide")
    code, text = await line(bench, "sync", "run", "--no-wait")
    assert (code, "job show" in text) == (0, True)
    code, text = await line(bench, "memory", "search", "Harvest")
    assert code == 0
    assert text.split("\n")[0].split() == ["key", "snippet", "rank", "age"]
    assert "plans:k" in text


async def test_what_has_no_clean_merge_says_how_to_go_on(other: Rig, bench: Bench) -> None:  # noqa: F811
    found = await undecided(bench, other, {**MINE, "note": "one"}, {**THEIRS, "note": "two"})
    code, text = await line(bench, "sync", "resolve", found, "merged")
    assert code != 0
    assert f"sync resolve {found[-6:]} value --value" in text.partition("next:")[2]


async def test_a_failure_is_one(
    other: Rig,  # noqa: F811
    bench: Bench,  # noqa: F811
    postgres_server: PostgresServer,
) -> None:
    """With the tier's reason and next step, in the job as well."""
    postgres_server.kill()
    try:
        code, text = await line(bench, "sync", "run")
        assert code == 1
        assert "error: The synchronisation is failed: documents" in text
        assert "connection_lost" not in text
        assert "check the network and the server" in text.partition("next:")[2]
        code, text = await line(bench, "sync", "run", "--json")
        assert (code, msgspec.json.decode(text[: text.rindex('{"error"')])["state"]) == (1, "failed")
    finally:
        postgres_server.start()


@pytest.mark.parametrize("extra", [(), ("--json",)])
async def test_without_a_cloud_there_is_nothing_to_do(bench: Bench, extra: tuple[str, ...]) -> None:  # noqa: F811
    code, text = await line(bench, "sync", "run", *extra)
    assert code == 1
    assert "set s3.endpoint or documents.url" in text
