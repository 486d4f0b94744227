"""Speech to text: Moonshine tiny, English, for ONNX Runtime. The files are the same in the wheels of all machines."""

from __future__ import annotations

from scripts.models.recipe import Package, Part, Recipe

NAME = "moonshine-tiny-en"
WHEEL = Package(  # the smallest of them
    "moonshine-voice==0.0.49",
    "dc757f919aba6b7a7711766f2d973d41001785354e9b367a93689d95a882dfa3",
    platform="manylinux_2_31_aarch64",
)
FILES = {
    "encoder_model.ort": "94e90a4654fc45cdfedb77c4c08e1739f48862998e58fada384b25118134f221",
    "decoder_model_merged.ort": "cf524c4862d36e9e5ab032eddc73637efd822d70e868ac575cf1a46e1e4708a0",
    "tokenizer.bin": "6884b35fd6377d4c4d32336a0bc152f36b64d1e45b6503683cdc238250a8472d",
}

RECIPE = Recipe(
    facts={
        "name": NAME,
        "version": "0.0.49",
        "task": "speech-to-text",
        "language": "en",
        "licence": "MIT (Moonshine AI, English models and the package moonshine-voice)",
        "source": "PyPI moonshine-voice 0.0.49 (assets/tiny-en)",
    },
    parts=tuple(
        Part(name, "tokens" if name.endswith(".bin") else "ort", sha256, WHEEL, (f"moonshine_voice/assets/tiny-en/{name}",))
        for name, sha256 in FILES.items()
    ),
    named="voice.toml",
)
