"""Faults of endpoints, and of what is between us and them, that must cost no answer and tell no lies."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from appliance.core.llm import ollama, wire
from appliance.core.llm.carry import Begun, Journey
from appliance.core.llm.faults import Fault, LanguageModelError, LlmError
from appliance.core.llm.model import Attempt, Piece, Place, Wishes
from appliance.core.llm.refusals import pause
from appliance.core.llm.stream import whole as whole_of
from appliance.core.model import Health
from appliance.verbs.client import error_of
from tests.llm.raw import END, Raw, line, serving, told, whole
from tests.llm.rig import chat, endpoint, running, settled
from tests.llm.test_doors import both
from tests.llm.upstreams import FakeOllama, FakeOpenAi, up
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


# -- the connection ----------------------------------------------------------------------------------------------------


async def test_a_connection_that_was_closed_while_idle_is_nobodys_fault(tmp_path: Path) -> None:
    async def answering(number: int, writer: asyncio.StreamWriter) -> bool:
        if number == 2:  # as servers do whose patience with an idle connection ends just then
            return False
        writer.write(whole(told(TEXT) + line(END)))
        return True

    edge = Raw(answering)
    async with serving(edge), running(tmp_path, {"home": {"url": edge.url, "place": "edge"}}) as rig:
        assert (await rig.ask()).attempts == ()
        again = await rig.ask()
        assert (again.text, again.attempts, len(edge.asked)) == (TEXT, (), 3)


async def test_connections_are_used_again_and_an_answer_without_length_ends_with_its_connection(tmp_path: Path) -> None:
    async def answering(number: int, writer: asyncio.StreamWriter) -> bool:
        if number < 6:
            writer.write(whole(told(TEXT) + line(END)))
            return True
        writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\n" + told(TEXT) + line(END)[:-1])
        return False

    edge = Raw(answering)
    async with serving(edge), running(tmp_path, {"home": {"url": edge.url, "place": "edge"}}) as rig:
        before = edge.connections
        for _ in range(6):
            assert (await rig.ask()).text == TEXT
        assert edge.connections <= before + 1


async def test_a_probe_that_drips_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ollama, "PROBE", 0.3)

    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
        while not writer.is_closing():
            writer.write(b" ")
            await asyncio.sleep(0.05)

    async with await asyncio.start_server(drip, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with running(tmp_path, {"home": {"url": url, "place": "edge"}}, probed=False) as rig:
            await asyncio.wait_for(rig.gateway.probe(), SURE)
            assert "did not answer in time" in rig.gateway.status().endpoints[0].reason


async def test_signs_of_life_are_no_tokens(tmp_path: Path) -> None:
    async def answering(_: int, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + told("The"))
        while not writer.is_closing():
            writer.write(b"\n")
            await asyncio.sleep(0.05)
        return False

    edge = Raw(answering)
    places = {"home": {"url": edge.url, "place": "edge"}}
    async with serving(edge):
        places["home"]["url"] = edge.url
        async with running(tmp_path, places, stall_seconds=0.4) as rig:
            with pytest.raises(LlmError, match="fell silent"):
                await asyncio.wait_for(rig.ask(), SURE)


@pytest.mark.parametrize("nonsense", [
    b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000 + b"\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-le",
    whole(b'{"a":' * 20_000), whole(b'{"message": 5, "done": 1}\n'), whole(b"[]\n"), whole(b"\xff\xfe\n"), whole(b"null\n"),
    whole(b'{"done": true, "prompt_eval_count": "many"}')[:-9],
], ids=["ssh", "head", "half-head", "deep", "types", "list", "bytes", "null", "half-body"])  # fmt: skip
async def test_nonsense_costs_no_request(tmp_path: Path, nonsense: bytes) -> None:
    async def answering(_: int, writer: asyncio.StreamWriter) -> bool:
        writer.write(nonsense)
        return False

    edge, cloud = Raw(answering), FakeOllama()
    async with serving(edge), up(cloud):
        places = {"home": {"url": edge.url, "place": "edge"}, "far": endpoint(cloud, "cloud")}
        async with running(tmp_path, places) as rig:
            answer = await asyncio.wait_for(rig.ask(), SURE)
            assert (answer.endpoint, answer.text) == ("far", TEXT)
            assert rig.gateway.status().endpoints[0].in_flight == 0


async def test_a_house_that_is_elsewhere_gets_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def answering(_: int, writer: asyncio.StreamWriter) -> bool:
        writer.write(whole(told(TEXT) + line(END)))
        return True

    edge = Raw(answering)
    async with serving(edge):
        monkeypatch.setattr(wire, "_elsewhere", lambda _: "8.8.8.8")
        places = {"home": {"url": edge.url, "place": "edge"}}
        async with running(tmp_path, places, probed=False, max_retries=0) as rig:
            with pytest.raises(LlmError, match="not in the house: nothing was sent"):
                await rig.ask("secret words")
            assert edge.asked == []
    monkeypatch.undo()
    assert [wire._elsewhere((each, 80)) for each in ("8.8.8.8", "192.168.1.2", "127.0.0.1", "100.64.0.1", "fd00::1")] == [
        "8.8.8.8", "", "", "", "",
    ]  # fmt: skip


# -- what is told ------------------------------------------------------------------------------------------------------


async def test_words_of_an_endpoint_make_no_headers(tmp_path: Path) -> None:
    evil = line({"error": "it died\r\nx-evil: 1\r\n\x1b[2J"})

    async def answering(number: int, writer: asyncio.StreamWriter) -> bool:
        writer.write(whole(evil if number < 4 else told(TEXT) + line(END)))
        return True

    edge = Raw(answering)
    async with serving(edge), both(tmp_path, max_retries=0) as (rig, url, *_):
        gauge = rig.gateway.gauges["home"]
        gauge.upstream = ollama.Ollama(edge.url)
        rig.gateway.gauges.pop("far")  # type: ignore[attr-defined]
        body = {"model": "llama3.2", "messages": [{"role": "user", "content": "Why?"}]}
        async with httpx.AsyncClient(base_url=url, trust_env=False, headers={"authorization": "Bearer operator"}) as http:
            answers = [await http.post("/api/chat", json=body) for _ in range(4)]
            answers = [each for each in answers if each.status_code == 200]
            assert answers
            assert not any("x-evil" in each.headers for each in answers)
            assert any("it died x-evil: 1" in each.headers["x-prime-spark-why"] for each in answers)


async def test_what_a_model_wrote_stands_in_no_status(tmp_path: Path) -> None:
    async def answering(_: int, writer: asyncio.StreamWriter) -> bool:
        writer.write(whole(told("The") + told("a secret of the house")[:-9]))
        return True

    edge = Raw(answering)
    async with serving(edge), running(tmp_path, {"home": {"url": edge.url, "place": "edge"}}) as rig:
        with pytest.raises(LlmError, match="no JSON"):
            await rig.ask()
        assert "secret" not in str(msgspec.to_builtins(rig.gateway.status()))


async def test_a_cost_that_is_no_number_is_refused(tmp_path: Path) -> None:
    async with both(tmp_path) as (_, url, edge, cloud), httpx.AsyncClient(base_url=url, trust_env=False) as http:
        body = {"model": "llama3.2", "messages": [{"role": "user", "content": "Why?"}]}
        for cost in ("nan", "inf", "-1", "1e999"):
            headers = {"authorization": "Bearer operator", "x-prime-spark-max-cost": cost}
            assert (await http.post("/api/chat", json=body, headers=headers)).status_code == 400, cost
        deep = await http.post("/api/chat", content=b'{"a":' * 100_000, headers={"authorization": "Bearer operator"})
        assert deep.status_code == 400
        assert (edge.asked, cloud.asked) == ([], [])


def test_the_command_line_knows_the_error() -> None:
    found = error_of({"error": {"code": "llm", "message": "No endpoint.", "next_step": "see it."}})
    assert isinstance(found, LanguageModelError)
    assert (found.code, found.next_step) == ("llm", "see it.")
    assert isinstance(LlmError(Fault.dead, "x"), LanguageModelError)


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
            from appliance.core.llm.model import Privacy, Strategy

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
