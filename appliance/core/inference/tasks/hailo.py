"""Detection with Hailo's non-maximum suppression: the device's library gives the boxes, class by class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from appliance.core.inference.manifest import HailoNms, Manifest
from appliance.core.inference.model import Findings, Prepared
from appliance.core.inference.tasks.boxes import MOST, Found, to_boxes
from appliance.core.inference.tasks.outputs import Array, arrays, count, misfit, probable
from appliance.core.inference.tasks.place import Pictures


class HailoBoxes(Pictures):
    """Boxes out of one array a class: y_min, x_min, y_max, x_max (0…1 of the input), score (implements model.Task)."""

    def __init__(self, manifest: Manifest, kind: str, head: HailoNms) -> None:
        super().__init__(manifest, kind)
        self._head = head

    def finish(
        self, answers: Sequence[Sequence[Any]], names: tuple[str, ...], prepared: Prepared, threshold: float
    ) -> Findings:
        """Boxes of at least the threshold. Raises ModelError."""
        count(answers[0], 1, self.manifest)
        rows = self._by_class(answers[0][0])
        table = np.concatenate(rows) if rows else np.empty((0, 5), np.float32)
        table[:, 4] = probable(table[:, 4], self.manifest)
        classes = np.repeat(np.arange(len(rows)), [len(each) for each in rows])
        size = np.array([self.wanted.width, self.wanted.height] * 2, np.float32)
        order = np.argsort(-table[:, 4], kind="stable")
        order = order[table[order, 4] >= threshold][:MOST]
        found = Found(table[order][:, [1, 0, 3, 2]] * size, table[order, 4], classes[order], np.empty((len(order), 0)))
        boxes, _ = to_boxes(found, self.manifest.labels, prepared.context)
        return Findings(boxes=boxes)

    def _by_class(self, output: Any) -> list[Array]:
        """The list by class, also where it lies in a list by picture, or in an array padded with zeros."""
        labels = len(self.manifest.labels)
        if isinstance(output, np.ndarray) and output.dtype != object:
            output = self._unpadded(output)
        if len(output) == 1 and (labels != 1 or _is_list(output[0])):
            output = output[0]
        if len(output) != labels:
            raise misfit(self.manifest, [(len(output),)], f"{labels} labels ask for as many lists of boxes")
        rows = arrays(list(output), self.manifest)
        if any(each.size and (each.ndim != 2 or each.shape[1] != 5) for each in rows):
            raise misfit(self.manifest, [each.shape for each in rows], "boxes of five values are asked for")
        return [each.reshape(-1, 5) for each in rows]

    def _unpadded(self, output: Array) -> list[Array]:
        """1 × classes × 5 × most, as Hailo's library has it, or 1 × classes × most × 5; zeros behind the boxes."""
        table = output[0] if output.ndim == 4 else output
        if table.ndim != 3 or 5 not in table.shape[1:]:
            raise misfit(self.manifest, [output.shape], "boxes of five values by class are asked for")
        if table.shape[1] == 5:
            table = table.transpose(0, 2, 1)
        return [each[each[:, 4] > 0] for each in table]


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim == 3)
