"""What may be said, as a tree of words, and between two words the pieces in which the model may write what comes next.

The model writes capitals, commas, hyphens, digits and full stops, and sentences of the grammar have none of them. So each
word has several spellings here, and all of them lead on to the same place in the tree of words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from appliance.core.voice.words import HEARD, NUMBER_WORDS, number_from

Cut = Callable[[str], tuple[int, ...]]
CLOSING = ".?!,"
"""What may stand after the last word."""
LONGEST_NUMBER = 6
"""Words of the longest number that is also tried as digits."""
LONGEST_LETTERS = 6
"""Letters of the longest run that is also tried as one word."""


class Place:
    """A place between two words."""

    __slots__ = ("follow", "named", "pieces", "sentence")

    def __init__(self) -> None:
        self.follow: dict[str, Place] = {}
        self.sentence = -1
        """Number of the sentence that may end here; -1: none."""
        self.named = False
        """A wake phrase ends here, and any sentence may follow."""
        self.pieces: Pieces | None = None


class Pieces:
    """A place within a word: which pieces go on, and the places that are reached if the word ends here."""

    __slots__ = ("after", "places")

    def __init__(self) -> None:
        self.after: dict[int, Pieces] = {}
        self.places: list[Place] = []

    def put(self, pieces: Iterable[int], place: Place) -> None:
        """A way to a place."""
        at = self
        for piece in pieces:
            at = at.after.setdefault(piece, Pieces())
        if place not in at.places:
            at.places.append(place)


class Trie:
    """All sentences, each with a wake phrase before it or without.

    Args:
        texts: Sentences: lower case, words and single spaces.
        before: Wake phrases, and others after which any sentence may follow.
        cut: Cuts text into pieces.
    """

    def __init__(self, texts: Iterable[str], before: Iterable[str], cut: Cut) -> None:
        self._cut = cut
        self._known: dict[str, tuple[int, ...]] = {}
        self.closing = tuple(self._pieces(mark)[-1] for mark in CLOSING)
        self.root = Place()
        self._start, self._after = Place(), Place()
        self._after.named = True
        for number, text in enumerate(texts):
            self._walk(self.root, text).sentence = number
        self._start.follow = dict(self.root.follow)
        for phrase in before:
            self._name(self._start, phrase.lower().split())
            self._name(self._after, phrase.lower().split())

    @staticmethod
    def _walk(place: Place, text: str) -> Place:
        for word in text.split():
            place = place.follow.setdefault(word, Place())
        return place

    def _name(self, at: Place, words: list[str]) -> None:
        """A wake phrase: a way of its own, which shares no place with the sentences."""
        for word in words:
            known = at.follow.get(word)
            if known is None or known is self.root.follow.get(word):
                fresh = Place()
                if known is not None:
                    fresh.follow, fresh.sentence = dict(known.follow), known.sentence
                at.follow[word] = known = fresh
            at = known
        at.named = True

    def start(self) -> Pieces:
        """Where an utterance begins."""
        return self._of(self._start)

    def after_name(self) -> Pieces:
        """Where it goes on after a wake phrase."""
        return self._of(self._after)

    def onward(self, place: Place) -> Pieces:
        """What may be written after a word."""
        return self._of(place)

    def _of(self, place: Place) -> Pieces:
        if place.pieces is None:
            place.pieces = Pieces()
            for spelling, target in spellings(place.follow):
                for before in ("",) if place is self._start else ("", ",", "-"):
                    self._put(place.pieces, before, spelling, target)
            if "percent" in place.follow:
                place.pieces.put(self._pieces("%"), place.follow["percent"])
            if place.named:
                for spelling, target in spellings(self.root.follow):
                    for before in ("", ",", ".", "!"):
                        self._put(place.pieces, before, spelling, target)
        return place.pieces

    def _put(self, pieces: Pieces, before: str, spelling: str, target: Place) -> None:
        text = f"-{spelling}" if before == "-" else f" {spelling}"
        ahead = self._pieces(before) if before not in ("", "-") else ()
        pieces.put((*ahead, *self._pieces(text)), target)

    def _pieces(self, text: str) -> tuple[int, ...]:
        known = self._known.get(text)
        if known is None:
            known = self._known[text] = self._cut(text)
        return known


def spellings(follow: Mapping[str, Place]) -> Iterator[tuple[str, Place]]:
    """How the words that follow may be written, and where each leads."""
    for word, place in follow.items():
        yield word, place
        yield word.capitalize(), place
        for heard in HEARD.get(word, ()):
            yield heard, place
        if len(word) == 1:
            for run, target in _runs(place, word, LONGEST_LETTERS, lambda each: len(each) == 1):
                letters = run.replace(" ", "")
                yield from ((letters.upper(), target), (letters.capitalize(), target))
        if word in NUMBER_WORDS:
            for run, target in [(word, place), *_runs(place, word, LONGEST_NUMBER, NUMBER_WORDS.__contains__)]:
                number = number_from(run.split())
                if number is not None:
                    yield str(number), target


def _runs(place: Place, said: str, longest: int, fits: Callable[[str], bool]) -> Iterator[tuple[str, Place]]:
    """The words of a kind that follow one of it, each with all before it."""
    if longest > 1:
        for word, target in place.follow.items():
            if fits(word):
                yield f"{said} {word}", target
                yield from _runs(target, f"{said} {word}", longest - 1, fits)
