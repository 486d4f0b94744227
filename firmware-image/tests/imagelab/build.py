"""Images and bundles for the tests, by the builder's own command line; what is made is kept by what it was made of."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from imagelab.run import ProgramFailedError, run

CHECKOUT = Path(__file__).resolve().parents[3]
CACHE = Path(os.environ.get("PRIME_SPARK_IMAGE_CACHE", CHECKOUT / ".image-build"))
"""Packages, wheels and base systems; the first build without it fetches them and takes minutes."""
Files = Mapping[str, str]
"""Text files by their paths in the system, laid over it."""


@dataclass(frozen=True)
class Built:
    """What one call of the builder made."""

    version: str
    out: Path
    seconds: float

    @property
    def image(self) -> Path:
        """The raw image."""
        return self._one("*.img")

    @property
    def bundle(self) -> Path:
        """The bundle for RAUC."""
        return self._one("*.raucb")

    def _one(self, pattern: str) -> Path:
        found = sorted(self.out.glob(pattern))
        assert found, f"the builder made no {pattern} in {self.out}: {sorted(each.name for each in self.out.iterdir())}"
        return found[0]


class Builder:
    """Builds into a directory of its own.

    Args:
        home: For the trees that are laid over, keys and results.
        arch: amd64 or arm64.
    """

    def __init__(self, home: Path, arch: str = "amd64") -> None:
        self.home, self.arch, self.cache = home, arch, CACHE
        self.secret, self.public = home / "release.key", home / "release.pub"
        home.mkdir(parents=True, exist_ok=True)
        if not self.secret.exists():
            run("minisign", "-G", "-W", "-p", str(self.public), "-s", str(self.secret))

    def build(self, version: str, files: Files | None = None) -> Built:
        """An image and its bundle. Raises ProgramFailedError with the end of what the builder said."""
        return self._call("build", version, files)

    def bundle(self, version: str, files: Files | None = None) -> Built:
        """Only a bundle of another version, from the same system."""
        return self._call("bundle", version, files)

    def resign(self, bundle: Path) -> Path:
        """The bundle, signed with a key that no machine trusts."""
        key, cert, target = self.home / "foreign.key", self.home / "foreign.pem", self.home / f"foreign-{bundle.name}"
        subject = ["-subj", "/O=example.net/CN=A stranger", "-days", "3650"]
        run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(cert), *subject)
        target.unlink(missing_ok=True)
        trusted = ["--keyring", str(bundle.parent / "keyring.pem"), "--signing-keyring", str(cert)]
        run("rauc", "resign", f"--cert={cert}", f"--key={key}", *trusted, str(bundle), str(target))
        return target

    def release(self, into: Path, *bundles: Path) -> Path:
        """A release directory as a source has it: the bundles, their sums, and the signature of the list."""
        into.mkdir(parents=True, exist_ok=True)
        for each in bundles:
            (into / each.name).unlink(missing_ok=True)
            os.link(each, into / each.name)
        names = sorted(each.name for each in into.glob("*.raucb"))
        sums = into / "SHA256SUMS"
        sums.write_text("".join(f"{digest(into / name)}  {name}\n" for name in names))
        run("minisign", "-S", "-W", "-s", str(self.secret), "-m", str(sums), "-x", f"{sums}.minisig")
        return into

    def _call(self, command: str, version: str, files: Files | None) -> Built:
        out, extra = self.home / f"{command}-{version}", self.home / f"extra-{version}"
        tree = {"usr/share/prime-spark/release.pub": self.public.read_text(), **(files or {})}
        for path, text in tree.items():
            target = extra / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        words = [sys.executable, "-m", "imagekit", command, "--arch", self.arch, "--out", str(out), "--version", version]
        words += ["--extra", str(extra), "--cache", str(self.cache), "--fast"]
        env = os.environ | {"PYTHONPATH": str(CHECKOUT / "firmware-image")}
        began = os.times().elapsed
        log = self.home / f"{command}-{version}.log"
        with log.open("wb") as file:
            done = subprocess.run(words, cwd=CHECKOUT, env=env, stdout=file, stderr=file, check=False, timeout=7200)
        if done.returncode:
            said = log.read_text(errors="replace")[-4000:]
            raise ProgramFailedError(f"imagekit {command} ended with {done.returncode}:\n{said}")
        return Built(version, out, os.times().elapsed - began)


def digest(file: Path) -> str:
    """SHA-256 in hexadecimal digits."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
