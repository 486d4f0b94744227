"""Actions on the assistant: ask, follow, confirm, stop; talks; what is remembered. Everybody has their own alone."""

from __future__ import annotations

import asyncio
import functools
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from appliance.core.actions import Action, Invocation, NoParams, Params
from appliance.core.assistant.model import (
    DEFAULT_AGENT,
    SHARED,
    Fact,
    History,
    Remembered,
    Talk,
    TurnStatus,
)
from appliance.core.assistant.service import AssistantService
from appliance.core.figures import counted
from appliance.core.model import Role
from appliance.errors import NotFoundError

LONG = 1800.0
"""Seconds that an answer may take."""
FOLLOW = 20.0
"""Longest wait for news of an answer, seconds."""
TEXT = 1024 * 1024
NAME = r"^[a-z0-9][a-z0-9_-]{0,31}$"


class Way(Params):
    """How a question may be answered."""

    model: str = Field("", max_length=200, description="Model or alias; empty for the assistant's own")
    place: Literal["", "edge", "agent", "cloud"] = Field("", description="Only there; empty for wherever it is best")
    edge_only: bool = Field(False, description="The talk must not leave the house, from now on")
    state: bool | None = Field(None, description="Send the live state along; not given: where the question is about it")
    tools: bool = Field(True, description="Offer actions to the model; not over the API")
    wait: bool = Field(True, description="Wait until the answer has ended, or an action waits for its confirmation")


class Asking(Way):
    """A question."""

    text: str = Field(min_length=1, max_length=TEXT, description="The question")
    talk: str = Field("", max_length=64, description="Talk that it goes on with; empty for a new one")
    agent: str = Field(DEFAULT_AGENT, pattern=NAME, description="Which agent's facts count")
    picture: str = Field("", max_length=4096, description="Path of a picture on this machine")
    detection: bool = Field(False, description="Attach the newest detection")


class Again(Way):
    """A question of before."""

    talk: str = Field(min_length=1, max_length=64, description="Talk whose last answer is replaced")


class Following(Params):
    """An answer on its way."""

    turn: str = Field(max_length=64, description="Id of the answer")
    since: int = Field(0, ge=0, description="Characters that are known already")
    wait: float = Field(0.0, ge=0, le=FOLLOW, description="Seconds to wait for more")


class Confirming(Params):
    """An action that the model wants done."""

    turn: str = Field(max_length=64, description="Id of the answer")
    call: str = Field(max_length=64, description="Id of the action's call")
    allow: bool = Field(description="Whether it may be done")
    wait: bool = Field(True, description="Wait for what comes of it")


class OneTurn(Params):
    """An answer on its way."""

    turn: str = Field(max_length=64, description="Id of the answer")


class Searching(Params):
    """Words."""

    search: str = Field("", max_length=200, description="Words that a title or a text has; empty for all talks")


class OneTalk(Params):
    """A talk."""

    talk: str = Field(min_length=1, max_length=64, description="Id of the talk")


class MaybeTalk(Params):
    """A talk, or the newest one."""

    talk: str = Field("", max_length=64, description="Id of the talk; empty for the newest")


class Exporting(MaybeTalk):
    """A talk, and where it goes."""

    save: bool = Field(False, description="Into a file on the appliance, whose path is told")


class Remembering(Params):
    """A fact."""

    text: str = Field(min_length=1, max_length=500, description="What to remember about the user")
    agent: str = Field(SHARED, pattern=NAME, description="For one agent; shared: for all")
    edge_only: bool = Field(False, description="It goes along only where nothing leaves the house")


class Profile(Params):
    """Who the user is."""

    text: str = Field("", max_length=2000, description="Who the user is and how answers should be; empty for nothing")
    agent: str = Field(SHARED, pattern=NAME, description="For one agent; shared: for all")


class Forgetting(Params):
    """A fact."""

    fact: str = Field(min_length=1, max_length=64, description="Id of the fact, or all")


def assistant_actions(service: AssistantService, directory: Path) -> list[Action]:
    """All of the assistant.

    Args:
        service: Has the desk.
        directory: Where talks are written to.
    """
    return [*_answers(service), *_talks(service, directory), *_facts(service)]


def _answers(service: AssistantService) -> list[Action]:
    async def ask(call: Invocation, params: Asking) -> TurnStatus:
        from appliance.core.assistant.desk import Question

        asked = Question(**params.model_dump(exclude={"wait"}))
        turn = await service.desk.ask(asked, call.actor)
        return await turn.settled() if params.wait else turn.status()

    async def again(call: Invocation, params: Again) -> TurnStatus:
        from appliance.core.assistant.desk import Question

        asked = Question(text="", **params.model_dump(exclude={"wait", "talk"}))
        turn = await service.desk.again(params.talk, asked, call.actor)
        return await turn.settled() if params.wait else turn.status()

    async def follow(call: Invocation, params: Following) -> TurnStatus:
        return await service.desk.turn(params.turn, call.actor).news(params.since, params.wait)

    async def confirm(call: Invocation, params: Confirming) -> TurnStatus:
        turn = service.desk.turn(params.turn, call.actor)
        turn.confirm(params.call, yes=params.allow)
        return await turn.settled() if params.wait else turn.status()

    async def stop(call: Invocation, params: OneTurn) -> TurnStatus:
        turn = service.desk.turn(params.turn, call.actor)
        await turn.stop()
        return turn.status()

    # no audit rows: what is said is nobody's business; what leaves the house is in the ledger, what is done in the audit
    own = functools.partial(Action, query=True, role=Role.operator, timeout=LONG, brief=_brief)
    return [
        own("assistant.ask", "Ask the assistant", ask, Asking, positional=("text",)),
        own("assistant.again", "Have the last question of a talk answered anew", again, Again, positional=("talk",)),
        own("assistant.follow", "Read on in an answer while it is written", follow, Following, positional=("turn",)),
        own("assistant.confirm", "Say whether an action that the model wants may be done", confirm, Confirming,
            positional=("turn", "call")),
        own("assistant.stop", "End an answer; what was written is kept", stop, OneTurn, positional=("turn",)),
    ]  # fmt: skip


def _brief(status: TurnStatus) -> str:
    if status.asked is not None:
        return f"it wants to do {status.asked.name}: {status.asked.text}"
    return status.said.text[:200] if status.said is not None else status.stage.value


def _talks(service: AssistantService, directory: Path) -> list[Action]:
    async def history(call: Invocation, params: Searching) -> History:
        return await service.desk.book.history(call.actor.name, params.search)

    async def found(call: Invocation, talk: str) -> Talk:
        user = call.actor.name
        one = await (service.desk.book.get(user, talk) if talk else service.desk.book.newest(user))
        if one is None:
            raise NotFoundError("There is no talk yet.", "begin one with `prime-spark assistant ask`.")
        return one

    async def show(call: Invocation, params: MaybeTalk) -> dict[str, Any]:
        talk = await found(call, params.talk)
        return {"talk": talk, "turn": service.desk.running(talk.talk, call.actor)}

    async def export(call: Invocation, params: Exporting) -> str:
        from appliance.core.assistant.book import as_markdown
        from appliance.core.assistant.saving import save

        talk = await found(call, params.talk)
        text = as_markdown(talk)
        return str(await asyncio.to_thread(save, directory, talk.title, text)) if params.save else text

    async def delete(call: Invocation, params: OneTalk) -> dict[str, str]:
        await service.desk.delete(params.talk, call.actor.name)
        return {"deleted": params.talk}

    own = functools.partial(Action, query=True, role=Role.operator)
    return [
        own("assistant.history", "List your talks, or those with some words in them", history, Searching,
            positional=("search",), brief=lambda found: counted(len(found.talks), "talk")),
        own("assistant.show", "Show a talk with where its answers came from", show, MaybeTalk, positional=("talk",)),
        own("assistant.export", "Write a talk as Markdown", export, Exporting, positional=("talk",)),
        Action("assistant.delete", "Delete a talk in every tier", delete, OneTalk, Role.operator, dangerous=True,
               confirm_text="The talk is deleted for good, with its picture.", positional=("talk",)),
    ]  # fmt: skip


def _facts(service: AssistantService) -> list[Action]:
    async def listed(call: Invocation, _: NoParams) -> list[Remembered]:
        return await service.desk.facts.all(call.actor.name)

    async def remember(call: Invocation, params: Remembering) -> Fact:
        facts, who = service.desk.facts, call.actor
        return await facts.add(who.name, params.agent, params.text, who.via, edge_only=params.edge_only)

    async def profile(call: Invocation, params: Profile) -> Remembered:
        return await service.desk.facts.profile(call.actor.name, params.agent, params.text)

    async def forget(call: Invocation, params: Forgetting) -> dict[str, Any]:
        if params.fact == "all":
            return {"forgotten": await service.desk.facts.forget_all(call.actor.name)}
        return {"forgotten": (await service.desk.facts.forget(call.actor.name, params.fact)).text}

    # no audit rows here either: the audit cannot forget
    own = functools.partial(Action, query=True, role=Role.operator)
    return [
        own("assistant.facts", "Show what is remembered about you", listed,
            brief=lambda found: counted(sum(len(each.facts) for each in found), "fact")),
        own("assistant.remember", "Remember a fact about the user", remember, Remembering, positional=("text",)),
        own("assistant.profile", "Set who you are and how answers should be", profile, Profile, positional=("text",)),
        own("assistant.forget", "Forget a fact about you, or all", forget, Forgetting, positional=("fact",)),
    ]  # fmt: skip
