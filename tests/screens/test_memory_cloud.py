"""The Memory page where a tier lies in the cloud: what walks up from there, and what it says while nobody answers."""

from __future__ import annotations

import re

import pytest

from tests.screens.conftest import Bench
from tests.screens.test_memory import line_of, on_memory
from tests.servers.postgres import PostgresServer
from tests.support import wait_for


@pytest.fixture
def cloud(postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cloud tier, configured before the appliance starts."""
    monkeypatch.setenv("SUPABASE_URL", postgres)


async def test_a_value_walks_from_the_cloud_to_tier_1(cloud: None, bench: Bench) -> None:
    """Evicted it lies in the cloud alone; read on one console, the other sees it in every tier."""
    await bench.invoke("memory.set", key="a:one", json_text='{"from": "far"}', durability="cloud")
    here, there = await on_memory(bench.open()), await on_memory(bench.open())
    for seen in (here, there):
        # tier 1 may have changed from memory to a Redis that has just come up, and holds nothing then
        await wait_for(lambda seen=seen: re.search(" [RM·]DP ", line_of(seen, "a:one")), 30)  # type: ignore[misc]
    await here.press("e", "off the local disk")
    await here.press("2", "held by documents")
    await wait_for(lambda: " ··P " in line_of(there, "a:one"))
    await here.press("\r", '"from": "far"')
    assert re.search("D disk +not there", here.display)
    assert re.search("P documents +held +this version", here.display)
    await wait_for(lambda: re.search(" [RM]DP ", line_of(there, "a:one")))
    for seen in (here, there):
        await seen.end()


async def test_a_tier_that_does_not_answer_is_shown_as_that(cloud: None, postgres_server: PostgresServer, bench: Bench) -> None:
    """Health and reason in the panel; what lies there alone says so instead of a value, and is read when it is back."""
    await bench.invoke("memory.set", key="a:one", json_text='{"from": "far"}', durability="cloud")
    await bench.invoke("memory.evict", key="a:one", tier=2)
    seen = await on_memory(bench.open(size=(120, 40)))
    await seen.shows("a:one")
    postgres_server.kill()
    await seen.shows("✗ unhealthy")
    await seen.press("\r", "lies on documents, which cannot be reached now")
    assert re.search("P documents +held +this version +unhealthy", seen.display)
    await seen.press("q", "Keys")
    await bench.invoke("memory.set", key="a:two", json_text="[1]")
    await wait_for(lambda: re.search(" [RM·]Dp ", line_of(seen, "a:two")), 30)
    postgres_server.start()
    await wait_for(lambda: re.search(" [RM·]DP ", line_of(seen, "a:two")), 30)
    await seen.end()
