"""Command line: python -m imagekit build|bundle …"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from imagekit import base, cache, deb, keys, plan, release, system
from imagekit.errors import BuildError
from imagekit.shell import say


def arguments() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(prog="imagekit", description="Builds the SD-card image of Prime Spark.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (("build", "the image and its bundle"), ("bundle", "a further bundle from the same system")):
        one = commands.add_parser(name, help=text, description=f"Makes {text}.")
        one.add_argument("--arch", required=True, help="arm64 (Raspberry Pi 5) or amd64")
        one.add_argument("--out", required=True, type=Path, help="directory for what is made")
        one.add_argument("--version", default=None, help="default: the appliance's own")
        one.add_argument("--compress", default="zstd", help="zstd (small) or lz4 (quick)")
        one.add_argument("--extra", type=Path, help="a tree that is laid over the root")
        one.add_argument("--cache", type=Path, default=plan.CHECKOUT / ".image-build", help="what is kept between builds")
        one.add_argument(
            "--sources", type=Path, help="sources.list for the image's packages; default: this machine's own archive"
        )
        one.add_argument("--key", type=Path, help="private key that signs bundles (PEM)")
        one.add_argument("--cert", type=Path, help="its certificate (PEM)")
        one.add_argument("--keyring", type=Path, help="certificates that machines trust; default: the certificate")
        one.add_argument("--fast", action="store_true", help="for tests: lz4, no .img.xz, no list of the software")
    return parser


def planned(given: argparse.Namespace) -> plan.Plan:
    """The plan that was asked for. Raises BuildError."""
    return plan.check(
        plan.Plan(
            given.arch, given.version or plan.own_version(), given.out.absolute(), given.cache.absolute(),
            "lz4" if given.fast else given.compress, given.extra, plan.own_epoch(), given.fast,
        )
    )  # fmt: skip


def build(given: argparse.Namespace) -> None:
    """Build what was asked for. Raises BuildError."""
    if os.geteuid() != 0:
        raise BuildError(
            "Building an image needs root: it unpacks a system with its owners.",
            "sudo make image, or sudo -E with this command.",
        )
    wanted = planned(given)
    release.room(wanted)
    with cache.locked(wanted.cache):
        signed = keys.signer(wanted.cache, given.key, given.cert, given.keyring)
        ground = system.root(wanted, base.root(wanted, given.sources), deb.package(wanted, given.sources))
        made = release.parts(wanted, ground, signed)
        release.bundle(wanted, made, signed)
        if given.command == "build":
            release.image(wanted, made)
        (wanted.out / "keyring.pem").write_text(signed.keyring.read_text())
        keys.warn(signed)


def main() -> int:
    """Carry out the command line; gives the exit code."""
    try:
        build(arguments().parse_args())
    except BuildError as error:
        say(f"{error}\nimage: next: {error.next_step}")
        return 1
    except KeyboardInterrupt:
        say("stopped; the same command goes on from what is finished")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
