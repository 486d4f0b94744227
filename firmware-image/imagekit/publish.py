"""The release directory: checksums, and a signature over them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from imagekit.errors import BuildError
from imagekit.shell import need, run, say, step

SUMS = "SHA256SUMS"
SIGNATURE = f"{SUMS}.minisig"
RELEASED = (".raucb", ".img.xz", ".deb", ".cdx.json")
"""How names of files end that people are given."""

WARNING = (
    "WARNING: the checksums are signed with the development key of this build directory ({place})."
    " For releases give your own: MINISIGN_KEY=FILE MINISIGN_PUB=FILE"
)


@dataclass(frozen=True)
class ReleaseKey:
    """A key of minisign."""

    secret: Path
    public: Path
    own: bool
    """The operator's, not one for development."""


def release_key(cache: Path, secret: Path | None, public: Path | None) -> ReleaseKey:
    """The operator's key, or the development key of that cache, made now if it is not there.

    Args:
        cache: Where the development key lies, in `keys`.
        secret: The operator's secret key; without a password, or minisign asks for it.
        public: Its public key, which machines get.

    Raises:
        BuildError: Only one of both is given, or a file is missing.
    """
    if (secret is None) != (public is None):
        raise BuildError(
            "A secret key and its public key belong together.", "give both, MINISIGN_KEY=FILE and MINISIGN_PUB=FILE, or none."
        )
    if secret is not None and public is not None:
        for file in (secret, public):
            if not file.is_file():
                raise BuildError(f"{file} is not there.", "make a pair of keys: minisign -G -s SECRET -p PUBLIC")
        return ReleaseKey(secret, public, own=True)
    place = cache / "keys"
    made = ReleaseKey(place / "development.minisign.key", place / "development.minisign.pub", own=False)
    if not (made.secret.is_file() and made.public.is_file()):
        place.mkdir(parents=True, exist_ok=True)
        run("minisign", "-G", "-W", "-f", "-s", made.secret, "-p", made.public)
        made.secret.chmod(0o600)
    return made


def compress(image: Path) -> Path:
    """Make the .img.xz that people write onto a card; the .img stays beside it. Raises BuildError."""
    need("xz")
    target = image.with_name(image.name + ".xz")
    target.unlink(missing_ok=True)
    with step(f"compressing ({target})"):
        run("xz", "-T0", "-2", "--keep", image)
    return target


def sign(out: Path, key: ReleaseKey) -> None:
    """Write SHA256SUMS of all released files in a directory, and its signature; say which they are. Raises BuildError."""
    lines, names = [], []
    for file in sorted(out.iterdir()):
        if file.name.startswith("prime-spark") and file.name.endswith(RELEASED):
            with file.open("rb") as opened:
                lines.append(f"{hashlib.file_digest(opened, 'sha256').hexdigest()}  {file.name}\n")
            names.append(file.name)
    partial, signature = out / f"{SUMS}.partial", out / f"{SIGNATURE}.partial"
    partial.write_text("".join(lines))
    run("minisign", "-S", "-s", key.secret, "-m", partial, "-x", signature, "-t", "Prime Spark release")
    partial.replace(out / SUMS)
    signature.replace(out / SIGNATURE)
    say(f"{out / SUMS} vouches for {', '.join(names)}")  # files of earlier builds too: somebody else's key may have made them
    if not key.own:
        say(WARNING.format(place=key.secret.parent))
