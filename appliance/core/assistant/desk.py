"""What users do with the assistant: ask, follow an answer, confirm, stop, ask again; list, search, export and forget talks."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from appliance.core.actions import ActionRegistry
from appliance.core.assistant import context, facts, pictures, prompt
from appliance.core.assistant.book import TalkBook, title_of
from appliance.core.assistant.model import DEFAULT_AGENT, Said, Source, Talk
from appliance.core.assistant.shelf import Keeper, Shelf
from appliance.core.assistant.tools import Toolbox, trouble
from appliance.core.assistant.turn import Hands, Turn
from appliance.core.events import new_id
from appliance.core.llm.model import Operation, Place, Privacy, Request, Wishes
from appliance.core.model import Actor
from appliance.core.ports import Clock
from appliance.core.state import LiveState, Section
from appliance.errors import ApplianceError, ConflictError, InvalidArgumentsError, NotFoundError
from appliance.settingassistant import AssistantSettings

if TYPE_CHECKING:
    from appliance.core.access.sealing import Sealer
    from appliance.core.llm.gateway import Gateway

log = logging.getLogger(__name__)

RUNNING = 16
"""Answers that are written at a time, all users."""
KEPT = 64
"""Ended answers that can still be followed to their end."""
PEOPLE = frozenset({"console", "ssh", "socket"})
"""Fronts at which a person sees what is asked for. A token's scopes end at its own action: over the API there are no tools."""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What a user asks.

    Attributes:
        talk: Goes on with that one; empty for a new one.
        place: "edge", "agent" or "cloud"; empty for wherever the gateway decides.
        state: Whether the live state goes along; None where the question seems to be about it.
        picture: Path of a picture on this machine.
        detection: The newest detection goes along.
    """

    text: str
    talk: str = ""
    agent: str = DEFAULT_AGENT
    model: str = ""
    place: str = ""
    edge_only: bool = False
    state: bool | None = None
    tools: bool = True
    picture: str = ""
    detection: bool = False


class Ground(msgspec.Struct, frozen=True):
    """What the assistant stands on.

    Attributes:
        settings: Bounds.
        gateway: The door to the models; raises AbsentError where none is configured.
        registry: The actions.
        invoke: Carries a confirmed action out.
        state: The live state.
        clock: For times.
        device: Name of this appliance.
        memory: Where talks and facts are kept.
        sealer: Seals them.
    """

    settings: AssistantSettings
    gateway: Callable[[], Gateway]
    registry: ActionRegistry
    invoke: Callable[[str, dict[str, Any], Actor], Awaitable[Any]]
    state: LiveState
    clock: Clock
    device: str
    memory: Callable[[], Keeper]
    sealer: Callable[[], Sealer]


class Desk:
    """All of it.

    Args:
        ground: What it stands on.
    """

    def __init__(self, ground: Ground) -> None:
        shelf = Shelf(ground.memory, ground.sealer)
        self.book = TalkBook(shelf, ground.settings)
        self.facts = facts.FactBook(shelf, ground.clock, ground.settings.facts)
        self._ground = ground
        self._turns: dict[str, Turn] = {}
        self._claimed: set[str] = set()
        """Talks in which an answer is about to begin."""

    # -- answers -------------------------------------------------------------------------------------------------------

    async def ask(self, question: Question, actor: Actor) -> Turn:
        """Begin an answer; the question is kept when this returns.

        Raises:
            AbsentError: No language model is configured.
            ConflictError: An answer is being written in that talk, or too many are.
            NotFoundError, InvalidArgumentsError: There is no such talk or picture.
        """
        gateway = self._ground.gateway()
        if not question.text.strip():
            raise InvalidArgumentsError("There is no question.", "write one.")
        attached = await self._attached(question)
        talk_id = question.talk or new_id()
        with self._claim(talk_id):
            talk = await self._talk_of(question, talk_id, actor.name)
            said = Said(
                role="user", text=question.text, time=self._ground.clock.wall(), picture=attached.name, attached=attached.text
            )
            talk = self._with(talk, said, question)
            if attached.picture is not None:
                await self.book.keep_picture(actor.name, talk.talk, attached.picture)
            talk = await self.book.put(talk)
            return await self._begin(gateway, talk, question, actor, (attached.note,) if attached.note else ())

    async def again(self, talk_id: str, question: Question, actor: Actor) -> Turn:
        """Answer the last question of a talk anew, in place of its answer. Raises as `ask`."""
        gateway = self._ground.gateway()
        with self._claim(talk_id):
            talk = await self.book.get(actor.name, talk_id)
            last = next((at for at in range(len(talk.said) - 1, -1, -1) if talk.said[at].role == "user"), None)
            if last is None:
                raise NotFoundError("There is no question in this talk.", "ask one.")
            question = msgspec.structs.replace(question, text=talk.said[last].text, talk=talk_id, agent=talk.agent)
            talk = self._with(msgspec.structs.replace(talk, said=talk.said[:last]), talk.said[last], question)
            return await self._begin(gateway, await self.book.put(talk), question, actor)

    def turn(self, turn: str, actor: Actor) -> Turn:
        """An answer on its way, or one that ended lately. Raises NotFoundError."""
        found = self._turns.get(turn)
        if found is None or found.actor.name != actor.name:
            raise NotFoundError("There is no such answer on its way.", "see `prime-spark assistant show`.")
        return found

    def running(self, talk: str, actor: Actor) -> str:
        """Id of the answer that is written in a talk now; empty for none."""
        found = (each for each in self._turns.values() if each.talk == talk and not each.over)
        return next((each.turn for each in found if each.actor.name == actor.name), "")

    @property
    def busy(self) -> int:
        """Answers that are written now."""
        return sum(not each.over for each in self._turns.values())

    async def delete(self, talk: str, user: str) -> None:
        """Forget a talk. Raises NotFoundError, ConflictError."""
        with self._claim(talk):
            await self.book.delete(user, talk)

    async def forget_user(self, user: str) -> None:
        """Forget everything of a user. Raises as Memory.delete."""
        await asyncio.gather(*(each.stop() for each in self._turns.values() if each.actor.name == user))
        await self.book.forget_user(user)
        await self.facts.forget_all(user)

    async def close(self) -> None:
        """End all answers; what was written is kept."""
        await asyncio.gather(*(each.stop() for each in self._turns.values()))

    # -- their parts ---------------------------------------------------------------------------------------------------

    async def _begin(self, gateway: Gateway, talk: Talk, question: Question, actor: Actor, notes: tuple[str, ...] = ()) -> Turn:
        sources, leads = await self._leads(talk, question, actor)
        shown, further = await self._picture_of(talk)
        turns, left_out = prompt.messages(talk, leads, self._ground.settings.history_kib * 1024, shown)
        if left_out:
            further += (f"{left_out} earlier messages found no room in the request (assistant.history_kib)",)
        toolbox = await self._toolbox(question, actor)
        request = Request(
            operation=Operation.chat, model=question.model or self._ground.settings.model, messages=turns,
            tools=toolbox.schemas() if toolbox is not None else (), wishes=_wishes(talk, question),
        )  # fmt: skip
        hands = Hands(
            gateway, self._ground.invoke, self._ground.settings, self._ground.clock, functools.partial(self._keep, talk)
        )
        turn = Turn(talk.talk, actor, request, toolbox, sources, hands)
        self._turns[turn.turn] = turn
        self._tidy()
        turn.begin((*notes, *further))
        return turn

    async def _keep(self, talk: Talk, said: Said) -> tuple[str, ...]:
        """Put the answer into its talk; what prevents it is told with the answer."""
        whole = msgspec.structs.replace(talk, said=(*talk.said, said), updated=said.time)
        try:
            await self.book.put(whole)
        except ApplianceError as error:
            log.error("an answer of the assistant is not kept: %s", error.message)
            return (f"this answer is not kept: {trouble(error)}",)
        return ()

    async def _leads(self, talk: Talk, question: Question, actor: Actor) -> tuple[tuple[Source, ...], list[str]]:
        ground, sources = self._ground, tuple[Source, ...]()
        leads = [prompt.system(ground.device, actor.name, actor.role.value, ground.clock.wall())]
        if known := facts.as_text(await self.facts.known_to(actor.name, talk.agent), near=talk.edge_only):
            leads.append(prompt.KNOWN.format(user=actor.name, known=known))
        if question.state or (question.state is None and context.about_state(question.text)):
            text, sources = context.summary(ground.state, ground.settings.state_kib * 1024)
            leads.append(prompt.STATE.format(state=text))
        if self._with_tools(question, actor):
            leads.append(prompt.TOOLS.format(user=actor.name))
        return sources, leads

    def _with_tools(self, question: Question, actor: Actor) -> bool:
        return question.tools and self._ground.settings.tools and actor.via in PEOPLE

    async def _toolbox(self, question: Question, actor: Actor) -> Toolbox | None:
        if not self._with_tools(question, actor):
            return None
        toolbox = Toolbox(self._ground.registry, actor, self._ground.settings.tools_offered)
        await toolbox.offer(question.text)
        return toolbox

    async def _picture_of(self, talk: Talk) -> tuple[bytes | None, tuple[str, ...]]:
        if not any(each.picture for each in talk.said):
            return None, ()
        try:
            found = await self.book.picture(talk.user, talk.talk)
        except ApplianceError as error:
            return None, (f"without the picture: {trouble(error)}",)
        return found, (() if found is not None else ("without the picture: it is not kept any more",))

    async def _attached(self, question: Question) -> pictures.Attached:
        most = self._ground.settings.picture_mib
        if question.picture:
            return await asyncio.to_thread(pictures.of_file, Path(question.picture), most)
        if not question.detection:
            return pictures.Attached("")
        results = self._ground.state.get(Section.results).value or ()
        if not results:
            raise NotFoundError("There is no detection yet.", "run a model first: `prime-spark inference run`.")
        return await asyncio.to_thread(pictures.of_detection, results[0], most)

    async def _talk_of(self, question: Question, talk_id: str, user: str) -> Talk:
        if question.talk:
            return await self.book.get(user, question.talk)
        now = self._ground.clock.wall()
        return Talk(
            talk=talk_id, user=user, agent=question.agent, title=title_of(question.text), created=now, updated=now,
            edge_only=self._ground.settings.edge_only,
        )  # fmt: skip

    def _with(self, talk: Talk, said: Said, question: Question) -> Talk:
        """A talk with a further message. Once it must not leave the house, that holds for all that follows."""
        if len(talk.said) and talk.said[-1].role == "user":  # its answer never came: a model takes turns
            unanswered = Said(role="assistant", text="", time=said.time, outcome="failed", notes=("there was no answer",))
            talk = msgspec.structs.replace(talk, said=(*talk.said, unanswered))
        return msgspec.structs.replace(
            talk, said=(*talk.said, said), updated=said.time, edge_only=talk.edge_only or question.edge_only
        )

    @contextmanager
    def _claim(self, talk: str) -> Iterator[None]:
        """Have a talk to oneself until an answer has begun. Raises ConflictError."""
        if talk in self._claimed or any(each.talk == talk and not each.over for each in self._turns.values()):
            raise ConflictError("An answer is being written in this talk.", "wait for it, or stop it.")
        if self.busy + len(self._claimed) >= RUNNING:
            raise ConflictError(f"{RUNNING} answers are being written already.", "wait for one of them.")
        self._claimed.add(talk)
        try:
            yield
        finally:
            self._claimed.discard(talk)

    def _tidy(self) -> None:
        ended = [each.turn for each in self._turns.values() if each.over]
        for turn in ended[: max(0, len(ended) - KEPT)]:
            del self._turns[turn]


def _wishes(talk: Talk, question: Question) -> Wishes:
    return Wishes(
        privacy=Privacy.edge_only if talk.edge_only else Privacy.any, place=Place(question.place) if question.place else None
    )
