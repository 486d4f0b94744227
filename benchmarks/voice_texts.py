"""What the voices read aloud where no command is meant: a novel, a play, a poem, papers, and everyday talk.

The books (all of them free of rights) come with the sources of Brotli, whose tests compress them; they are fetched once.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from functools import cache
from itertools import count
from pathlib import Path

import numpy as np

SOURCE = "brotli==1.1.0"
BOOKS = ("alice29.txt", "asyoulik.txt", "plrabn12.txt", "lcet10.txt")
"""Alice's Adventures in Wonderland; As You Like It; Paradise Lost; a workshop on electronic texts."""
TALK = Path(__file__).with_name("voice_talk.txt")
FOLDER = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "prime-spark-bench" / "texts"
SHORTEST, LONGEST = 60, 400
"""Characters of a passage."""


@cache
def books() -> tuple[str, ...]:
    """Passages of all books, in order."""
    if not all((FOLDER / name).exists() for name in BOOKS):
        _fetch()
    return tuple(passage for name in BOOKS for passage in _passages((FOLDER / name).read_text("latin-1")))


@cache
def talk(*, near: bool = False) -> tuple[str, ...]:
    """Everyday sentences; or those that sound nearly like a wake word."""
    plain, alike = TALK.read_text().split("\n\n")
    return tuple((alike if near else plain).splitlines())


def passages(seed: int) -> Iterator[str]:
    """Passages of the books without end, in an order of its own."""
    found = books()
    order = np.random.default_rng(seed).permutation(len(found))
    return (found[order[number % len(order)]] for number in count())


def _fetch() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="spark-texts-") as own:
        options = ["-q", "--disable-pip-version-check", "--no-deps", "--no-binary", "brotli", "-d", own]
        subprocess.run([sys.executable, "-m", "pip", "download", *options, SOURCE], check=True)
        with tarfile.open(next(Path(own).glob("*.tar.gz"))) as archive:
            for member in archive.getmembers():
                name = Path(member.name).name
                if name in BOOKS and (body := archive.extractfile(member)) is not None:
                    part = FOLDER / f"{name}.{os.getpid()}.part"
                    part.write_bytes(body.read())
                    part.replace(FOLDER / name)


def _passages(text: str) -> Iterator[str]:
    """Some sentences at a time, letters and simple punctuation only."""
    plain = re.sub(r"[^A-Za-z0-9.,;:!?'\- ]+", " ", text.replace("\n", " "))
    gathered = ""
    for sentence in re.split(r"(?<=[.!?])\s+", plain):
        gathered = f"{gathered} {sentence}".strip()
        if len(gathered) >= SHORTEST:
            yield re.sub(r"\s+", " ", gathered)[:LONGEST]
            gathered = ""
