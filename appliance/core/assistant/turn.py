"""One answer: the model is asked, what it writes is passed on, what it wants done is asked for and done, until it has ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from appliance.core.actions import Action
from appliance.core.assistant import tools
from appliance.core.assistant.model import ENDED, Asked, Call, Said, Source, Stage, TurnStatus, Way
from appliance.core.events import new_id
from appliance.core.llm.model import HOUSE, Message, Privacy, Request, ToolCall
from appliance.core.model import Actor
from appliance.core.ports import Clock
from appliance.errors import ApplianceError, NotFoundError
from appliance.settingassistant import AssistantSettings

if TYPE_CHECKING:
    from appliance.core.llm.gateway import Gateway
    from appliance.core.llm.model import Answer, Choice

log = logging.getLogger(__name__)

AT_ONCE = 4
"""Actions of one round; further ones are refused."""
MARK = "assistant"
NO_TOOLS = "no tools were offered: the model that is asked cannot use them"


@dataclass(frozen=True)
class Hands:
    """What an answer works with.

    Attributes:
        gateway: The door to the models.
        invoke: Carries an action out: (name, arguments, actor).
        settings: Bounds.
        clock: For times.
        keep: Called with the answer once it has ended.
    """

    gateway: Gateway
    invoke: Callable[[str, dict[str, Any], Actor], Awaitable[Any]]
    settings: AssistantSettings
    clock: Clock
    keep: Callable[[Said], Awaitable[tuple[str, ...]]]


@dataclass
class Gathered:
    """What came together so far."""

    text: str = ""
    answers: list[Answer] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Turn:
    """An answer on its way.

    Args:
        talk: Id of its talk.
        actor: Who asked.
        request: The first request.
        toolbox: None where no tools are offered.
        sources: What of the live state went along.
        hands: What it works with.
    """

    def __init__(
        self,
        talk: str,
        actor: Actor,
        request: Request,
        toolbox: tools.Toolbox | None,
        sources: tuple[Source, ...],
        hands: Hands,
    ) -> None:
        self.turn, self.talk, self.actor = new_id(), talk, actor
        self.stage = Stage.thinking
        self.said: Said | None = None
        self._request, self._toolbox, self._sources, self._hands = request, toolbox, sources, hands
        self._got = Gathered()
        self._asked: Asked | None = None
        self._reply: asyncio.Future[bool] | None = None
        self._doing = ""
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._choice: Choice | None = None
        """Who writes now; None where nobody does."""
        self._ending = False

    def begin(self, notes: tuple[str, ...] = ()) -> None:
        """Start; returns at once."""
        self._got.notes += notes
        self._task = asyncio.create_task(self._run(), name=f"assistant {self.turn[-6:]}")

    @property
    def over(self) -> bool:
        """It has ended."""
        return self.said is not None

    def status(self, since: int = 0) -> TurnStatus:
        """How it is, with the text from a place on."""
        text = self._got.text
        return TurnStatus(
            turn=self.turn, talk=self.talk, stage=self.stage, text=text[since:], at=len(text), asked=self._asked,
            doing=self._doing, calls=tuple(self._got.calls), said=self.said,
        )  # fmt: skip

    async def news(self, since: int, wait: float) -> TurnStatus:
        """As `status`, once there is more than that, it wants something, or `wait` seconds have passed."""
        ends = asyncio.get_running_loop().time() + wait
        before = (self.stage, self._asked, len(self._got.calls), self._doing)
        while len(self._got.text) <= since and not self.over:
            if (self.stage, self._asked, len(self._got.calls), self._doing) != before:
                break
            left = ends - asyncio.get_running_loop().time()
            try:
                async with asyncio.timeout(max(0.0, left)):
                    await self._changed.wait()
            except TimeoutError:
                break
        return self.status(since)

    async def settled(self) -> TurnStatus:
        """Once it has ended, or waits for a confirmation."""
        while not self.over and self._asked is None:
            await self._changed.wait()
        return self.status()

    def confirm(self, call: str, *, yes: bool) -> None:
        """Say whether an action may be done. Raises NotFoundError where another one, or none, is asked for."""
        if self._asked is None or self._asked.call != call or self._reply is None or self._reply.done():
            raise NotFoundError("That action is not asked for any more.", "look at the talk.")
        self._asked = None  # asked once: whoever waits now waits for what comes of it
        self._reply.set_result(yes)

    async def stop(self) -> None:
        """End it, here and at the endpoint; what was written is kept."""
        if self._task is None or self.over:
            return
        if not self._ending:
            self._task.cancel()
        await asyncio.wait({self._task})
        if self.said is None:  # it was ended before it began
            await self._end(Stage.stopped)

    # -- its work ------------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        outcome = Stage.failed
        try:
            await self._rounds()
            outcome = Stage.answered
        except asyncio.CancelledError:
            outcome = Stage.stopped
        except ApplianceError as error:
            self._got.notes.append(f"It broke off: {tools.trouble(error)}" if self._got.text else tools.trouble(error))
        except Exception as error:  # a fault of ours: whoever waits must be told, and the talk goes on
            log.exception("an answer of the assistant broke off")
            self._got.notes.append(f"It broke off: {type(error).__name__}: {error}. The log has where.")
        await self._end(outcome)

    async def _end(self, outcome: Stage) -> None:
        self._ending = True
        got, way = self._got, way_of(self._got.answers, self._choice)
        said = Said(
            role="assistant", text=got.text, time=self._hands.clock.wall(), outcome=outcome.value, way=way,
            sources=self._sources, calls=tuple(got.calls), notes=tuple(got.notes),
        )  # fmt: skip
        further = await asyncio.shield(self._kept(said))
        self.said = msgspec.structs.replace(said, notes=(*said.notes, *further)) if further else said
        self._asked, self._doing = None, ""
        self._to(outcome)

    async def _kept(self, said: Said) -> tuple[str, ...]:
        """Put it into its talk; what the reader should know of that."""
        try:
            return await self._hands.keep(said)
        except Exception as error:  # a fault of ours: whoever waits for the answer must get it
            log.exception("an answer of the assistant is not kept")
            return (f"this answer is not kept: {type(error).__name__}: {error}; the log has where",)

    async def _rounds(self) -> None:
        settings = self._hands.settings
        request = self._fitting(self._request)
        for number in range(1, settings.rounds + 1):
            last = number == settings.rounds
            if last and request.tools and number > 1:
                request = msgspec.structs.replace(request, tools=())
                self._got.notes.append(f"after {settings.rounds - 1} rounds of tools no more were offered (assistant.rounds)")
            answer = await self._ask(request)
            if not answer.tool_calls or self._toolbox is None or last:
                return
            results = [await self._do(call, number) for number, call in enumerate(answer.tool_calls)]
            turn = Message("assistant", answer.text, tool_calls=answer.tool_calls)
            tried = [
                Message("tool", text, tool_name=call.name, tool_call_id=call.id)
                for call, text in zip(answer.tool_calls, results, strict=True)
            ]
            offered = self._toolbox.schemas() if request.tools else ()
            request = msgspec.structs.replace(request, messages=(*request.messages, turn, *tried), tools=offered)
            if self._got.text and not self._got.text.endswith("\n"):
                self._got.text += "\n\n"

    def _fitting(self, request: Request) -> Request:
        """Without tools where they would keep the model of the house from answering."""
        if not request.tools:
            return request
        plain = msgspec.structs.replace(request, tools=())
        having, bare = self._hands.gateway.decide(request).choices, self._hands.gateway.decide(plain).choices
        if bare and (not having or (bare[0].place in HOUSE and having[0].place not in HOUSE)):
            self._got.notes.append(NO_TOOLS)
            return plain
        return request

    async def _ask(self, request: Request) -> Answer:
        """One request; what is written is passed on as it comes. Raises LlmError."""
        from appliance.core.llm.faults import Fault, LlmError

        self._to(Stage.thinking)
        stream = await self._hands.gateway.open(request, self.actor.name)
        self._choice = stream.choice
        most = self._hands.settings.answer_kib * 1024
        try:
            async with aclosing(stream.pieces()) as pieces:
                async for piece in pieces:
                    if piece.text:
                        self._got.text += piece.text
                        self._to(Stage.writing)
                    if len(self._got.text) > most:
                        told = f"The answer has more than {self._hands.settings.answer_kib} KiB."
                        raise LlmError(Fault.too_large, told, "ask for less, or raise assistant.answer_kib.")
        finally:
            await stream.aclose()
        if stream.answer is None:
            raise LlmError(Fault.cut, "The answer was given up.")
        self._got.answers.append(stream.answer)
        self._choice = None
        return stream.answer

    async def _do(self, wanted: ToolCall, number: int) -> str:
        """What the model is told of one call."""
        toolbox = self._toolbox
        if toolbox is None:
            return "no tools were offered"
        if wanted.name == tools.FIND:
            return await toolbox.find(str(wanted.arguments.get("words", ""))[:500])
        try:
            if number >= AT_ONCE:
                raise NotFoundError(f"Only {AT_ONCE} calls are taken at once.", "make the others afterwards.")
            action = toolbox.action(wanted.name)
            if action.name in tools.IN and self._request.wishes.privacy is Privacy.edge_only:  # what stays here stays here
                wanted = msgspec.structs.replace(wanted, arguments={**wanted.arguments, "edge_only": True})
            text = tools.what_it_does(action, wanted.arguments)
        except ApplianceError as error:
            return self._note(wanted.name, wanted, "refused", tools.trouble(error))
        if not tools.asks(action):
            return await self._carry_out(action, wanted, asked=False)
        if await self._confirmed(action, wanted, text):
            return await self._carry_out(action, wanted, asked=True)
        return self._note(
            action.name, wanted, "declined", f"{self.actor.name} did not confirm it: it was not done.", asked=True
        )

    async def _confirmed(self, action: Action, wanted: ToolCall, text: str) -> bool:
        """Ask the user; nobody's answer is a no."""
        self._asked = Asked(new_id(), action.name, wanted.arguments, text, action.dangerous)
        self._reply = asyncio.get_running_loop().create_future()
        self._to(Stage.asking)
        try:
            return await asyncio.wait_for(self._reply, self._hands.settings.confirm_seconds)
        except TimeoutError:
            self._got.notes.append(f"{action.name} was not confirmed in time, and not done")
            return False
        finally:
            self._asked = self._reply = None

    async def _carry_out(self, action: Action, wanted: ToolCall, *, asked: bool) -> str:
        self._doing = action.name
        self._to(Stage.working)
        origin = f"{self.actor.origin}, by the {MARK}".removeprefix(", ")
        actor = msgspec.structs.replace(self.actor, origin=origin)
        most = self._hands.settings.tool_kib * 1024
        try:
            result = await self._hands.invoke(action.name, wanted.arguments, actor)
            text = await asyncio.to_thread(tools.told, result, most)
        except ApplianceError as error:
            return self._note(action.name, wanted, "failed", tools.trouble(error), asked=asked)
        except asyncio.CancelledError:
            self._note(action.name, wanted, "begun", "The answer was stopped meanwhile; see the audit.", asked=asked)
            raise
        finally:
            self._doing = ""
        return self._note(action.name, wanted, "done", text, asked=asked)

    def _note(self, name: str, wanted: ToolCall, outcome: str, told: str, *, asked: bool = False) -> str:
        self._got.calls.append(Call(name[:100], wanted.arguments, outcome, told, asked))
        self._to(self.stage)
        return told

    def _to(self, stage: Stage) -> None:
        """Where it stands now; whoever waits looks."""
        if self.stage not in ENDED:
            self.stage = stage
        before, self._changed = self._changed, asyncio.Event()
        before.set()


def way_of(answers: list[Answer], unfinished: Choice | None = None) -> Way | None:
    """Where an answer of several rounds came from, and what it took; None where nobody wrote.

    Args:
        answers: Of the rounds that ended well.
        unfinished: Who wrote when it broke off: what that took nobody told.
    """
    if unfinished is not None:
        near = unfinished.place in HOUSE and not any(each.left_house_bytes for each in answers)
        return Way(
            endpoint=unfinished.endpoint, place=unfinished.place.value, model=unfinished.model, why=unfinished.why,
            left_house_bytes=0 if near else None, rounds=len(answers) + 1,
        )  # fmt: skip
    if not answers:
        return None
    last = answers[-1]
    return Way(
        endpoint=last.endpoint, place=last.place.value, model=last.model, why=last.why,
        latency_ms=round(sum(each.latency_ms for each in answers), 1), first_token_ms=answers[0].first_token_ms,
        tokens_in=_sum([each.usage.tokens_in for each in answers]),
        tokens_out=_sum([each.usage.tokens_out for each in answers]), cost=_sum([each.cost for each in answers]),
        left_house_bytes=sum(each.left_house_bytes for each in answers), cached=all(each.cached for each in answers),
        rounds=len(answers),
    )  # fmt: skip


def _sum(values: list[Any]) -> Any:
    """None where one of them is not known."""
    return None if None in values else sum(values)
