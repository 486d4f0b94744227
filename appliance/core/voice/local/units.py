"""Units behind numbers, in words: "62 %" is "62 percent", "1 ms" is "1 millisecond"."""

from __future__ import annotations

import re

PREFIXES = {
    "n": "nano", "µ": "micro", "μ": "micro", "u": "micro", "m": "milli", "k": "kilo", "K": "kilo", "M": "mega", "G": "giga",
    "T": "tera", "Ki": "kibi", "Mi": "mebi", "Gi": "gibi", "Ti": "tebi",
}  # fmt: skip
BASES = {
    "s": "second", "W": "watt", "Wh": "watt hour", "V": "volt", "A": "ampere", "Ah": "ampere hour", "Hz": "hertz", "B": "byte",
    "bit": "bit", "b": "bit", "bps": "bit", "g": "gram",
}  # fmt: skip
WHOLE = {
    "%": "percent", "‰": "per mille", "°C": "degrees", "° C": "degrees", "°F": "degrees Fahrenheit", "°": "degrees",
    "min": "minute", "h": "hour", "d": "day", "dB": "decibels", "dBm": "decibel milliwatts", "dBFS": "decibels full scale",
    "fps": "frames per second", "rpm": "turns per minute", "tok": "token", "GT": "gigatransfer",
    "TOPS": "tera operations per second",
}  # fmt: skip
FIXED = {"percent", "per mille", "degrees", "hertz", "decibels"}
"""Words that are the same for one and for many."""
ALLOWED = {
    "n": "s", "µ": "s A V", "μ": "s A V", "u": "s A V", "m": "s W V A Ah Wh g", "k": "W Wh V B Hz bit b bps g", "K": "B bit b",
    "M": "W Wh B Hz bit b bps", "G": "W Wh B Hz bit b bps", "T": "B bit b bps",
    "Ki": "B bit", "Mi": "B bit", "Gi": "B bit", "Ti": "B bit",
}  # fmt: skip
PER = {"s": "second", "min": "minute", "h": "hour", "d": "day"}


def _names() -> dict[str, str]:
    names = {**BASES, **WHOLE}
    for prefix, units in ALLOWED.items():
        names |= {prefix + unit: PREFIXES[prefix] + BASES[unit] for unit in units.split()}
    return names


NAMES = _names()
_UNIT = "|".join(re.escape(unit) for unit in sorted(NAMES, key=len, reverse=True))
QUANTITY = re.compile(rf"(?<![\w.])([-−]?\d+(?:\.\d+)?)\s?({_UNIT})(?:/(s|min|h|d))?(?![\w°%@])")
RATE = re.compile(r"(?<=[a-z])/(s|min|h|d)(?![\w/])")


def with_units(text: str) -> str:
    """A text with the units behind its numbers in words."""
    return RATE.sub(lambda found: f" per {PER[found[1]]}", QUANTITY.sub(_said, text))


def _said(found: re.Match[str]) -> str:
    number, unit, per = found[1], found[2], found[3]
    name = NAMES[unit]
    if number not in {"1", "-1", "−1"} and not name.endswith("s") and not name.endswith(tuple(FIXED)):
        name += "s"
    if unit.endswith("bps"):
        per = "s"
    return f"{number} {name}" + (f" per {PER[per]}" if per else "")
