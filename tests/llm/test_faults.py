"""Faults of endpoints that must cost no answer: who is asked then, and when again."""

from __future__ import annotations

import asyncio
from collections import deque
from pathlib import Path
from typing import Any

import pytest

from appliance.core.llm.carry import Begun, Journey
from appliance.core.llm.faults import Fault, LlmError
from appliance.core.llm.model import Attempt, Piece, Wishes
from appliance.core.llm.refusals import pause
from appliance.core.model import Health
from tests.llm.raw import END, Raw, line, serving, told, whole
from tests.llm.rig import chat, endpoint, running
from tests.llm.upstreams import FakeOllama, up
from tests.support import ManualClock, free_port, wait_for

TEXT = "The sky is blue."
SURE = 20.0
"""Seconds after which something hangs that must not."""


# -- who is asked ------------------------------------------------------------------------------------------------------


async def test_one_that_loads_its_model_answers_where_nobody_else_does(tmp_path: Path) -> None:
    edge = FakeOllama()
    edge.script.extend(["slow:0.8", "slow:0.8"])
    async with up(edge):
        far = {"url": f"http://127.0.0.1:{free_port()}", "place": "cloud"}
        async with running(tmp_path, {"home": endpoint(edge, "edge"), "far": far}, edge_timeout_seconds=0.2) as rig:
            answer = await rig.ask()
            assert (answer.endpoint, answer.text) == ("home", TEXT), "slow is not dead"
            assert {each.endpoint for each in answer.attempts} == {"home", "far"}


async def test_the_time_for_a_first_token_is_not_the_one_between_two(tmp_path: Path) -> None:
    edge = FakeOllama()
    edge.script.append("slow:1")
    async with up(edge), running(tmp_path, {"home": endpoint(edge, "edge")}, stall_seconds=0.2, max_retries=0) as rig:
        assert (await rig.ask()).text == TEXT


async def test_waiting_for_a_turn_is_no_fault_of_the_endpoint(tmp_path: Path) -> None:
    edge, cloud = FakeOllama(), FakeOllama()
    async with up(edge, cloud):
        places = {"home": endpoint(edge, "edge", limit=1), "far": endpoint(cloud, "cloud")}
        async with running(tmp_path, places, edge_timeout_seconds=0.2) as rig:
            edge.script.append("hang-mid")
            stream = await rig.gateway.open(chat(), "tester")
            answer = await rig.ask()
            assert answer.endpoint == "far"
            assert "no turn" in answer.why
            home = rig.gateway.status().endpoints[0]
            assert (home.failures, home.health, len(edge.asked)) == (0, Health.healthy, 1)
            await stream.aclose()


async def test_what_holds_now_counts_for_those_that_wait(tmp_path: Path) -> None:
    cloud = FakeOllama()
    async with up(cloud):
        places = {"far": endpoint(cloud, "cloud", limit=1)}
        async with running(tmp_path, places, cloud_timeout_seconds=60) as rig:
            cloud.script.append("hang-mid")
            stream = await rig.gateway.open(chat(), "tester")
            waiting = asyncio.create_task(rig.gateway.open(chat("later"), "tester"))
            await wait_for(lambda: rig.gateway.status().endpoints[0].queue == 1)
            rig.power("edge-only")
            await stream.aclose()
            with pytest.raises(LlmError, match="the battery is low"):
                await waiting
            rig.power(None)
            cloud.script.append("hang-mid")
            stream = await rig.gateway.open(chat(), "tester")
            waiting = asyncio.create_task(rig.gateway.open(chat("later"), "tester"))
            await wait_for(lambda: rig.gateway.status().endpoints[0].queue == 1)
            await rig.gateway.switch("far", "halted", "owner")
            await stream.aclose()
            with pytest.raises(LlmError, match="an operator halted it"):
                await waiting
            assert len(cloud.asked) == 2, "the upstream's own log"


REFUSALS = {
    "402 Payment Required": "insufficient credit", "404 Not Found": "page not found", "405 Method Not Allowed": "no",
    "301 Moved Permanently": "", "413 Payload Too Large": "too large", "400 Bad Request": "m does not support tools",
}  # fmt: skip


@pytest.mark.parametrize("status", REFUSALS)
async def test_what_one_endpoint_refuses_another_one_may_do(tmp_path: Path, status: str) -> None:
    async def answering(_: int, writer: asyncio.StreamWriter) -> bool:
        writer.write(whole(REFUSALS[status].encode(), status, "location: http://127.0.0.1:1/"))
        return True

    edge, cloud = Raw(answering), FakeOllama()
    async with serving(edge), up(cloud):
        places = {"home": {"url": edge.url, "place": "edge"}, "far": endpoint(cloud, "cloud")}
        async with running(tmp_path, places) as rig:
            assert (await rig.ask()).endpoint == "far"


@pytest.mark.parametrize("after", ["\xb2", "-1", "soon", "Wed, 99 Oct 2015 07:28:00 GMT"])
async def test_a_pause_that_cannot_be_read_is_none(tmp_path: Path, after: str) -> None:
    async def answering(number: int, writer: asyncio.StreamWriter) -> bool:
        writer.write(whole(b"{}", "429 Busy", f"retry-after: {after}") if number == 1 else whole(told(TEXT) + line(END)))
        return True

    edge = Raw(answering)
    async with serving(edge), running(tmp_path, {"home": {"url": edge.url, "place": "edge"}}) as rig:
        assert (await rig.ask()).text == TEXT


def test_a_pause_until_a_date_goes_by_the_clock_of_whoever_says_it() -> None:
    assert pause("Wed, 21 Oct 2015 07:28:30 GMT", "Wed, 21 Oct 2015 07:28:00 GMT") == 30.0, "whatever our clock says"
    assert pause("Wed, 21 Oct 2065 07:28:30 GMT", "Wed, 21 Oct 2015 07:28:00 GMT") == 3600.0
    assert pause("Wed, 21 Oct 2015 07:28:30 -0000", "nonsense") == 0.0


# -- the breaker -------------------------------------------------------------------------------------------------------


async def test_a_probe_does_not_end_the_pause_that_was_asked_for(tmp_path: Path) -> None:
    edge, cloud = FakeOllama(), FakeOllama()
    async with up(edge, cloud):
        places = {"home": endpoint(edge, "edge"), "far": endpoint(cloud, "cloud")}
        async with running(tmp_path, places) as rig:
            edge.script.append("429:60")
            assert (await rig.ask()).endpoint == "far"
            await rig.gateway.probe()
            assert rig.gateway.decide(chat()).choices[0].endpoint == "far"
            assert (await rig.ask()).endpoint == "far"
            assert len(edge.asked) == 1


async def test_after_its_rest_it_gets_another_chance_and_then_rests_longer(tmp_path: Path) -> None:
    edge, cloud, clock = FakeOllama(), FakeOllama(), ManualClock()
    async with up(edge, cloud):
        places = {"home": endpoint(edge, "edge"), "far": endpoint(cloud, "cloud")}
        async with running(tmp_path, places, clock=clock) as rig:
            edge.always = "500"
            for _ in range(3):
                assert (await rig.ask()).endpoint == "far"
            assert (await rig.ask()).endpoint == "far"
            assert len(edge.asked) == 3, "it rests"
            clock.move(10)
            assert rig.gateway.decide(chat()).choices[0].endpoint == "home", "its rest is over"
            await rig.gateway.probe()
            assert (await rig.ask()).endpoint == "far"
            assert len(edge.asked) == 4
            assert (rig.gateway.status().endpoints[0].cooldown_s or 0) > 4, "the fourth failure in a row, whatever probes say"
            clock.move(20)
            edge.always = ""
            assert (await rig.ask()).endpoint == "home"


async def test_an_answer_counts_though_another_try_is_refused_at_the_same_moment(tmp_path: Path) -> None:
    edge = FakeOllama()
    async with up(edge), running(tmp_path, {"home": endpoint(edge, "edge")}) as rig:
        carrier = rig.gateway._carrier
        (choice,) = rig.gateway.decide(chat()).choices
        begun, _ = await carrier.begin(chat(), (choice,), "tester")

        async def well() -> Begun:
            return begun

        async def badly() -> Begun:
            raise LlmError(Fault.bad, "no")

        trip = Journey(chat(), "tester", deque())
        trip.running = {asyncio.create_task(well()): choice, asyncio.create_task(badly()): choice}
        await asyncio.wait(trip.running)
        assert await carrier._first(trip) is begun
        assert trip.tries == [Attempt("home", "no")]
        await carrier.drop(begun)


class Clinging:
    """An upstream that never begins, and takes its time to end."""

    def __init__(self) -> None:
        self.ending, self.ended = asyncio.Event(), asyncio.Event()

    def encode(self, *_: Any) -> bytes:
        return b"{}"

    async def send(self, *_: Any) -> Any:
        try:
            await asyncio.Event().wait()
            yield [Piece("never")]
        finally:
            self.ending.set()
            await self.ended.wait()

    async def close(self) -> None:
        pass


async def test_a_caller_that_goes_while_a_hedge_is_ended_leaves_nothing_behind(tmp_path: Path) -> None:
    edge, cloud = FakeOllama(), FakeOllama()
    async with up(edge, cloud):
        places = {"home": endpoint(edge, "edge"), "far": endpoint(cloud, "cloud")}
        async with running(tmp_path, places, edge_timeout_seconds=0.1) as rig:
            clinging = Clinging()
            rig.gateway.gauges["home"].upstream = clinging  # type: ignore[assignment]
            opening = asyncio.create_task(rig.gateway.open(chat(wishes=Wishes(hedge=True)), "tester"))
            await clinging.ending.wait()
            await wait_for(lambda: rig.gateway.gauges["far"].in_flight == 1)
            opening.cancel()
            await asyncio.sleep(0)
            clinging.ended.set()
            await asyncio.wait({opening})
            await wait_for(lambda: [each.in_flight for each in rig.gateway.status().endpoints] == [0, 0])
