"""A model's manifest: what it is, what it takes, and the hash that its file must have."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Literal

import msgspec

import appliance
from appliance.errors import ModelError


class ModelFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file, beside the manifest."""

    onnx: str
    sha256: str


class Input(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the model takes: float32, RGB, value / scale."""

    name: str
    width: int
    height: int
    layout: Literal["NCHW"] = "NCHW"
    scale: float = 255.0


class Decode(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How its outputs become boxes: anchors in pixels of the input, per output."""

    head: Literal["yolov3"]
    layers: list[list[tuple[float, float]]]
    overlap: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.45
    """Of two boxes of a class whose intersection over union is larger, the one with the lower score goes; 0.45 is Darknet's."""


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of it."""

    name: str
    version: str
    task: Literal["detection"]
    licence: str
    labels: list[str]
    file: ModelFile
    input: Input
    decode: Decode


def load(directory: Path) -> Manifest:
    """Read directory/manifest.toml. Raises ModelError."""
    path = directory / "manifest.toml"
    try:
        return msgspec.toml.decode(path.read_bytes(), type=Manifest)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}.", "fetch the model again: make setup") from error
    except msgspec.DecodeError as error:
        raise ModelError(
            f"{path} is not a model manifest: {error}.", "mend it, or fetch the model again: make setup"
        ) from error


def verify(manifest: Manifest, directory: Path) -> Path:
    """The model's file, if it is the one that the manifest names. Raises ModelError."""
    path = directory / manifest.file.onnx
    if path.parent != directory:
        raise ModelError(f"The manifest in {directory} names a file outside of it.", "mend the manifest.")
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"The model {path} cannot be read: {error.strerror}.", "fetch it again: make setup") from error
    if digest != manifest.file.sha256:
        raise ModelError(
            f"{path.name} is not the file that its manifest names (SHA-256 differs).", "fetch it again: make setup"
        )
    return path


def places(own: Path | None, added: Path) -> list[Path]:
    """Where models are looked for, in order.

    Args:
        own: The operator's directory, if the settings name one.
        added: The appliance's own; the installation's come after it.
    """
    shipped = Path(appliance.__file__).resolve().parent.parent / ".models"
    return [*([own] if own else []), added, shipped, Path("/usr/share/prime-spark/models")]


def find(directories: list[Path]) -> list[Path]:
    """Directories that hold a manifest, in the order of search."""
    found: list[Path] = []
    for parent in directories:
        if parent.is_dir():
            found += sorted(path.parent for path in parent.glob("*/manifest.toml"))
    return found
