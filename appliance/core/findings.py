"""What models find: boxes, classes, poses, masks, stretches of time. All are frozen; all encode to JSON by msgspec."""

from __future__ import annotations

import msgspec


class Box(msgspec.Struct, frozen=True):
    """One detected object, in pixels of the original picture."""

    label: str
    score: float
    x_min: float
    y_min: float
    x_max: float
    y_max: float


class Class(msgspec.Struct, frozen=True):
    """A label of the whole input, and its probability 0…1."""

    label: str
    score: float


class Keypoint(msgspec.Struct, frozen=True):
    """A named point, pixels of the original picture, and how sure the model is of it, 0…1."""

    name: str
    x: float
    y: float
    score: float


class Pose(msgspec.Struct, frozen=True):
    """The points of one body; its box stands at the same index of the findings' boxes."""

    keypoints: tuple[Keypoint, ...]


class Mask(msgspec.Struct, frozen=True):
    """Where something is, as run lengths (COCO's uncompressed RLE: column by column, beginning with zeros).

    Attributes:
        label: Of what.
        width: Pixels of the original picture.
        height: Pixels of the original picture.
        counts: Lengths of the runs; they add up to width x height.
    """

    label: str
    width: int
    height: int
    counts: tuple[int, ...]


class Segment(msgspec.Struct, frozen=True):
    """A stretch of a recording, seconds from its begin."""

    label: str
    score: float
    begin: float
    end: float
