"""A picture over the cells of the screen, on terminals that speak the kitty graphics protocol.

Such a picture is no text: frames painted below leave it where it is. So it is sent once, and taken away when another page,
a dialog or another picture takes its place. A terminal that does not keep up misses it as it misses frames, and gets it later.
"""

from __future__ import annotations

from collections.abc import Callable

TAKE_AWAY = "\x1b_Ga=d,d=A,q=2\x1b\\"
"""Deletes all pictures that are seen, and their data; answered with nothing."""


class Overlay:
    """The one picture of a session.

    Args:
        send: Writes to the terminal; False where the terminal did not take it.
    """

    def __init__(self, send: Callable[[str], bool]) -> None:
        self._send = send
        self._wanted = ""
        self._shown: str | None = ""

    def place(self, picture: str, column: int, row: int) -> None:
        """Show a picture.

        Args:
            picture: Escape sequence that draws it at the cursor.
            column: Of its upper left cell, from 0.
            row: The same.
        """
        self._wanted = f"\x1b7\x1b[{row + 1};{column + 1}H{picture}\x1b8"
        self.flush()

    def clear(self) -> None:
        """Show none."""
        self._wanted = ""
        self.flush()

    def again(self) -> None:
        """Nobody knows what the terminal shows: send it anew."""
        self._shown = None
        self.flush()

    def flush(self) -> None:
        """Send what the terminal has not got yet; called after each frame."""
        if self._wanted != self._shown and self._send((TAKE_AWAY if self._shown != "" else "") + self._wanted):
            self._shown = self._wanted
