"""Text of others made safe to show: what would steer a terminal stands there as an escape that can be read.

File names, error messages and settings reach screens, tables and logs of other people. A control character in them could
set a clipboard, move the cursor, forge a line, or turn the reading direction around (CVE-2021-42574).
"""

from __future__ import annotations

import re

UNSAFE = re.compile(
    "["
    "\x00-\x1f\x7f-\x9f"  # C0, DEL, C1 (ECMA-48)
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # bidirectional controls (UAX 9)
    "\u200b\u2060-\u2064\ufeff"  # characters without a width of their own
    "\u2028\u2029"  # separators of lines and paragraphs
    "\ud800-\udfff"  # bytes of a file name that are no UTF-8
    "]"
)
"""Characters that are shown as escapes."""


def printable(text: str, keep: str = "") -> str:
    r"""The text with its control characters made visible: ESC becomes `\x1b`.

    Args:
        text: From anywhere.
        keep: Control characters that stay as they are, such as "\n" where lines are meant.
    """
    if text.isprintable():
        return text
    return UNSAFE.sub(lambda found: found[0] if found[0] in keep else _escape(found[0]), text)


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
