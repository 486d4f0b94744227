"""When what somebody showed lost its force, so that streams which were opened before end too."""

from __future__ import annotations

from collections import OrderedDict

KEPT = 4096
"""Marks; the longest ago goes first, and whatever was opened before it holds no more."""


class Cuts:
    """Counts, and remembers at which count each mark was cut; no clock has a part in it."""

    def __init__(self) -> None:
        self.count = 0
        """What was proven now holds against all cuts up to here."""
        self._at: OrderedDict[str, int] = OrderedDict()
        self._floor = 0

    def cut(self, mark: str) -> None:
        """Whatever was proven for a mark before now holds no more."""
        self.count += 1
        self._at[mark] = self.count
        self._at.move_to_end(mark)
        if len(self._at) > KEPT:
            self._floor = self._at.popitem(last=False)[1]

    def holds(self, since: int, *marks: str) -> bool:
        """Whether what was proven at a count holds for all of these marks still."""
        return since >= max(self._floor, *(self._at.get(mark, 0) for mark in marks))
