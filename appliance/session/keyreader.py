"""Names of keys out of what a terminal or a serial line sends, without Textual."""

from __future__ import annotations

import codecs
import re

ESC = "\x1b"
FUNCTION_KEYS = {
    **{f"\x1bO{letter}": f"F{number}" for number, letter in enumerate("PQRS", 1)},
    **{f"\x1b[[{letter}": f"F{number}" for number, letter in enumerate("ABCDE", 1)},
    **{f"\x1b[{code}~": f"F{number}" for number, code in enumerate((11, 12, 13, 14, 15, 17, 18, 19, 20, 21, 23, 24), 1)},
}
"""Of xterm, the VT220 and the Linux console (console_codes(4))."""
SEQUENCE = re.compile(r"\x1b(?:\[\[[A-E]|\[[0-?]*[ -/]*[@-~]|O[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[^\[\]O\x1b])", re.DOTALL)
"""A whole escape sequence (ECMA-48, section 5.4), or Alt and a key."""
UNFINISHED = re.compile(r"\x1b(?:\[\[?[0-?]*[ -/]*|O|\][^\x07\x1b]{0,256}\x1b?)?")
"""The beginning of one."""


class KeyReader:
    """Turns bytes into names: "s", "?", "F5", "esc". Sequences that are no function key are nothing, never their letters."""

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")("ignore").decode
        self._rest = ""

    @property
    def waiting(self) -> bool:
        """A sequence began and has not ended; call `flush` where nothing follows soon."""
        return bool(self._rest)

    def feed(self, data: bytes) -> list[str]:
        """The keys in these bytes."""
        text, self._rest = self._rest + self._decode(data), ""
        found: list[str] = []
        while text:
            if text[0] != ESC:
                found += [text[0]] if text[0].isprintable() or text[0] in "\r\n\t" else []
                text = text[1:]
            elif whole := SEQUENCE.match(text):
                found += [FUNCTION_KEYS[whole[0]]] if whole[0] in FUNCTION_KEYS else []
                text = text[whole.end() :]
            elif UNFINISHED.fullmatch(text):
                self._rest, text = text, ""
            else:
                found.append("esc")
                text = text[1:]
        return found

    def flush(self) -> list[str]:
        """What a sequence was that did not go on: a lone Escape is a key, half a sequence is nothing."""
        rest, self._rest = self._rest, ""
        return ["esc"] if rest == ESC else []
