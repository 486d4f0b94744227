"""The image's files as the tests see them."""

from __future__ import annotations

from pathlib import Path

FIRMWARE = Path(__file__).resolve().parents[2]
FILES = FIRMWARE / "files"
PACKAGE = FIRMWARE / "packaging/tree"
TREES = (PACKAGE, FILES / "root", FILES / "root-amd64", FILES / "root-arm64")


def scripts() -> list[Path]:
    """Every shell script that the image or the package brings, the sourced ones too."""
    found = [
        path
        for tree in (*TREES, FIRMWARE / "packaging/DEBIAN")
        for path in tree.rglob("*")
        if path.is_file() and not path.is_symlink()
    ]
    return sorted(path for path in found if path.read_bytes().startswith((b"#!/bin/sh", b"# -*- shell-script -*-")))


def unit(name: str) -> str:
    """A unit's text, wherever it is."""
    return next(path for tree in TREES if (path := tree / "usr/lib/systemd/system" / name).is_file()).read_text()
