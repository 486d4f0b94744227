"""A model's manifest: what it is, what it takes, and the hash that its file must have."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Literal

import msgspec

import appliance
from appliance.errors import ModelError

LARGEST = 1 << 20
"""Bytes of a manifest: it is read as a whole."""

Text = Annotated[str, msgspec.Meta(pattern=r"\A[^\x00-\x1f\x7f-\x9f]*\Z", max_length=4096)]
"""Shown on terminals, so no control characters."""
Side = Annotated[int, msgspec.Meta(ge=1, le=4096)]
"""Pixels of an input."""
Count = Annotated[int, msgspec.Meta(ge=0, le=4096)]
Some = Annotated[int, msgspec.Meta(ge=1, le=4096)]
Samples = Annotated[int, msgspec.Meta(ge=1, le=10_000_000)]
Positive = Annotated[float, msgspec.Meta(gt=0, le=1e9)]


class ModelFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file beside the manifest."""

    path: Text
    sha256: str
    kind: Literal["onnx", "hef", "data", "self-test"]
    """onnx: for the CPU; hef: for a Hailo; data: goes with the ONNX file (external weights); self-test: an input."""


class Input(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a model of pictures takes: (value / scale - mean) / std by channel."""

    name: Text
    width: Side
    height: Side
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    colours: Literal["RGB", "BGR"] = "RGB"
    dtype: Literal["float32", "float16", "uint8"] = "float32"
    scale: Positive = 255.0
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[Positive, Positive, Positive] = (1.0, 1.0, 1.0)
    fit: Literal["letterbox", "stretch", "crop"] = "letterbox"
    """crop: the shorter side is scaled to side / crop_share, and the middle is taken."""
    crop_share: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.875
    grey: Annotated[int, msgspec.Meta(ge=0, le=255)] = 114
    """Of a letterbox's margins."""
    resample: Literal["bilinear", "corners", "antialias", "bicubic"] = "bilinear"
    """bilinear: of the four next pixels, as OpenCV does; corners: likewise, the corners' centres on each other, as Darknet
    does; antialias, bicubic: of all pixels that one covers, as Pillow does."""


class SoundInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a model of sound takes: windows of samples, or of log-mel features of them."""

    name: Text
    rate: Annotated[int, msgspec.Meta(ge=1, le=768_000)]
    window: Samples
    """Samples of one run; shorter recordings are filled with silence."""
    hop: Samples
    """Samples from one window to the next."""
    features: Literal["samples", "log-mel"] = "samples"
    mels: Annotated[int, msgspec.Meta(ge=1, le=512)] = 64
    fft: Annotated[int, msgspec.Meta(ge=2, le=8192)] = 512
    fft_hop: Samples = 160
    fft_window: Samples = 400
    """Samples under the Hann window; the rest of `fft` is zeros."""
    power: Literal[1, 2] = 1
    """Of the magnitudes, before they are gathered in bands."""
    offset: Annotated[float, msgspec.Meta(gt=0)] = 0.001
    """Added before the logarithm."""
    low: float = 125.0
    high: float = 7500.0
    shape: tuple[int, ...] = ()
    """Of the tensor; empty: (1, window), or (1, frames, mels)."""


class Yolov3(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="head", tag="yolov3"):
    """Anchors in pixels of the input, per output."""

    layers: list[list[tuple[float, float]]]
    overlap: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.45
    """Of two boxes of a class whose intersection over union is larger, the one with the lower score goes; 0.45 is Darknet's."""


class Yolov8(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="head", tag="yolov8"):
    """Anchor-free: one output of (4 + classes + extra) × places, or the raw maps before the distribution focal loss (DFL)."""

    overlap: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.7
    raw: bool = False
    """The outputs are maps of 4 · bins and of classes, per stride."""
    logits: bool = True
    """The raw maps' classes are before the sigmoid."""
    bins: Some = 16
    strides: tuple[Some, ...] = (8, 16, 32)
    keypoints: tuple[Text, ...] = ()
    """Names; each has x, y and a score behind the classes."""
    masks: Count = 0
    """Coefficients behind the classes; a second output holds the prototypes."""


class HailoNms(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="head", tag="hailo-nms"):
    """Boxes by class, already suppressed, as Hailo's library gives them: y_min, x_min, y_max, x_max (0…1), score."""


class Softmax(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="head", tag="classes"):
    """One value for each label."""

    activation: Literal["softmax", "sigmoid", "none"] = "softmax"
    top: Some = 5


class Semantic(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="head", tag="segments"):
    """A value for each label and pixel of the input; one label alone: how sure it is that the pixel belongs to it."""

    activation: Literal["softmax", "sigmoid", "none"] = "none"


class Heatmaps(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="head", tag="heatmaps"):
    """CenterFace's way: maps of centres, of the logarithms of sizes, of offsets and of landmarks; y before x in each."""

    maps: tuple[str, ...] = ()
    """Names of these outputs, in this order; empty: the outputs come in this order."""

    overlap: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.3
    stride: Some = 4
    keypoints: tuple[Text, ...] = ()


class Points(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="head", tag="points"):
    """One body: x, y, z, visibility, presence for each keypoint, in pixels of the input."""

    keypoints: tuple[Text, ...]


class Vector(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="head", tag="vector"):
    """An embedding; brought to length 1."""


class Stateful(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="head", tag="activity"):
    """Probability of a label for each window, with a state that goes from one window to the next (Silero's voice activity).

    The model takes the windows of a recording in one run, along its first axis, and carries its state from each to the next.
    """

    state_in: tuple[str, ...] = ()
    state_out: tuple[str, ...] = ()
    state_shape: tuple[Some, ...] = (1, 1, 128)
    """Of each state; it begins as zeros."""
    context: Annotated[int, msgspec.Meta(ge=0, le=10_000_000)] = 0
    """Samples of the window before that stand in front of each window."""
    fall: float = 0.15
    """It ends where the probability falls by this below the threshold,"""
    silence: float = 0.1
    """for so many seconds."""
    shortest: float = 0.25
    """Seconds; shorter ones are dropped."""


Decode = Yolov3 | Yolov8 | HailoNms | Softmax | Semantic | Heatmaps | Points | Vector | Stateful

Name = Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9][a-z0-9._-]{0,63}\Z")]
"""Of models and versions: they become names of directories."""


class Expected(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One finding of the self-test."""

    label: Text
    score: Annotated[float, msgspec.Meta(ge=0, le=1)]
    """At least so sure."""
    box: tuple[float, float, float, float] | None = None
    """x_min, y_min, x_max, y_max in pixels of the picture; the found one must overlap it by half (intersection over union)."""


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of it."""

    name: Name
    version: Name
    task: Literal["detection", "classification", "pose", "segmentation", "audio", "embedding"]
    licence: Text
    labels: list[Text]
    files: list[ModelFile]
    input: Input | None = None
    sound: SoundInput | None = None
    decode: Decode = msgspec.field(default_factory=Vector)
    hef_input: Input | None = None
    """What the HEF takes; None: as `input`, but bytes in the order of NHWC, normalised on the device."""
    hef_decode: Decode | None = None
    """How the HEF's outputs are read; None: as the ONNX file's."""
    metrics: dict[Text, float] = {}
    """Measured by whoever made it: "map50", "top1", …"""
    source: Text = ""
    """Where it comes from."""
    expects: list[Expected] = []
    """What the self-test must find in the file of kind self-test."""

    def file(self, kind: str) -> ModelFile | None:
        """The file of a kind; None where there is none."""
        return next((each for each in self.files if each.kind == kind), None)


def load(directory: Path) -> Manifest:
    """Read directory/manifest.toml. Raises ModelError."""
    path = directory / "manifest.toml"
    try:
        with path.open("rb") as file:
            body = file.read(LARGEST + 1)
        if len(body) > LARGEST:
            raise ModelError(f"{path} has more than {LARGEST >> 20} MiB.", "fetch the model again: make setup")
        return msgspec.toml.decode(body, type=Manifest)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}.", "fetch the model again: make setup") from error
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:  # no UTF-8; nested without end
        raise ModelError(
            f"{path} is not a model manifest: {error}.", "mend it, or fetch the model again: make setup"
        ) from error


def fingerprint(manifest: Manifest) -> str:
    """SHA-256 of all that a manifest says: the files' hashes, labels, input, head; another one is another model."""
    return hashlib.sha256(msgspec.msgpack.encode(manifest)).hexdigest()


def verify(manifest: Manifest, directory: Path, kind: str = "onnx") -> Path:
    """The model's file of a kind, if it and what goes with it are those that the manifest names. Raises ModelError."""
    wanted = manifest.file(kind)
    if wanted is None:
        raise ModelError(f"{manifest.name} has no file of kind {kind}.", "choose a model that has one, or another accelerator.")
    for file in manifest.files:
        if file is wanted or (file.kind == "data" and kind == "onnx"):
            _verify_one(directory / file.path, directory, file.sha256)
    return directory / wanted.path


def verify_all(manifest: Manifest, directory: Path) -> None:
    """Hash every file that the manifest names. Raises ModelError."""
    if not manifest.files:
        raise ModelError(f"The manifest in {directory} names no file.", "mend the manifest.")
    for file in manifest.files:
        _verify_one(directory / file.path, directory, file.sha256)


def _verify_one(path: Path, directory: Path, sha256: str) -> None:
    if path.parent != directory or path.name in {"", ".", ".."}:
        raise ModelError(f"The manifest in {directory} names a file outside of it.", "mend the manifest.")
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"The model {path} cannot be read: {error.strerror}.", "fetch it again: make setup") from error
    if digest != sha256:
        raise ModelError(
            f"{path.name} is not the file that its manifest names (SHA-256 differs).", "fetch it again: make setup"
        )


def places(own: Path | None, added: Path) -> list[Path]:
    """Where models are looked for, in order.

    Args:
        own: The operator's directory, if the settings name one.
        added: The appliance's own; the installation's come after it.
    """
    shipped = Path(appliance.__file__).resolve().parent.parent / ".models"
    return [*([own] if own else []), added, shipped, Path("/usr/share/prime-spark/models")]


def find(directories: list[Path]) -> list[Path]:
    """Directories that hold a manifest (NAME or NAME/VERSION), in the order of search; what is only being added is none."""
    found: list[Path] = []
    for parent in directories:
        if parent.is_dir():
            paths = [*sorted(parent.glob("*/manifest.toml")), *sorted(parent.glob("*/*/manifest.toml"))]
            found += [path.parent for path in paths if not path.relative_to(parent).parts[0].startswith(".")]
    return found
