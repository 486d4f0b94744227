"""The tiers: order, fallback, return, privacy, caps, and a ledger that is right to the byte."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from wyoming.audio import AudioChunk
from wyoming.event import async_read_event

from appliance.core.model import Health
from appliance.core.voice.model import NO_SENTENCES, Place
from appliance.errors import VoiceError
from tests.support import free_port, wait_for
from tests.voice.wyoming.rig import PCM, RealServer, bad, cloud, edge, real, tiers, words


async def test_the_first_that_is_well_answers_and_the_house_is_not_in_the_ledger(tmp_path: Path) -> None:
    async with (
        real() as server,
        tiers(tmp_path, {"near": edge(server.url)}, stt=("near", "local"), tts=("near", "local")) as rig,
    ):
        heard = await rig.engines.transcribe(PCM, NO_SENTENCES, "u1")
        assert (heard.engine, heard.place, heard.text, heard.fell_back) == ("near", Place.edge, words(PCM), ())
        assert (await rig.engines.synthesize("all is well", "u1")).engine == "near"
        assert not rig.stt.heard
        assert await rig.ledger.rows() == ()
        assert rig.engines.degraded() == ""


async def test_what_goes_to_the_cloud_is_in_the_ledger_to_the_byte(tmp_path: Path) -> None:
    async with real() as server:
        services = {"far": cloud(server.url)}
        async with tiers(tmp_path, services, stt=("far", "local"), tts=("far",), privacy="cloud") as rig:
            assert (await rig.engines.transcribe(PCM, NO_SENTENCES, "u1")).place is Place.cloud
            await rig.engines.synthesize("grüße", "u2")
            tts, stt = await rig.ledger.rows()
    assert (stt.kind, stt.audio_bytes, stt.text_bytes, stt.outcome, stt.utterance_id) == (
        "stt",
        server.audio,
        0,
        "answered",
        "u1",
    )
    assert server.audio == len(PCM)
    assert (tts.kind, tts.audio_bytes, tts.text_bytes, tts.service) == ("tts", 0, 7, "far")
    assert stt.host == server.url.removeprefix("tcp://")


async def test_killed_in_the_middle_the_next_gets_the_whole_utterance(tmp_path: Path) -> None:
    got = bytearray()

    async def dies(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while len(got) < 20_000:
            event = await async_read_event(reader)
            got.extend(event.payload or b"" if event and AudioChunk.is_type(event.type) else b"")
        writer.transport.abort()

    async with bad(dies) as server:  # noqa: SIM117 one needs the other
        async with tiers(tmp_path, {"far": cloud(server.url)}, stt=("far", "local"), privacy="cloud") as rig:
            heard = await rig.engines.transcribe(PCM * 100, NO_SENTENCES)
            assert (heard.engine, heard.text) == ("local", words(PCM * 100))
            assert heard.fell_back == ("far: It closed the connection",)
            (row,) = await rig.ledger.rows()
            assert row.outcome == "cut off"
            assert len(got) <= row.audio_bytes < len(PCM) * 100
            assert rig.engines.degraded() == "The cloud is away; I can do local commands."


async def test_given_up_in_the_middle_the_ledger_has_each_byte_that_went(tmp_path: Path) -> None:
    got: list[bytearray] = []
    gone = asyncio.Event()

    async def stalls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.append(mine := bytearray())  # the next connection only looks how it is
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await gone.wait()
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        mine.extend(await reader.read(-1))

    async with bad(stalls) as server:  # noqa: SIM117 one needs the other
        async with tiers(tmp_path, {"far": cloud(server.url, 1.5)}, stt=("far", "local"), privacy="cloud") as rig:
            sound = b"\x01\x02" * 4_000_000
            heard = await rig.engines.transcribe(sound, NO_SENTENCES)
            assert heard.fell_back == ("far: It did not answer within 1.5 s",)
            (row,) = await rig.ledger.rows()
            gone.set()
            await wait_for(lambda: not server.open)
    assert 0 < row.audio_bytes < len(sound)
    assert sound_in(bytes(got[0])) == row.audio_bytes, "what the other side found, to the byte"


def sound_in(stream: bytes) -> int:
    """Bytes of sound in a stream of events that may end anywhere."""
    import json

    found = at = 0
    while (end := stream.find(b"\n", at)) >= 0:
        event = json.loads(stream[at:end])
        at = end + 1 + event.get("data_length", 0)
        size = event.get("payload_length", 0)
        found += max(0, min(size, len(stream) - at))
        at += size
    return found


@pytest.mark.parametrize("power", [False, True], ids=["privacy", "power"])
async def test_edge_only_makes_no_connection_to_the_cloud_at_all(tmp_path: Path, power: bool) -> None:
    async with real() as server:
        services = {"far": cloud(server.url)}
        order = ("far", "local")
        async with tiers(
            tmp_path, services, stt=order, tts=order, wake=("far",), privacy="cloud" if power else "edge-only"
        ) as rig:
            rig.power = "edge-only" if power else None
            heard = await rig.engines.transcribe(PCM, NO_SENTENCES)
            spoken = await rig.engines.synthesize("hello")
            with pytest.raises(VoiceError, match="nothing may leave the house"):
                await rig.engines.wake(frames(3), ("hey spark",))
            statuses = await rig.engines.check()
            assert (heard.engine, spoken.engine) == ("local", "local")
            assert heard.fell_back[0].startswith("far: nothing may leave the house")
            assert {each.health for each in statuses if each.name == "far"} == {Health.absent}
            assert server.connections == 0
            assert rig.ledger.totals.requests == 0
            rig.privacy, rig.power = "cloud", None
            assert (await rig.engines.transcribe(PCM, NO_SENTENCES)).engine == "far", "and at once when it may"
            assert server.connections == 1


async def test_privacy_while_another_one_is_asked_makes_no_connection(tmp_path: Path) -> None:
    async with real() as server, tiers(tmp_path, {"far": cloud(server.url)}, stt=("local", "far"), privacy="cloud") as rig:

        async def fails(*given: object) -> None:
            rig.privacy = "edge-only"
            raise VoiceError("The worker was killed.")

        rig.stt.transcribe = fails
        with pytest.raises(VoiceError, match="far: Nothing was sent: nothing may leave the house"):
            await rig.engines.transcribe(PCM, NO_SENTENCES)
        assert (server.connections, rig.ledger.totals.requests) == (0, 0)


async def test_a_look_writes_only_where_something_is_or_may_be_counted(tmp_path: Path) -> None:
    async with real() as server, tiers(tmp_path, {"far": cloud(server.url)}, stt=("far", "local"), privacy="cloud") as rig:

        async def writes() -> int:
            before = rig.store.writes
            await rig.engines.check()
            return int(rig.store.writes - before)

        rig.store.writes, write = 0, rig.store.write

        async def counted(work: Callable[[Any], Any]) -> Any:
            rig.store.writes += 1
            return await write(work)

        rig.store.write = counted
        assert await writes() == 1
        rig.privacy = "edge-only"
        assert await writes() == 0, "nothing was counted, and nothing may be"
        rig.privacy = "cloud"
        await rig.engines.transcribe(PCM, NO_SENTENCES)
        rig.privacy = "edge-only"
        rig.clock.move(86400 * 2)
        assert await writes() == 1
        assert rig.ledger.totals.today_bytes == 0, "a new day is seen"
        assert await writes() == 0


async def test_privacy_in_the_middle_stops_what_is_under_way(tmp_path: Path) -> None:
    async with tiers_with_reader(tmp_path) as (rig, got):
        asks = asyncio.create_task(rig.engines.transcribe(PCM * 200, NO_SENTENCES))
        await wait_for(lambda: got[0] > 10_000)
        rig.privacy = "edge-only"
        heard = await asks
        assert heard.engine == "local"
        assert "nothing may leave the house" in heard.fell_back[0]
        (row,) = await rig.ledger.rows()
        assert (row.outcome, row.audio_bytes < len(PCM) * 200) == ("cut off", True)
        await wait_for(lambda: got[0] == row.audio_bytes)


class tiers_with_reader:  # noqa: N801 used as a function
    """Tiers on a cloud service that reads slowly, and how many bytes of sound it has."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._got = [0]

    async def __aenter__(self):  # type: ignore[no-untyped-def]
        async def reads(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while (event := await async_read_event(reader)) is not None:
                self._got[0] += len(event.payload or b"")

        self._server = bad(reads)
        server = await self._server.__aenter__()
        self._tiers = tiers(self._path, {"far": cloud(server.url, 30)}, stt=("far", "local"), privacy="cloud")
        return await self._tiers.__aenter__(), self._got

    async def __aexit__(self, *given: object) -> None:
        await self._tiers.__aexit__(None, None, None)
        await self._server.__aexit__(None, None, None)


async def test_beyond_the_cap_only_the_house_is_asked(tmp_path: Path) -> None:
    async with (
        real() as server,
        tiers(tmp_path, {"far": cloud(server.url)}, 100_000, stt=("far", "local"), privacy="cloud") as rig,
    ):
        assert (await rig.engines.transcribe(PCM, NO_SENTENCES)).engine == "far"
        heard = await rig.engines.transcribe(PCM, NO_SENTENCES)
        assert heard.engine == "local"
        assert heard.fell_back == ("far: The cap of the day is reached: 64000 of 100000 bytes of sound have left the house",)
        assert server.audio == len(PCM)
        assert (await rig.engines.transcribe(PCM[:36_000], NO_SENTENCES)).engine == "far", "what still fits goes"
        assert (await rig.engines.transcribe(b"ab", NO_SENTENCES)).engine == "local"
        assert rig.engines.degraded() == "The cloud has had its share of today; I can do local commands."
        assert rig.engines.statuses()[0].failed == 0, "no service is to blame"


async def test_the_next_day_the_cloud_is_asked_again(tmp_path: Path) -> None:
    async with (
        real() as server,
        tiers(tmp_path, {"far": cloud(server.url)}, 64_000, stt=("far", "local"), privacy="cloud") as rig,
    ):
        assert (await rig.engines.transcribe(PCM, NO_SENTENCES)).engine == "far"
        assert (await rig.engines.transcribe(PCM, NO_SENTENCES)).engine == "local"
        rig.clock.move(86400)
        assert (await rig.engines.transcribe(PCM, NO_SENTENCES)).engine == "far"


async def test_many_at_a_time_do_not_pass_the_cap(tmp_path: Path) -> None:
    async with (
        real() as server,
        tiers(tmp_path, {"far": cloud(server.url)}, 200_000, stt=("far", "local"), privacy="cloud") as rig,
    ):
        heard = await asyncio.gather(*(rig.engines.transcribe(PCM, NO_SENTENCES) for _ in range(8)))
        assert sorted(each.engine for each in heard) == ["far"] * 3 + ["local"] * 5
        assert server.audio == rig.ledger.totals.today_bytes == 3 * len(PCM)


async def test_it_goes_back_to_the_one_that_is_preferred(tmp_path: Path) -> None:
    port = free_port()
    async with tiers(tmp_path, {"near": edge(f"tcp://127.0.0.1:{port}")}, stt=("near", "local")) as rig:
        heard = await rig.engines.transcribe(PCM, NO_SENTENCES)
        assert (heard.engine, len(heard.fell_back)) == ("local", 1)
        assert rig.engines.degraded() == "near is away; another engine answers."
        server = RealServer()
        await server.start(f"tcp://127.0.0.1:{port}")
        await wait_for(lambda: rig.engines.statuses()[0].health is Health.healthy)
        assert (await rig.engines.transcribe(PCM, NO_SENTENCES)).engine == "near"
        assert rig.engines.degraded() == ""
        await server.stop()
        assert (await rig.engines.transcribe(PCM, NO_SENTENCES)).engine == "local"
        status = rig.engines.statuses()[0]
        assert (status.used, status.failed, status.health) == (3, 2, Health.unhealthy)


async def test_one_that_rests_is_not_asked_but_as_the_last_resort(tmp_path: Path) -> None:
    async def closes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async with bad(closes) as server, tiers(tmp_path, {"near": edge(server.url)}, stt=("near", "local")) as rig:
        await rig.engines.transcribe(PCM, NO_SENTENCES)
        assert (await rig.engines.transcribe(PCM, NO_SENTENCES)).fell_back == ("near: It closed the connection",)
        assert rig.engines.statuses()[0].used == 1
        rig.stt.broken = "The worker was killed."
        with pytest.raises(VoiceError, match=r"near: It closed the connection; local: The worker was killed\."):
            await rig.engines.transcribe(PCM, NO_SENTENCES)
        assert rig.engines.statuses()[0].used == 2


async def test_a_local_engine_that_is_killed_gives_way_with_the_whole_utterance(tmp_path: Path) -> None:
    async with real() as server, tiers(tmp_path, {"near": edge(server.url)}, stt=("local", "near")) as rig:
        rig.stt.broken = "The worker was killed."
        for _ in range(3):
            heard = await rig.engines.transcribe(PCM, NO_SENTENCES)
            assert (heard.engine, heard.text, heard.fell_back) == ("near", words(PCM), ("local: The worker was killed",))
        rig.stt.broken = ""
        await wait_for(lambda: rig.engines.statuses()[0].health is Health.healthy)
        assert (await rig.engines.transcribe(PCM, NO_SENTENCES)).engine == "local"


async def test_all_that_were_not_asked_are_told(tmp_path: Path) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with bad(silent) as server:
        services = {"slow": edge(server.url, 0.2), "dead": edge(f"tcp://127.0.0.1:{free_port()}")}
        async with tiers(tmp_path, services, stt=("slow", "dead", "local")) as rig:
            await rig.engines.check()
            told = ("slow: It did not answer within 0.2 s", "dead: It does not answer: connection refused")
            for used in (1, 2):
                assert (await rig.engines.transcribe(PCM, NO_SENTENCES)).fell_back == told
                assert [each.used for each in rig.engines.statuses()[:3]] == [0, 0, used]


async def test_what_an_engine_knew_from_before_is_no_time_of_its_work(tmp_path: Path) -> None:
    async with tiers(tmp_path, {}) as rig:
        for rig.stt.kept, used, last in ((True, 1, None), (False, 2, 0.0)):
            assert (await rig.engines.transcribe(PCM, NO_SENTENCES)).text == words(PCM)
            status = rig.engines.statuses()[0]
            assert (status.used, status.last_ms) == (used, last)


async def test_no_engine_at_all_is_said(tmp_path: Path) -> None:
    async with tiers(tmp_path, {}) as rig:
        rig.tts.broken = "No voice."
        for _ in range(3):
            with pytest.raises(VoiceError, match="Nothing made the speech: local: No voice"):
                await rig.engines.synthesize("hello")
        assert rig.engines.degraded() == "I cannot speak now; no engine answers."


async def test_one_that_gives_up_a_request_leaves_a_true_row(tmp_path: Path) -> None:
    async with real() as server, tiers(tmp_path, {"far": cloud(server.url, 30)}, stt=("far",), privacy="cloud") as rig:
        server.slow.clear()
        asks = asyncio.create_task(rig.engines.transcribe(PCM, NO_SENTENCES))
        await wait_for(lambda: server.audio == len(PCM))
        asks.cancel()
        await asyncio.gather(asks, return_exceptions=True)
        (row,) = await rig.ledger.rows()
        assert (row.audio_bytes, row.outcome) == (len(PCM), "cut off")


async def frames(count: int, word_at: int = -1) -> AsyncIterator[bytes]:
    for number in range(count):
        yield b"hey spark".ljust(1024, b"\0") if number == word_at else bytes(1024)


async def test_wake_words_from_the_cloud_are_in_the_ledger(tmp_path: Path) -> None:
    async with real() as server, tiers(tmp_path, {"far": cloud(server.url)}, wake=("local", "far"), privacy="cloud") as rig:
        assert await rig.engines.wake(frames(700), ("hey spark",)) == ""
        (row,) = await rig.ledger.rows()
        assert (row.kind, row.audio_bytes, server.audio, row.outcome) == ("wake", 700 * 1024, 700 * 1024, "answered")
        assert await rig.engines.wake(frames(5, 2), ("hey spark",)) == "hey spark"


async def test_wake_words_end_at_the_cap(tmp_path: Path) -> None:
    async with real() as server, tiers(tmp_path, {"far": cloud(server.url)}, 700_000, wake=("far",), privacy="cloud") as rig:
        with pytest.raises(VoiceError, match="cap of the day"):
            await rig.engines.wake(frames(900), ("hey spark",))
        assert rig.ledger.totals.today_bytes <= 700_000
        (row,) = await rig.ledger.rows()
        await wait_for(lambda: server.audio == row.audio_bytes)


def test_nothing_heavy_is_loaded_without_a_service() -> None:
    import subprocess
    import sys

    ours = "appliance.core.voice.tiers, appliance.core.voice.ledger"
    code = f"import sys, {ours}; print([each for each in ('wyoming', 'numpy', 'soxr') if each in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
