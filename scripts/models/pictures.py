"""Photographs for the models' self-tests."""

from __future__ import annotations

from scripts.models.recipe import Package, Part

SCIKIT_IMAGE = Package("scikit-image==0.25.2", "24cc986e1f4187a12aa319f777b36008764e856e5013666a4a83f8df083c2641")
HASHES = {
    "astronaut.png": "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
    "chelsea.png": "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
    "coffee.png": "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
}


def photograph(name: str) -> Part:
    """One of scikit-image's, all in the public domain or CC0, as the self-test's input."""
    return Part(name, "self-test", HASHES[name], SCIKIT_IMAGE, (f"skimage/data/{name}",))
