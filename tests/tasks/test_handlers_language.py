"""The task type llm: questions go the router's way, and its failures are told as those of the task."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.core.tasks.handlers.language import LanguageHandler
from appliance.errors import AbsentError, InvalidArgumentsError, TaskError
from tests.llm.rig import endpoint, running
from tests.llm.upstreams import FakeOllama, up
from tests.tasks.test_handlers import ORDER


async def test_a_question_is_answered_and_says_by_whom(tmp_path: Path) -> None:
    fake = FakeOllama()
    async with up(fake), running(tmp_path, {"edge": endpoint(fake, "edge")}) as rig:
        handler = LanguageHandler(lambda: rig.gateway, lambda: True)
        told = await handler.run({"prompt": "Why?", "system": "Be short.", "max_tokens": 9}, ORDER)
        assert told["text"]
        assert (told["endpoint"], told["place"], told["left_house_bytes"]) == ("edge", "edge", 0)
        assert [each["role"] for each in fake.asked[-1][1]["messages"]] == ["system", "user"]
        assert fake.asked[-1][1]["options"]["num_predict"] == 9


async def test_what_must_stay_in_the_house_stays_there(tmp_path: Path) -> None:
    fake = FakeOllama()
    async with up(fake), running(tmp_path, {"cloud": endpoint(fake, "cloud")}) as rig:
        handler = LanguageHandler(lambda: rig.gateway, lambda: True)
        with pytest.raises(TaskError) as caught:
            await handler.run({"prompt": "Why?", "edge_only": True}, ORDER)
        assert not caught.value.final, "an endpoint of the house may come up"
        assert not fake.asked


async def test_bad_payloads_are_refused() -> None:
    def absent() -> None:
        raise AbsentError("No language model is configured.", "set llm.edge_url.")

    handler = LanguageHandler(absent, lambda: False)  # type: ignore[arg-type]
    assert not handler.available()
    for payload in ({}, {"prompt": 3}, {"prompt": "x", "tools": []}, {"prompt": "x", "max_tokens": 0}):
        with pytest.raises(InvalidArgumentsError):
            await handler.run(payload, ORDER)
    with pytest.raises(AbsentError):
        await handler.run({"prompt": "Why?"}, ORDER)
