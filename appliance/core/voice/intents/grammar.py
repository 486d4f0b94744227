"""What can be said now: templates and names become a grammar (hassil), which understands sentences and lists them."""

from __future__ import annotations

import functools
import hashlib
import itertools
import logging
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from hassil.expression import Alternative, Group, ListReference, RuleReference, Sentence, Sequence, TextChunk
from hassil.intents import Intent, IntentData, Intents, RangeSlotList, SlotList, TextSlotList
from hassil.parse_expression import parse_sentence
from hassil.recognize import RecognizeResult, recognize_all
from hassil.sample import sample_expression

from appliance.core.actions import Action
from appliance.core.voice.intents import generic
from appliance.core.voice.intents.book import Book, Saying
from appliance.core.voice.intents.model import LOCAL, Command
from appliance.core.voice.intents.names import FEW, Names
from appliance.core.voice.intents.near import bare
from appliance.core.voice.words import normal, number_words

if TYPE_CHECKING:
    from appliance.core.voice.intents.unknown import Unknown

log = logging.getLogger(__name__)

MOST = 8000
"""Sentences that recognition is drawn to."""
EACH = (240, 120, 60, 24)
"""Of one template; one with more is drawn in its shortest wording only. The first number counts by which all find room."""
NAMED = 300
"""Of a template in its shortest wording: one for each name."""
SUBJECT = "subject"
TRUTH = {"on": True, "yes": True, "true": True, "off": False, "no": False, "false": False}


class Entry:
    """One template and what it means."""

    def __init__(self, saying: Saying, template: str, *, curated: bool, drawn: bool = True) -> None:
        self.saying, self.template, self.curated, self.drawn = saying, template, curated, drawn

    @property
    def sentence(self) -> Sentence:
        """As hassil has it."""
        return parsed(self.template)


NAMELESS, TEN = (TextSlotList.from_tuples([(text, "")], allow_template=False) for text in ("…", "ten"))


@functools.lru_cache(maxsize=4096)
def parsed(template: str) -> Sentence:
    """A template as hassil has it: the same one in every grammar."""
    return parse_sentence(template, keep_text=True)


@functools.lru_cache(maxsize=1024)
def known(action: Action) -> tuple[Mapping[str, Any], frozenset[str]]:
    """An action's parameters and the names of the needed ones: making its schema takes a millisecond."""
    return generic.properties(action)


class Grammar:
    """Understands sentences, exactly.

    Args:
        actions: Those that there are.
        names: Live names.
        book: The table of phrases.
    """

    def __init__(self, actions: Iterable[Action], names: Names, book: Book) -> None:
        self.actions = {each.name: each for each in actions if not book.reason(each.name)}
        self.names, self.book = names, book
        self._parameters = {name: known(each)[0] for name, each in self.actions.items()}
        self.rules = {name: parsed(template) for name, template in book.rules.items()}
        self.entries = [*self._curated(), *self._generic()]
        self._lists = self._make_lists()
        self._drawn = {**self._lists, "few": _texts((number_words(each), each) for each in FEW)}
        self._by_template = {each.template: each for each in reversed(self.entries)}
        data = IntentData(list(self._by_template))
        data.__dict__["sentences"] = [each.sentence for each in self._by_template.values()]  # parsed once, for all grammars
        self._intents = Intents("en", {"all": Intent("all", [data])})

    # -- what there is -------------------------------------------------------------------------------------------------

    def _curated(self) -> Iterator[Entry]:
        for saying in self.book.say:
            action = saying.do.partition("/")[0]
            if action == LOCAL or action in self.actions:
                for template in saying.templates:
                    yield Entry(saying, template, curated=True)

    def _generic(self) -> Iterator[Entry]:
        """By their names; recognition is drawn to that only where nobody wrote anything better."""
        written = {each.do.partition("/")[0] for each in self.book.say if not each.wants}
        for name, action in self.actions.items():
            for form in generic.forms(action, *known(action), self.book.slots):
                saying = Saying(name, (), {}, form.wants)
                yield Entry(saying, form.template, curated=False, drawn=form.drawn and name not in written)

    def _make_lists(self) -> dict[str, SlotList]:
        lists: dict[str, SlotList] = {kind: _texts(pairs) for kind, pairs in self.names.items()}
        lists["few"] = RangeSlotList("few", 1, generic.HIGHEST, digits=False, words_language="en")
        lists[generic.BOOLEANS] = _texts(TRUTH.items())
        nouns = sorted({each.partition(".")[0] for each in self.actions})
        lists["noun"] = _texts((normal(each), each) for each in nouns)
        for name, own in self._parameters.items():
            for parameter, kind in own.items():
                if "enum" in kind and (named := generic.list_for(name, parameter, kind, {})) not in lists:
                    lists[named] = _texts(generic.values(kind))
        for named in sorted({each for entry in self.entries for each in entry.sentence.list_names(self.rules)} - set(lists)):
            lists[named] = _range(named)
        return lists

    # -- understanding -------------------------------------------------------------------------------------------------

    def match(self, text: str) -> Command | None:
        """What a sentence means; None where it is none of the grammar's.

        Args:
            text: In the form of voice.words.normal.
        """
        found = recognize_all(text, self._intents, slot_lists=self._lists, expansion_rules=self.rules, language="en")
        ranked = [(self._by_template[each.intent_sentence.text or ""], each) for each in found if each.intent_sentence]
        if not ranked:
            return None
        entry, best = max(ranked, key=lambda each: _rank(*each))
        return self._command(entry, best, text)

    def _command(self, entry: Entry, found: RecognizeResult, text: str) -> Command:
        args, subject = dict(entry.saying.args), ""
        own = self._parameters.get(entry.saying.do.partition("/")[0], {})
        for name, entity in found.entities.items():
            value = int(entity.value) if isinstance(entity.value, float) and entity.value.is_integer() else entity.value
            if name == SUBJECT:
                subject = str(value)
            else:
                args[name] = [value] if own.get(name, {}).get("type") == "array" else value
        return Command(entry.saying.do, args, text, 1.0, wants=entry.saying.wants, subject=subject)

    def choices(self, command: Command) -> tuple[tuple[str, Any], ...]:
        """What may be said for the parameter that a command lacks: (as it is said, its value), …"""
        kind = self._parameters[command.action][command.wants]
        named = generic.list_for(command.action, command.wants, kind, self.book.slots)
        return self.listed(named)

    def listed(self, named: str) -> tuple[tuple[str, Any], ...]:
        """The names of one list: (as it is said, its value), …; nothing where it is one of numbers."""
        found = self._lists.get(named)
        if not isinstance(found, TextSlotList):
            return ()
        return tuple((str(getattr(each.text_in, "text", "")).strip(), each.value_out) for each in found.values)

    def shaped(self, command: Command, value: Any) -> Any:
        """A value as its parameter takes it: alone, or as a list of one."""
        return [value] if self._parameters[command.action][command.wants].get("type") == "array" else value

    def refused(self, text: str) -> tuple[str, str] | None:
        """An action that is never done by voice, if a sentence begins as one does: (its name, why)."""
        words = text.replace(" the ", " ").replace(" a ", " ").replace("delete", "remove")
        for reason, actions in self.book.denied.items():
            for name in actions:
                noun, _, rest = name.replace("-", " ").partition(".")
                heads = (f"{noun} {rest}", f"{rest} {noun}", " ".join([rest.split()[-1], noun, *rest.split()[:-1]]))
                if any(f"{words} ".startswith(f"{head} ") for head in heads):
                    return name, reason
        return None

    # -- listing -------------------------------------------------------------------------------------------------------

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """Sentences that recognition is drawn to, MOST at most; with many names each has fewer wordings."""
        drawn = [entry for entry in self.entries if entry.drawn]
        found: dict[str, None] = {}
        for each in EACH:
            found = dict.fromkeys(text for entry in drawn for text in self._said(entry, each))
            if len(found) <= MOST:
                return tuple(found)
        log.info("%d sentences are understood, but recognition is not drawn to them: too many names", len(found) - MOST)
        return tuple(found)[:MOST]

    @cached_property
    def ordered(self) -> tuple[str, ...]:
        """The same, by the alphabet."""
        return tuple(sorted(self.texts))

    def longer(self, text: str) -> tuple[str, ...]:
        """Sentences that begin with this one and go on."""
        begin = bisect_left(self.ordered, f"{text} ")
        return tuple(itertools.takewhile(lambda each: each.startswith(f"{text} "), self.ordered[begin:]))

    @cached_property
    def bare(self) -> dict[str, str]:
        """Sentences without articles → the sentences."""
        return {bare(each): each for each in reversed(self.texts)}

    @cached_property
    def unknown(self) -> Unknown:
        """Knows what to tell of a name that there is not."""
        from appliance.core.voice.intents.unknown import Unknown

        return Unknown(self)

    @cached_property
    def vocabulary(self) -> frozenset[str]:
        """All words of all sentences."""
        return frozenset(word for text in self.texts for word in text.split())

    @cached_property
    def key(self) -> str:
        """Equal for equal sentences."""
        return hashlib.blake2b("\n".join(self.texts).encode(), digest_size=12).hexdigest()

    def _said(self, entry: Entry, most: int = EACH[0]) -> tuple[str, ...]:
        used = dict.fromkeys(entry.sentence.list_names(self.rules))
        lists = [(each, self._drawn[each]) for each in used]
        if any(not isinstance(found, TextSlotList) or not found.values for _, found in lists):
            return ()  # numbers without a bound that can be listed, or names of which there is none
        values = tuple((each, tuple(_words(found))) for each, found in lists)
        return _sampled(entry.template, most if entry.curated else 0, values, tuple(self.book.rules.items()))

    def _values(self, named: str) -> int:
        found = self._drawn[named]
        return len(found.values) if isinstance(found, TextSlotList) else 0

    def example(self, entry: Entry) -> str:
        """One sentence of a template, in its plainest wording; a number or a name that is not there is told as "…"."""
        lists = {
            each: TEN if each.startswith(("number", "few")) else self._drawn[each] if self._values(each) else NAMELESS
            for each in entry.sentence.list_names(self.rules)
        }  # fmt: skip
        return " ".join(next(iter(_shortest(entry.sentence.expression, lists, self.rules)), "").split())


def _words(found: SlotList) -> Iterator[str]:
    yield from (str(getattr(each.text_in, "text", "")) for each in found.values) if isinstance(found, TextSlotList) else ()


@functools.lru_cache(maxsize=4096)
def _sampled(
    template: str, most: int, values: tuple[tuple[str, tuple[str, ...]], ...], wording: tuple[tuple[str, str], ...]
) -> tuple[str, ...]:  # fmt: skip
    """Sentences of a template; kept, for most lists stay as they are when others change."""
    lists: dict[str, SlotList] = {name: _texts((word, word) for word in words) for name, words in values}
    rules = {name: parsed(rule) for name, rule in wording}
    expression = parsed(template).expression
    texts = list(itertools.islice(sample_expression(expression, lists, rules), most + 1)) if most else []
    if not texts or len(texts) > most:
        texts = list(itertools.islice(_shortest(expression, lists, rules), NAMED))
    return tuple(dict.fromkeys(normal(each) for each in texts))


def _rank(entry: Entry, found: RecognizeResult) -> tuple[bool, int, bool, int]:
    """Of several meanings: what lacks nothing, what is said in plain words and not by a name, what was written by hand."""
    return not entry.saying.wants, -len(found.entities_list), entry.curated, found.text_chunks_matched


def _texts(pairs: Iterable[tuple[str, Any]]) -> TextSlotList:
    return TextSlotList.from_tuples(list(pairs), allow_template=False)


def _range(named: str) -> SlotList:
    """ "number_LEAST_MOST", or a list of names of which there is none now."""
    parts = named.split("_")
    if parts[0] == "number" and len(parts) == 3:
        return RangeSlotList(named, int(parts[1]), int(parts[2]), digits=False, words_language="en")
    return _texts(())


def _shortest(part: Any, lists: Mapping[str, SlotList], rules: Mapping[str, Sentence]) -> Iterator[str]:
    """Every value of every list, in the first wording and with nothing that may be left out."""
    if isinstance(part, TextChunk):
        yield part.original_text
    elif isinstance(part, Alternative):
        yield from _shortest(part.items[0], lists, rules) if not part.is_optional else ("",)
    elif isinstance(part, RuleReference):
        yield from _shortest(rules[part.rule_name].expression, lists, rules)
    elif isinstance(part, ListReference):
        yield from _words(lists[part.list_name])
    elif isinstance(part, Sequence | Group):
        for words in itertools.product(*(list(_shortest(each, lists, rules)) for each in part.items)):
            yield "".join(words)
