"""The command line's words and what each does."""

from __future__ import annotations

import argparse
import os
import shutil
from dataclasses import replace
from pathlib import Path

from imagekit import base, cache, compare, deb, keys, publish, release, sbom, system
from imagekit.errors import BuildError
from imagekit.plan import ARCHES, CHECKOUT, COMPRESSIONS, Plan, check, own_epoch, own_version
from imagekit.shell import say


def arguments() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(prog="imagekit", description="Builds the SD-card image of Prime Spark.")
    commands = parser.add_subparsers(dest="command", required=True)
    works = {
        "build": "the image, its bundle, the Debian package, checksums and a signature",
        "bundle": "a further bundle from the same system (another version, another tree)",
        "deb": "the Debian package",
        "base": "only what is kept in the cache: the root with all packages",
    }
    for name, text in works.items():
        _options(commands.add_parser(name, help=text, description=f"Makes {text}."))
    two = commands.add_parser(
        "compare", help="what differs between two builds", description="Says what differs between two builds."
    )
    two.add_argument("first", type=Path, help="a directory that `build` made, or one of its files")
    two.add_argument("second", type=Path)
    return parser


def _options(one: argparse.ArgumentParser) -> None:
    one.add_argument("--arch", default="arm64", choices=ARCHES, help="arm64 (Raspberry Pi 5; default) or amd64")
    one.add_argument("--out", default=CHECKOUT / "build/image", type=Path, help="directory for what is made")
    one.add_argument("--version", default=None, help="default: the appliance's own")
    one.add_argument("--compress", default="zstd", choices=COMPRESSIONS, help="zstd (small; default) or lz4 (quick)")
    one.add_argument("--extra", type=Path, help="a tree that is laid over the root")
    one.add_argument("--cache", type=Path, default=CHECKOUT / ".image-build", help="what is kept between builds")
    one.add_argument("--sources", type=Path, help="sources.list for the image's packages; default: this machine's own archive")
    one.add_argument("--key", type=Path, help="private key that signs bundles (PEM)")
    one.add_argument("--cert", type=Path, help="its certificate (PEM)")
    one.add_argument("--keyring", type=Path, help="certificates that machines trust; default: the certificate")
    one.add_argument("--minisign-key", type=Path, help="secret key that signs the checksums")
    one.add_argument("--minisign-pub", type=Path, help="its public key, which machines get")
    one.add_argument("--fast", action="store_true", help="for tests: lz4, no .img.xz, no list of the software")


def planned(given: argparse.Namespace) -> Plan:
    """The plan that was asked for. Raises BuildError."""
    return check(
        Plan(
            given.arch, given.version or own_version(), given.out.absolute(), given.cache.absolute(),
            "lz4" if given.fast else given.compress, given.extra, own_epoch(), given.fast,
        )
    )  # fmt: skip


def build(given: argparse.Namespace) -> None:
    """Build what was asked for. Raises BuildError."""
    if os.geteuid() != 0:
        raise BuildError("Building an image needs root: it unpacks a system with its owners.", "put sudo before the command.")
    wanted = planned(given)
    release.room(wanted)
    with cache.locked(wanted.cache):
        key = publish.release_key(wanted.cache, given.minisign_key, given.minisign_pub)
        if given.command != "deb":
            ground = base.root(wanted, given.sources)
        if given.command == "base":
            return
        package = _package(wanted, given, key)
        if given.command != "deb":
            _image(wanted, given, system.root(wanted, ground, package))
        publish.sign(wanted.out, key)
        publish.hand_over(wanted.out, CHECKOUT, os.environ)


def _package(wanted: Plan, given: argparse.Namespace, key: publish.ReleaseKey) -> Path:
    """The Debian package. In an image it has the appliance's own version: all bundles of one state share it."""
    version = wanted.version if given.command == "deb" else own_version()
    made = deb.package(replace(wanted, version=version, extra=None), key.public, given.sources)
    if given.command != "bundle":
        for old in wanted.out.glob(f"prime-spark_*_{wanted.arch}.deb"):
            old.unlink()
        shutil.copyfile(made, wanted.out / made.name)
        say(f"  {wanted.out / made.name}")
    return made


def _image(wanted: Plan, given: argparse.Namespace, ground: Path) -> None:
    signed = keys.signer(wanted.cache, given.key, given.cert, given.keyring)
    made = release.parts(wanted, ground, signed)
    release.bundle(wanted, made, signed)
    if given.command == "build":
        image = release.image(wanted, made)
        if not wanted.fast:
            sbom.write(wanted, ground)
            publish.compress(image)
    (wanted.out / "keyring.pem").write_text(signed.keyring.read_text())
    keys.warn(signed)


def differences(given: argparse.Namespace) -> int:
    """Print what differs between two builds; gives 1 if anything does. Raises BuildError."""
    found = compare.compare(given.first, given.second)
    print("\n".join(found) if found else "They are the same.")
    return 1 if found else 0
