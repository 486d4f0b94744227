"""A text as a QR code for a terminal."""

from __future__ import annotations

from appliance.errors import InvalidArgumentsError

QUIET = 2
"""Light modules around it; the standard asks for four, readers do with two."""
LARGEST = 1200
"""Characters: beyond it the code is finer than a camera reads from a screen."""


def matrix(text: str) -> tuple[str, ...]:
    """The code, a line of 0 (light) and 1 (dark) a row, with its quiet zone.

    Raises:
        InvalidArgumentsError: The text is too long.
    """
    if len(text) > LARGEST:
        raise InvalidArgumentsError(f"{len(text)} characters are too many for a code on a screen.", "take the file instead.")
    import segno

    code = segno.make_qr(text, error="l", boost_error=False)
    return tuple("".join("1" if module else "0" for module in row) for row in code.matrix_iter(border=QUIET))


def small(text: str) -> str:
    """The text with nothing that a reader does not need: comments, blanks, empty lines."""
    lines = (line.split("#")[0].strip() for line in text.splitlines())
    return "\n".join(line.replace(" = ", "=").replace(", ", ",") for line in lines if line)
