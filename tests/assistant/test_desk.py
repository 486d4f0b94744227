"""The assistant on real HTTP: what models are sent and what is never sent, tools with their confirmations, talks, facts."""

from __future__ import annotations

import asyncio
import base64
import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from appliance.core.assistant.model import Stage
from appliance.core.memory.listing import Query
from appliance.core.model import Actor, Box, InferenceResult, Role
from appliance.core.state import Section
from appliance.errors import AbsentError, ConflictError, InvalidArgumentsError, NotAuthorizedError, NotFoundError
from tests.assistant.conftest import ADA, Talker, Upstreams, ask, do
from tests.support import wait_for

TEXT = "The sky is blue."
BOB = Actor("bob", Role.operator, "console")
PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)


async def test_a_question_about_the_fleet_takes_the_live_state_along_and_names_it(appliance: Upstreams) -> None:
    edge = Talker()
    async with appliance(edge) as bench:
        status = await ask(bench, "What is wrong with my fleet?")
        assert (status.stage, status.said.text) == (Stage.answered, TEXT)
        names = [each.name for each in status.said.sources]
        assert names == ["alerts", "services", "fleet", "power", "vpn", "streams", "llm", "host"]
        assert "services: " in edge.system()
        assert "not known" not in re.sub(r"[a-z]+ not known", "", edge.system()), "nothing is unknown without its name"
        assert "endpoint edge (edge) is" in edge.system()
        way = status.said.way
        assert (way.endpoint, way.place, way.tokens_in, way.tokens_out, way.cost) == ("edge", "edge", 26, 5, None)
        assert (way.left_house_bytes, "edge-first" in way.why) == (0, True)
        plain = await ask(bench, "Write a poem about rain.")
        assert (plain.said.sources, "Live state" in edge.system()) == ((), False)
        assert (await ask(bench, "Write a poem.", state=True)).said.sources
        assert not (await ask(bench, "What is wrong with my fleet?", state=False)).said.sources


async def test_a_talk_goes_on_and_what_finds_no_room_is_told(appliance: Upstreams) -> None:
    edge = Talker()
    async with appliance(edge, history_kib=1, messages=6) as bench:
        first = await ask(bench, "x" * 900)
        await ask(bench, "And then?", talk=first.talk)
        assert [each["role"] for each in edge.sent()] == ["system", "user", "assistant", "user"]
        await ask(bench, "And " + "y" * 1100, talk=first.talk)
        fourth = await ask(bench, "At last?", talk=first.talk)
        assert "earlier messages found no room" in " ".join(fourth.said.notes)
        assert edge.sent()[-1]["content"] == "At last?"
        found = (await do(bench, "show", talk=first.talk))["talk"]
        assert (len(found.said), found.dropped) == (6, 2)
        again = await do(bench, "again", talk=first.talk, wait=True)
        assert again.said.text == TEXT
        found = (await do(bench, "show", talk=first.talk))["talk"]
        assert [each.role for each in found.said] == ["user", "assistant"] * 3, "the answer was replaced"


async def test_what_must_stay_in_the_house_never_leaves_it(appliance: Upstreams, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_RETRIES", "1")
    edge, cloud = Talker(), Talker()
    edge.always = "500"
    async with appliance(edge, cloud) as bench:
        status = await ask(bench, "What is wrong with my fleet?", edge_only=True)
        assert (status.stage, cloud.asked) == (Stage.failed, [])
        assert any("answered 500" in note for note in status.said.notes)
        later = await ask(bench, "And now?", talk=status.talk)
        assert (later.stage, cloud.asked) == (Stage.failed, []), "a talk never changes back"
        free = await ask(bench, "What is wrong with my fleet?")
        assert (free.stage, free.said.way.place, len(cloud.asked)) == (Stage.answered, "cloud", 1)
        assert free.said.way.left_house_bytes == len(cloud.raw[0])
        ledger = bench.appliance.domains.llm.gateway.ledger  # type: ignore[union-attr]
        (entry,) = await ledger.entries(10)
        assert (entry.who, entry.bytes) == ("ada", len(cloud.raw[0]))


async def test_a_tool_that_reads_runs_and_one_that_changes_is_asked_for(appliance: Upstreams) -> None:
    edge = Talker()
    async with appliance(edge) as bench:
        edge.wants.append(("service__list", {}))
        status = await ask(bench, "Which services are there?")
        (call,) = status.said.calls
        assert (call.name, call.outcome, call.asked, status.said.way.rounds) == ("service.list", "done", False, 2)
        result = edge.sent()[-1]
        assert (result["role"], '"name":"memory"' in result["content"]) == ("tool", True)
        assert "[cut: the result has" in result["content"]

        edge.wants.append(("service__restart", {"name": "power"}))
        status = await ask(bench, "Restart the service power, please.")
        assert (status.stage, status.asked.name, status.asked.arguments) == (Stage.asking, "service.restart", {"name": "power"})
        with pytest.raises(ConflictError):
            await ask(bench, "Meanwhile?", talk=status.talk)
        with pytest.raises(NotFoundError):
            await do(bench, "confirm", turn=status.turn, call="another", allow=True)
        declined = await do(bench, "confirm", turn=status.turn, call=status.asked.call, allow=False)
        assert [each.outcome for each in declined.said.calls] == ["declined"]
        assert "did not confirm" in edge.sent()[-1]["content"]
        audit = await bench.invoke("audit.list")
        assert not [each for each in audit if each.action == "service.restart"]  # type: ignore[attr-defined]

        edge.wants.append(("service__restart", {"name": "power"}))
        status = await ask(bench, "Restart the service power, please.")
        done = await do(bench, "confirm", turn=status.turn, call=status.asked.call, allow=True)
        assert [each.outcome for each in done.said.calls] == ["done"]
        audit = await bench.invoke("audit.list")
        mine = next(each for each in audit if each.action == "service.restart")  # type: ignore[attr-defined]
        assert (mine.actor, "by the assistant" in mine.origin) == ("ada", True)


async def test_tools_are_what_the_role_permits_and_bounded(appliance: Upstreams) -> None:
    edge = Talker()
    async with appliance(edge, rounds=3, tools_offered=6) as bench:
        await bench.appliance.accounts.add("bob", Role.operator)
        edge.wants.append(("user__add", {"name": "eve", "role": "admin"}))
        status = await ask(bench, "Add a user and delete a service", BOB)
        assert [(each.name, each.outcome) for each in status.said.calls] == [("user__add", "refused")]
        offered = [each["function"]["name"] for each in edge.asked[0][1]["tools"]]
        assert (len(offered), offered[0]) == (7, "find_actions")
        assert not [name for name in offered if name.startswith(("user__", "api__", "tls__", "totp__"))]

        edge.asked.clear()
        edge.wants.extend([("service__list", {"nonsense": 1}), ("find_actions", {"words": "queue dead letters"}), None])
        status = await ask(bench, "Which services fail?", BOB)
        assert [each.outcome for each in status.said.calls] == ["refused"]
        assert "nonsense" in edge.sent(1)[-1]["content"]
        assert "streams__dead-letters" in edge.sent(2)[-1]["content"]
        assert "tools" not in edge.asked[2][1], "the last round has none"
        assert any("after 2 rounds" in note for note in status.said.notes)

        over_api = Actor("bob", Role.operator, "api")
        await ask(bench, "Which services fail?", over_api)
        assert "tools" not in edge.asked[-1][1], "a token's scopes end at its own action"
        with pytest.raises(NotAuthorizedError):
            await ask(bench, "Which services fail?", Actor("eve", Role.viewer, "console"))


async def test_a_model_of_the_house_is_not_passed_for_its_lack_of_tools(appliance: Upstreams) -> None:
    edge = Talker({"llama3.2:latest": {"capabilities": ["completion"]}})
    cloud = Talker()
    async with appliance(edge, cloud) as bench:
        status = await ask(bench, "Which services fail?")
        assert (status.said.way.place, cloud.asked) == ("edge", [])
        assert any("cannot use them" in note for note in status.said.notes)


async def test_stopping_ends_the_work_at_the_endpoint_and_keeps_what_was_written(appliance: Upstreams) -> None:
    edge = Talker()
    edge.script.append("hang-mid")
    async with appliance(edge) as bench:
        status = await ask(bench, "Why?", wait=False)
        await wait_for(lambda: _written(bench, status.turn))
        stopped = await do(bench, "stop", turn=status.turn)
        assert (stopped.stage, stopped.said.text, stopped.said.way.endpoint) == (Stage.stopped, "The sky", "edge")
        await wait_for(lambda: edge.cancelled == 1)
        found = (await do(bench, "show", talk=status.talk))["talk"]
        assert (found.said[-1].text, found.said[-1].outcome) == ("The sky", "stopped")
        with pytest.raises(NotFoundError):
            await do(bench, "follow", BOB, turn=status.turn)


async def _written(bench: object, turn: str) -> bool:
    status = await do(bench, "follow", turn=turn, since=0, wait=5)  # type: ignore[arg-type]
    return bool(status.text == "The sky")


async def test_talks_are_searched_bounded_sealed_exported_and_deleted(appliance: Upstreams) -> None:
    edge = Talker()
    async with appliance(edge, talks=3) as bench:
        await bench.appliance.accounts.add("bob", Role.operator)
        for text in ("one apple", "two pears", "three plums", "four apples"):
            edge.says.append((f"About {text}, ", "**quinces** too."))
            await ask(bench, text)
        history = await do(bench, "history")
        assert [each.title for each in history.talks] == ["four apples", "three plums", "two pears"]
        assert (history.dropped, history.limit) == (1, 3)
        found = await do(bench, "history", search="QUINCES pears")
        assert [each.title for each in found.talks] == ["two pears"]
        assert "quinces" in found.talks[0].found
        assert (await do(bench, "history", BOB)).talks == (), "another one's talks are not seen"
        with pytest.raises(NotFoundError):
            await do(bench, "show", BOB, talk=history.talks[0].talk)
        memory = bench.appliance.domains.memory.memory  # type: ignore[union-attr]
        sealed = await memory.get(f"talk/ada/{history.talks[0].talk}", "assistant")
        assert isinstance(sealed, bytes)
        assert b"apple" not in sealed
        text = await do(bench, "export", talk=history.talks[1].talk)
        assert "About three plums, **quinces** too." in text
        path = Path(await do(bench, "export", talk=history.talks[1].talk, save=True))
        assert (path.name, await asyncio.to_thread(path.read_text)) == ("three-plums.md", text)
        await do(bench, "delete", talk=history.talks[0].talk)
        assert [each.title for each in (await do(bench, "history")).talks] == ["three plums", "two pears"]
        await memory.set(f"head/ada/{history.talks[1].talk}", b"x" * 80, namespace="assistant")
        assert (await do(bench, "history")).unreadable == 1


async def test_what_is_remembered_goes_along_and_is_forgotten(appliance: Upstreams) -> None:
    edge = Talker()
    async with appliance(edge, facts=2) as bench:
        await bench.appliance.accounts.add("bob", Role.operator)
        fact = await do(bench, "remember", text="I prefer\nshort answers")
        assert (await do(bench, "remember", text="i prefer short answers")).fact == fact.fact
        await do(bench, "remember", text="My desk is in the attic", agent="voice")
        await do(bench, "profile", text="A gardener")
        await ask(bench, "Hello")
        assert "- I prefer short answers" in edge.system()
        assert "Profile: A gardener" in edge.system()
        assert "attic" not in edge.system(), "it is another agent's"
        await ask(bench, "Hello", agent="voice")
        assert "attic" in edge.system()
        assert await do(bench, "facts", BOB) == []
        edge.wants.append(("assistant__remember", {"text": "Tea at four"}))
        status = await ask(bench, "Remember that I take tea at four")
        assert (status.stage, status.asked.name) == (Stage.asking, "assistant.remember")
        done = await do(bench, "confirm", turn=status.turn, call=status.asked.call, allow=True)
        assert done.said.calls[0].outcome == "done"
        assert "Tea at four" in (await ask(bench, "Hello"), edge.system())[1]
        with pytest.raises(ConflictError, match="2 facts"):
            await do(bench, "remember", text="One more")
        await do(bench, "forget", fact=fact.fact)
        await ask(bench, "Hello")
        assert "short answers" not in edge.system()
        edge.wants.append(("assistant__remember", {"text": "The key is under the mat"}))
        status = await ask(bench, "Remember where the key is", edge_only=True)
        await do(bench, "confirm", turn=status.turn, call=status.asked.call, allow=True)
        await ask(bench, "Hello")
        assert "under the mat" not in edge.system(), "that one may leave the house"
        await ask(bench, "Hello", edge_only=True)
        assert "under the mat" in edge.system()
        assert await do(bench, "forget", fact="all") == {"forgotten": 3}
        assert await do(bench, "facts") == []
        with pytest.raises(NotFoundError):
            await do(bench, "forget", fact="all-of-it")


async def test_an_account_that_goes_takes_its_talks_and_facts_along(appliance: Upstreams) -> None:
    edge = Talker()
    async with appliance(edge) as bench:
        await bench.appliance.accounts.add("bob", Role.operator)
        await do(bench, "remember", BOB, text="I am Bob")
        await ask(bench, "Hello", BOB)
        await ask(bench, "Hello")
        await bench.appliance.accounts.set_role("bob", Role.viewer)
        memory = bench.appliance.domains.memory.memory  # type: ignore[union-attr]

        async def kept() -> set[str]:
            page = await memory.scan(Query(namespace="assistant"))
            return {each.meta.key.split("/")[1] for each in page.entries}

        assert await kept() == {"ada", "bob"}
        await bench.appliance.accounts.remove("bob")
        await wait_for(lambda: _equal(kept, {"ada"}))


async def _equal(found: Callable[[], Awaitable[set[str]]], wanted: set[str]) -> bool:
    return await found() == wanted


async def test_pictures_and_detections_go_along(appliance: Upstreams, tmp_path: Path) -> None:
    edge = Talker({"llama3.2:latest": {"capabilities": ["completion", "tools", "vision"]}})
    picture, text = tmp_path / "cat.png", tmp_path / "cat.txt"
    picture.write_bytes(PNG)
    text.write_text("a cat")
    async with appliance(edge, picture_mib=0.001) as bench:
        status = await ask(bench, "What is this?", picture=str(picture))
        assert edge.sent()[-1]["images"] == [base64.b64encode(PNG).decode()]
        await ask(bench, "And its colour?", talk=status.talk)
        assert "images" in edge.sent()[1], "a later question is about the same picture"
        for path, told in ((text, "no picture"), (tmp_path, "no file"), (tmp_path / "none.png", "no file")):
            with pytest.raises((InvalidArgumentsError, NotFoundError), match=told):
                await ask(bench, "What is this?", picture=str(path))
        picture.write_bytes(PNG + bytes(2000))
        with pytest.raises(InvalidArgumentsError, match="MiB are taken"):
            await ask(bench, "What is this?", picture=str(picture))
        with pytest.raises(NotFoundError, match="no detection"):
            await ask(bench, "Who is there?", detection=True)
        result = InferenceResult("r1", time.time(), "front-door", "yolo", "1", "detection", "cpu", 640, 480,
                                 (Box("person", 0.93, 1, 2, 30, 40),), 5.0, 6.0)  # fmt: skip
        bench.appliance.state.put(Section.results, (result,))
        seen = await ask(bench, "Who is there?", detection=True)
        assert "person 93 %" in edge.sent()[-1]["content"]
        assert any("frame was not kept" in note for note in seen.said.notes)


async def test_without_a_model_nothing_is_made_up(appliance: Upstreams) -> None:
    async with appliance() as bench:
        with pytest.raises(AbsentError, match="No language model is configured") as raised:
            await ask(bench, "What is wrong?")
        assert "llm.edge_url" in raised.value.next_step
        assert (await do(bench, "history")).talks == (), "nothing was begun"
        await do(bench, "remember", text="Facts are kept all the same")
        statuses = {each.name: each for each in bench.appliance.supervisor.statuses()}  # type: ignore[union-attr]
        assert statuses["assistant"].health.value == "absent"


async def test_an_answer_that_is_too_long_is_cut_and_a_dead_memory_is_told(
    appliance: Upstreams, monkeypatch: pytest.MonkeyPatch
) -> None:
    edge = Talker()
    async with appliance(edge, answer_kib=1) as bench:
        edge.says.append(("x" * 800, "y" * 800))
        status = await ask(bench, "Much, please")
        assert (status.stage, len(status.said.text)) == (Stage.failed, 1600)
        assert any("more than 1 KiB" in note for note in status.said.notes)
        book = bench.appliance.domains.assistant.desk.book  # type: ignore[union-attr]
        kept, calls = book.put, []

        async def full(talk: object) -> object:
            calls.append(talk)
            if len(calls) > 1:
                raise ConflictError("The disk is full.", "make room.")
            return await kept(talk)  # type: ignore[arg-type]

        monkeypatch.setattr(book, "put", full)
        told = await ask(bench, "Why?")
        assert told.said.text == TEXT
        assert told.said.notes[-1] == "this answer is not kept: The disk is full. Next step: make room."


async def test_the_appliance_stops_while_an_answer_is_written(appliance: Upstreams) -> None:
    edge = Talker()
    edge.script.append("hang-mid")
    async with appliance(edge) as bench:
        status = await ask(bench, "Why?", wait=False)
        await wait_for(lambda: _written(bench, status.turn))
        turn = bench.appliance.domains.assistant.desk.turn(status.turn, ADA)  # type: ignore[union-attr]
    assert turn.said is not None
    assert turn.said.outcome in {"stopped", "failed"}
