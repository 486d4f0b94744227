"""Masks: of instances from prototypes (YOLACT's way, arXiv:1904.02689), of kinds of things pixel by pixel; as run lengths."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from appliance.core.findings import Mask
from appliance.core.inference.manifest import Semantic
from appliance.core.inference.model import Findings
from appliance.core.inference.tasks.boxes import Found
from appliance.core.inference.tasks.outputs import Array, activate, misfit
from appliance.core.inference.tasks.place import OneRun, Place
from appliance.errors import ModelError

BAND = 4_000_000
"""Values that are looked at together."""


def run_lengths(part: Array, left: int, top: int, width: int, height: int) -> tuple[int, ...]:
    """A mask as COCO's uncompressed run lengths: column by column, beginning with zeros.

    Args:
        part: Rows × columns, bool: the rectangle outside of which nothing is.
        left: Of the rectangle, pixels.
        top: Likewise.
        width: Of the picture, pixels.
        height: Likewise.
    """
    columns = np.zeros((part.shape[1], height), np.bool_)
    columns[:, top : top + part.shape[0]] = part.T
    flat = columns.reshape(-1)
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1 + left * height
    starts = edges.tolist()
    if flat.size and flat[0]:
        starts = [left * height, *starts]
    if flat.size and flat[-1]:
        starts.append((left + part.shape[1]) * height)
    total = width * height
    ends = [0, *starts, total] if not starts or starts[-1] != total else [0, *starts]
    return tuple(after - before for before, after in itertools.pairwise(ends))


def pixels(mask: Mask) -> Array:
    """The mask as height × width, bool."""
    values = np.arange(len(mask.counts)) % 2 == 1
    return np.repeat(values, mask.counts).reshape(mask.width, mask.height).T


def sample(plane: Array, columns: Array, rows: Array) -> Array:
    """A map's values at all pairs of x and y (pixel centres are at .5), bilinear, its edge going on outside."""
    low, high, share = _neighbours(rows, plane.shape[0])
    lines = plane[low] * (1 - share)[:, None] + plane[high] * share[:, None]
    low, high, share = _neighbours(columns, plane.shape[1])
    result: Array = lines[:, low] * (1 - share) + lines[:, high] * share
    return result


def _neighbours(places: Array, size: int) -> tuple[Array, Array, Array]:
    places = np.clip(places - 0.5, 0, size - 1)
    low = places.astype(np.intp)
    return low, np.minimum(low + 1, size - 1), (places - low).astype(np.float32)


def instances(
    found: Found, labels: Sequence[str], prototypes: Array | None, size: tuple[int, int], place: Place
) -> tuple[Mask, ...]:
    """A mask for each box: coefficients times prototypes, above zero, within the box.

    Args:
        found: Its extra holds the coefficients.
        labels: One for each.
        prototypes: 1 × coefficients × rows × columns, over the whole input.
        size: (width, height) of the input, pixels.
        place: Where the picture lies in it.

    Raises:
        ModelError: The prototypes are not there, or are others.
    """
    if prototypes is None or prototypes.ndim != 4 or prototypes.shape[1] != found.extra.shape[1]:
        shape = None if prototypes is None else prototypes.shape
        raise ModelError(f"The prototypes are {shape}, for {found.extra.shape[1]} coefficients.", "mend the manifest.")
    depth, rows, columns = prototypes.shape[1:]
    maps = (found.extra @ prototypes[0].reshape(depth, -1)).reshape(len(found.extra), rows, columns)
    corners = place.corners(found.corners)
    across = place.fit.scale / place.across * columns / size[0]
    down = place.fit.down / place.down * rows / size[1]
    masks = []
    for label, plane, (x_min, y_min, x_max, y_max) in zip(labels, maps, corners.tolist(), strict=True):
        left, top = int(np.ceil(x_min - 0.5)), int(np.ceil(y_min - 0.5))
        xs = np.arange(left, int(np.ceil(x_max - 0.5))) + 0.5
        ys = np.arange(top, int(np.ceil(y_max - 0.5))) + 0.5
        inside = sample(plane, xs * across + place.fit.left * columns / size[0], ys * down + place.fit.top * rows / size[1])
        counts = run_lengths(inside > 0, left, top, place.width, place.height)
        masks.append(Mask(label, place.width, place.height, counts))
    return tuple(masks)


class SemanticMasks(OneRun[Semantic]):
    """One mask for each label that is anywhere in the picture (implements model.Task)."""

    def read(self, outputs: list[Array], names: tuple[str, ...], place: Place, threshold: float) -> Findings:
        """Masks of the most probable label; with a threshold where the values are probabilities. Raises ModelError."""
        values = self._planes(outputs[0])
        rows, columns = values.shape[1:]
        xs = (np.arange(place.width) + 0.5) / place.across * place.fit.scale + place.fit.left
        ys = (np.arange(place.height) + 0.5) / place.down * place.fit.down + place.fit.top
        xs, ys = xs * columns / self.wanted.width, ys * rows / self.wanted.height
        best = self._best(activate(values, self.head.activation, 0), xs, ys, threshold)
        masks = []
        for index in np.unique(best[best >= 0]).tolist():
            counts = run_lengths(best == index, 0, 0, place.width, place.height)
            masks.append(Mask(self.manifest.labels[index], place.width, place.height, counts))
        return Findings(masks=tuple(masks))

    def _best(self, planes: Array, xs: Array, ys: Array, threshold: float) -> Array:
        """The index of each pixel's label, -1 for none; band by band, for all labels of a large picture take gigabytes."""
        asked = len(planes) == 1 or self.head.activation != "none"
        best = np.empty((len(ys), len(xs)), np.int16)
        rows = max(1, BAND // (len(planes) * max(1, len(xs))))
        for top in range(0, len(ys), rows):
            full = np.stack([sample(plane, xs, ys[top : top + rows]) for plane in planes])
            found = full.argmax(axis=0)
            best[top : top + rows] = np.where(full.max(axis=0) >= threshold, found, -1) if asked else found
        return best

    def _planes(self, output: Array) -> Array:
        labels = len(self.manifest.labels)
        if output.ndim == 3 and labels == 1:
            output = output[:, None]
        if output.ndim == 4 and output.shape[1] == labels:
            output = output[0]
        elif output.ndim == 4 and output.shape[3] == labels:
            output = output[0].transpose(2, 0, 1)
        else:
            raise misfit(self.manifest, [output.shape], f"{labels} labels ask for a map of each")
        return output
