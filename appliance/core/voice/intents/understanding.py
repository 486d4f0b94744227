"""From a transcript to a command, with how sure that is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from appliance.core.actions import ActionRegistry
from appliance.core.state import LiveState
from appliance.core.voice.intents.book import Book, book
from appliance.core.voice.intents.model import Command
from appliance.core.voice.intents.names import NEWEST, READ, Names, names, newest
from appliance.core.voice.model import Guess, Transcript
from appliance.core.voice.words import alike, normal

if TYPE_CHECKING:
    from appliance.core.voice.intents.grammar import Grammar

EXACT, DISPUTED = 1.0, 0.6
"""How sure: the very words; the words, but the sound fits another sentence."""
SURE = 0.88
"""From here on a command that changes something is carried out without asking back."""
LIKELY = 0.6
"""From here on a question is answered."""
AT_ONCE = ((-0.6, 0.0), (-1.3, 0.9))
"""What a change that only the sound speaks for needs, so that nobody is asked: how well the sentence fits beside what was heard
freely (difference of the scores), with how alike the two are written. "Silence the baby for ten minutes" fits "silence memory
for ten minutes" by -0.71 with 0.84. Measured with 20 such sentences and 28 right ones by four voices, in quiet and at 15 and
10 dB over noise: of the 240, ten were carried out as something else without this, two with it; of 226 right ones that were
understood, twelve were asked about without it, and 36 with it (7 of 84 in quiet). Danger is asked about in any case."""
APART = 0.03
"""A near sentence must be better by so much than the next one that means something else."""
ROUNDS = 4
ALIKE, CLEARLY = 0.75, 0.1
"""How alike a name must sound that was asked for, and how much more so than the next one."""
ARTICLES = ("the service", "the node", "the machine", "the", "a", "it is the", "it is", "i mean the", "i mean")


class Understanding:
    """Has the grammar of the moment, and reads transcripts by it.

    Args:
        registry: The actions.
        state: Names are taken from there.
    """

    def __init__(self, registry: ActionRegistry, state: LiveState) -> None:
        self._registry, self._state = registry, state
        self._versions: tuple[int, ...] = ()
        self._names: Names = {}
        self._grammar: Grammar | None = None

    @property
    def book(self) -> Book:
        """The table of phrases."""
        return book()

    @property
    def grammar(self) -> Grammar:
        """As it is now: made anew only where actions or names are others than before."""
        versions = (len(self._registry), *(self._state.get(section).version for section in READ))
        if self._grammar is None or versions != self._versions:
            found = names(self._state)
            if self._grammar is None or found != self._names or versions[0] != self._versions[0]:
                from appliance.core.voice.intents.grammar import Grammar

                self._grammar = Grammar(self._registry, found, self.book)
            self._versions, self._names = versions, found
        return self._grammar

    def plain(self, text: str) -> str:
        """A sentence without the words of politeness around it, in the form of voice.words.normal."""
        text = normal(text)
        answers = self.book.answers
        for _ in range(ROUNDS):
            before = text
            text = _cut(text, answers.polite, begin=True)
            text = _cut(text, answers.after, begin=False)
            if text == before:
                break
        return text

    def read(self, transcript: Transcript) -> Command | None:
        """What was meant; None where nobody can say.

        The very words count most, then a sentence that the sound fits well, then a near one.
        """
        grammar = self.grammar
        text, guessed = self.plain(transcript.text), self._guessed(transcript)
        exact = self._match(grammar, normal(transcript.text), text)
        if exact is not None:
            other = guessed is not None and not same(guessed, exact)
            exact = msgspec.structs.replace(exact, confidence=DISPUTED if other else EXACT)
        found = exact or guessed or self._near(grammar, text)
        return self._looked_up(found) if found is not None else None

    def _looked_up(self, command: Command) -> Command:
        """With the identifier in place of "the last task"."""
        if not any(str(each).startswith(NEWEST) for each in command.args.values()):
            return command
        known = newest(self._state)
        args = {name: known.get(str(each).removeprefix(NEWEST), each) for name, each in command.args.items()}
        return msgspec.structs.replace(command, args=args)

    @staticmethod
    def _match(grammar: Grammar, *texts: str) -> Command | None:
        found = (grammar.match(text) for text in dict.fromkeys(texts) if text)
        return next((each for each in found if each is not None), None)

    def _guessed(self, transcript: Transcript) -> Command | None:
        """The sentence that the sound fits, where it fits well, and clearly better than any that means something else."""
        from appliance.core.voice.local.deciding import accept, confidence

        found = [(each, self.grammar.match(each.text)) for each in transcript.guesses]
        known = [(guess, command) for guess, command in found if command is not None]
        if not known:
            return None
        best, meant = known[0]
        second = next((guess.score for guess, command in known[1:] if not same(command, meant)), None)
        if transcript.score is None or not accept(transcript.score, best.score, second):
            return None
        fits = confidence(transcript.score, best.score, second)  # 0.5 where it is only just accepted
        sure = LIKELY + 2 * (EXACT - LIKELY) * max(0.0, fits - 0.5)
        if meant.action and not self._registry.get(meant.action).query and not self._firm(transcript, best):
            sure = min(sure, SURE - 0.01)
        return msgspec.structs.replace(meant, confidence=sure)

    def _firm(self, transcript: Transcript, best: Guess) -> bool:
        """Whether what was heard freely does not speak against a sentence."""
        if transcript.score is None:
            return False
        fits, written = best.score - transcript.score, alike(self.plain(transcript.text), best.text)
        return any(fits >= gap and written >= likeness for gap, likeness in AT_ONCE)

    def named(self, choices: Sequence[tuple[str, Any]], transcript: Transcript) -> tuple[Any, float] | None:
        """Which of some names was said, and how sure that is; None where it was none, or might be two.

        Args:
            choices: (as it is said, its value), …
            transcript: What was heard: the name alone, or with an article.
        """
        text = _cut(self.plain(transcript.text), ARTICLES, begin=True)
        exact = {value for said, value in choices if said in {text, f"the {text}"}}
        if len(exact) == 1:
            value = exact.pop()
            return newest(self._state).get(str(value).removeprefix(NEWEST), value), EXACT
        rated = sorted(((alike(text, said), value) for said, value in choices), key=lambda each: -each[0]) if text else []
        if not rated or rated[0][0] < ALIKE:
            return None
        second = next((rate for rate, value in rated if value != rated[0][1]), 0.0)
        return (rated[0][1], DISPUTED) if rated[0][0] - second >= CLEARLY else None

    def _near(self, grammar: Grammar, text: str) -> Command | None:
        from appliance.core.voice.intents.near import corrected, nearest

        put_right = corrected(text, grammar.vocabulary)
        if put_right and (command := grammar.match(put_right)) is not None:
            return msgspec.structs.replace(command, confidence=SURE - 0.01)
        found = [(grammar.match(each), rate) for each, rate in nearest(text, grammar.bare)]
        known = [(command, rate) for command, rate in found if command is not None]
        if not known:
            return None
        best, rate = known[0]
        second = next((rated for command, rated in known[1:] if not same(command, best)), 0.0)
        if rate - second < APART:
            return None
        return msgspec.structs.replace(best, confidence=min(rate, SURE) - 0.01)


def same(one: Command, other: Command) -> bool:
    """Whether two sentences mean the same."""
    return (one.intent, one.args, one.subject, one.wants) == (other.intent, other.args, other.subject, other.wants)


def _cut(text: str, phrases: Iterable[str], *, begin: bool) -> str:
    for phrase in sorted(phrases, key=len, reverse=True):
        if begin and text.startswith(f"{phrase} "):
            return text[len(phrase) + 1 :]
        if not begin and text.endswith(f" {phrase}"):
            return text[: -len(phrase) - 1]
    return text
