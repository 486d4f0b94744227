"""What can be said, for recognition and for people."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from appliance.core.actions import ActionRegistry
from appliance.core.voice.intents.model import LOCAL, Example
from appliance.core.voice.intents.waiting import Kind, Waiting
from appliance.core.voice.model import Sentences

if TYPE_CHECKING:
    from appliance.core.voice.intents.grammar import Grammar

SAID = 4
"""Sentences that are listed for one thing."""


def sentences(grammar: Grammar, waiting: Waiting | None) -> Sentences:
    """What recognition is drawn to: all commands, or the answers that are waited for."""
    if waiting is None:
        return Sentences(grammar.key, grammar.texts, tuple(sorted(grammar.book.answers.polite)))
    answers = grammar.book.answers
    wanted = answers.yes if waiting.kind is Kind.confirm else {said for said, _ in grammar.choices(waiting.command)}
    texts = tuple(sorted(wanted | answers.no))
    return Sentences(hashlib.blake2b("\n".join(texts).encode(), digest_size=12).hexdigest(), texts)


def examples(registry: ActionRegistry, grammar: Grammar) -> tuple[Example, ...]:
    """Sentences of everything that can be said, and why the rest cannot."""
    found: dict[str, dict[str, None]] = {}
    for entry in grammar.entries:
        if entry.drawn and not entry.saying.wants:
            found.setdefault(entry.saying.do, {}).setdefault(grammar.example(entry))
    listed = []
    for intent, texts in sorted(found.items()):
        says = tuple(texts)[:SAID]
        if intent.startswith(f"{LOCAL}/"):
            listed.append(Example(intent, "", "", says, query=True))
        else:
            action = registry.get(intent.partition("/")[0])
            listed.append(Example(intent, action.name, action.summary, says, action.dangerous, action.query))
    denied = [
        Example(each.name, each.name, each.summary, (), each.dangerous, each.query, grammar.book.reason(each.name))
        for each in registry if grammar.book.reason(each.name)
    ]  # fmt: skip
    return (*listed, *denied)
