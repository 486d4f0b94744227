"""The models that set-up fetches: their recipes, their self-tests, and real pictures against independent programs."""

from __future__ import annotations

import io
import pickle
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import pytest

from appliance.core.inference import manifest as manifests
from appliance.core.inference import sound
from appliance.core.inference.image import DecodedPicture, decode
from appliance.core.inference.manifest import Manifest
from appliance.core.inference.model import Findings
from appliance.core.inference.tasks import task_for
from scripts import fetch_models, torch_weights
from scripts.efficientnet_to_onnx import convert
from scripts.models import centerface, efficientnet_lite0, silero, yolov3_tiny
from scripts.models.recipe import Package, Part, Recipe, toml
from tests.inference import references
from tests.support import capability

MODELS = Path(__file__).resolve().parents[2] / ".models"
SAMPLES = MODELS / "samples"
PLACES = {
    yolov3_tiny.NAME: MODELS / yolov3_tiny.NAME,
    **{name: MODELS / fetch_models.FURTHER / name for name in (efficientnet_lite0.NAME, centerface.NAME, silero.NAME)},
}
RECIPES = (yolov3_tiny.RECIPE, efficientnet_lite0.RECIPE, centerface.RECIPE, silero.RECIPE)


class Real:
    """A model with the runtime alone, so that only the task stands between."""

    def __init__(self, told: Manifest, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.told, self.task = told, task_for(told)
        self.names = tuple(output.name for output in self.session.get_outputs())

    def find(self, sample: Any, threshold: float) -> Findings:
        prepared = self.task.prepare(sample)
        return self.task.finish(
            [self.session.run(None, dict(each)) for each in prepared.batches], self.names, prepared, threshold
        )


@pytest.fixture(scope="module")
def load() -> Any:
    known: dict[str, Real] = {}

    def get(name: str) -> Real:
        capability((PLACES[name] / "manifest.toml").exists(), "the models (make setup)")
        if name not in known:
            told = manifests.load(PLACES[name])
            known[name] = Real(told, manifests.verify(told, PLACES[name]))
        return known[name]

    return get


def sample(name: str) -> Path:
    capability((SAMPLES / name).exists(), "the photographs (make setup)")
    return SAMPLES / name


def photograph(name: str) -> DecodedPicture:
    return decode(sample(name).read_bytes(), name, 10**8)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_every_model_passes_its_self_test(recipe: Recipe, load: Any) -> None:
    real, place = load(recipe.name), PLACES[recipe.name]
    manifests.verify_all(real.told, place)
    assert real.told.licence
    assert real.told.source
    file = real.told.file("self-test")
    assert file is not None
    data = (place / file.path).read_bytes()
    given: Any = decode(data, file.path, 10**8) if real.told.input else sound.decode(data, file.path)
    found = real.find(given, 0.05)
    assert real.told.expects
    for wanted in real.told.expects:
        told = [each for each in (*found.boxes, *found.classes, *found.segments) if each.label == wanted.label]
        assert max(each.score for each in told) >= wanted.score
        if wanted.box:
            (box, *_) = found.boxes
            assert references.overlap((box.x_min, box.y_min, box.x_max, box.y_max), wanted.box) > 0.5


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_the_manifest_is_what_the_recipe_says(recipe: Recipe, load: Any) -> None:
    load(recipe.name)
    assert recipe.made(PLACES[recipe.name])
    text = (PLACES[recipe.name] / "manifest.toml").read_text()
    assert text == recipe.manifest({part.path: part.sha256 for part in recipe.parts})
    assert len(set(recipe.facts["labels"])) == len(recipe.facts["labels"])


def test_yolov3_on_photographs_is_darknet_step_by_step(load: Any) -> None:
    """Darknet's letterbox and decoding, written out, on the same network; benchmarks.accuracy takes Darknet's own files."""
    real, seen = load(yolov3_tiny.NAME), 0
    for name in ("bus.jpg", "zidane.jpg", "coffee.png"):
        picture = photograph(name)
        tensor, *inner = references.darknet_letterbox(picture.rgb, 416)
        maps, size = real.session.run(None, {"images": tensor}), (picture.width, picture.height)
        rows = references.darknet_boxes(maps, real.told.decode.layers, 416, (inner[0], inner[1]), size, 0.3)
        rows = [row for row in references.cut(references.without_doubles(rows, 0.45), *size) if row[4] > 0.32]
        boxes = [box for box in real.find(picture, 0.3).boxes if box.score > 0.28]
        for row in rows:
            same = [box for box in boxes if box.label == real.told.labels[int(row[5])]]
            nearest = min(same, key=lambda box, row=row: abs(box.x_min - row[0]) + abs(box.y_min - row[1]))
            assert nearest.score == pytest.approx(row[4], abs=0.01)
            np.testing.assert_allclose((nearest.x_min, nearest.y_min, nearest.x_max, nearest.y_max), row[:4], atol=1)
            seen += 1
    assert seen >= 6


def test_an_anchor_free_network_finds_what_the_reference_finds() -> None:
    told = Manifest(
        "falls", "1", "detection", "AGPL-3.0", ["Normal", "Fall"], [], input=manifests.Input("images", 640, 640),
        decode=manifests.Yolov8(),
    )  # fmt: skip
    real, seen = Real(told, sample("best_fp16.onnx")), 0
    for name in ("bus.jpg", "chelsea.png"):
        picture = photograph(name)
        ground, scale, left, top = references.padded(picture.rgb, (640, 640), 114)
        (table,) = real.session.run(None, {"images": (ground.transpose(2, 0, 1)[None] / 255).astype(np.float32)})
        rows = references.without_doubles(references.yolov8_rows(table[0], 2, 0.25), 0.7)
        boxes = real.find(picture, 0.25).boxes
        assert len(boxes) == len(rows)
        for box, (a, b, c, d, score, label) in zip(boxes, rows, strict=True):
            corners = (a - left) / scale, (b - top) / scale, (c - left) / scale, (d - top) / scale
            (expected,) = references.cut([corners], picture.width, picture.height)
            assert (box.label, box.score) == (told.labels[int(label)], pytest.approx(score, abs=1e-3))
            np.testing.assert_allclose((box.x_min, box.y_min, box.x_max, box.y_max), expected, atol=0.2)
            seen += 1
    assert seen >= 5


def test_faces_and_none_of_a_labelled_set_are_told_apart(load: Any) -> None:
    """scikit-image's lfw_subset: 100 faces, then 100 pictures of none; every tenth of them."""
    real, right = load(centerface.NAME), [0, 0]
    values = np.load(sample("lfw_subset.npy"))
    for index in range(0, 200, 10):
        face = cv2.resize((values[index] * 255).astype(np.uint8), (64, 64), interpolation=cv2.INTER_CUBIC)
        ground = np.full((320, 320), int(face.mean()), np.uint8)
        ground[128:192, 128:192] = face
        found = real.find(DecodedPicture(np.dstack([ground] * 3), "face", 320, 320), 0.3)
        right[index >= 100] += bool(found.boxes) == (index < 100)
    assert right == [10, 10]


def test_five_points_lie_in_a_face_where_they_belong(load: Any) -> None:
    found = load(centerface.NAME).find(photograph("astronaut.png"), 0.5)
    (box,), (pose,) = found.boxes, found.poses
    points = {point.name: point for point in pose.keypoints}
    assert all(box.x_min < point.x < box.x_max and box.y_min < point.y < box.y_max for point in pose.keypoints)
    assert points["left eye"].x < points["nose"].x < points["right eye"].x
    assert points["left eye"].y < points["nose"].y < points["left mouth corner"].y


def test_silence_and_noise_are_no_speech(load: Any) -> None:
    real = load(silero.NAME)
    noise = np.random.default_rng(1).normal(0, 0.05, 32000).astype(np.float32)
    hum = (0.3 * np.sin(2 * np.pi * 50 * np.arange(32000) / 16000)).astype(np.float32)
    for samples in (np.zeros(32000, np.float32), noise, hum):
        assert real.find(sound.Sound(samples, 16000, "x"), 0.5).segments == ()


def test_speech_is_found_where_it_is_whatever_the_rate(load: Any) -> None:
    real = load(silero.NAME)
    speech = sound.decode((PLACES[silero.NAME] / "speech.wav").read_bytes(), "x")
    late = np.concatenate([np.zeros(16000, np.float32), speech.samples[:, 0], np.zeros(8000, np.float32)])
    (segment,) = real.find(sound.Sound(late, 8000, "x"), 0.5).segments
    (alone,) = real.find(speech, 0.5).segments
    assert segment.begin == pytest.approx(alone.begin + 2, abs=0.1)
    assert segment.end == pytest.approx(alone.end + 2, abs=0.1)


def old_form(target: Path, model: bytes) -> None:
    target.mkdir(parents=True)
    (target / f"{yolov3_tiny.NAME}.onnx").write_bytes(model)
    (target / "manifest.toml").write_text(f'name = "{yolov3_tiny.NAME}"\n[file]\nonnx = "{yolov3_tiny.NAME}.onnx"\n')


def test_a_directory_of_the_older_form_is_renewed_without_a_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    capability((PLACES[yolov3_tiny.NAME] / "manifest.toml").exists(), "the models (make setup)")
    sample("coffee.png")

    def refuse(*_: object) -> None:
        raise AssertionError("nothing is to be downloaded")

    monkeypatch.setattr(Package, "download", refuse)
    target = tmp_path / yolov3_tiny.NAME
    old_form(target, (PLACES[yolov3_tiny.NAME] / f"{yolov3_tiny.NAME}.onnx").read_bytes())
    assert not yolov3_tiny.RECIPE.made(target)
    yolov3_tiny.RECIPE.make(target, tmp_path, SAMPLES)
    assert yolov3_tiny.RECIPE.made(target)
    manifests.verify_all(manifests.load(target), target)
    (target / "coffee.png").unlink()
    assert not yolov3_tiny.RECIPE.made(target)


def test_files_with_other_hashes_are_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    package = Package("thing==1", "0" * 64)
    monkeypatch.setattr(Package, "read", lambda _self, names, _scratch: dict.fromkeys(names, b"fresh"))
    fresh = "1" * 64
    part = Part("thing.onnx", "onnx", fresh, package, ("a/thing.onnx",))
    facts = {"name": "thing", "version": "1", "task": "embedding", "licence": "MIT", "labels": [], "decode": {"head": "vector"}}
    recipe = Recipe(facts, (part,))
    (tmp_path / "thing").mkdir()
    (tmp_path / "thing" / "thing.onnx").write_bytes(b"spoilt")
    recipe.make(tmp_path / "thing", tmp_path, tmp_path)
    told = manifests.load(tmp_path / "thing")
    manifests.verify_all(told, tmp_path / "thing")
    assert (tmp_path / "thing" / "thing.onnx").read_bytes() == b"fresh"
    assert "its manifest says so" in capsys.readouterr().err


def test_an_altered_file_of_any_kind_is_noticed(tmp_path: Path, load: Any) -> None:
    load(silero.NAME)
    shutil.copytree(PLACES[silero.NAME], tmp_path / "m")
    told = manifests.load(tmp_path / "m")
    (tmp_path / "m" / "speech.wav").write_bytes(b"other")
    manifests.verify(told, tmp_path / "m")
    with pytest.raises(manifests.ModelError, match=r"speech\.wav is not the file"):
        manifests.verify_all(told, tmp_path / "m")


def test_tables_become_toml() -> None:
    import tomllib

    facts = {
        "name": 'a "b" é',
        "few": [1, 2.5],
        "none": [],
        "yes": True,
        "input": {"x": 1, "y": [[1, 2]]},
        "files": [{"p": "q"}],
    }
    assert tomllib.loads(toml(facts)) == facts


class Bomb:
    def __reduce__(self) -> Any:
        return (print, ("it ran",))


def weights_file(tensors: Any) -> bytes:
    target = io.BytesIO()
    for each in (torch_weights.MAGIC, 1001, {}, tensors, []):
        pickle.dump(each, target, 2)
    return target.getvalue()


def test_a_file_of_weights_that_would_run_something_is_refused(capsys: Any) -> None:
    with pytest.raises(pickle.UnpicklingError, match="no weight"):
        torch_weights.read(weights_file(Bomb()))
    assert capsys.readouterr().out == ""
    assert torch_weights.read(weights_file({})) == {}
    with pytest.raises(ValueError, match="no PyTorch file"):
        torch_weights.read(pickle.dumps(5))


def lite_weights(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Random weights of the shapes that EfficientNet-Lite0 has."""
    found: dict[str, np.ndarray] = {}

    def put(name: str, norm: str, *shape: int) -> None:
        found[f"{name}.weight"] = rng.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape).astype(np.float32)
        found[f"{norm}.weight"], found[f"{norm}.running_var"] = rng.uniform(0.5, 1.5, (2, shape[0])).astype(np.float32)
        found[f"{norm}.bias"], found[f"{norm}.running_mean"] = rng.normal(0, 0.1, (2, shape[0])).astype(np.float32)

    put("_conv_stem", "_bn0", 32, 3, 3, 3)
    stages = ((1, 3, 1, 16), (2, 3, 6, 24), (2, 5, 6, 40), (3, 3, 6, 80), (3, 5, 6, 112), (4, 5, 6, 192), (1, 3, 6, 320))
    index, entered = 0, 32
    for blocks, side, grown, left in stages:
        for _ in range(blocks):
            if grown > 1:
                put(f"_blocks.{index}._expand_conv", f"_blocks.{index}._bn0", entered * grown, entered, 1, 1)
            put(f"_blocks.{index}._depthwise_conv", f"_blocks.{index}._bn1", entered * grown, 1, side, side)
            put(f"_blocks.{index}._project_conv", f"_blocks.{index}._bn2", left, entered * grown, 1, 1)
            index, entered = index + 1, left
    put("_conv_head", "_bn1", 1280, 320, 1, 1)
    found["_fc.weight"], found["_fc.bias"] = rng.normal(0, 0.05, (7, 1280)).astype(np.float32), np.zeros(7, np.float32)
    return found


def test_efficientnet_is_the_network_of_the_paper_layer_by_layer() -> None:
    """Its layers in NumPy: convolution as a sum over the kernel, SAME padding as TensorFlow has it, normalisation by itself."""
    weights = lite_weights(np.random.default_rng(1))
    picture = np.random.default_rng(2).normal(0, 1, (3, 224, 224)).astype(np.float32)

    def layer(values: np.ndarray, name: str, norm: str, stride: int = 1, *, bend: bool = True) -> np.ndarray:
        kernel = weights[f"{name}.weight"].astype(np.float64)
        side, before = kernel.shape[2], values.shape[1]
        after = -(-before // stride)
        total = max((after - 1) * stride + side - before, 0)
        padded = np.pad(values, ((0, 0), (total // 2, total - total // 2), (total // 2, total - total // 2)))
        out = np.zeros((len(kernel), after, after))
        for y in range(side):
            for x in range(side):
                part = padded[:, y : y + (after - 1) * stride + 1 : stride, x : x + (after - 1) * stride + 1 : stride]
                weight = kernel[:, :, y, x]
                if kernel.shape[1] == 1 and len(part) > 1:
                    out += weight[:, :, None] * part
                else:
                    out += np.tensordot(weight, part, 1)
        mean, variance = weights[f"{norm}.running_mean"], weights[f"{norm}.running_var"]
        scale = weights[f"{norm}.weight"] / np.sqrt(variance + 1e-3)
        out = (out - mean[:, None, None]) * scale[:, None, None] + weights[f"{norm}.bias"][:, None, None]
        return np.clip(out, 0, 6) if bend else out

    out, index = layer(picture, "_conv_stem", "_bn0", 2), 0
    for blocks, stride in ((1, 1), (2, 2), (2, 2), (3, 2), (3, 1), (4, 2), (1, 1)):
        for place in range(blocks):
            name, entered = f"_blocks.{index}.", out
            step = stride if place == 0 else 1
            grown = layer(out, f"{name}_expand_conv", f"{name}_bn0") if index else out
            deep = layer(grown, f"{name}_depthwise_conv", f"{name}_bn1", step)
            out = layer(deep, f"{name}_project_conv", f"{name}_bn2", bend=False)
            out = out + entered if out.shape == entered.shape else out
            index += 1
    features = layer(out, "_conv_head", "_bn1").mean(axis=(1, 2))
    expected = weights["_fc.weight"] @ features + weights["_fc.bias"]
    session = onnxruntime.InferenceSession(convert(weights).SerializeToString())
    (given,) = session.run(None, {"images": picture[None]})
    np.testing.assert_allclose(given[0], expected, atol=2e-3, rtol=2e-3)
