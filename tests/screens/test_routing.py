"""The Routing page: endpoints, decisions and the ledger of a real appliance in front of scriptable upstreams; and its keys."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from appliance.core.llm import policy
from appliance.core.llm.model import (
    Attempt,
    EndpointStatus,
    Kind,
    LlmStatus,
    ModelInfo,
    Operation,
    Place,
    Privacy,
    Routed,
    SentTo,
    Spent,
    Strategy,
)
from appliance.core.model import Actor, Health, Role
from appliance.core.state import Section
from appliance.errors import ApplianceError
from appliance.screens import routing_view as view
from appliance.screens.filtering import narrowed
from appliance.screens.glyphs import CONSOLE, Caps, Colours, unsafe
from appliance.screens.widgets.grid import Row
from appliance.screens.widgets.lines import Line
from tests.llm.upstreams import FakeOllama, FakeOpenAi, up
from tests.screens.conftest import Bench, running
from tests.support import wait_for

PLAIN = Caps(Colours.console, full_glyphs=False, mouse=False)


def text_of(lines: list[Line]) -> str:
    return "\n".join("".join(piece for piece, _ in line) for line in lines)


def cells(row: Row) -> str:
    return " | ".join(cell if isinstance(cell, str) else cell[0] for cell in row.cells)


def endpoint(**more: Any) -> EndpointStatus:
    values: dict[str, Any] = {
        "name": "edge", "kind": Kind.ollama, "place": Place.edge, "url": "http://127.0.0.1:11434", "health": Health.healthy,
        "reason": "answers", "limit": 4, "queue_limit": 32,
    }  # fmt: skip
    return EndpointStatus(**{**values, **more})


def routed(**more: Any) -> Routed:
    values: dict[str, Any] = {
        "time": time.time(), "who": "ada", "operation": Operation.chat, "asked": "llama3.2:latest", "endpoint": "cloud",
        "place": Place.cloud, "model": "llama3.2:latest", "why": "edge-first", "privacy": Privacy.any, "outcome": "answered",
    }  # fmt: skip
    return Routed(**{**values, **more})


def status(*endpoints: EndpointStatus, **more: Any) -> LlmStatus:
    values: dict[str, Any] = {"strategy": Strategy.edge_first, "holds": Strategy.edge_first, "because": "the settings say so"}
    return LlmStatus(**{**values, "endpoints": endpoints, **more})


def test_what_is_not_known_of_an_endpoint_is_a_dash() -> None:
    (row,) = view.endpoint_rows(status(endpoint(health=Health.degraded, reason="it was not asked yet")), 0.0, CONSOLE)
    assert cells(row) == "edge | – unasked | – | edge | 0/4 | 0 | – | – | – | ollama | – | – | – | it was not asked yet"
    (row,) = view.decision_rows(status(decisions=(routed(outcome="failed", endpoint="", place=None),)), CONSOLE)
    assert " | llama3.2 | – | – | ✗ failed | – | – | – | ada | " in cells(row)


def test_a_rest_runs_out_between_two_looks() -> None:
    resting = endpoint(health=Health.unhealthy, reason="dead", cooldown_s=12.0)
    assert view.state_of(resting, 1.0) == "cooldown"
    assert view.rest(resting, 2.5) == 9.5
    assert view.state_of(resting, 13.0) == "down"
    assert view.rest(resting, 13.0) is None


def test_every_state_has_a_word_and_a_sign_of_the_console() -> None:
    made = {
        "up": endpoint(), "down": endpoint(health=Health.unhealthy), "cooldown": endpoint(cooldown_s=5.0),
        "draining": endpoint(switch="draining", cooldown_s=5.0), "halted": endpoint(switch="halted"),
        "unwell": endpoint(health=Health.degraded, probed=1.0), "unasked": endpoint(health=Health.degraded),
    }  # fmt: skip
    assert {view.state_of(each, 0.0) for each in made.values()} == set(view.STATES) == set(made)
    for word, each in made.items():
        assert view.state_of(each, 0.0) == word
        assert unsafe(view.badge(word, CONSOLE)[0]) == set()


def test_models_are_told_with_size_and_context() -> None:
    known = (ModelInfo("llama3.2:latest", 2_019_393_189, 131072, capabilities=("tools",), loaded=True), ModelInfo("tiny"))
    assert view.models(known) == "2: llama3.2 1.9 GiB 128k, tiny"
    assert view.models(()) == "none"
    assert view.models(None) == "–"
    told = text_of(view.endpoint_lines(endpoint(models=known), 0.0, CONSOLE))
    assert "tools" in told
    assert [line.split() for line in told.splitlines() if line.startswith("tiny")] == [["tiny", "–", "–", "–", "–"]]


def test_another_endpoint_before_is_a_failover_and_a_second_try_is_none() -> None:
    over = routed(attempts=(Attempt("edge", "it hung"),), tries=2)
    again = routed(attempts=(Attempt("cloud", "it hung"),), tries=2)
    assert view.outcome(over, CONSOLE) == ("▲ failed over", "warn")
    assert view.outcome(again, CONSOLE) == ("● answered", "ok")
    assert "edge: it hung" in text_of(view.decision_lines(over, CONSOLE))


def test_the_ledger_stands_against_its_caps() -> None:
    spent = Spent(3, 2048, 900, 0.5, 4096, None, 0.5, (SentTo("cloud", 3, 2048, 900, 0.5),))
    told = text_of(view.ledger_lines(spent, CONSOLE))
    for text in ("2.0 KiB of 4.0 KiB", "50 %", "no cap is set", "0.5000 of 0.5000", "100 %", "cloud 3 requests, 2.0 KiB"):
        assert text in told
    assert "nothing left the house" in text_of(view.ledger_lines(Spent(), CONSOLE))


def test_a_filter_keeps_rows_that_have_all_its_words() -> None:
    rows = view.endpoint_rows(status(endpoint(), endpoint(name="far", place=Place.cloud)), 0.0, CONSOLE)
    assert [row.key for row in narrowed(rows, "UP cloud")] == ["far"]
    assert [row.key for row in narrowed(rows, " ")] == ["edge", "far"]
    assert narrowed(rows, "nowhere") == []


def test_what_is_forbidden_is_what_the_policy_forbids() -> None:
    """Each sentence stands there exactly where the policy keeps the cloud out."""
    views = [policy.View(name="edge", place=Place.edge), policy.View(name="cloud", place=Place.cloud)]
    for power in (None, "edge-first", "edge-only"):
        for strategy in Strategy:
            for capped in ("", "the cap is reached"):
                ground = policy.Ground(strategy=strategy, power=power, capped=capped)
                told = " ".join(policy.forbids(ground))
                asked = policy.Ask(model="m")
                there = {each.endpoint for each in policy.decide(asked, views, ground).choices}
                assert ("nothing goes to the cloud" in told or "nothing more" in told) == ("cloud" not in there)
    closed = policy.Ground(strategy=Strategy.edge_first, cloud_fallback=False)
    assert "llm.cloud_fallback is off" in " ".join(policy.forbids(closed))
    assert policy.forbids(policy.Ground(strategy=Strategy.balanced)) == ()


@asynccontextmanager
async def gateway(home: Path) -> AsyncIterator[tuple[Bench, FakeOllama, FakeOpenAi]]:
    """An appliance with an edge and a cloud."""
    edge, cloud = FakeOllama(), FakeOpenAi()
    async with up(edge, cloud):
        settings = f"""
[llm]
edge_url = "{edge.url}"
cloud_bytes_per_day = 1048576
retry_percent = 0
[llm.endpoints.cloud]
url = "{cloud.url}"
kind = "openai"
place = "cloud"
price_in = 2.0
price_out = 8.0
"""
        async with running(home, settings) as bench:
            await wait_for(lambda: all(each.probed for each in bench.appliance.state.get(Section.llm).value.endpoints))
            yield bench, edge, cloud


async def ask(bench: Bench, text: str = "Why is the sky blue?", **more: Any) -> None:
    actor = Actor("ada", Role.admin, "console")
    await bench.appliance.dispatcher.invoke("llm.chat", {"text": text, **more}, actor)


async def test_where_requests_go_and_why(home: Path) -> None:
    """Answered at the edge, failed over to the cloud, drained, halted, looked at, and set another way, by keys."""
    async with gateway(home) as (bench, edge, cloud):
        seen = bench.open(PLAIN)
        await seen.press("gb", "● up")
        await seen.shows("edge-first: the settings say so")
        await seen.shows("1: llama3.2")
        await ask(bench)
        edge.script.append("500")
        await ask(bench)
        await seen.press("\t", "▲ failed over")
        await seen.shows("● answered")
        await seen.shows("edge failed: ")
        await seen.press("\r", "before it")
        await seen.shows("terminated")
        await seen.press("\x1b", "Decisions")
        await seen.press("/", "Enter keeps the filter")
        await seen.press("over", "/over")
        await wait_for(lambda: "● answered" not in seen.display)
        await seen.press("\x1b", "● answered")
        await seen.press("\t", "of 1.0 MiB")
        await seen.shows("cloud 1 request")
        await seen.press("v", "What left the house, newest")
        await seen.press("\x1b", "of 1.0 MiB")
        await seen.press("\t", "● up")
        await the_switches(bench, seen)
        assert not [path for path, _ in cloud.asked if "chat" not in path]
        data = bytes(seen.channel.written).decode()
        assert unsafe("".join(sign for sign in data if sign.isprintable())) == set()
        await seen.end()
        await a_viewer_sees_and_changes_nothing(bench)


async def the_switches(bench: Bench, seen: Any) -> None:
    await seen.press("d", "edge gets no new requests")
    await seen.shows("▲ draining")
    await seen.press("h", "edge is left in peace")
    await seen.shows("– halted")
    await seen.press("p", "is halted: it is left in peace")
    await seen.press("\r", "switched by")
    await seen.press("\x1b", "Endpoints")
    await seen.press("r", "edge serves again")
    await wait_for(lambda: "halted" not in seen.display.partition("Next")[0])
    await seen.press("p", "edge: answers")
    await seen.press("x", "Nothing is sent")
    for field, text in (
        ("prompt", "Why?"),
        ("model", ""),
        ("operation", ""),
        ("edge_only", ""),
        ("place", ""),
        ("strategy", ""),
    ):
        await seen.fill(field, text)
    await seen.shows("edge-first, in the edge")
    await seen.press("\x1b", "Endpoints")
    await seen.press("s", "Who is asked first")
    await seen.press("b", "llm.strategy = balanced from the next start on")
    rows = {row["key"]: row for row in await bench.invoke("config.list")}  # type: ignore[attr-defined]
    assert rows["llm.strategy"]["next_start"] == "balanced"


async def a_viewer_sees_and_changes_nothing(bench: Bench) -> None:
    seen = bench.open(PLAIN, (160, 48), Role.viewer)
    await seen.press("gb", "Left the house")
    for text in ("▲ failed over", "● up", "of 1.0 MiB"):
        await seen.shows(text)
    assert {key for key, _ in seen.app.page.offered()} == {"Tab", "Enter", "/"}  # type: ignore[union-attr]
    await seen.press("d", "needs the role operator")
    await seen.end()


async def test_the_load_and_the_power_are_seen_at_once(home: Path) -> None:
    """A request under way is counted while it is, and forgotten after; the battery narrows the strategy on the screen."""
    async with gateway(home) as (bench, edge, _):
        seen = bench.open(PLAIN, (160, 48))
        await seen.press("gb", "0/4")
        edge.script.append("hang")
        work = bench.appliance.loop.create_task(ask(bench, place="edge"))
        await seen.shows("1/4")
        work.cancel()
        await seen.shows("– given up")
        await wait_for(lambda: "1/4" not in seen.display, 20)
        await bench.invoke("power.mode", mode="off-grid")
        await seen.shows("cloud-first and balanced count for no request")
        await seen.end()


async def test_without_a_gateway_the_page_says_how_to_get_one(bench: Bench) -> None:
    seen = bench.open(PLAIN)
    await seen.press("gb", "no language model is configured")
    await seen.shows("llm.edge_url")
    await seen.press("d", "put the cursor on an endpoint")
    await seen.press(":", "narrow down")
    await seen.press("routing", "page: routing")
    await seen.press("\x1b", "Endpoints")
    await seen.end()
    with pytest.raises(ApplianceError, match="No language model is configured"):
        await bench.invoke("llm.probe")
