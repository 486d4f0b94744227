"""What waits for an answer: a yes to something, or a name that was missing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from appliance.core.model import Actor
from appliance.core.voice.intents.book import Answers
from appliance.core.voice.intents.model import Command

GRACE = 90.0
"""Seconds beyond the operator's patience until what waits is given up in any case: the question takes its time to be said."""
TRIES = 2
"""Answers that are neither yes nor no; then it is declined."""
REFUSING = frozenset({"no", "nope", "not", "stop", "cancel", "abort", "wait", "negative", "never", "wrong", "dont"})
"""Words that make an answer no yes, whatever else is in it."""


class Kind(StrEnum):
    """What is waited for."""

    confirm = "confirm"
    slot = "slot"


class Meant(StrEnum):
    """What an answer says."""

    yes = "yes"
    no = "no"
    neither = "neither"


@dataclass(frozen=True)
class Waiting:
    """A question that was asked.

    Attributes:
        kind: What is waited for.
        command: What it is about.
        actor: Who was asked; nobody else's yes counts.
        question: As it was said.
        confirmed: A yes confirms a dangerous action; else it only says that the command was understood.
        since: Monotonic clock.
        tries: Answers that were of no use.
    """

    kind: Kind
    command: Command
    actor: Actor
    question: str
    since: float
    confirmed: bool = False
    tries: int = 0

    def again(self) -> Waiting:
        """After an answer that was of no use."""
        return replace(self, tries=self.tries + 1)

    def asked_of(self, actor: Actor) -> bool:
        """Whether this actor may answer."""
        return (actor.name, actor.role) == (self.actor.name, self.actor.role)


def meant(text: str, answers: Answers) -> Meant:
    """Whether an answer is a yes or a no. A yes is one word for word; a no is heard more easily.

    Args:
        text: In the form of voice.words.normal.
        answers: The table of both.
    """
    words = text.split()
    if text in answers.no or (words and words[0] in REFUSING):
        return Meant.no
    if text in answers.yes and not REFUSING & set(words):
        return Meant.yes
    return Meant.neither
