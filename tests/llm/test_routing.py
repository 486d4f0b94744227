"""Where requests go, on real servers: fail-over, hedging, retries, privacy, what is told of the way."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest

from appliance.core.llm.faults import Fault, LlmError
from appliance.core.llm.model import Place, Privacy, Strategy, Wishes
from appliance.core.llm.stream import Stream, whole
from appliance.core.model import Health
from tests.llm.rig import chat, endpoint, running, settled
from tests.llm.upstreams import FakeOllama, FakeOpenAi, up
from tests.support import free_port, wait_for

TEXT = "The sky is blue."
PRICES = {"price_in": 1.0, "price_out": 2.0}


async def test_an_answer_tells_where_it_comes_from_why_and_what_it_cost(tmp_path: Path) -> None:
    edge, cloud = FakeOllama(), FakeOpenAi()
    async with up(edge, cloud):
        places = {"home": endpoint(edge, "edge"), "far": endpoint(cloud, "cloud", **PRICES)}
        async with running(tmp_path, places) as rig:
            near = await rig.ask()
            far = await rig.ask(wishes=Wishes(place=Place.cloud))
            await settled(rig)
            assert (near.text, near.endpoint, near.place, near.cost) == (TEXT, "home", Place.edge, None)
            assert near.left_house_bytes == 0
            assert "edge-first" in near.why
            assert (far.text, far.endpoint, far.usage.tokens_in, far.usage.tokens_out) == (TEXT, "far", 26, 5)
            assert far.cost == pytest.approx((26 * 1.0 + 5 * 2.0) / 1e6)
            assert far.left_house_bytes == len(cloud.raw[0])
            (entry,) = await rig.gateway.ledger.entries(10)
            assert (entry.endpoint, entry.bytes, entry.tokens_in, entry.tokens_out) == ("far", len(cloud.raw[0]), 26, 5)
            assert (entry.who, entry.outcome) == ("tester", "answered")
            assert "the request asks for it" in entry.why


@pytest.mark.parametrize("fault", ["500", "429", "429:1", "no-model", "overflow", "garbage", "dead"])
async def test_what_fails_before_its_first_token_costs_no_request(tmp_path: Path, fault: str) -> None:
    edge, cloud = FakeOllama(), FakeOllama()
    edge.always = fault
    async with up(edge, cloud):
        first = endpoint(edge, "edge")
        if fault == "dead":
            first["url"] = f"http://127.0.0.1:{free_port()}"
        async with running(tmp_path, {"home": first, "far": endpoint(cloud, "cloud")}) as rig:
            answer = await rig.ask()
            assert (answer.text, answer.endpoint) == (TEXT, "far")
            if fault != "dead":  # the probe has found that one already, so it is not even tried
                assert [each.endpoint for each in answer.attempts] == ["home"]
                assert "home failed" in answer.why


async def test_one_that_hangs_is_left_in_time_and_told_to_stop(tmp_path: Path) -> None:
    edge, cloud = FakeOllama(), FakeOllama()
    edge.script.append("hang")
    async with up(edge, cloud):
        places = {"home": endpoint(edge, "edge"), "far": endpoint(cloud, "cloud")}
        async with running(tmp_path, places, edge_timeout_seconds=0.2) as rig:
            assert (await rig.ask()).endpoint == "far"
            await wait_for(lambda: edge.cancelled == 1)
            assert rig.gateway.status().endpoints[0].in_flight == 0


async def test_a_hedge_takes_whoever_is_first_and_ends_the_other(tmp_path: Path) -> None:
    edge, cloud = FakeOllama(), FakeOllama()
    edge.script.append("hang")
    async with up(edge, cloud):
        places = {"home": endpoint(edge, "edge"), "far": endpoint(cloud, "cloud")}
        async with running(tmp_path, places, edge_timeout_seconds=0.2) as rig:
            answer = await rig.ask(wishes=Wishes(hedge=True))
            assert answer.endpoint == "far"
            assert rig.gateway.status().hedges == 1
            await wait_for(lambda: edge.cancelled == 1)
            edge.script.append("slow:0.5")
            cloud.script.append("hang")
            slow = await rig.ask(wishes=Wishes(hedge=True))
            assert slow.endpoint == "home", "the slow one was first after all"
            await settled(rig)
            assert [each.outcome for each in await rig.gateway.ledger.entries(9)] == ["given up", "answered"]


async def test_the_same_endpoint_is_tried_again_and_its_pause_is_kept(tmp_path: Path) -> None:
    edge = FakeOllama()
    edge.script.extend(["500", "429:0"])
    async with up(edge), running(tmp_path, {"home": endpoint(edge, "edge")}) as rig:
        answer = await rig.ask()
        assert (answer.text, len(answer.attempts)) == (TEXT, 2)
        edge.script.append("429:30")
        with pytest.raises(LlmError, match="server busy") as raised:
            await rig.ask()
        assert (raised.value.fault, raised.value.retry_after) == (Fault.busy, 30.0)
        assert (await rig.ask()).text == TEXT, "the last one left is asked though it rests"


async def test_tries_are_bounded_and_have_a_budget(tmp_path: Path) -> None:
    edge = FakeOllama()
    edge.always = "500"
    async with up(edge), running(tmp_path, {"home": endpoint(edge, "edge")}, max_retries=1, retry_percent=0) as rig:
        with pytest.raises(LlmError):
            await rig.ask()
        assert len(edge.asked) == 1, "no budget, no second try"
    edge.asked.clear()
    async with up(edge), running(tmp_path, {"home": endpoint(edge, "edge")}, max_retries=2, retry_percent=10) as rig:
        with pytest.raises(LlmError):
            await rig.ask()
        assert len(edge.asked) == 3


@pytest.mark.parametrize("power", [None, "edge-first", "edge-only"])
async def test_what_is_for_the_edge_alone_never_leaves_it(tmp_path: Path, power: str | None) -> None:
    edge, cloud = FakeOllama(), FakeOpenAi()
    edge.always = "500"
    async with up(edge, cloud):
        places = {"home": endpoint(edge, "edge"), "far": endpoint(cloud, "cloud")}
        async with running(tmp_path, places, strategy="cloud-first", edge_timeout_seconds=0.2, max_retries=0) as rig:
            rig.power(power)
            for wishes in (
                Wishes(privacy=Privacy.edge_only), Wishes(privacy=Privacy.edge_only, strategy=Strategy.cloud_first),
                Wishes(privacy=Privacy.edge_only, place=Place.cloud), Wishes(privacy=Privacy.edge_only, endpoint="far"),
                Wishes(privacy=Privacy.edge_only, hedge=True, cache=True),
            ):  # fmt: skip
                with pytest.raises(LlmError):
                    await rig.ask("secret words", wishes=wishes)
            assert cloud.asked == [], "the upstream's own log"
            assert await rig.gateway.ledger.entries(10) == []
            edge.always = ""
            assert (await rig.ask("secret words", wishes=Wishes(privacy=Privacy.edge_only, cache=True))).endpoint == "home"
            assert (cloud.asked, rig.shelf.kept) == ([], {})


async def test_the_power_decides_before_the_settings(tmp_path: Path) -> None:
    edge, cloud = FakeOllama(), FakeOllama()
    async with up(edge, cloud):
        places = {"home": endpoint(edge, "edge"), "far": endpoint(cloud, "cloud")}
        async with running(tmp_path, places, strategy="cloud-first") as rig:
            assert (await rig.ask()).endpoint == "far"
            rig.power("edge-first")
            assert (await rig.ask()).endpoint == "home"
            assert rig.gateway.status().holds is Strategy.edge_first
            rig.power("edge-only")
            with pytest.raises(LlmError, match="the battery is low"):
                await rig.ask(wishes=Wishes(place=Place.cloud))


async def read(stream: Stream, got: list[str]) -> None:
    """Take what comes, also where it breaks off."""
    async with aclosing(stream.pieces()) as pieces:
        async for piece in pieces:
            got += [piece.text]


@pytest.mark.parametrize(("fault", "words"), [
    ("half-line", "no JSON"), ("cut", "before the end"), ("drop", "broke off"), ("hang-mid", "fell silent"),
    ("error-line", "the runner has stopped"),
])  # fmt: skip
async def test_what_breaks_off_after_the_first_token_is_told_and_not_repeated(tmp_path: Path, fault: str, words: str) -> None:
    edge, cloud = FakeOllama(), FakeOllama()
    edge.script.append(fault)
    async with up(edge, cloud):
        places = {"home": endpoint(edge, "edge"), "far": endpoint(cloud, "cloud")}
        async with running(tmp_path, places, stall_seconds=0.5) as rig:
            stream = await rig.gateway.open(chat(), "tester")
            got: list[str] = []
            with pytest.raises(LlmError, match=words):
                await read(stream, got)
            assert "".join(got) == "The sky"
            assert stream.answer is None
            assert cloud.asked == []
            assert rig.gateway.status().failed == 1
            assert rig.gateway.status().endpoints[0].failures == 1


async def test_a_caller_that_goes_ends_the_upstream(tmp_path: Path) -> None:
    edge = FakeOllama()
    edge.pause = 0.05
    edge.words = tuple(f" {number}" for number in range(1000))
    async with up(edge), running(tmp_path, {"home": endpoint(edge, "edge", limit=1)}) as rig:
        stream = await rig.gateway.open(chat(), "tester")
        async with aclosing(stream.pieces()) as pieces:
            await anext(pieces)
            await anext(pieces)
        await wait_for(lambda: edge.cancelled == 1)
        edge.script.append("hang")
        waiting = asyncio.create_task(rig.gateway.open(chat(), "tester"))
        await wait_for(lambda: len(edge.asked) == 2)
        waiting.cancel()
        await wait_for(lambda: edge.cancelled == 2)
        assert rig.gateway.status().given_up == 2
        assert rig.gateway.status().endpoints[0].in_flight == 0


async def test_one_that_is_full_makes_room_elsewhere(tmp_path: Path) -> None:
    edge, cloud = FakeOllama(), FakeOllama()
    edge.pause = 0.05
    async with up(edge, cloud):
        places = {"home": endpoint(edge, "edge", limit=1, queue=0), "far": endpoint(cloud, "cloud")}
        async with running(tmp_path, places) as rig:
            first = await rig.gateway.open(chat(), "tester")
            second = await rig.ask()
            assert second.endpoint == "far"
            assert (await whole(first)).endpoint == "home"


async def test_the_last_resort_ignores_the_rest(tmp_path: Path) -> None:
    edge, cloud = FakeOllama(), FakeOllama()
    edge.always = cloud.always = "500"
    async with up(edge, cloud):
        places = {"home": endpoint(edge, "edge"), "far": endpoint(cloud, "cloud")}
        async with running(tmp_path, places, max_retries=1) as rig:
            for _ in range(4):
                with pytest.raises(LlmError):
                    await rig.ask()
            assert {each.health for each in rig.gateway.status().endpoints} == {Health.unhealthy}
            assert all(each.cooldown_s for each in rig.gateway.status().endpoints)
            edge.always = cloud.always = ""
            answer = await rig.ask()
            assert answer.text == TEXT, "never black out"
            assert "last resort" in answer.why


async def test_operators_drain_halt_and_resume_and_it_lasts(tmp_path: Path) -> None:
    edge, cloud = FakeOllama(), FakeOllama()
    async with up(edge, cloud):
        places = {"home": endpoint(edge, "edge"), "far": endpoint(cloud, "cloud")}
        async with running(tmp_path, places) as rig:
            edge.pause = 0.02
            stream = await rig.gateway.open(chat(), "tester")
            await rig.gateway.switch("home", "draining", "owner")
            assert (await rig.ask()).endpoint == "far"
            assert (await whole(stream)).text == TEXT, "what was begun is brought to its end"
        async with running(tmp_path, places, probed=False) as rig:
            await rig.gateway.switch("far", "halted", "owner")
            before = len(cloud.probes)
            await rig.gateway.probe()
            assert len(cloud.probes) == before, "a halted one is left in peace"
            with pytest.raises(LlmError, match="an operator drains it"):
                await rig.ask()
            await rig.gateway.switch("home", "", "owner")
            assert (await rig.ask()).endpoint == "home"


async def test_a_model_that_nobody_has_is_named_with_its_neighbours(tmp_path: Path) -> None:
    edge = FakeOllama({"llama3.2:latest": {}, "qwen3:4b": {}})
    async with up(edge), running(tmp_path, {"home": endpoint(edge, "edge")}) as rig:
        with pytest.raises(LlmError) as raised:
            await rig.ask(model="qwen3:8b")
        assert raised.value.fault is Fault.no_model
        assert "qwen3:4b" in raised.value.next_step
        assert edge.asked == []


async def test_an_alias_is_another_model_in_each_place(tmp_path: Path) -> None:
    edge, cloud = FakeOllama({"small": {}}), FakeOpenAi({"large": {}})
    aliases = {"chat": {"edge": "small", "cloud": "large"}, "vision": {"cloud": "large"}}
    async with up(edge, cloud):
        places = {"home": endpoint(edge, "edge"), "far": endpoint(cloud, "cloud")}
        async with running(tmp_path, places, aliases=aliases, default_model="chat") as rig:
            assert (await rig.ask()).model == "small"
            edge.script.append("500")
            assert (await rig.ask(model="chat:latest")).model == "large"
            assert (await rig.ask(model="vision")).endpoint == "far"
            with pytest.raises(LlmError, match="no model is set for vision in the edge"):
                await rig.ask(model="vision", wishes=Wishes(place=Place.edge))


async def test_ten_megabytes_are_refused_before_they_are_sent(tmp_path: Path) -> None:
    edge = FakeOllama()
    async with up(edge), running(tmp_path, {"home": endpoint(edge, "edge")}) as rig:
        with pytest.raises(LlmError, match=r"10\.0 MiB, and 8 MiB") as raised:
            await rig.ask("x" * (10 * 2**20))
        assert raised.value.status == 413
        assert edge.asked == []


async def test_an_answer_without_end_is_cut_off(tmp_path: Path) -> None:
    edge = FakeOllama()
    edge.words = ("x" * 1000,) * 100
    async with up(edge), running(tmp_path, {"home": endpoint(edge, "edge")}, answer_mib=0.01) as rig:
        with pytest.raises(LlmError, match=r"llm\.answer_mib|more than"):
            await rig.ask()
        assert rig.gateway.status().endpoints[0].health is Health.healthy


async def test_a_key_goes_along_and_is_seen_nowhere(tmp_path: Path) -> None:
    cloud = FakeOpenAi()
    async with up(cloud):
        (tmp_path / "secrets").mkdir(mode=0o700)
        (tmp_path / "secrets" / "far.key").write_text("sk-very-secret\n")
        (tmp_path / "secrets" / "far.key").chmod(0o600)
        async with running(tmp_path, {"far": endpoint(cloud, "cloud", secret="far.key")}) as rig:
            await rig.ask()
            assert cloud.headers[-1]["authorization"] == "Bearer sk-very-secret"
            cloud.always = "401"
            with pytest.raises(LlmError) as raised:
                await rig.ask()
            assert raised.value.fault is Fault.refused
            assert "sk-very" not in str(raised.value) + repr(rig.gateway.status())
