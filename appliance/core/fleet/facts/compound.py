r"""One command that asks for many facts at once, and its answer taken apart again.

Each section begins with a mark that nobody there can know, so that what a command prints is never taken for a section.
The script goes to `sh` as its input: a login shell of any kind starts it, and it is parsed as a whole before it runs, so
that half of one does nothing. All files are read by one `grep -s .`, which says of each line where it comes from. What is
said is gathered there and sent at once: a packet for each section would cost both sides more than the asking.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from appliance.core.fleet.facts.fact import Fact, Told, found
from appliance.core.printable import printable
from appliance.errors import ShellError

COMMAND = ("sh",)
"""What is run there; the script is its input."""
PATHS = "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin"
KEEP = f'PATH="$PATH:{PATHS}"; LC_ALL=C; LANGUAGE=; export PATH LC_ALL LANGUAGE'
END = "end"
FILES = "files"


@dataclass(frozen=True)
class Answers:
    """What came of asking.

    Attributes:
        fields: Of all facts that were told.
        missing: Fact → why it was not.
    """

    fields: Mapping[str, Any]
    missing: Mapping[str, str]


@dataclass(frozen=True)
class Question:
    """One asking.

    Attributes:
        facts: What for.
        mark: Nobody else's.
        script: Input of `COMMAND`.
    """

    facts: tuple[Fact, ...]
    mark: str
    script: bytes

    @staticmethod
    def of(kind: str, mark: str = "") -> Question:
        """Ask for all facts of a kind.

        Args:
            kind: As `found` has it.
            mark: A fresh one where it is empty.
        """
        mark = mark or secrets.token_hex(12)
        return Question(found(kind), mark, f"M={mark}\n{_body(kind)}".encode())

    def read(self, output: bytes, complaint: bytes = b"") -> Answers:
        """Take the answer apart.

        Raises:
            ShellError: It does not look like one at all, or it was not ended.
        """
        sections = self._sections(output)
        if END not in sections:
            raise ShellError(*_no_answer(sections, output, complaint))
        files = _files(sections.get(FILES, ""))
        fields: dict[str, Any] = {}
        missing: dict[str, str] = {}
        for fact in self.facts:
            own = {path: lines for path, lines in files.items() if fact.takes(path)} if fact.files else {}
            told, why = fact.answer(Told(sections.get(fact.name, ""), own))
            fields.update(told)
            if why:
                missing[fact.name] = why
        return Answers(fields, missing)

    def _sections(self, output: bytes) -> dict[str, str]:
        parts = ("\n" + output.decode(errors="replace")).split(f"\n{self.mark} ")[1:]
        names = {FILES, END, *(fact.name for fact in self.facts)}
        bodies = ((name, body) for name, _, body in (part.partition("\n") for part in parts) if name in names)
        return {name: printable(body, keep="\n\t") for name, body in bodies}


@cache
def _body(kind: str) -> str:
    facts = found(kind)
    files = " ".join(dict.fromkeys(path for fact in facts for path in fact.files))
    pieces = [(FILES, f"grep -as . {files} /dev/null")] if files else []
    pieces += [(fact.name, fact.script) for fact in facts if fact.script]
    said = "\n".join(f"mark {name}\n{script}" for name, script in pieces)
    return (
        f'{KEEP}\nmark() {{ printf \'\\n%s %s\\n\' "$M" "$1"; }}\n'
        f"said=$(\n{{\n{said}\nmark {END}\n}} </dev/null 2>/dev/null\n)\nprintf '%s\\n' \"$said\"\n"
    )


def _files(text: str) -> dict[str, list[str]]:
    files: dict[str, list[str]] = {}
    for line in text.split("\n"):
        path, colon, rest = line.partition(":")
        if colon and path.startswith("/"):
            files.setdefault(path, []).append(rest)
    return files


def _no_answer(sections: Mapping[str, str], output: bytes, complaint: bytes) -> tuple[str, str]:
    if sections:
        return f"The answer ends after {list(sections)[-1]}.", "look whether that machine is out of memory, or was cut off."
    said = next((line for line in (complaint + b"\n" + output).decode(errors="replace").split("\n") if line.strip()), "")
    told = f": it said {printable(said.strip())[:120]!r}" if said else ""
    return f"It does not run sh for us{told}.", "look at the login shell of that user, and for a forced command at its key."


def names(kinds: Sequence[str] = ("metrics", "host", "slow")) -> tuple[str, ...]:
    """All facts' names."""
    return tuple(fact.name for kind in kinds for fact in found(kind))
