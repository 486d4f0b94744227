"""Masks and key points on a picture."""

from __future__ import annotations

import numpy as np

from appliance.core.findings import Keypoint, Mask, Pose
from appliance.core.inference.draw import PALETTE
from appliance.core.inference.overlay import POINT, overlay
from appliance.core.inference.tasks.masks import run_lengths


def test_a_mask_tints_what_it_covers_in_a_reduced_picture_too() -> None:
    inside = np.ones((20, 10), np.bool_)
    mask = Mask("cat", 40, 80, run_lengths(inside, 10, 40, 40, 80))
    rgb = np.full((40, 20, 3), 100, np.uint8)
    painted = overlay(rgb, (40, 80), [mask], [])
    expected = np.full((40, 20, 3), 100, np.uint8)
    expected[20:30, 5:10] = [(100 + part) // 2 for part in PALETTE[0]]
    assert np.array_equal(painted, expected)
    assert (rgb == 100).all(), "the picture itself stays"


def test_points_that_the_model_is_unsure_of_are_left_out_and_edges_do_no_harm() -> None:
    pose = Pose((Keypoint("nose", 0, 0, 0.9), Keypoint("eye", 399, 199, 0.9), Keypoint("ear", 200, 100, 0.1)))
    painted = overlay(np.zeros((100, 200, 3), np.uint8), (400, 200), [], [pose])
    there = (painted == POINT).all(axis=2)
    assert there[0, 0]
    assert there[99, 199]
    assert not there[30:70, 50:150].any()


def test_nothing_found_is_the_picture_itself() -> None:
    rgb = np.zeros((4, 4, 3), np.uint8)
    assert overlay(rgb, (4, 4), [], []) is rgb
