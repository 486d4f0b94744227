"""The dialogue: hears, asks back where it must, has the dispatcher act, and says what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec

from appliance.core.model import Actor
from appliance.core.voice.intents import smalltalk, telling
from appliance.core.voice.intents.answers import answer
from appliance.core.voice.intents.listing import examples, sentences
from appliance.core.voice.intents.model import LOCAL, Command, Example, Ground
from appliance.core.voice.intents.spoken import aloud, said, sentence, series
from appliance.core.voice.intents.talk import Talk
from appliance.core.voice.intents.understanding import EXACT, LIKELY, SURE, Understanding, same
from appliance.core.voice.intents.waiting import GRACE, TRIES, Kind, Meant, Waiting, meant
from appliance.core.voice.model import Outcome, Reply, Sentences, Transcript
from appliance.core.voice.words import normal
from appliance.errors import (
    ApplianceError,
    ConfirmationRequiredError,
    ConflictError,
    InvalidArgumentsError,
    NotAuthorizedError,
    PreconditionError,
)

REFUSED = (PreconditionError, ConflictError, InvalidArgumentsError)
YES_OR_NO = "Say yes or no."
NOTHING = "All right, nothing was done."
UNKNOWN = "I did not understand that. Say help for what I can do."
FEW = 5
"""Names that are offered where one is missing."""
Told = Callable[[str], Awaitable[None]]


@dataclass(frozen=True)
class Turn:
    """One utterance on its way."""

    transcript: Transcript
    actor: Actor
    on_begin: Callable[[str], None]
    on_sentence: Told


class Dialogue:
    """Understands and acts. What waits for an answer is done once at most, and never after a no.

    Args:
        ground: What it stands on.
    """

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._registry = ground.dispatcher.registry
        self._understanding = Understanding(self._registry, ground.state)
        self._talk = Talk(ground)
        self._waiting: Waiting | None = None
        self._last = ""
        self._turn = asyncio.Lock()

    # -- what the pipeline asks ----------------------------------------------------------------------------------------

    async def prepare(self) -> None:
        """Make the grammar beforehand, in a thread: the first sentence need not wait for it."""
        await asyncio.to_thread(lambda: self._understanding.grammar.texts)

    @property
    def expecting(self) -> str:
        """ "confirm" or "slot" while it waits for an answer."""
        waiting = self._alive()
        return waiting.kind.value if waiting is not None else ""

    def sentences(self) -> Sentences:
        """What may be said now."""
        return sentences(self._understanding.grammar, self._alive())

    def whole(self, transcript: Transcript) -> bool:
        """Whether it is surely one complete, harmless command, which no further words would change."""
        if self._alive() is not None:
            return False
        grammar, text = self._understanding.grammar, normal(transcript.text)
        command = self._understanding.read(transcript)
        if command is None or command.wants or not command.action:
            return False
        action = self._registry.get(command.action)
        if action.dangerous or command.confidence < (SURE if action.query else EXACT):
            return False
        forms = {text, self._understanding.plain(text), normal(command.text)}
        longer = {each for form in forms for each in grammar.longer(form)}
        return all((other := grammar.match(each)) is not None and same(other, command) for each in longer)

    def phrases(self) -> tuple[Example, ...]:
        """What can be said, by action."""
        return examples(self._registry, self._understanding.grammar)

    async def forget(self) -> Reply | None:
        """What waited is declined: nobody answered, or it was cancelled."""
        waiting, self._waiting = self._waiting, None
        return self._declined(waiting, NOTHING) if waiting is not None else None

    async def hear(
        self, transcript: Transcript, actor: Actor, on_begin: Callable[[str], None], on_sentence: Told
    ) -> Reply:  # fmt: skip
        """Understand an utterance and act by it.

        Args:
            transcript: What was heard.
            actor: Whose role counts.
            on_begin: Told of an action the moment that it is invoked.
            on_sentence: Told of each sentence of a language model's answer as it comes; then Reply.source is "llm".

        Returns:
            What is to be said, and what came of it. No error of an action is raised: it is told.
        """
        async with self._turn:
            reply = await self._heard(Turn(transcript, actor, on_begin, on_sentence))
        if reply.text and reply.intent != f"{LOCAL}/repeat":
            self._last = reply.text
        if transcript.text.strip() and reply.outcome is not Outcome.cancelled:
            self._talk.note(transcript.text.strip(), reply.text)
        return reply

    # -- understanding -------------------------------------------------------------------------------------------------

    async def _heard(self, turn: Turn) -> Reply:
        waiting, self._waiting = self._alive(), None  # taken out first: a yes counts once
        if waiting is not None and waiting.asked_of(turn.actor):
            reply = await self._answered(waiting, turn)
            if reply is not None:
                return reply
        if not normal(turn.transcript.text) and not turn.transcript.guesses:
            return Reply("I heard no words.", Outcome.empty, source="local")
        command = self._understanding.read(turn.transcript)
        if command is None or command.confidence < self._needed(command):
            reply = await self._not_understood(turn)
        else:
            reply = await self._obey(command, turn)
        if waiting is not None and waiting.confirmed:
            before = telling.what(self._registry.get(waiting.command.action), waiting.command)
            reply = msgspec.structs.replace(reply, text=f"{before}: not done. {reply.text}".strip())
        return reply

    def _needed(self, command: Command) -> float:
        """A word of the dialogue that is not sure is none."""
        return LIKELY if command.action else SURE - 0.02

    async def _not_understood(self, turn: Turn) -> Reply:
        plain = self._understanding.plain(turn.transcript.text)
        refused = self._understanding.grammar.refused(plain)
        if refused is not None:
            text = f"{sentence(f'{said(refused[0])} is not done by voice')} {refused[1]}"
            return Reply(text, Outcome.refused, refused[0], intent=refused[0], source="local")
        if meant(plain, self._understanding.book.answers) is not Meant.neither:
            return Reply("There is nothing to confirm.", Outcome.unknown, source="local")
        nameless = await asyncio.to_thread(self._understanding.grammar.unknown.find, plain)
        if nameless is not None:
            action = nameless.intent.partition("/")[0]
            return Reply(nameless.text, Outcome.refused, action, intent=nameless.intent, source="local")
        if not self._ground.settings.llm or not plain:
            degraded = self._ground.degraded()
            return Reply(f"{UNKNOWN} {degraded}".strip(), Outcome.unknown, source="local")
        return await self._talk.ask(turn.transcript.text.strip(), turn.actor, turn.on_sentence)

    async def _obey(self, command: Command, turn: Turn) -> Reply:
        if not command.action:
            return smalltalk.reply(command, self._ground, self._understanding.grammar, self._last)
        action = self._registry.get(command.action)
        if command.wants:
            return self._ask_for(command, turn.actor)
        if not action.query and not action.dangerous and command.confidence < SURE:
            question = f"Did you mean: {command.text}? {YES_OR_NO}"
            return self._ask(Waiting(Kind.confirm, command, turn.actor, question, self._now()))
        return await self._invoke(command, turn, confirm=False)

    # -- asking back ---------------------------------------------------------------------------------------------------

    def _now(self) -> float:
        return self._ground.clock.monotonic()

    def _alive(self) -> Waiting | None:
        waiting = self._waiting
        if waiting is not None and self._now() - waiting.since > self._ground.settings.confirm_seconds + GRACE:
            self._waiting = waiting = None
        return waiting

    def _ask(self, waiting: Waiting) -> Reply:
        self._waiting = waiting
        command = waiting.command
        return Reply(
            waiting.question,
            Outcome.asked,
            command.action,
            command.args,
            command.intent,
            command.confidence,
            waiting.kind.value,
            understood=command.text,
        )

    def _ask_for(self, command: Command, actor: Actor) -> Reply:
        names = self._understanding.grammar.choices(command)
        wanted = command.wants.replace("_", " ").removesuffix(" id")
        noun = wanted if wanted not in {"name", "nodes"} else {"nodes": "machine"}.get(wanted, command.action.partition(".")[0])
        values = list(dict.fromkeys(value for _, value in names))
        if not values:
            return Reply(f"There is no {noun} to choose from.", Outcome.refused, command.action, intent=command.intent)
        offer = f" There are: {series(values, FEW)}." if len(values) <= FEW else ""
        return self._ask(Waiting(Kind.slot, command, actor, f"Which {noun}?{offer}", self._now()))

    async def _answered(self, waiting: Waiting, turn: Turn) -> Reply | None:
        """What an answer leads to; None where it is another command instead."""
        text = normal(turn.transcript.text)
        said_so = meant(text, self._understanding.book.answers)
        if said_so is Meant.no:
            return self._declined(waiting, NOTHING)
        if waiting.kind is Kind.slot:
            return await self._filled(waiting, turn)
        if said_so is Meant.yes:
            return await self._invoke(waiting.command, turn, confirm=waiting.confirmed)
        command = self._understanding.read(turn.transcript)
        if command is not None and command.confidence >= SURE:
            return None
        if waiting.tries + 1 >= TRIES:
            return self._declined(waiting, f"That was no yes. {NOTHING}")
        return self._ask(waiting.again())

    async def _filled(self, waiting: Waiting, turn: Turn) -> Reply | None:
        command = waiting.command
        found = self._understanding.named(self._understanding.grammar.choices(command), turn.transcript)
        if found is not None:
            value, sure = found[0], min(found[1], command.confidence)
            args = {**command.args, command.wants: self._understanding.grammar.shaped(command, value)}
            text = f"{command.text}, {said(value)}"
            return await self._obey(msgspec.structs.replace(command, args=args, text=text, wants="", confidence=sure), turn)
        other = self._understanding.read(turn.transcript)
        if other is not None and other.confidence >= SURE:
            return None
        if waiting.tries + 1 >= TRIES:
            return self._declined(waiting, f"I know none of that name. {NOTHING}")
        return self._ask(waiting.again())

    @staticmethod
    def _declined(waiting: Waiting, text: str) -> Reply:
        command = waiting.command
        return _reply(command, text, Outcome.declined)

    # -- acting --------------------------------------------------------------------------------------------------------

    async def _invoke(self, command: Command, turn: Turn, *, confirm: bool) -> Reply:
        action = self._registry.get(command.action)
        if confirm or not action.dangerous:
            turn.on_begin(action.name)
        try:
            result = await self._ground.dispatcher.invoke(action.name, command.args, turn.actor, confirm=confirm)
        except ConfirmationRequiredError as error:
            question = f"{telling.danger(action, command, error.message)} {YES_OR_NO}"
            return self._ask(Waiting(Kind.confirm, command, turn.actor, question, self._now(), confirmed=True))
        except NotAuthorizedError as error:
            return self._ended(command, telling.role_text(action, turn.actor, error), Outcome.refused)
        except REFUSED as error:
            return self._ended(command, telling.error_text(error), Outcome.refused)
        except ApplianceError as error:
            return self._ended(command, telling.error_text(error), Outcome.failed)
        told = answer(self._ground.state, command, self._ground.clock.wall())
        return self._ended(command, aloud(told) if told is not None else telling.result_text(action, result), Outcome.done)

    @staticmethod
    def _ended(command: Command, text: str, outcome: Outcome) -> Reply:
        return _reply(command, text, outcome)


def _reply(command: Command, text: str, outcome: Outcome) -> Reply:
    return Reply(
        text, outcome, command.action, command.args, command.intent, command.confidence, understood=command.text
    )  # fmt: skip
