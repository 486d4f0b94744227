"""Sentences near to what was heard. It is conservative: a word that carries meaning is never added, dropped or turned round."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence

from appliance.core.voice.words import NUMBER_WORDS, alike

FILLERS = frozenset({
    "the", "a", "an", "of", "is", "are", "me", "my", "on", "at", "to", "in", "for", "please", "now", "all", "this", "that",
    "it", "there", "do", "any",
})  # fmt: skip
"""Words that may be missing, or too many."""
WORTH_A_LOOK = 80.0
"""rapidfuzz's ratio, 0 to 100, from which a sentence is looked at."""
CANDIDATES = 12
STRANGE = 2
"""Words that the grammar does not know at all; with more of them nothing is near."""
SOUNDS = 0.62
"""Words that were heard otherwise must sound as much alike, 0 to 1."""
NEAR = 0.84
"""A sentence must be as much alike as a whole."""
OPPOSITES = (
    ("start", "stop"), ("on", "off"), ("up", "down"), ("pause", "resume"), ("enable", "disable"), ("mute", "unmute"),
    ("silence", "unsilence"), ("yes", "no"), ("wake", "shut"), ("restart", "start"), ("reboot", "boot"), ("add", "remove"),
    ("best", "worst"), ("verify", "archive"), ("activate", "deactivate"),
)  # fmt: skip
NEGATIONS = frozenset({"no", "not", "never", "without", "don", "dont", "nothing"})


ARTICLES = frozenset({"the", "a", "an"})


def bare(text: str) -> str:
    """A sentence without articles."""
    return " ".join(word for word in text.split() if word not in ARTICLES)


def nearest(text: str, texts: Mapping[str, str]) -> tuple[tuple[str, float], ...]:
    """Sentences that may have been meant, best first, each with how alike it is, 0 to 1.

    Args:
        text: What was heard, in the form of voice.words.normal.
        texts: The grammar's sentences, by themselves without articles.
    """
    from rapidfuzz import fuzz, process

    text = bare(text)
    if len(text.split()) < 2:
        return ()
    found = process.extract(text, list(texts), scorer=fuzz.ratio, limit=CANDIDATES, score_cutoff=WORTH_A_LOOK)
    rated = [(each, (ratio / 100 + alike(text, each)) / 2) for each, ratio, _ in found if may_be(text, each)]
    return tuple(sorted(((texts[each], rate) for each, rate in rated if rate >= NEAR), key=lambda each: -each[1]))


def may_be(heard: str, meant: str) -> bool:
    """Whether all that differs between two sentences is fillers, and words that sound alike and are no opposites."""
    first, second = heard.split(), meant.split()
    for kind, begin, end, other, last in difflib.SequenceMatcher(None, first, second, autojunk=False).get_opcodes():
        if kind != "equal" and not _same(first[begin:end], second[other:last]):
            return False
    return True


def _same(heard: list[str], meant: list[str]) -> bool:
    if NEGATIONS & set(heard) != NEGATIONS & set(meant) or _numbers(heard) != _numbers(meant):
        return False
    if opposed(heard, meant):
        return False
    if not set(heard) - FILLERS and not set(meant) - FILLERS and (not heard or not meant or len(heard) == len(meant)):
        return not (set(heard) | set(meant)) & {"on", "off", "all"}
    if not heard or not meant:
        return set(heard or meant) <= FILLERS - {"all", "on"}
    return alike(" ".join(heard), " ".join(meant)) >= SOUNDS


def _numbers(words: list[str]) -> list[str]:
    return [word for word in words if word in NUMBER_WORDS and word != "and"]


def opposed(first: Sequence[str], second: Sequence[str]) -> bool:
    """Whether one has a word and the other its opposite."""
    for one in first:
        for other in second:
            if (one, other) in OPPOSITES or (other, one) in OPPOSITES:
                return True
            long, short = (one, other) if len(one) > len(other) else (other, one)
            if any(long == prefix + short for prefix in ("un", "dis", "de", "re", "in")):
                return True
    return False


def corrected(text: str, vocabulary: Collection[str]) -> str:
    """A sentence with the words that no sentence of the grammar has put right, "" where that cannot be done.

    Args:
        text: What was heard, in the form of voice.words.normal.
        vocabulary: All words of the grammar.
    """
    words = text.split()
    strange = [word for word in words if word not in vocabulary]
    if not strange or len(strange) > STRANGE or len(strange) == len(words):
        return ""
    for word in dict.fromkeys(strange):
        best = max(vocabulary, key=lambda each: alike(word, each) if abs(len(each) - len(word)) <= 3 else 0.0)
        if alike(word, best) < SOUNDS or opposed([word], [best]) or best in NUMBER_WORDS:
            return ""
        words = [best if each == word else each for each in words]
    return " ".join(words)
