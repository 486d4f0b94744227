"""How a command is written so that every login shell hands it to /bin/sh unchanged, and so that we know that it began.

The login shell of the other side may be bash, dash, ash, fish, csh or one that runs nothing; its start-up files may print. So
the command is quoted with what all of them read alike, and it begins with a mark on both outputs: what comes before the mark is
not the command's, and where no mark comes nothing was run.
"""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

WORD = 700
"""Characters of one word: csh takes no more than 4096 bytes, and quotes and letters may be several."""


@dataclass(frozen=True)
class Wrapped:
    """A command as it is sent.

    Attributes:
        line: For the login shell.
        mark: Begins both outputs; behind it come the number of the process and ">".
        prompt: Asks for the password of sudo; empty where none is given.
        name: Of the program, for people.
        sudo: Whether it goes through sudo.
    """

    line: str
    mark: bytes
    prompt: bytes = b""
    name: str = ""
    sudo: bool = False


def wrap(command: Sequence[str], *, sudo: str = "", plain: bool = True) -> Wrapped:
    """Write a command for the other side.

    Args:
        command: Program and arguments.
        sudo: Empty for none, "auto" for one that asks nothing, "password" for one that is given the password.
        plain: Whether it is to speak the C locale, which programs read; else the locale is the login's own.
    """
    token = secrets.token_hex(8)
    mark, prompt = f"<{token}:", f"[{token}]" if sudo == "password" else ""
    speaks = "LC_ALL=C; export LC_ALL; " if plain else ""
    inner = f"printf %s '{mark}'$$'>'; printf %s '{mark}'$$'>' >&2; {speaks}exec {shlex.join(command)}"
    if "\n" in inner or "\r" in inner:
        inner = one_line(inner)
    line = f"exec {_prefix(sudo, prompt)}/bin/sh -c {_script(inner)}"
    return Wrapped(line, mark.encode(), prompt.encode(), command[0], bool(sudo))


def ending(wrapped: Wrapped, pid: int, signal: str) -> str:
    """What ends a command there: its whole group of processes where it leads one, else itself; by sudo as the command was."""
    way = ("password" if wrapped.prompt else "auto") if wrapped.sudo else ""
    script = f"kill -s {signal} -- -{pid} 2>/dev/null || kill -s {signal} {pid}"
    return f"exec {_prefix(way, wrapped.prompt.decode())}/bin/sh -c {quote(script)}"


def _prefix(sudo: str, prompt: str) -> str:
    if not sudo:
        return ""
    how = f"-k -S -p '{prompt}'" if sudo == "password" else "-n"
    return f"env LC_ALL=C sudo {how} -- "


def _script(inner: str) -> str:
    """The script as one word; a long one as several, which sh puts together again."""
    if len(inner) <= WORD:
        return quote(inner)
    parts = [quote(inner[start : start + WORD]) for start in range(0, len(inner), WORD)]
    return quote('IFS=; eval "unset IFS; $*"') + " sh " + " ".join(parts)


def quote(text: str) -> str:
    """Quote one line so that sh, bash, csh and fish read the same: what one of them treats apart stands alone."""
    apart = {"'": '"\'"', "\\": "\\\\", "!": "\\!"}
    return "'" + "".join(f"'{apart[each]}'" if each in apart else each for each in text) + "'"


def one_line(script: str) -> str:
    """The same script without line ends, which csh does not take between quotes."""
    text = script.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return f'eval "$(printf %b {shlex.quote(text)})"'
