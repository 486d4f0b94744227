"""Zones: polygons in a frame, in shares of its width and height, so that they hold at any resolution."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.core.model import Box

Point = tuple[float, float]
INSIDE = 1 - 1e-9
"""The last place in a picture, in shares of its side."""


def contains(points: Sequence[Point], x: float, y: float) -> bool:
    """Whether a point lies in a polygon: a ray to the right crosses its sides an odd number of times.

    A side to the right or below is not in it, but for the picture's own edge: what is cut off there stands on it.
    """
    x, y = min(x, INSIDE), min(y, INSIDE)
    inside = False
    before_x, before_y = points[-1]
    for here_x, here_y in points:
        if (here_y > y) != (before_y > y) and x < (before_x - here_x) * (y - here_y) / (before_y - here_y) + here_x:
            inside = not inside
        before_x, before_y = here_x, here_y
    return inside


def anchor(box: Box, width: int, height: int, where: str) -> Point:
    """The point of a box that counts as its place, in shares of the frame.

    Args:
        box: In pixels.
        width: Of the frame, pixels.
        height: Of the frame, pixels.
        where: "foot": the middle of its lower edge, where what stands touches the ground; "centre".
    """
    x = (box.x_min + box.x_max) / 2 / width
    y = (box.y_max if where == "foot" else (box.y_min + box.y_max) / 2) / height
    return min(max(x, 0.0), 1.0), min(max(y, 0.0), 1.0)


def crossing(points: Sequence[Point]) -> bool:
    """Whether two sides of the polygon that are no neighbours cut each other: then nobody knows what is inside."""
    sides = [(points[index], points[(index + 1) % len(points)]) for index in range(len(points))]
    for first in range(len(sides)):
        for second in range(first + 2, len(sides)):
            if (first, second) != (0, len(sides) - 1) and _cut(*sides[first], *sides[second]):
                return True
    return False


def area(points: Sequence[Point]) -> float:
    """Of a polygon that does not cross itself, as a share of the frame (the shoelace formula)."""
    pairs = zip(points, [*points[1:], points[0]], strict=True)
    return abs(sum(x * below_y - below_x * y for (x, y), (below_x, below_y) in pairs)) / 2


def _cut(a: Point, b: Point, c: Point, d: Point) -> bool:
    return _turn(a, b, c) * _turn(a, b, d) < 0 and _turn(c, d, a) * _turn(c, d, b) < 0


def _turn(a: Point, b: Point, c: Point) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
