"""The Inference page: what was just asked for is what is seen, and no text is cut off."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from appliance.core.inference.draw import with_boxes
from appliance.core.inference.render import console, half_blocks
from appliance.core.model import Box
from appliance.screens.inference import Inference
from appliance.screens.widgets.grid import Grid
from tests.screens.conftest import Bench, Seen
from tests.support import capability, wait_for

SAMPLES = Path(__file__).resolve().parents[2] / ".models" / "samples"


def page(seen: Seen) -> Inference:
    found = seen.app.page
    assert isinstance(found, Inference)
    return found


async def test_a_new_result_is_selected_and_drawn(bench: Bench) -> None:
    """Whoever opens a picture sees that one, not the one that the cursor was on."""
    capability((SAMPLES / "zidane.jpg").is_file(), "the model with its sample pictures")
    seen = bench.open(size=(120, 30))
    await seen.press("3", "press o and name a")
    for name in ("bus.jpg", "zidane.jpg"):
        await seen.press("o", "files on this machine")
        await wait_for(lambda: seen.app.focused is not None and seen.app.focused.id == "field-paths")
        seen.session.feed(f"{SAMPLES / name}\r".encode())
        await seen.shows(f" {name} ─")
    grid = page(seen).query_one("#results", Grid)
    assert (grid.cursor, len(grid.rows)) == (0, 2)
    await seen.end()


async def test_the_hint_is_whole_on_a_small_terminal(bench: Bench) -> None:
    seen = bench.open(size=(60, 24))
    await seen.press("3", "picture")
    await seen.shows("press o and")
    assert "…" not in seen.display.partition("Results")[2].partition("Picture")[2].split("└")[0]
    await seen.end()


@pytest.mark.parametrize("draw", [half_blocks, console])
def test_a_label_at_the_right_edge_is_whole(draw: object) -> None:
    rgb = np.zeros((200, 200, 3), np.uint8)
    cells = draw(rgb, [Box("traffic light", 0.8, 190, 100, 199, 150)], 40, 20)  # type: ignore[operator]
    rows = ["".join(char for char, _, _ in row) for row in cells]
    assert sum("traffic light 0.80" in row for row in rows) == 1


def test_a_drawn_label_at_the_right_edge_ends_inside_the_picture() -> None:
    """The same picture with the box further right than the label is wide has as many pixels of it."""
    rgb = np.zeros((200, 600, 3), np.uint8)

    def inked(left: float) -> int:
        image = np.asarray(with_boxes(rgb, [Box("bus", 0.8, left, 100, left + 5, 150)], 600, 200, text=True))
        return int((image[80:120] != 0).any(axis=-1).sum())

    assert abs(inked(594) - inked(100)) < 60
