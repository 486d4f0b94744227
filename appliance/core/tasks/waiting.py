"""The tasks that wait, in the order in which they are to be done.

Priority against age: each step of priority is worth `aging` seconds of waiting. So a task's place is fixed by one number, the
moment of its submission less its priority's worth, and no low one waits for ever behind others that keep coming.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple

from appliance.core.tasks.model import Urgency

SLACK = 256
"""Places of what does not wait any more that a queue may hold beyond as many as wait."""
Bucket = tuple[str, str]
"""(type, the only worker that may do it)."""


class Place(NamedTuple):
    """Where a task stands; the smallest one is the next."""

    rank: float
    number: int
    """Of the submission: what came first is first."""
    task_id: str


class Waiting:
    """A queue for each type of task.

    Args:
        aging: Seconds of waiting that are worth a step of priority.
    """

    def __init__(self, aging: float) -> None:
        self._aging = aging
        self._heaps: dict[Bucket, list[Place]] = {}
        self._left: dict[Bucket, int] = {}
        """Places in each of them whose tasks were taken out."""
        self._live: dict[str, tuple[Bucket, Place, Urgency]] = {}
        self._depths = dict.fromkeys(Urgency, 0)

    def __len__(self) -> int:
        return len(self._live)

    def __contains__(self, task_id: str) -> bool:
        return task_id in self._live

    def add(self, task_id: str, bucket: Bucket, priority: Urgency, since: float, number: int) -> None:
        """Queue a task.

        Args:
            task_id: It.
            bucket: Who may do it.
            priority: Its priority.
            since: Monotonic instant of its submission.
            number: Of its submission.
        """
        place = Place(since - priority * self._aging, number, task_id)
        self._live[task_id] = (bucket, place, priority)
        self._depths[priority] += 1
        heapq.heappush(self._heaps.setdefault(bucket, []), place)

    def remove(self, task_id: str) -> bool:
        """Take a task out; False where it does not wait."""
        found = self._live.pop(task_id, None)
        if found is not None:
            self._depths[found[2]] -= 1
            bucket = found[0]
            self._left[bucket] = self._left.get(bucket, 0) + 1
            if self._left[bucket] > SLACK + len(self._heaps[bucket]) // 2:
                self._tidy(bucket)
        return found is not None

    def _tidy(self, bucket: Bucket) -> None:
        self._heaps[bucket] = [place for place in self._heaps[bucket] if self._stands(place)]
        heapq.heapify(self._heaps[bucket])
        self._left[bucket] = 0

    def _stands(self, place: Place) -> bool:
        live = self._live.get(place.task_id)
        return live is not None and live[1] == place

    def take(self, may: Callable[[Bucket], bool]) -> str | None:
        """The next task of a bucket that somebody can serve now; it waits no more. None where there is none."""
        heads = [(head, bucket) for bucket in list(self._heaps) if (head := self._head(bucket)) and may(bucket)]
        if not heads:
            return None
        place = min(heads)[0]
        self.remove(place.task_id)
        return place.task_id

    def buckets(self) -> tuple[Bucket, ...]:
        """Those in which something waits."""
        return tuple(bucket for bucket in list(self._heaps) if self._head(bucket) is not None)

    def first(self, count: int) -> list[str]:
        """The first ones in order; it looks at little more than these, however many wait."""
        return [place.task_id for place in islice(self._ordered(), count)]

    def depths(self) -> dict[str, int]:
        """How many wait, by the name of their priority, the highest first."""
        return {each.name: self._depths[each] for each in sorted(Urgency, reverse=True)}

    def _ordered(self) -> Iterator[Place]:
        heaps = list(self._heaps.values())
        ahead = [(heap[0], number, 0) for number, heap in enumerate(heaps) if heap]
        heapq.heapify(ahead)
        while ahead:
            place, number, at = heapq.heappop(ahead)
            below = (2 * at + 1, 2 * at + 2)  # in a heap nothing stands before what it hangs from
            for child in below:
                if child < len(heaps[number]):
                    heapq.heappush(ahead, (heaps[number][child], number, child))
            if self._stands(place):
                yield place

    def _head(self, bucket: Bucket) -> Place | None:
        heap = self._heaps[bucket]
        while heap:
            if self._stands(heap[0]):
                return heap[0]
            heapq.heappop(heap)
            self._left[bucket] -= 1
        del self._heaps[bucket]
        self._left.pop(bucket, None)
        return None
