"""What leaves the house and what is kept: caps, models that are handed on, kept answers."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from appliance.core.llm.faults import LlmError
from appliance.core.llm.model import Place, Privacy, Strategy, Wishes
from appliance.core.llm.stream import whole as whole_of
from tests.llm.raw import END, Raw, line, serving, told, whole
from tests.llm.rig import chat, endpoint, running, settled
from tests.llm.upstreams import FakeOllama, FakeOpenAi, up
from tests.support import free_port, wait_for

TEXT = "The sky is blue."
SURE = 20.0
"""Seconds after which something hangs that must not."""


# -- the ledger --------------------------------------------------------------------------------------------------------


async def test_what_never_left_counts_against_no_cap(tmp_path: Path) -> None:
    edge = FakeOllama()
    async with up(edge):
        far = {"url": f"http://127.0.0.1:{free_port()}", "place": "cloud"}
        places = {"home": endpoint(edge, "edge"), "far": far}
        async with running(
            tmp_path, places, strategy="cloud-first", cloud_bytes_per_day=200, max_retries=1, retry_percent=0
        ) as rig:
            for _ in range(3):
                assert (await rig.ask(wishes=Wishes())).endpoint == "home"
                with pytest.raises(LlmError, match="does not answer"):
                    await rig.ask(wishes=Wishes(place=Place.cloud))
            await settled(rig)
            entries = await rig.gateway.ledger.entries(10)
            assert entries
            assert {each.outcome for each in entries} == {"not sent"}
            spent = await rig.gateway.ledger.refresh()
            assert (spent.requests, spent.bytes, spent.tokens) == (0, 0, 0)


async def test_a_refusal_uses_up_no_tokens(tmp_path: Path) -> None:
    cloud = FakeOpenAi()
    cloud.always = "429:1"
    async with up(cloud), running(tmp_path, {"far": endpoint(cloud, "cloud")}, max_retries=0, cloud_tokens_per_day=300) as rig:
        for _ in range(3):
            with pytest.raises(LlmError, match="Rate limit"):
                await rig.ask()
            await settled(rig)
        spent = await rig.gateway.ledger.refresh()
        assert (spent.tokens, spent.bytes) == (0, sum(len(each) for each in cloud.raw))


async def test_a_cap_holds_for_many_at_one_time(tmp_path: Path) -> None:
    edge, cloud = FakeOllama(), FakeOpenAi()
    async with up(edge, cloud):
        places = {"home": endpoint(edge, "edge", limit=40), "far": endpoint(cloud, "cloud", limit=40)}
        async with running(tmp_path, places, strategy="cloud-first", cloud_tokens_per_day=1500) as rig:
            cloud.always = "slow:0.2"
            answers = await asyncio.gather(*(rig.ask() for _ in range(20)))
            places_of = [each.endpoint for each in answers]
            assert places_of.count("far") == len(cloud.asked) == 5, "256 and the prompt are set aside for each"
            assert places_of.count("home") == 15


@pytest.mark.parametrize("limit", [10**30, True, 1e300, -5, 0.5])
async def test_a_length_beyond_reason_is_no_fault_of_ours(tmp_path: Path, limit: Any) -> None:
    cloud = FakeOllama()
    async with up(cloud), running(tmp_path, {"far": endpoint(cloud, "cloud", price_out=1.0)}) as rig:
        assert (await rig.ask(options={"num_predict": limit})).text == TEXT


# -- Ollama's own cloud ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("models", [
    {"llama3.2:latest": {}, "mine": {"remote": "https://ollama.com:443"}}, {"llama3.2:latest": {}, "big:120b-cloud": {}},
], ids=["told", "named"])  # fmt: skip
async def test_what_an_ollama_hands_on_to_the_cloud_has_left_the_house(tmp_path: Path, models: dict[str, Any]) -> None:
    edge = FakeOllama(models)
    name = list(models)[1]
    async with up(edge):
        aliases = {"chat": {"edge": name, "cloud": name}}
        async with running(tmp_path, {"home": endpoint(edge, "edge")}, aliases=aliases) as rig:
            for model in (name, "chat"):
                for wishes in (
                    Wishes(privacy=Privacy.edge_only),
                    Wishes(strategy=Strategy.edge_only),
                    Wishes(place=Place.edge),
                ):
                    with pytest.raises(LlmError):
                        await rig.ask("secret words", model=model, wishes=wishes)
            rig.power("edge-only")
            with pytest.raises(LlmError, match="the battery is low"):
                await rig.ask(model=name)
            assert edge.asked == []
            rig.power(None)
            answer = await rig.ask(model=name)
            assert (answer.place, answer.left_house_bytes) == (Place.cloud, len(edge.raw[0]))
            await settled(rig)
            (entry,) = await rig.gateway.ledger.entries(10)
            assert (entry.endpoint, entry.place, entry.outcome) == ("home", Place.cloud, "answered")


# -- kept answers ------------------------------------------------------------------------------------------------------


async def test_a_kept_answer_is_its_askers_own_and_stays_in_the_house_where_it_must(tmp_path: Path) -> None:
    edge = FakeOllama()
    async with up(edge), running(tmp_path, {"home": endpoint(edge, "edge")}) as rig:
        cold = {"temperature": 0}
        first = await whole_of(await rig.gateway.open(chat(options=cold), "mia"))
        await wait_for(lambda: rig.shelf.kept)
        other = await whole_of(await rig.gateway.open(chat(options=cold), "tom"))
        again = await whole_of(await rig.gateway.open(chat(options=cold), "mia"))
        assert (first.cached, other.cached, again.cached) == (False, False, True)
        await wait_for(lambda: len(rig.shelf.kept) == 2)
        rig.shelf.kept.clear()
        rig.power("edge-only")
        assert not (await rig.ask(options=cold)).cached
        await rig.gateway.close()
        assert rig.shelf.kept == {}, "the memory's lower tiers may lie in the cloud"


async def test_pieces_that_come_together_go_on_together(tmp_path: Path) -> None:
    async def answering(_: int, writer: asyncio.StreamWriter) -> bool:
        writer.write(whole(b"".join(told(each) for each in ("The", " sky", " is")) + line(END)))
        return True

    edge = Raw(answering)
    async with serving(edge), running(tmp_path, {"home": {"url": edge.url, "place": "edge"}}) as rig:
        stream = await rig.gateway.open(chat(), "tester")
        async with aclosing(stream.batches()) as batches:
            found = [[each.text for each in batch] async for batch in batches]
        assert found == [["The", " sky", " is", ""]]
        stream = await rig.gateway.open(chat(), "tester")
        async with aclosing(stream.pieces()) as pieces:
            assert [each.text async for each in pieces] == ["The", " sky", " is", ""]
