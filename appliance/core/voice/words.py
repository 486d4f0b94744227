"""Words as they are spoken: one form for what engines write in many, and how alike two of them sound."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

ONES = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
SCALES = (("million", 1_000_000), ("thousand", 1_000), ("hundred", 100))
SMALL = {word: number for number, word in enumerate(ONES)} | {word: 10 * number for number, word in enumerate(TENS, 2)}
NUMBER_WORDS = frozenset([*SMALL, "hundred", "thousand", "million", "and"])
LONGEST_DIGITS = 9
"""Digits of the longest number that is said as one; longer ones are said digit by digit."""
ALIKE = 0.74
"""A beginning is a misheard wake phrase from here on: "Hayes Park", "his park", "Hespark" for "hey spark"."""
LIKELY = 0.5
"""Likewise where it is known that the wake phrase was said: "This park", "Base park"."""
SHORTENED = (
    (r"\b(what|where|who|how|when|it|that|there|here)'s\b", r"\1 is"),
    (r"\bcan't\b", "can not"),
    (r"\bwon't\b", "will not"),
    (r"n't\b", " not"),
    (r"'re\b", " are"),
    (r"'ll\b", " will"),
    (r"\bi'm\b", "i am"),
    (r"'ve\b", " have"),
)
HEARD = {
    "grafana": ("graphana", "gravana"),
    "kafka": ("cafka", "cofka"),
    "minio": ("mini o",),
    "nas": ("nass", "mass"),
    "nginx": ("engine x", "engine ex"),
    "ollama": ("allama", "obama", "o llama"),
    "postgres": ("post gress", "post grace"),
    "vpn": ("VPN", "Vpn", "v p n"),
}
"""Names that a model of everyday English hardly writes, and what it writes when it hears them."""
SIGNS = (("%", " percent "), ("&", " and "), ("+", " plus "), ("°", " degrees "))


def number_words(number: int) -> str:
    """A number from 0 to 999 999 999 as it is said, without "and"."""
    if number < len(ONES):
        return ONES[number]
    if number < 100:
        rest = number % 10
        return TENS[number // 10 - 2] + (f" {ONES[rest]}" if rest else "")
    name, scale = next((name, scale) for name, scale in SCALES if number >= scale)
    rest = number % scale
    return f"{number_words(number // scale)} {name}" + (f" {number_words(rest)}" if rest else "")


def number_from(words: Sequence[str]) -> int | None:
    """The number that words say ("one hundred and five"); None where they are not one number."""
    stripped = [word for word in words if word != "and"]
    if not stripped or words[0] == "and" or words[-1] == "and":
        return None
    number = _value(stripped)
    return number if number is not None and number_words(number).split() == stripped else None


def _value(words: Sequence[str]) -> int | None:
    total = part = 0
    for word in words:
        if word in SMALL:
            part += SMALL[word]
        elif word == "hundred":
            part *= 100
        elif word in ("thousand", "million"):
            total, part = total + part * dict(SCALES)[word], 0
        else:
            return None
    return total + part


def _digits(found: re.Match[str]) -> str:
    whole, _, rest = found[0].partition(".")
    whole = whole.replace(",", "")
    long = len(whole) > LONGEST_DIGITS or (len(whole) > 1 and whole[0] == "0")
    said = " ".join(ONES[int(digit)] for digit in whole) if long else number_words(int(whole))
    return f" {said} " + (f"point {' '.join(ONES[int(digit)] for digit in rest)} " if rest else "")


def normal(text: str) -> str:
    """Lower case, words and single spaces only: numbers as words, signs said, spelled letters joined ("V. P. N." is "vpn")."""
    text = text.lower().replace("\u2019", "'")
    for pattern, instead in SHORTENED:
        text = re.sub(pattern, instead, text)
    for sign, said in SIGNS:
        text = text.replace(sign, said)
    text = re.sub(r"[0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?", _digits, text)
    text = re.sub(r"[^\w\s]|_", " ", text.replace("'", ""))
    return joined(" ".join(text.split()))


def joined(text: str) -> str:
    """Letters that were spelled, two or more, as one word; "a" and "i" begin none, as they are words themselves."""
    return re.sub(r"\b[b-hj-z](?: [a-z])+\b(?! [a-z]\b)", lambda found: found[0].replace(" ", ""), text)


def phonetic(text: str) -> str:
    """The consonants that are heard, about as Metaphone has them: "kafka", "kaftka" and "cofka" are near each other.

    Spaces are none, so that words which were cut otherwise ("Hayes Park", "hey spark") stay alike.
    """
    code = re.sub(r"[^a-z]", "", normal(text))
    for pattern, instead in (
        (r"^(?:kn|gn|pn)", "n"), (r"^wr", "r"), (r"wh", "w"), (r"ph", "f"), (r"sch|sh|ti(?=o)|ci(?=a)", "X"), (r"tch|ch", "X"),
        (r"th", "0"), (r"dg|j|g(?=[eiy])", "J"), (r"gh", ""), (r"ck|q|c(?![eiy])", "k"), (r"c", "s"), (r"x", "ks"), (r"z", "s"),
        (r"v", "f"), (r"d", "t"), (r"b", "p"), (r"g", "k"), (r"(?<!^)[aeiouyhw]", ""), (r"^[aeiouy]", "A"), (r"(.)\1+", r"\1"),
    ):  # fmt: skip
        code = re.sub(pattern, instead, code)
    return code


def alike(one: str, other: str) -> float:
    """How alike two texts sound, 0 to 1: the better of their letters and of their consonants, the letters counting more."""
    from rapidfuzz.distance import JaroWinkler, Levenshtein

    first, second = normal(one).replace(" ", ""), normal(other).replace(" ", "")
    if not first or not second:
        return float(first == second)
    letters = Levenshtein.normalized_similarity(first, second)
    sounds = JaroWinkler.normalized_similarity(phonetic(first), phonetic(second))
    return 0.7 * letters + 0.3 * sounds


def without(text: str, phrases: Iterable[str], least: float = ALIKE) -> str:
    """The text without the wake phrase that it begins with, also where that was misheard; in the form of `normal`.

    A misheard phrase may have a word more or fewer than it should, and counts from a likeness of `least` on.
    """
    words = normal(text).split()
    best = (0.0, 0)
    for phrase in phrases:
        count = len(phrase.split())
        for length in range(max(1, count - 1), min(count + 1, len(words)) + 1):
            likeness = alike(" ".join(words[:length]), phrase)
            best = max(best, (likeness, length))
    return " ".join(words[best[1] :] if best[0] >= least else words)
