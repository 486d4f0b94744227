"""Wheels made anew from what is installed here: this package itself, and libraries by their RECORD.

Every byte depends on the files' names and contents alone, so equal installations give equal wheels. What is not in the
package (settings, secrets, data) is never looked at; of the package's own folder only code and its data files are taken.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import zipfile
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import appliance
from appliance.errors import AbsentError

MOMENT = (1980, 1, 1, 0, 0, 0)
"""Of every file in a wheel: the oldest that zip can say."""
KINDS = frozenset({".html", ".py", ".sql", ".toml", ".tcss", ".typed"})
"""Files of our package that belong to it."""
WHEEL = "Wheel-Version: 1.0\nGenerator: prime-spark\nRoot-Is-Purelib: {pure}\n{tags}\n"
SCRIPT = "[console_scripts]\nprime-spark = appliance.__main__:main\n"
Parts = dict[str, tuple[bytes, bool]]
"""Name in the wheel → contents, and whether it is a program."""


def own(requirements: Iterable[str], folder: Path | None = None, version: str = appliance.__version__) -> tuple[str, bytes]:
    """This appliance's package as a wheel, also where it runs from its sources. Blocks.

    Args:
        requirements: What it is to require, such as "msgspec==0.22.0".
        folder: Of the package; the one that runs where it is None.
        version: Its version.

    Returns:
        The wheel's file name and its contents.
    """
    top = Path(appliance.__file__).parent if folder is None else folder
    parts: Parts = {}
    for path in sorted(top.rglob("*")):
        name = path.relative_to(top)
        if path.suffix in KINDS and path.is_file() and not path.is_symlink() and "__pycache__" not in name.parts:
            parts[f"appliance/{name.as_posix()}"] = (path.read_bytes(), False)
    info = f"prime_spark-{version}.dist-info"
    lines = ["Metadata-Version: 2.1", "Name: prime-spark", f"Version: {version}", "Requires-Python: >=3.11,<3.14"]
    lines += [f"Requires-Dist: {each}" for each in requirements]
    parts[f"{info}/METADATA"] = ("\n".join([*lines, ""]).encode(), False)
    parts[f"{info}/WHEEL"] = (WHEEL.format(pure="true", tags="Tag: py3-none-any").encode(), False)
    parts[f"{info}/entry_points.txt"] = (SCRIPT.encode(), False)
    return f"prime_spark-{version}-py3-none-any.whl", packed(parts, f"{info}/RECORD")


def tags(name: str) -> tuple[str, ...]:
    """Tags of the wheel that a library came in; empty where it came in none, or is not installed. Blocks."""
    try:
        told = distribution(name).read_text("WHEEL") or ""
    except PackageNotFoundError:
        return ()
    found = [line.partition(":")[2].strip() for line in told.splitlines() if line.startswith("Tag:")]
    return tuple(single for each in found for single in _spread(each))


def rebuilt(name: str) -> tuple[str, bytes]:
    """A library that is installed here, as the wheel that it came in. Blocks.

    Raises:
        AbsentError: It is not installed, came in no wheel, or its files are not those that were installed.
    """
    try:
        found = distribution(name)
    except PackageNotFoundError:
        raise AbsentError(f"The library {name} is not installed here.", "install the appliance again.") from None
    record, wheel = found.read_text("RECORD"), found.read_text("WHEEL")
    if not record or not wheel:
        raise AbsentError(f"The library {name} was not installed from a wheel here.", "install it with pip.")
    stem = f"{found.metadata['Name'].replace('-', '_')}-{found.version}"
    parts, info = _recorded(name, found, record)
    written = [line.partition(":")[2].strip() for line in wheel.splitlines() if line.startswith("Tag:")]
    return f"{stem}-{_compressed(written)}.whl", packed(parts, f"{info}/RECORD")


def _recorded(name: str, found: Distribution, record: str) -> tuple[Parts, str]:
    parts: Parts = {}
    info = ""
    for path, digest, *_ in csv.reader(io.StringIO(record)):
        if path.endswith(".dist-info/RECORD"):
            info = path.rpartition("/")[0]
        if not digest or path.startswith(("..", "/")) or _made_here(path):
            continue
        file = Path(str(found.locate_file(path)))
        try:
            data = file.read_bytes()
        except OSError as error:
            raise AbsentError(f"{file} of the library {name} cannot be read: {error.strerror}.", "install it again.") from error
        if f"sha256={_digest(data)}" != digest:
            raise AbsentError(f"{file} is not as the library {name} was installed.", f"pip install --force-reinstall {name}")
        parts[path] = (data, False)
    return parts, info


def _made_here(path: str) -> bool:
    """Written by the installer, not by the wheel."""
    name = path.rpartition("/")[2]
    return ".dist-info/" in path and name in {"INSTALLER", "REQUESTED", "direct_url.json", "RECORD.jws", "RECORD.p7s"}


def packed(parts: Parts, record: str) -> bytes:
    """A wheel of these files, with their list."""
    rows = [f"{_cell(name)},sha256={_digest(data)},{len(data)}" for name, (data, _) in sorted(parts.items())]
    listed = "\n".join([*rows, f"{_cell(record)},,", ""]).encode()
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name, (data, program) in [*sorted(parts.items()), (record, (listed, False))]:
            entry = zipfile.ZipInfo(name, MOMENT)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (0o100755 if program else 0o100644) << 16
            archive.writestr(entry, data)
    return made.getvalue()


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def _cell(name: str) -> str:
    return f'"{name}"' if "," in name or '"' in name else name


def _spread(tag: str) -> Iterable[str]:
    """Single tags of a compressed one (PEP 425)."""
    interpreters, abis, platforms = (part.split(".") for part in tag.split("-"))
    return (f"{one}-{abi}-{place}" for one in interpreters for abi in abis for place in platforms)


def _compressed(written: list[str]) -> str:
    """One tag for a file's name of all in WHEEL (PEP 425)."""
    columns: list[list[str]] = [[], [], []]
    for tag in written:
        for column, part in zip(columns, tag.split("-"), strict=True):
            column += [each for each in part.split(".") if each not in column]
    return "-".join(".".join(column) for column in columns)
