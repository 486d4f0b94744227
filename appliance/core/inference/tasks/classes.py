"""A value for each label of the whole input; and embeddings, which have no labels."""

from __future__ import annotations

import numpy as np

from appliance.core.findings import Class
from appliance.core.inference.manifest import Manifest, Softmax, Vector
from appliance.core.inference.model import Findings
from appliance.core.inference.tasks.outputs import MEND, Array, activate, misfit, probable
from appliance.core.inference.tasks.place import OneRun, Place
from appliance.errors import ModelError


def probabilities(output: Array, manifest: Manifest, head: Softmax) -> Array:
    """One for each label. Raises ModelError where there are more or fewer, or they are none."""
    if output.size != len(manifest.labels):
        raise misfit(manifest, [output.shape], f"{len(manifest.labels)} labels ask for as many values")
    return probable(activate(output.reshape(-1), head.activation), manifest)


def best(values: Array, manifest: Manifest, head: Softmax, threshold: float) -> tuple[Class, ...]:
    """The best labels of at least the threshold, best first."""
    order = np.argsort(-values, kind="stable")[: head.top]
    return tuple(Class(manifest.labels[i], round(float(values[i]), 4)) for i in order.tolist() if values[i] >= threshold)


class Classification(OneRun[Softmax]):
    """What a picture shows (implements model.Task)."""

    def read(self, outputs: list[Array], names: tuple[str, ...], place: Place, threshold: float) -> Findings:
        """The best labels. Raises ModelError."""
        values = probabilities(outputs[0], self.manifest, self.head)
        return Findings(classes=best(values, self.manifest, self.head, threshold))


class Embedding(OneRun[Vector]):
    """A picture as a vector of length 1 (implements model.Task)."""

    def read(self, outputs: list[Array], names: tuple[str, ...], place: Place, threshold: float) -> Findings:
        """The vector. Raises ModelError where it has no direction."""
        return Findings(embedding=unit(outputs[0], self.manifest))


def unit(output: Array, manifest: Manifest) -> tuple[float, ...]:
    """A vector brought to length 1. Raises ModelError where it is zero."""
    vector = output.reshape(-1).astype(np.float64)
    length = float(np.linalg.norm(vector))
    if not length:
        raise ModelError(f"{manifest.name} gives a vector of zeros, which has no direction.", MEND)
    return tuple((vector / length).tolist())
