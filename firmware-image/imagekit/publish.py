"""The release directory: checksums, and a signature over them."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from imagekit.errors import BuildError
from imagekit.shell import need, run, say, step

SUMS = "SHA256SUMS"
SIGNATURE = f"{SUMS}.minisig"
PUBLIC = "release.pub"
"""The public key, beside what it vouches for."""
LOCKED, OPEN = b"Sc", b"\0\0"
"""How minisign says in a secret key that a password protects it (scrypt), or none does."""
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
        secret: The operator's secret key; without a password, for nobody is asked at the end of a build.
        public: Its public key, which machines get.

    Raises:
        BuildError: Only one of both is given, a file is missing, or a password protects the key.
    """
    if (secret is None) != (public is None):
        raise BuildError(
            "A secret key and its public key belong together.", "give both, MINISIGN_KEY=FILE and MINISIGN_PUB=FILE, or none."
        )
    if secret is not None and public is not None:
        for file in (secret, public):
            if not file.is_file():
                raise BuildError(f"{file} is not there.", "make a pair of keys: minisign -G -W -s SECRET -p PUBLIC")
        _demand_open(secret)
        return ReleaseKey(secret, public, own=True)
    place = cache / "keys"
    made = ReleaseKey(place / "development.minisign.key", place / "development.minisign.pub", own=False)
    if not (made.secret.is_file() and made.public.is_file()):
        place.mkdir(parents=True, exist_ok=True)
        run("minisign", "-G", "-W", "-f", "-s", made.secret, "-p", made.public)
        made.secret.chmod(0o600)
    return made


def _demand_open(secret: Path) -> None:
    """Whether minisign can sign with it and ask nobody. Raises BuildError."""
    try:
        kind = base64.b64decode(secret.read_text().splitlines()[1], validate=True)[2:4]
    except (OSError, ValueError, IndexError):
        kind = b""
    if kind not in {LOCKED, OPEN}:
        raise BuildError(f"{secret} is no secret key of minisign.", "name the file that `minisign -G -W -s` made.")
    if kind == LOCKED:
        step_now = "take it off a copy of the key: minisign -C -W -s COPY (the password is asked), then MINISIGN_KEY=COPY"
        raise BuildError(f"A password protects {secret}, and the build could not ask for it.", step_now)


def compress(image: Path) -> Path:
    """Make the .img.xz that people write onto a card; the .img stays beside it. Raises BuildError."""
    need("xz")
    target = image.with_name(image.name + ".xz")
    target.unlink(missing_ok=True)
    with step(f"compressing ({target})"):
        run("xz", "-T0", "-2", "--keep", image)
    return target


def hand_over(out: Path, checkout: Path, environ: Mapping[str, str]) -> None:
    """Give what was built to whoever called the builder with sudo (sudo(8)); the cache stays root's. Raises OSError."""
    user, group = environ.get("SUDO_UID", ""), environ.get("SUDO_GID", "")
    if os.geteuid() != 0 or not (user.isdigit() and group.isdigit()):
        return
    above = [each for each in out.parents if each.is_relative_to(checkout) and each != checkout]
    for each in (*above, out, *out.iterdir()):
        os.chown(each, int(user), int(group), follow_symlinks=False)


def sign(out: Path, key: ReleaseKey) -> None:
    """Write SHA256SUMS of all released files in a directory, its signature and the public key. Raises BuildError."""
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
    if not (out / PUBLIC).exists() or not (out / PUBLIC).samefile(key.public):
        shutil.copyfile(key.public, out / PUBLIC)
    # files of earlier builds too: somebody else's key may have made them
    say(f"{out / SUMS} vouches for {', '.join(names)}; {PUBLIC} checks it")
    if not key.own:
        say(WARNING.format(place=key.secret.parent))
