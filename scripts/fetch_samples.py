"""Obtains photographs for the tests: fetch_samples.py DIRECTORY. They come out of packages and are never committed."""

from __future__ import annotations

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
    ),
    "ultralytics==8.3.0": ("ultralytics/assets/bus.jpg", "ultralytics/assets/zidane.jpg"),
}
"""Package → pictures inside its wheel.

Photographs of scikit-image are public domain or CC0; those of ultralytics AGPL-3.0, used by tests only.
"""


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
                part = target / f"{Path(name).name}.part"
                part.write_bytes(wheel.read(name))
                part.replace(target / Path(name).name)


def main() -> None:
    """Fetch what is missing."""
    target = Path(sys.argv[1] if len(sys.argv) > 1 else ".models/samples")
    target.mkdir(parents=True, exist_ok=True)
    for requirement, names in SOURCES.items():
        if not all((target / Path(name).name).exists() for name in names):
            print(f"fetching photographs from {requirement}", file=sys.stderr)
            fetch(requirement, names, target)


if __name__ == "__main__":
    main()
