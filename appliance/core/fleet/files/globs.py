"""Which names of a folder are meant: patterns as rsync and gitignore have them."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from appliance.errors import InvalidArgumentsError

MOST = 100
"""Patterns at one time."""
LONGEST = 500
"""Characters of one pattern."""


@dataclass(frozen=True)
class Chosen:
    """Which entries of a tree are meant.

    A pattern without "/" fits a name at any depth, one with "/" the path from the folder on; "*" and "?" stop at "/",
    "**" does not; a "/" at its end fits folders alone. What lies below an excluded folder is excluded with it.

    Attributes:
        include: Files must fit one of these; all where empty.
        exclude: Nothing that fits one of these.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def takes(self, path: str, *, folder: bool) -> bool:
        """Whether an entry is meant; its folder is."""
        if any(fits(pattern, path, folder=folder) for pattern in self.exclude):
            return False
        return folder or not self.include or any(fits(pattern, path, folder=False) for pattern in self.include)


def chosen(include: Sequence[str], exclude: Sequence[str]) -> Chosen:
    """Checked patterns. Raises InvalidArgumentsError."""
    for pattern in (*include, *exclude):
        if not pattern.strip("/") or len(pattern) > LONGEST or "\0" in pattern:
            raise InvalidArgumentsError(
                f"{pattern[:40]!r} is no pattern.", f'write one such as "*.log" or "cache/", {LONGEST} characters at most.'
            )
    if len(include) > MOST or len(exclude) > MOST:
        raise InvalidArgumentsError(f"These are more than {MOST} patterns.", "give fewer, or copy smaller folders.")
    return Chosen(tuple(include), tuple(exclude))


def fits(pattern: str, path: str, *, folder: bool) -> bool:
    """Whether a pattern fits a path."""
    if pattern.endswith("/") and not folder:
        return False
    plain = pattern.strip("/")
    whole = "/" in plain or pattern.startswith("/")
    return compiled(plain).fullmatch(path if whole else path.rpartition("/")[2]) is not None


@functools.lru_cache(maxsize=2 * MOST)
def compiled(pattern: str) -> re.Pattern[str]:
    """A pattern as a regular expression."""
    found, at = "", 0
    while at < len(pattern):
        sign = pattern[at]
        if pattern.startswith("**/", at):
            found, at = found + "(?:.*/)?", at + 3
        elif pattern.startswith("**", at):
            found, at = found + ".*", at + 2
        elif sign in "*?":
            found, at = found + ("[^/]*" if sign == "*" else "[^/]"), at + 1
        elif sign == "[" and (end := pattern.find("]", at + 2)) > 0:
            found, at = found + _class(pattern[at + 1 : end]), end + 1
        else:
            found, at = found + re.escape(sign), at + 1
    return re.compile(found, re.DOTALL)


def _class(inside: str) -> str:
    negated = inside.startswith(("!", "^"))
    body = re.sub(r"([\\\[\]&~|^])", r"\\\1", inside[1:] if negated else inside)
    made = f"[{'^' if negated else ''}{body}]"
    try:
        re.compile(made)
    except re.error:
        raise InvalidArgumentsError(f"[{inside}] is no range of characters.", "write one such as [a-z].") from None
    return f"(?!/){made}"
