"""What a fact is, and what its parser is given."""

from __future__ import annotations

import importlib
import math
import pkgutil
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from appliance.core.fleet.model import Container, Disk, Unit
from appliance.core.printable import printable

LONGEST = 1 << 19
"""Characters of one section; what says more is not parsed."""
NUMBER = re.compile(r"-?[0-9]+")
MOST = 1 << 63
"""No number of the kernel is as large; nor can one be kept, sent or reckoned with."""


class NotToldError(Exception):
    """The node does not tell this, for the reason given."""


@dataclass(frozen=True)
class Told:
    """What a node said of one fact.

    Attributes:
        text: Output of its script; control characters but tab and newline are shown as escapes.
        files: Lines of its files, by path; a file that is not there, or is empty, is not in it.
    """

    text: str = ""
    files: Mapping[str, list[str]] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """Those of the text that are not empty. Raises NotToldError where the script says why there is nothing."""
        if self.text.startswith("!"):
            raise NotToldError(self.text[1:].partition("\n")[0].strip()[:200])
        return [line for line in self.text.split("\n") if line.strip()]

    def line(self) -> str:
        """The first one. Raises NotToldError where there is none."""
        for line in self.lines():
            return line.strip()
        raise NotToldError("it said nothing")

    def first(self, *paths: str) -> str:
        """First line of the first of these files that is there; empty where none is."""
        return next((self.files[path][0].strip() for path in paths if self.files.get(path)), "")

    def number(self, path: str) -> int | None:
        """The number that a file holds; None where it does not."""
        text = self.first(path)
        return int(text) if NUMBER.fullmatch(text) else None


@dataclass(frozen=True)
class Fact:
    """One thing that is asked of a node.

    Attributes:
        name: As it stands in `missing`, and at its section's mark.
        parse: Pure; returns fields. Raises NotToldError; ValueError, LookupError or ArithmeticError where it is told garbage.
        files: Files that it needs, as patterns for the shell there; all facts' files are read by one process.
        script: POSIX sh that prints the rest. A first line "!why" says why there is nothing. Empty where files are all.
    """

    name: str
    parse: Callable[[Told], Mapping[str, Any]]
    files: tuple[str, ...] = ()
    script: str = ""

    def takes(self, path: str) -> bool:
        """Whether a file is one of its own."""
        return any(pattern.fullmatch(path) is not None for pattern in _patterns(self.files))

    def answer(self, told: Told) -> tuple[Mapping[str, Any], str]:
        """(its fields, why they are missing): one of them is empty."""
        if len(told.text) > LONGEST:
            return {}, f"it said {len(told.text)} characters; at most {LONGEST} are read"
        try:
            fields = self.parse(told)
            _plausible(fields)
        except NotToldError as error:
            return {}, str(error)
        except (ValueError, LookupError, ArithmeticError, RecursionError):
            return {}, f"it said what cannot be read: {_begin(told)}"
        return fields, ""


def _plausible(value: object) -> None:
    """Raises ValueError where a number anywhere in it is none that can be reckoned with."""
    if isinstance(value, float):
        if not math.isfinite(value) or abs(value) >= MOST:
            raise ValueError(value)
    elif isinstance(value, int):
        if abs(value) >= MOST:
            raise ValueError
    elif isinstance(value, Mapping):
        for each in value.values():
            _plausible(each)
    elif isinstance(value, tuple) and not (value and isinstance(value[0], (str, Unit, Container))):
        for each in value:
            _plausible(each)
    elif isinstance(value, Disk):
        _plausible((value.size, value.used))


@cache
def _patterns(files: tuple[str, ...]) -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(re.escape(pattern).replace(r"\*", "[^/]*").replace(r"\[0\-9\]", "[0-9]")) for pattern in files)


def _begin(told: Told) -> str:
    begin = told.text.strip()[:60] or next((lines[0][:60] for lines in told.files.values()), "")
    return repr(printable(begin)) if begin else "nothing"


@cache
def found(kind: str) -> tuple[Fact, ...]:
    """All facts of a kind: FACT of each file in its folder, by the files' names.

    Args:
        kind: "metrics", "host" or "slow".
    """
    package = importlib.import_module(f"{__package__}.{kind}")
    names = sorted(module.name for module in pkgutil.iter_modules(package.__path__))
    return tuple(importlib.import_module(f"{package.__name__}.{name}").FACT for name in names)
