"""What is shown of the looks for wake words: scores of the last seconds only."""

from __future__ import annotations

from appliance.core.voice.model import Hit
from appliance.core.voice.spotting import Spotting
from tests.support import ManualClock


async def test_newest_and_best_are_of_the_last_ten_seconds() -> None:
    """So the best is never below the newest, and what is long past is no score of now."""
    clock, scores = ManualClock(), [0.97, 0.2]
    found: list[Hit] = []

    async def look(pcm: bytes, phrases: tuple[str, ...]) -> tuple[Hit, ...]:
        return (Hit(phrases[0], scores.pop(0), "test"),)

    spotting = Spotting(("hey spark",), look, 0.5, lambda hit, _: found.append(hit), clock.wall, clock.monotonic)
    shown = []
    for looks in (False, True, True, False, False):
        clock.move(6.0)
        if looks:
            await spotting._run(bytes(1024), 0.0)
        (status,) = spotting.statuses()
        shown.append((status.score, status.best, status.times))
    assert shown == [(None, None, 0), (0.97, 0.97, 1), (0.2, 0.97, 1), (0.2, 0.2, 1), (None, None, 1)]
    assert status.last == clock.wall() - 18.0
    assert [hit.score for hit in found] == [0.97]
