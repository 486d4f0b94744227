"""A backup as one file: tar, zstd, age. Any age, zstd and tar read it too. All of it blocks."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tarfile
from pathlib import Path

from appliance.core.lifecycle.backup.faults import DamagedBackupError, WrongKeyError
from appliance.core.lifecycle.backup.staging import BLOCK, Check, fresh
from appliance.core.lifecycle.inmemory import STEP, fleeting
from appliance.core.secrets import Secrets
from appliance.errors import BackupError, ConflictError, DamagedError, DiskFullError

SUFFIX = ".backup.age"
NAME = "backup.password"
"""Name of the recovery key: an identity of age, and as text the password of the repositories."""
LEVEL = 6
MOST_PHRASE = 256 << 20
"""Largest archive with a passphrase, bytes: age's library takes these in memory only."""


def recovery_key(secrets: Secrets) -> bytes:
    """The key of this machine, made at the first use. Raises StoreError."""
    found = secrets.get(NAME)
    if found is None:
        from pyrage import x25519

        found = str(x25519.Identity.generate()).encode()
        secrets.put(NAME, found)
    return found.strip()


def recipient(key: bytes) -> str:
    """The public half of a recovery key; empty where it is a password of somebody's own."""
    from pyrage import IdentityError, x25519

    try:
        return str(x25519.Identity.from_str(key.decode().strip()).to_public())
    except (IdentityError, UnicodeDecodeError):
        return ""


def key_in(text: bytes) -> bytes:
    """What a file with a key has beside comments, as `prime-spark backup key` and age-keygen write them."""
    lines = [line.strip() for line in text.splitlines()]
    return b"\n".join(line for line in lines if line and not line.startswith(b"#"))


def pack(tree: Path, target: Path, work: Path, *, key: bytes, phrase: str, check: Check) -> tuple[int, str]:
    """Write a directory into one encrypted file, whole or not at all: (bytes, SHA-256).

    Args:
        tree: What is packed.
        target: The file; must not be there.
        work: Private directory for what is not encrypted yet.
        key: Recovery key; opens it where no passphrase is given.
        phrase: Passphrase instead; empty for none.
        check: Looked at all the time.

    Raises:
        ConflictError: The file is there.
        DiskFullError: It does not fit.
        BackupError: It cannot be written, or not in this way.
    """
    part, plain = target.with_name(f".{target.name}.part"), fresh(work) / "plain.tar.zst"
    try:
        if told := fleeting(target):
            raise BackupError(f"{told}.", STEP)
        if target.exists():
            raise ConflictError(f"{target} is there already.", "give another name, or remove it.")
        _compress(tree, plain, check)
        check()
        _encrypt(plain, part, key, phrase)
        with part.open("rb+") as file:
            os.fsync(file.fileno())
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        part.replace(target)
    except OSError as error:
        if error.errno in {28, 122}:
            raise DiskFullError(f"No room for {target}: {error.strerror}.", "free space there.") from error
        told = f"{target} cannot be written: {error.strerror}."
        raise BackupError(told, "choose a directory that this user may write.") from error
    finally:
        with contextlib.suppress(OSError):  # where it could not be made, it cannot be removed, and need not
            part.unlink(missing_ok=True)
        plain.unlink(missing_ok=True)
    return target.stat().st_size, digest


def _compress(tree: Path, plain: Path, check: Check) -> None:
    import zstandard

    def entry(about: tarfile.TarInfo) -> tarfile.TarInfo:
        check()
        about.uid = about.gid = 0
        about.uname = about.gname = ""
        return about

    with plain.open("wb") as file:
        os.fchmod(file.fileno(), 0o600)
        with (
            zstandard.ZstdCompressor(LEVEL).stream_writer(file, closefd=False) as squeezed,
            tarfile.open(fileobj=squeezed, mode="w|", format=tarfile.PAX_FORMAT) as tar,
        ):
            tar.add(tree, ".", filter=entry)


def _encrypt(plain: Path, part: Path, key: bytes, phrase: str) -> None:
    import pyrage

    if phrase:
        if plain.stat().st_size > MOST_PHRASE:
            told = f"The backup is larger than {MOST_PHRASE >> 20} MiB: too much for a passphrase."
            raise BackupError(told, "export it without one: the recovery key opens it then.")
        sealed = pyrage.passphrase.encrypt(plain.read_bytes(), phrase)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(sealed)
        return
    public = recipient(key)
    if not public:
        step = f"export with a passphrase; or remove the secret {NAME}, so that a key is made for new repositories."
        raise BackupError("The recovery key of this machine is a password, which encrypts no file.", step)
    with plain.open("rb") as source, os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        pyrage.encrypt_io(source, file, [pyrage.x25519.Recipient.from_str(public)])


def unpack(source: Path, tree: Path, work: Path, *, key: bytes, phrase: str, check: Check) -> None:
    """Decrypt and unpack a file into a directory, made anew.

    Raises:
        WrongKeyError: It opens with another key or passphrase.
        DamagedError: It is no such file, or it is cut off or altered.
        DiskFullError: It does not fit.
        BackupError: It cannot be read.
    """
    plain = fresh(work) / "plain.tar.zst"
    try:
        _decrypt(source, plain, key, phrase)
        check()
        _extract(plain, fresh(tree), check)
    except OSError as error:
        if error.errno in {28, 122}:
            raise DiskFullError(f"No room for what is in {source.name}: {error.strerror}.", "free space there.") from error
        told = f"{source} cannot be read: {error.strerror or error}."
        raise BackupError(told, "see that it is there and its disk is whole.") from error
    finally:
        plain.unlink(missing_ok=True)


def _decrypt(source: Path, plain: Path, key: bytes, phrase: str) -> None:
    import pyrage

    with source.open("rb") as file:
        if not file.read(64).startswith(b"age-encryption.org/"):
            raise DamagedBackupError(f"{source.name} is no file of age.", "give a file that `prime-spark backup export` made.")
        file.seek(0)
        try:
            if phrase:
                plain.write_bytes(pyrage.passphrase.decrypt(file.read(MOST_PHRASE + BLOCK), phrase))
                return
            identity = pyrage.x25519.Identity.from_str(key.decode().strip())
            with os.fdopen(os.open(plain, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as target:
                pyrage.decrypt_io(file, target, [identity])
        except (pyrage.IdentityError, UnicodeDecodeError) as error:
            told = "What was given as the recovery key is none."
            raise WrongKeyError(told, "it is one line that begins with AGE-SECRET-KEY-1.") from error
        except pyrage.DecryptError as error:
            raise _refused(source, str(error)) from error
        except OSError as error:
            if error.errno is None:  # age's own, not the disk's: a piece of it does not authenticate
                raise DamagedBackupError(f"{source.name} is damaged or cut off: {error}.", "use another copy of it.") from error
            raise


def _refused(source: Path, said: str) -> BackupError | DamagedError:
    low = said.lower()
    if any(each in low for each in ("no matching keys", "decryption failed", "passphrase", "excessive")):
        return WrongKeyError(f"{source.name} does not open: {said}", "give the key or the passphrase that it was made with.")
    return DamagedBackupError(f"{source.name} is damaged or cut off: {said}", "use another copy of it.")


def _extract(plain: Path, tree: Path, check: Check) -> None:
    import zstandard

    try:
        with (
            plain.open("rb") as file,
            zstandard.ZstdDecompressor().stream_reader(file) as bytes_,
            tarfile.open(fileobj=bytes_, mode="r|") as tar,
        ):
            for entry in tar:
                check()
                if not (entry.isreg() or entry.isdir()):
                    raise DamagedBackupError(f"{entry.name[:80]!r} in it is neither file nor directory.", "use another backup.")
                tar.extract(entry, tree, set_attrs=False, filter="data")
    except (tarfile.TarError, zstandard.ZstdError, EOFError) as error:
        raise DamagedBackupError(f"It cannot be unpacked: {error}.", "use another copy of it.") from error
