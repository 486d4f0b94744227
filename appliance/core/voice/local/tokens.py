"""The pieces that the recognition model writes: text into pieces and back.

The vocabulary is one of byte pairs, its order is the order of merging, and "▁" (U+2581) stands for a space. No piece has that
mark inside, so that each word may be cut for itself. The file: for each piece its length, in one byte, or in two from 128 on
(low seven bits with the high bit set, then the count of 128s), and its bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

BEGIN = 1
END = 2
BYTES = 3
"""Piece of the byte 0; those of the other bytes follow."""
FIRST_MERGED = BYTES + 256
SPACE = "▁"


def vocabulary(data: bytes) -> list[bytes]:
    """The pieces of a tokenizer.bin.

    Raises:
        ValueError: The file ends within a piece.
    """
    pieces, at = [], 0
    while at < len(data):
        length = data[at]
        at += 1
        if length >= 128:
            if at >= len(data):
                raise ValueError("the vocabulary ends within a length")
            length += data[at] * 128 - 128
            at += 1
        if at + length > len(data):
            raise ValueError("the vocabulary ends within a piece")
        pieces.append(data[at : at + length])
        at += length
    return pieces


class Tokens:
    """Cuts words into pieces, and joins pieces.

    Args:
        path: tokenizer.bin.

    Raises:
        ValueError: The file is damaged. OSError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.pieces = vocabulary(path.read_bytes())
        self._ids: dict[bytes, int] = {}
        for number, piece in enumerate(self.pieces):
            if number >= FIRST_MERGED:
                self._ids.setdefault(piece, number)

    def cut(self, text: str) -> tuple[int, ...]:
        """The pieces of a text as the model would write them; a leading space has to be there if it is meant."""
        parts = [mark.encode() for mark in text.replace(" ", SPACE)]
        while merged := self._cheapest(parts):
            _, at = merged
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        cut: list[int] = []
        for part in parts:
            number = self._ids.get(part)
            cut += [number] if number is not None else [BYTES + byte for byte in part]
        return tuple(cut)

    def _cheapest(self, parts: list[bytes]) -> tuple[int, int] | None:
        pairs = ((self._ids.get(parts[at] + parts[at + 1]), at) for at in range(len(parts) - 1))
        return min(((number, at) for number, at in pairs if number is not None), default=None)

    def text(self, pieces: Iterable[int]) -> str:
        """The text of pieces; those that stand for no text are left out."""
        data = b"".join(self._bytes(piece) for piece in pieces)
        return data.decode(errors="ignore").replace(SPACE, " ").strip()

    def _bytes(self, piece: int) -> bytes:
        if BYTES <= piece < FIRST_MERGED:
            return bytes([piece - BYTES])
        if piece < BYTES or piece >= len(self.pieces) or self.pieces[piece].startswith(b"<<"):
            return b""
        return self.pieces[piece]
