"""Commands that are understood but for the name in them: "set the power mode to eco" is told which modes there are."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from hassil.intents import Intent, IntentData, Intents, SlotList, WildcardSlotList
from hassil.recognize import RecognizeResult, recognize_all

from appliance.core.voice.intents.generic import BOOLEANS
from appliance.core.voice.intents.spoken import sentence, series

if TYPE_CHECKING:
    from appliance.core.voice.intents.grammar import Entry, Grammar

LONGEST = 3
"""Words of a name that is none; what is longer is more than a name."""
FEW = 5
"""Names that are told."""
NOUNS = {"nodes": "machine", "node": "machine", "alert_rule": "alert", "grid": "mode"}
"""What a list is of, where its name does not say it."""
NOT_TOLD = frozenset({BOOLEANS, "noun", "few", "alert", "task", "job", "operation", "session", "grid"})
"""Lists that nobody has said a name of: numbers, and what has identifiers only."""


class Nameless(NamedTuple):
    """A command with a name that there is not.

    Attributes:
        intent: What was meant.
        text: Which names there are.
    """

    intent: str
    text: str


class Unknown:
    """Finds the name that there is not.

    Args:
        grammar: What can be said now.
    """

    def __init__(self, grammar: Grammar) -> None:
        self._grammar = grammar

    @cached_property
    def _entries(self) -> dict[str, tuple[Entry, str]]:
        """Template → (its entry, its only list)."""
        found = {}
        for entry in reversed(self._grammar.entries):
            named = set(entry.sentence.list_names(self._grammar.rules))
            if len(named) == 1 and (name := named.pop()) not in NOT_TOLD and self._names(name):
                found[entry.template] = (entry, name)
        return found

    @cached_property
    def _intents(self) -> Intents:
        data = IntentData(list(self._entries))
        data.__dict__["sentences"] = [entry.sentence for entry, _ in self._entries.values()]
        return Intents("en", {"all": Intent("all", [data])})

    def _names(self, named: str) -> tuple[tuple[str, object], ...]:
        return self._grammar.listed(named)

    def find(self, text: str) -> Nameless | None:
        """What is to be told of a sentence that only has a wrong name; None where it is something else.

        Args:
            text: In the form of voice.words.normal.
        """
        lists: dict[str, SlotList] = {name: WildcardSlotList(name) for _, name in self._entries.values()}
        found = recognize_all(text, self._intents, slot_lists=lists, expansion_rules=self._grammar.rules, language="en")
        rated = [each for one in found for each in self._named(text, one)]
        if not rated:
            return None
        value, entry, named = min(rated, key=lambda each: (len(each[0].split()), not each[1].curated))
        noun, names = self._noun(entry, named), list(dict.fromkeys(str(each) for _, each in self._names(named)))
        more = f" There are: {series(names, FEW)}."
        return Nameless(entry.saying.do, sentence(f"there is no {noun} {value}") + more)

    def _named(self, text: str, found: RecognizeResult) -> Iterator[tuple[str, Entry, str]]:
        """(the name, …) if all around it speaks of such names, and it is none of them."""
        template = found.intent_sentence.text if found.intent_sentence else None
        entry, named = self._entries[template or ""]
        value = " ".join(str(next(iter(found.entities.values())).value).split())
        around = set(f" {text} ".replace(f" {value} ", " ", 1).split())
        known = any(f" {said} " in f" {value} " for said, _ in self._names(named))
        if value and len(value.split()) <= LONGEST and not known and self._noun(entry, named) in around:
            yield value, entry, named

    @staticmethod
    def _noun(entry: Entry, named: str) -> str:
        """What the names of a list are names of."""
        _, _, parameter = named.rpartition(f"{entry.saying.do.partition('/')[0].replace('.', '_').replace('-', '_')}_")
        return NOUNS.get(named, parameter.replace("_", " "))
