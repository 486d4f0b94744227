"""What a command says on one node: its head and its tail are kept, what lies between is counted."""

from __future__ import annotations

from collections import deque

import msgspec

from appliance.core.printable import printable

HEAD, TAIL = 32 << 10, 96 << 10
"""Bytes kept of one node's output."""
TOTAL = 16 << 20
"""Bytes kept of all nodes of one operation; with many nodes each has less."""
LEAST = 2048
"""Bytes that each node has at least of both."""
PIECE = 8192
"""Bytes of a line after which it is passed on in pieces."""
LONGEST = 200
"""Characters of the last line, as it is shown."""


class Part(msgspec.Struct, frozen=True):
    """Output from an offset on."""

    node: str
    text: str
    after: int
    """Bytes said before this text."""
    next: int
    """Offset from which the next part is read."""
    dropped: int
    """Bytes between the offset asked for and this text that are not kept."""
    ended: bool
    """Nothing more will come."""


class Output:
    """One node's output. Lines of both streams stand in the order in which they were ended.

    Args:
        nodes: How many share the operation's room.
    """

    def __init__(self, nodes: int = 1) -> None:
        share = max(LEAST, TOTAL // max(1, nodes))
        self._head_room = min(HEAD, share // 4)
        self._tail_room = min(TAIL, share - share // 4)
        self._head = bytearray()
        self._tail: deque[bytes] = deque()
        self._tail_size = 0
        self._partial = {"stdout": bytearray(), "stderr": bytearray()}
        self.size = 0
        """Bytes said in all."""
        self.lines = 0
        self.last = ""
        self.ended = False

    @classmethod
    def kept(cls, size: int, head: bytes, tail: bytes) -> Output:
        """One that was kept on disk."""
        made = cls()
        made.size, made._head, made.ended = size, bytearray(head), True
        made._tail, made._tail_size = deque([tail] if tail else []), len(tail)
        return made

    @property
    def dropped(self) -> int:
        """Bytes that are not kept."""
        return self.size - len(self._head) - self._tail_size

    def parts(self) -> tuple[bytes, bytes]:
        """Head and tail."""
        return bytes(self._head), b"".join(self._tail)

    def add(self, stream: str, data: bytes) -> None:
        """Take what came on "stdout" or "stderr"; only whole lines go on, or pieces of very long ones."""
        partial = self._partial[stream]
        partial += data
        ends = partial.rfind(b"\n") + 1
        if not ends and len(partial) >= PIECE:
            ends = len(partial)
        if ends:
            whole = bytes(partial[:ends])
            del partial[:ends]
            self._keep(whole)

    def say(self, line: str) -> None:
        """Add a line of our own."""
        self.add("stdout", line.encode() + b"\n")

    def end(self) -> None:
        """Nothing more comes: what had no line end goes on too."""
        for partial in self._partial.values():
            if partial:
                self._keep(bytes(partial) + b"\n")
                partial.clear()
        self.ended = True

    def read(self, node: str, after: int, most: int) -> Part:
        """What follows an offset, `most` bytes at most, up to the end of a line where there is one.

        Args:
            node: Whose it is.
            after: Offset, bytes.
            most: Bytes.
        """
        after = max(0, min(after, self.size))
        head, tail = self.parts()
        tail_at = self.size - len(tail)
        begins = after if after < len(head) else max(after, tail_at)
        found = head[begins:] if begins < len(head) else tail[begins - tail_at :]
        data = found[:most]
        if len(data) < len(found) and (whole := data.rfind(b"\n") + 1):
            data = data[:whole]
        over = begins + len(data)
        text = printable(data.decode("utf-8", "replace"), keep="\n\t")
        return Part(node, text, begins, over, begins - after, self.ended and over >= self.size)

    def _keep(self, data: bytes) -> None:
        self.size += len(data)
        self.lines += data.count(b"\n")
        lines = data.rstrip(b"\n").rsplit(b"\n", 1)
        self.last = printable(lines[-1][: 4 * LONGEST].decode("utf-8", "replace"))[:LONGEST]
        if self._tail_size == 0 and len(self._head) < self._head_room:
            room = self._head_room - len(self._head)
            self._head += data[:room]
            data = data[room:]
        if data:
            self._tail.append(data[-self._tail_room :])
            self._tail_size += len(self._tail[-1])
        while self._tail_size > self._tail_room:
            self._shorten()

    def _shorten(self) -> None:
        over = self._tail_size - self._tail_room
        first = self._tail.popleft()
        self._tail_size -= min(over, len(first))
        if len(first) > over:
            self._tail.appendleft(first[over:])
