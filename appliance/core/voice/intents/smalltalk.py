"""Words of the dialogue itself: what can be said, the time, thanks. They are no actions, and nothing changes by them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from appliance.core.voice.intents.model import Command, Ground
from appliance.core.voice.intents.spoken import said, series
from appliance.core.voice.model import Outcome, Reply

if TYPE_CHECKING:
    from appliance.core.voice.intents.grammar import Grammar

TOPICS = ("services", "power", "the battery", "the vpn", "alerts", "the fleet", "tasks", "models", "cameras", "kafka", "memory")
HELP = (
    "Ask how things are: what is the battery level, is the vpn up, are there any alerts, what did you see last. "
    "Or say what to do: restart the inference service, set the power mode to auto, acknowledge the alerts. "
    "I know: {topics}. Say help with power, for example."
)
RESTART = (
    "I can restart a service, or a machine of the fleet: say restart, and its name. "
    "This appliance itself is restarted on its console."
)
SAID = 4
"""Sentences that are told of one topic."""


def reply(command: Command, ground: Ground, grammar: Grammar, last: str) -> Reply:
    """The answer to such a word.

    Args:
        command: The word.
        ground: What the dialogue stands on.
        grammar: What can be said now.
        last: What was said last.
    """
    word = command.topic
    done = Outcome.cancelled if word == "cancel" else Outcome.done
    return Reply(
        _text(word, command, ground, grammar, last), done, intent=command.intent, confidence=command.confidence, source="local"
    )


def _text(word: str, command: Command, ground: Ground, grammar: Grammar, last: str) -> str:
    now = datetime.fromtimestamp(ground.clock.wall()).astimezone()
    if word == "help-topic":
        return topic(command.subject, grammar)
    return {
        "help": HELP.format(topics=series(TOPICS, len(TOPICS))),
        "repeat": last or "I have not said anything yet.",
        "restart": RESTART,
        "cancel": "All right.",
        "thanks": "You are welcome.",
        "hello": "Hello. I am listening.",
        "time": f"It is {now:%H:%M}.",
        "date": f"It is {now:%A}, the {now.day} of {now:%B %Y}.",
        "who": f"I am the voice of {said(ground.device) if ground.device else 'this appliance'}.",
    }[word]


def topic(noun: str, grammar: Grammar) -> str:
    """What can be said about one noun of the registry."""
    found: dict[str, str] = {}
    for entry in grammar.entries:
        if entry.saying.do.partition(".")[0] == noun and entry.drawn and not entry.saying.wants:
            text = grammar.example(entry)
            if "…" not in text:
                found.setdefault(entry.saying.do, text)
    examples = list(found.values())
    if not examples:
        return f"There is nothing about {said(noun)} to say now."
    more = f", and {len(examples) - SAID} more; the Voice screen lists them all" if len(examples) > SAID else ""
    return f"You can say: {', or: '.join(examples[:SAID])}{more}."
