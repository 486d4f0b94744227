"""Photographs as a camera gives them, and what the pictures' benchmarks and the accuracy table run on."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from appliance.core.inference.manifest import Input, Manifest, Yolov8

MODELS = Path(__file__).resolve().parent.parent / ".models"
SAMPLES = MODELS / "samples"
FALLS = SAMPLES / "best_fp16.onnx"
"""A YOLOv8s of two classes, exported by Ultralytics 8.3.202: the same file goes to the peer."""
PHOTOGRAPHS = ("bus.jpg", "zidane.jpg", "astronaut.png", "coffee.png", "motorcycle_left.png", "chelsea.png")
CAMERAS = {"640x480": (640, 480), "1280x720": (1280, 720), "1920x1080": (1920, 1080)}
QUALITY = 85
PEER = "PRIME_SPARK_PEER"
"""Environment variable: a Python that has Ultralytics and ONNX Runtime, such as a virtual environment beside Debian's torch."""


def falls() -> Manifest:
    """Of that YOLOv8s."""
    licence = "AGPL-3.0, as the file says; the package Apache-2.0"
    return Manifest(
        "falls", "1", "detection", licence, ["Normal", "Fall"], [], input=Input("images", 640, 640), decode=Yolov8()
    )


def camera_pictures(size: tuple[int, int]) -> list[bytes]:
    """The photographs cut to the camera's proportions, at its size, as JPEG of quality 85 with half the colours."""
    import io

    from PIL import Image, ImageOps

    made = []
    for name in PHOTOGRAPHS:
        with Image.open(SAMPLES / name) as image:
            fitted = ImageOps.fit(image.convert("RGB"), size, Image.Resampling.LANCZOS)
        target = io.BytesIO()
        fitted.save(target, "JPEG", quality=QUALITY, subsampling="4:2:0")
        made.append(target.getvalue())
    return made


@contextmanager
def peer(model: Path, pictures: list[Path]) -> Iterator[Any]:
    """A function that lets the peer do one round and gives what it tells; None where no peer is named."""
    python = os.environ.get(PEER)
    if not python:
        yield None
        return
    program = Path(__file__).with_name("picture_peer.py")
    process = subprocess.Popen(
        [python, str(program), str(model), *map(str, pictures)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip

    def go() -> dict[str, Any]:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("\n")
        process.stdin.flush()
        for line in process.stdout:
            if line.startswith("{"):
                told: dict[str, Any] = json.loads(line)
                return told
        raise SystemExit(f"the peer ended: does {python} have ultralytics and onnxruntime?")

    try:
        yield go
    finally:
        process.terminate()
        process.wait(10)
