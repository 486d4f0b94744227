"""Writes /etc from what lies in the data partition: at every start anew, for /etc lives in memory."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import uuid
from collections.abc import Mapping
from pathlib import Path

from appliance.core.lifecycle.firstboot import card, logins, mounts, network, records
from appliance.core.lifecycle.firstboot.model import Identity, home_of
from appliance.errors import ApplianceError, StoreError

log = logging.getLogger(__name__)

HOST_KEY = "ssh_host_ed25519_key"


def generate(data: Path, root: Path) -> None:
    """Write what the machine is called, reached and entered by.

    Nothing raises: what cannot be read or written is in the log, and the rest is there. Called twice, it ends the same.

    Args:
        data: The data partition.
        root: Of the system.
    """
    try:
        identity = records.identity(data)
    except StoreError as error:
        log.error("the machine starts without its identity: %s", error)
        identity = Identity()
    for work in (_machine_id, _names, _language, _entrances, _network, _mounts, _owners):
        try:
            work(data, root, identity)
        except (ApplianceError, OSError, ValueError) as error:  # a file that is damaged may be no text
            log.error("%s: %s", work.__name__.strip("_"), error)


def put(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file of /etc, whole or not at all; it stays whose it was, such as group shadow's. Raises OSError."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        if path.exists():
            about = path.stat()
            os.fchown(file.fileno(), about.st_uid, about.st_gid)
        os.fchmod(file.fileno(), mode)
    part.replace(path)


def _machine_id(data: Path, root: Path, _: Identity) -> None:
    """The one with which the machine began stays."""
    kept, here = data / "system/machine-id", root / "etc/machine-id"
    known = kept.read_text(encoding="ascii", errors="replace").strip() if kept.exists() else ""
    now = here.read_text(encoding="ascii", errors="replace").strip() if here.exists() else ""
    if not _is_id(known):
        known = now if _is_id(now) else uuid.uuid4().hex
        kept.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        put(kept, known + "\n")
        card.flush(kept)
        card.flush(kept.parent)
    if now != known:
        put(here, known + "\n", 0o444)


def _is_id(text: str) -> bool:
    return len(text) == 32 and not text.strip("0123456789abcdef") and text.strip("0") != ""


def _names(_: Path, root: Path, identity: Identity) -> None:
    if not identity.hostname:
        return
    name = identity.hostname
    put(root / "etc/hostname", name + "\n")
    lines = ("127.0.0.1 localhost", f"127.0.1.1 {name}", "::1 localhost ip6-localhost ip6-loopback", "ff02::1 ip6-allnodes")
    put(root / "etc/hosts", "\n".join(lines) + "\n")


def _language(_: Path, root: Path, identity: Identity) -> None:
    etc = root / "etc"
    if identity.timezone:
        put(etc / "timezone", identity.timezone + "\n")
        link = etc / ".localtime.part"
        link.unlink(missing_ok=True)
        link.symlink_to(f"/usr/share/zoneinfo/{identity.timezone}")
        link.replace(etc / "localtime")
    if identity.locale:
        put(etc / "locale.conf", f"LANG={identity.locale}\n")
        put(etc / "default/locale", f"LANG={identity.locale}\n")
    if identity.keymap:
        model = f'XKBMODEL="pc105"\nXKBLAYOUT="{identity.keymap}"\nXKBVARIANT="{identity.keymap_variant}"\nXKBOPTIONS=""\n'
        put(etc / "default/keyboard", model + 'BACKSPACE="guess"\n')
        for each in (etc / "console-setup").glob("cached_*"):  # of another keyboard
            each.unlink()


def _entrances(data: Path, root: Path, identity: Identity) -> None:
    """Who may log in at the machine itself, and the key by which they know it."""
    for path, text, mode in logins.files(root, identity.logins):
        put(root / path, text, mode)
    if any(each.keys for each in identity.logins):
        _host_key(data, root)
    ours = {each.name for each in identity.logins if each.keys}
    for each in (root / "etc/ssh/authorized_keys").glob("*"):
        if each.name not in ours:
            each.unlink()
    for login in identity.logins:
        _home(data / "home" / login.name, root, login.uid)


def _host_key(data: Path, root: Path) -> None:
    """Made on the device, at the first need; the same from then on. Raises StoreError where ssh-keygen cannot make one."""
    kept = data / "system/ssh" / HOST_KEY
    if not kept.with_suffix(".pub").exists():
        part = data / "system/.ssh-new"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(mode=0o750, parents=True)
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(part / HOST_KEY)]
        try:
            done = subprocess.run(words, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)  # noqa: S603
        except OSError as error:
            raise StoreError(f"ssh-keygen cannot be run: {error.strerror}.", "install openssh-client.") from error
        if done.returncode:
            raise StoreError(f"ssh-keygen made no host key: {done.stderr.strip()}.", "see the data partition.")
        for name in (HOST_KEY, f"{HOST_KEY}.pub"):
            card.flush(part / name)
        shutil.rmtree(kept.parent, ignore_errors=True)
        part.rename(kept.parent)
        card.flush(kept.parent.parent)
        records.hand_over(data, root)
    put(root / "etc/ssh" / HOST_KEY, kept.read_text(encoding="ascii"), 0o600)
    put(root / "etc/ssh" / f"{HOST_KEY}.pub", kept.with_suffix(".pub").read_text(encoding="ascii"))


def _home(home: Path, root: Path, uid: int) -> None:
    """A directory of their own, on the data partition."""
    if not home.exists():
        part = home.with_name(f".{home.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        skeleton = root / "etc/skel"
        if skeleton.is_dir():
            shutil.copytree(skeleton, part, symlinks=True)
        else:
            part.mkdir()
        part.chmod(0o700)
        part.rename(home)
    if os.geteuid() == 0 and home.stat().st_uid != uid:
        card.give(home, (uid, uid))


def _network(_: Path, root: Path, identity: Identity) -> None:
    wanted = network.files(identity)
    for pattern in (network.LINKS, network.RADIOS):
        for each in root.glob(pattern):
            if str(each.relative_to(root)) not in wanted:
                each.unlink()
    for path, (text, mode) in wanted.items():
        put(root / path, text, mode)
    for path in wanted:  # systemd-networkd is another user
        (root / path).parent.chmod(0o755)


def _mounts(_: Path, root: Path, identity: Identity) -> None:
    wanted = mounts.files(identity.mounts, card.owner(root))
    for pattern in mounts.PATTERNS:
        for each in root.glob(pattern):
            if each.is_file() and not each.is_symlink() and each.read_text(encoding="utf-8").startswith(mounts.HEAD):
                _unwanted(each, root, wanted)
    for each in (root / mounts.FOLDER).glob("*"):
        _unwanted(each, root, wanted)
    for path, (text, mode) in wanted.items():
        put(root / path, text, mode)
    if (root / mounts.FOLDER).exists():
        (root / mounts.FOLDER).chmod(0o700)


def _unwanted(path: Path, root: Path, wanted: Mapping[str, object]) -> None:
    if str(path.relative_to(root)) not in wanted:
        path.unlink()


def _owners(data: Path, root: Path, _: Identity) -> None:
    """The appliance's number may be another one in another version of the image; and a cut may leave a file of root's there."""
    home, ids = home_of(data), card.owner(root)
    if ids is not None and any(
        each.stat().st_uid != ids[0] for each in (*home.glob("data/*"), *home.glob("*"), home) if each.exists()
    ):
        records.hand_over(data, root)
