"""From features to text: freely, and at the same time held to the sentences of the grammar."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from appliance.core.voice.local.moonshine import Array, Heard, Model
from appliance.core.voice.local.tokens import BEGIN, END
from appliance.core.voice.local.trie import Pieces, Place, Trie
from appliance.core.voice.words import normal

RATE = 6.5
"""Most pieces of text in a second of sound; more is the model repeating itself."""
LEAST = 8
"""Pieces that the shortest sound may have."""
LONGER = 6
"""Pieces that a sentence of the grammar may have beyond that: names of services are spelled in many."""
BEAM = 16
"""Beginnings that are followed at a time."""
KEPT = 5
"""Sentences that are told."""
ENOUGH = 3
"""Nothing is followed that cannot be among so many best any more."""
COVERED = 0.4
"""A sentence has so much of the free text's pieces, else it is the "no" at the beginning of a long story."""
HOPELESS = 16.0
"""A beginning that is so much less likely (natural logarithm) than the best is not followed."""
SHORTNESS = 0.7
"""Sentences are ordered by total / pieces ** SHORTNESS. By the total (0) the shorter one wins ("what is the temperature" for
"… of the nas"): 93 % of the first 320 measured commands were right with 0, 97 % with 0.5 to 1."""

PHANTOMS = frozenset(["you", "thank you", "thanks for watching", "the", "bye"])
"""What it writes for hiss, hum and clicks."""
MUMBLED = -0.8
"""A single word that is less likely than this is no word: "Eh?", "Boy"."""
NEARLY = 0.5


class Text(NamedTuple):
    """What was written freely."""

    text: str
    score: float
    """Mean log-probability of its pieces."""
    pieces: int
    """The end among them."""


class Found(NamedTuple):
    """A sentence that fits."""

    sentence: int
    score: float
    """Mean log-probability of its pieces."""
    rank: float
    """What they are ordered by."""
    pieces: int


class Beginning(NamedTuple):
    """What was written so far."""

    total: float
    row: int
    """Of the decoder's memory."""
    piece: int
    at: Pieces | None
    """None: a closing mark was written, and only the end may follow."""
    ends: tuple[int, ...] = ()
    """Sentences that are whole."""


class Writer:
    """The likeliest text, piece by piece."""

    def __init__(self, most: int) -> None:
        self.written: list[int] = []
        self.most = most
        self.total = 0.0
        self.count = 0
        self.done = False

    def take(self, scores: Array) -> None:
        """The next piece."""
        piece = int(scores.argmax())
        self.total += float(scores[piece])
        self.count += 1
        self.done = piece == END or self.count >= self.most
        if piece != END:
            self.written.append(piece)


class Search:
    """The likeliest sentences of the grammar.

    Args:
        trie: They.
        width: Beginnings that are followed at a time.
        most: Pieces that a sentence may have.
    """

    def __init__(self, trie: Trie, width: int, most: int) -> None:
        self._trie = trie
        self._width = width
        self._most = most
        self._found: dict[int, Found] = {}
        self._least = float("-inf")
        """A total below which nothing new can be among the best."""
        self._count = 1
        self.alive: list[Beginning] = []

    def start(self, scores: Array, *, named: bool = False) -> None:
        """The first pieces, or the first after a wake phrase."""
        at = self._trie.after_name() if named else self._trie.start()
        self._keep(self._grown(Beginning(0.0, 0, BEGIN, at), 0, scores))

    def take(self, rows: Array, first: int) -> None:
        """The next pieces.

        Args:
            rows: Scores after what is alive.
            first: Row of the first of them.
        """
        grown: list[Beginning] = []
        self._count += 1
        for row, each in enumerate(self.alive, first):
            total = each.total + float(rows[row][END])
            for sentence in each.ends:
                rank = total / self._count**SHORTNESS
                known = self._found.get(sentence)
                if known is None or rank > known.rank:
                    self._found[sentence] = Found(sentence, total / self._count, rank, self._count)
            grown += self._grown(each, row, rows[row])
        self._keep(grown if self._count < self._most else [])

    def best(self) -> list[Found]:
        """The sentences that fit best, best first."""
        return sorted(self._found.values(), key=lambda each: -each.rank)[:KEPT]

    def _keep(self, grown: list[Beginning]) -> None:
        grown.sort(key=lambda each: -each.total)
        best = self.best()
        bar = best[ENOUGH - 1].rank if len(best) >= ENOUGH else float("-inf")
        least = max(grown[0].total - HOPELESS if grown else 0.0, bar * self._most**SHORTNESS)
        self.alive = [each for each in grown[: self._width] if each.total >= least]

    def _grown(self, each: Beginning, row: int, scores: Array) -> list[Beginning]:
        if each.at is None:
            return []
        ways = list(each.at.after.items())
        marks: list[Beginning] = []
        for place in each.at.places:
            ways += self._trie.onward(place).after.items()
            if place.sentence >= 0:
                marks += [self._closed(each, row, mark, place, scores) for mark in self._trie.closing]
        return [self._wrote(each, row, piece, after, scores) for piece, after in ways] + marks

    @staticmethod
    def _closed(each: Beginning, row: int, mark: int, place: Place, scores: Array) -> Beginning:
        return Beginning(each.total + float(scores[mark]), row, mark, None, (place.sentence,))

    @staticmethod
    def _wrote(each: Beginning, row: int, piece: int, after: Pieces, scores: Array) -> Beginning:
        ends = tuple(place.sentence for place in after.places if place.sentence >= 0)
        return Beginning(each.total + float(scores[piece]), row, piece, after, ends)


def recognise(
    model: Model, heard: Heard, trie: Trie | None, given: tuple[int, ...] = (), width: int = BEAM
) -> tuple[Text, list[Found]]:
    """The likeliest text, and the sentences of the grammar that fit best.

    Both are written in the same steps, the free one in the first row: a step of many rows takes little more.

    Args:
        model: Writes.
        heard: The utterance.
        trie: Sentences.
        given: Pieces with which it surely begins; they are neither told nor weighed. Without them "hey spark" is often
            written as another word ("This park"), and then no sentence fits.
        width: Beginnings that are followed at a time.
    """
    most = max(LEAST, int(heard.seconds * RATE))
    writer, search = Writer(most), Search(trie, width, most + LONGER) if trie is not None else None
    now = model.begin(heard, given)
    writer.take(now.scores[-1])
    if search is not None:
        search.start(now.scores[-1], named=bool(given))
    writer_row = 0
    while not writer.done or (search is not None and search.alive):
        alive = search.alive if search is not None else []
        free = 0 if writer.done else 1
        rows = [*([writer_row] * free), *(each.row for each in alive)]
        pieces = [*writer.written[len(writer.written) - free :], *(each.piece for each in alive)]
        now = model.step(heard, now.state, rows, pieces)
        if free:
            writer.take(now.scores[0])
        if search is not None:
            search.take(now.scores, free)
    text = Text(model.tokens.text(writer.written), writer.total / writer.count, writer.count)
    found = search.best() if search is not None else []
    return text, [each for each in found if each.pieces >= COVERED * text.pieces]


def phantom(text: Text, found: Sequence[Found]) -> bool:
    """Whether the model wrote what it writes for noise, and no sentence of the grammar fits about as well."""
    said = normal(text.text)
    noise = said in PHANTOMS or "\u00a9" in text.text or (" " not in said and text.score < MUMBLED)
    return not said or (noise and not (found and found[0].score - text.score >= -NEARLY))


def spelled(model: Model, phrase: str) -> list[tuple[int, ...]]:
    """How the model may write a wake phrase at the beginning."""
    words = phrase.lower().split()
    first, rest = words[0].capitalize(), " ".join(words[1:])
    names = {f" {first}{pause} {name}" for pause in ("", ",") for name in (rest, rest.title())} if rest else {f" {first}"}
    return [model.tokens.cut(name) for name in sorted(names)]


def named(model: Model, phrase: str) -> tuple[int, ...]:
    """The pieces of a wake phrase with which the text is to go on from; none for none."""
    return model.tokens.cut(f" {phrase.title()}") if phrase else ()


def begins(model: Model, heard: Heard, phrases: Sequence[str]) -> list[float]:
    """How likely it is that speech begins with each phrase: mean log-probability of its pieces, its best spelling."""
    spellings = [spelled(model, phrase) for phrase in phrases]
    texts = [pieces for each in spellings for pieces in each]
    longest = max(len(pieces) for pieces in texts)
    padded = [(BEGIN, *pieces, *[END] * (longest - len(pieces))) for pieces in texts]
    scores, _ = model.forced(heard, padded)
    means = iter(
        sum(float(row[at][piece]) for at, piece in enumerate(pieces)) / len(pieces)
        for row, pieces in zip(scores, texts, strict=True)
    )
    return [max(next(means) for _ in each) for each in spellings]
