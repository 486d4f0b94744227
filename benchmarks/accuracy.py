"""Holds every model's whole pipeline against the model's own reference, and writes the table into docs/models.md.

python -m benchmarks.accuracy; with PRIME_SPARK_PEER set, Ultralytics and PyTorch are asked too (see picture_rig). What a
reference cannot be asked for is left as it is in the document, and said on the screen.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from appliance.core.inference import manifest as manifests
from appliance.core.inference import sound
from appliance.core.inference.image import DecodedPicture, decode
from appliance.core.inference.model import Findings
from appliance.core.inference.tasks import task_for
from appliance.hw.onnx import OnnxAccelerator
from benchmarks.picture_rig import FALLS, MODELS, PEER, PHOTOGRAPHS, SAMPLES, falls, peer
from scripts.models.centerface import RECIPE as CENTERFACE
from scripts.models.efficientnet_lite0 import RECIPE as LITE0
from scripts.models.efficientnet_lite0 import WEIGHTS
from scripts.models.yolov3_tiny import RECIPE as YOLOV3
from tests.inference import references

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "models.md"
BEGIN, END = "<!-- accuracy: begin -->", "<!-- accuracy: end -->"
THRESHOLD = 0.25
FACES = 100
"""The first so many of the labelled pictures show faces."""


@dataclass
class Row:
    """One line of the table."""

    model: str
    reference: str
    what: str
    worst_place: str
    worst_score: str
    same: str


class Ours:
    """A model through the appliance's own pipeline."""

    def __init__(self, manifest: manifests.Manifest, path: Path) -> None:
        self.manifest = manifest
        self.task = task_for(manifest)
        self.model = OnnxAccelerator(2).load(str(path))
        self.names = tuple(spec.name for spec in self.model.outputs)

    @classmethod
    def at(cls, directory: Path) -> Ours:
        """Of a directory with a manifest."""
        told = manifests.load(directory)
        return cls(told, manifests.verify(told, directory))

    def find(self, sample: Any, threshold: float = THRESHOLD) -> Findings:
        """What it finds."""
        prepared = self.task.prepare(sample)
        answers = [self.model.infer(batch) for batch in prepared.batches]
        return self.task.finish(answers, self.names, prepared, threshold)


def photograph(name: str) -> DecodedPicture:
    """One of the samples."""
    return decode((SAMPLES / name).read_bytes(), name, 10**8)


def _nearness(box: list[Any], other: list[Any]) -> float:
    return references.overlap(other[2:], box[2:])


def compare(model: str, reference: str, ours: dict[str, list[Any]], theirs: dict[str, list[Any]]) -> Row:
    """Boxes of ours (label, score, corners) with the reference's, each with the next of its label."""
    places, scores, alone, count = [0.0], [0.0], 0, 0
    for name, expected in theirs.items():
        rest = list(ours[name])
        for box in expected:
            count += 1
            same = [other for other in rest if other[0] == box[0] and references.overlap(other[2:], box[2:]) > 0.5]
            if not same:
                alone += 1
                continue
            found = max(same, key=partial(_nearness, box))
            rest.remove(found)
            places.append(max(abs(a - b) for a, b in zip(found[2:], box[2:], strict=True)))
            scores.append(abs(found[1] - box[1]))
        alone += len(rest)
    right = "yes" if max(places) <= 1 and max(scores) <= 0.01 and not alone else "no"
    told = f"{right}, {count} of {count}" if not alone else f"{right}; {alone} boxes only on one side"
    return Row(
        model, reference, f"{len(theirs)} photographs, {count} boxes", f"{max(places):.2f} px", f"{max(scores):.4f}", told
    )


def boxes(found: Findings) -> list[Any]:
    """As the references have them."""
    return [[box.label, box.score, box.x_min, box.y_min, box.x_max, box.y_max] for box in found.boxes]


def darknet(scratch: Path) -> list[Row]:
    """YOLOv3-tiny: Darknet's own letterbox and decoding around OpenCV's reader of Darknet's own files."""
    ours = Ours.at(MODELS / YOLOV3.name)
    part = YOLOV3.parts[0]
    for name, data in part.package.read(part.members, scratch).items():
        (scratch / Path(name).name).write_bytes(data)
    net = cv2.dnn.readNetFromDarknet(str(scratch / "yolov3-tiny.cfg"), str(scratch / "yolov3-tiny.weights"))
    assert isinstance(ours.manifest.decode, manifests.Yolov3)
    layers, labels = ours.manifest.decode.layers, ours.manifest.labels
    found, theirs, worst = {}, {}, 0.0
    for name in PHOTOGRAPHS:
        picture = photograph(name)
        tensor, *inner = references.darknet_letterbox(picture.rgb, 416)
        net.setInput(tensor)
        maps = net.forward(["conv_15", "conv_22"])
        worst = max(
            worst, *(float(np.abs(a - b).max()) for a, b in zip(maps, ours.model.infer({"images": tensor}), strict=True))
        )
        size = picture.width, picture.height
        rows = references.darknet_boxes(maps, layers, 416, (inner[0], inner[1]), size, THRESHOLD)
        rows = references.cut(references.without_doubles(rows, 0.45), *size)
        theirs[name] = [[labels[int(row[5])], row[4], *row[:4]] for row in rows]
        found[name] = boxes(ours.find(picture))
    reference = f"OpenCV {cv2.__version__} on Darknet's files: the network alone"
    what, worst_value = f"{len(PHOTOGRAPHS)} photographs, all values", f"{worst:.4f} (before the sigmoid)"
    bare = Row(YOLOV3.name, reference, what, "–", worst_value, "yes" if worst < 0.01 else "no")
    return [bare, compare(YOLOV3.name, "Darknet's letterbox and decoding, written out", found, theirs)]


def centerface(scratch: Path) -> list[Row]:
    """CenterFace: its own decoding on the package's own file, the picture on the same black ground."""
    part = CENTERFACE.parts[0]
    (data,) = part.package.read(part.members, scratch).values()
    target = scratch / "centerface.onnx"
    target.write_bytes(data)
    net = cv2.dnn.readNetFromONNX(str(target))
    ours, found, theirs = Ours.at(MODELS / "zoo" / CENTERFACE.name), {}, {}
    for name in PHOTOGRAPHS:
        picture = photograph(name)
        ground, scale, left, top = references.padded(picture.rgb, (640, 640), 0)
        net.setInput(cv2.dnn.blobFromImage(ground, 1.0, (640, 640), (0, 0, 0), swapRB=False, crop=False))
        rows = references.without_doubles(
            references.centerface_rows(net.forward(["537", "538", "539", "540"]), (640, 640), THRESHOLD), 0.3
        )
        moved = [
            ((a - left) / scale, (b - top) / scale, (c - left) / scale, (d - top) / scale, *rest) for a, b, c, d, *rest in rows
        ]
        theirs[name] = [["face", row[4], *row[:4]] for row in references.cut(moved, picture.width, picture.height)]
        found[name] = boxes(ours.find(picture))
    reference = f"the package's file in OpenCV {cv2.__version__}, CenterFace's decoding written out"
    return [compare(CENTERFACE.name, reference, found, theirs), faces(ours)]


def faces(ours: Ours) -> Row:
    """A labelled set: 100 pictures of faces and 100 of none, 25 x 25, of which scikit-image ships these."""
    right = [0, 0]
    for index, values in enumerate(np.load(SAMPLES / "lfw_subset.npy")):
        face = cv2.resize((values * 255).astype(np.uint8), (64, 64), interpolation=cv2.INTER_CUBIC)
        ground = np.full((320, 320), int(face.mean()), np.uint8)
        ground[128:192, 128:192] = face
        found = ours.find(DecodedPicture(np.dstack([ground] * 3), "face", 320, 320), 0.3)
        right[index >= FACES] += bool(found.boxes) == (index < FACES)
    told = f"{right[0]} of 100 faces found, {100 - right[1]} of 100 others taken for one"
    return Row(CENTERFACE.name, "labels of scikit-image's lfw_subset", "200 pictures, threshold 0.3", "–", "–", told)


def silero() -> Row:
    """Voice activity: window by window in NumPy's own words, as Silero's program feeds it."""
    import onnxruntime

    directory = MODELS / "zoo" / "silero-vad"
    ours = Ours.at(directory)
    recording = sound.decode((directory / "speech.wav").read_bytes(), "speech.wav")
    found = ours.find(recording, 0.5)
    prepared = ours.task.prepare(recording)
    samples = prepared.batches[0]["input"][:, 64:].reshape(-1)
    session = onnxruntime.InferenceSession(str(directory / "silero-vad.onnx"))
    state, before, values = {name: np.zeros((1, 1, 128), np.float32) for name in "hc"}, np.zeros(64, np.float32), []
    for start in range(0, len(samples), 512):
        window = samples[start : start + 512]
        value, state["h"], state["c"] = session.run(None, {"input": np.concatenate([before, window])[None], **state})
        values.append(float(value.reshape(-1)[0]))
        before = window[-64:]
    expected = references.speech(values, 0.032, len(recording.samples) / recording.rate, 0.5)
    pairs = zip(found.segments, expected, strict=True)
    times = [max(abs(each.begin - begin), abs(each.end - end)) for each, (begin, end) in pairs]
    score = max(abs(each.score - max(values)) for each in found.segments)
    told = "yes" if max(times) < 0.001 and score < 0.01 else "no"
    what = f"{len(values)} windows, {len(expected)} stretch of speech"
    return Row(
        "silero-vad",
        "one window a run, and Silero's rules, written out",
        what,
        f"{max(times) * 1000:.1f} ms",
        f"{score:.4f}",
        told,
    )


def ultralytics() -> list[Row]:
    """YOLOv8s: Ultralytics itself, with the same file."""
    files = [SAMPLES / name for name in PHOTOGRAPHS]
    with peer(FALLS, files) as go:
        if go is None:
            print(f"{PEER} is not set: Ultralytics is not asked", file=sys.stderr)
            return []
        theirs = {Path(name).name: rows for name, rows in go()["found"].items()}
    ours = Ours(falls(), FALLS)
    found = {name: boxes(ours.find(photograph(name))) for name in PHOTOGRAPHS}
    return [compare("best_fp16 (YOLOv8s, tests only)", "Ultralytics 8.3.202 predict()", found, theirs)]


TORCH = """
import json, sys, numpy, torch
from PIL import Image
from efficientnet_lite_pytorch import EfficientNet
model = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=sys.argv[1]).eval()
told = {}
for name in sys.argv[2:]:
    image = Image.open(name).convert("RGB")
    side = 224 / 256 * min(image.size)
    box = [(image.width - side) / 2, (image.height - side) / 2, (image.width + side) / 2, (image.height + side) / 2]
    values = (numpy.asarray(image.resize((224, 224), Image.BICUBIC, box=box), numpy.float32) - 127) / 128
    with torch.no_grad():
        told[name] = torch.softmax(model(torch.from_numpy(values.transpose(2, 0, 1)[None].copy())), 1)[0].tolist()
print(json.dumps(told))
"""


def efficientnet(scratch: Path) -> list[Row]:
    """EfficientNet-Lite0: the network's own PyTorch program with the package's own weights."""
    python = os.environ.get(PEER)
    if not python:
        print(f"{PEER} is not set: PyTorch is not asked", file=sys.stderr)
        return []
    part = LITE0.parts[0]
    target = scratch / "lite0.pth"
    target.write_bytes(part.package.read(part.members, scratch)[WEIGHTS])
    files = [str(SAMPLES / name) for name in PHOTOGRAPHS]
    done = subprocess.run([python, "-c", TORCH, str(target), *files], check=True, capture_output=True, text=True)
    theirs = json.loads(done.stdout.splitlines()[-1])
    ours = Ours.at(MODELS / "zoo" / LITE0.name)
    worst, best = 0.0, 0
    for name in PHOTOGRAPHS:
        found = ours.find(photograph(name), 0.0).classes
        values = theirs[str(SAMPLES / name)]
        worst = max(worst, *(abs(each.score - values[ours.manifest.labels.index(each.label)]) for each in found))
        best += ours.manifest.labels[int(np.argmax(values))] == found[0].label
    told = f"{'yes' if worst <= 0.01 and best == len(files) else 'no'}, {best} of {len(files)} first labels"
    return [
        Row(LITE0.name, "efficientnet_lite_pytorch 0.1.0 on PyTorch", f"{len(files)} photographs", "–", f"{worst:.4f}", told)
    ]


def write(rows: Sequence[Row]) -> None:
    """Put the table into the document; rows whose reference was not asked stay as they were."""
    text = DOCUMENT.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    old, tail = rest.split(END)
    lines = [
        f"| {row.model} | {row.reference} | {row.what} | {row.worst_place} | {row.worst_score} | {row.same} |" for row in rows
    ]
    asked = {(row.model, row.reference) for row in rows}
    for line in old.strip().splitlines()[2:]:
        cells = [cell.strip() for cell in line.split("|")]
        if (cells[1], cells[2]) not in asked:
            lines.append(line)
    title = ["| model | reference | what | worst box | worst score | the same |", "| --- | --- | --- | --- | --- | --- |"]
    DOCUMENT.write_text("\n".join([head + BEGIN, *title, *lines, END + tail]), encoding="utf-8")


def main() -> None:
    """All models."""
    with tempfile.TemporaryDirectory() as place:
        scratch = Path(place)
        rows = [*darknet(scratch), *ultralytics(), *efficientnet(scratch), *centerface(scratch), silero()]
    for row in rows:
        print(row)
    write(rows)


if __name__ == "__main__":
    main()
