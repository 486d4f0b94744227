"""From the file to what is to be applied, in a staging directory; nothing that the machine uses is touched."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from appliance.core.auth import hash_password
from appliance.core.lifecycle.firstboot import card, erase, hashing, reading, records, stage, validate
from appliance.core.lifecycle.firstboot.form import FirstBoot, UserTable
from appliance.core.lifecycle.firstboot.model import (
    Identity,
    Interface,
    Job,
    Login,
    Mount,
    Person,
    Plan,
    Radio,
    Record,
    home_of,
    identity_file,
)
from appliance.core.lifecycle.firstboot.notes import notes
from appliance.core.lifecycle.firstboot.reading import FileError, line_of
from appliance.core.lifecycle.firstboot.words import kind_of_hash
from appliance.core.secrets import write_private
from appliance.errors import ConfigError

log = logging.getLogger(__name__)

FIRST_UID = 1000
EVERYWHERE = "0.0.0.0"  # noqa: S104 the appliance's own server asks everybody for a key or a password


def prepare(job: Job, path: Path, raw: bytes, found: FirstBoot) -> Plan:
    """Write what is to be applied into the staging directory.

    Args:
        job: Where it is applied.
        path: The file.
        raw: Its content.
        found: What it says; it was checked.

    Raises:
        ApplianceError: It cannot be applied; nothing was changed.
        OSError: The disk refuses; nothing was changed.
    """
    text, tree = reading.decode(path, raw), stage.fresh(job.data)
    home, now = home_of(tree), home_of(job.data)
    was = records.identity(job.data)
    restored: tuple[str, ...] = ()
    if found.restore is not None:
        restored = _restore(job, path, text, found, tree)
        now = home
        was = records.read_identity(identity_file(tree)) if identity_file(tree).exists() else was
    _configure(job, path, text, found, now, home)
    secrets = job.parts.places(home).secrets
    for name, value in found.secrets.items():
        secrets.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(secrets / name, value.encode())
    identity = _identity(found, was, taken(job))
    records.write(identity_file(tree), identity)
    people = tuple(_person(each) for each in found.users)
    stage.check_people(job.parts.places(now).database, people)
    return Plan(_record(job, found, raw, identity, restored), people)


def _restore(job: Job, path: Path, text: str, found: FirstBoot, tree: Path) -> tuple[str, ...]:
    if job.parts.places(home_of(job.data)).database.exists():
        step = "take [restore] away and use `prime-spark backup restore`; or begin anew: `prime-spark data reset`."
        raise FileError(path, line_of(text, ("restore",)), "restore: this machine has data already", step)
    source = validate.source(path, text, found)
    log.warning("the backup of the first-boot file is proved and restored: this takes some minutes")
    locks = source.repository is not None  # restic puts a lock into a repository, also for reading
    with card.writable(job.boot, job.root) if locks else contextlib.nullcontext():
        parts = job.parts.restore(home_of(tree), tree / "system", source)
    return tuple(f"restored {each}" for each in parts)


def _configure(job: Job, path: Path, text: str, found: FirstBoot, now: Path, home: Path) -> None:
    """Configuration file and inventory."""
    before = job.parts.places(now)
    given = dict(found.settings)
    try:
        _, settings = job.parts.configuration(before.config, given)
        _complete(given, found, settings.model_fields_set and _set(settings))
        changed, settings = job.parts.configuration(before.config, given)
    except ConfigError as error:
        raise validate.placed(path, error) from None
    after = job.parts.places(home)
    after.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    if given:
        write_private(after.config, changed.encode())
    inventory = before.data / "inventory.toml"
    if found.nodes:
        write_private(after.data / "inventory.toml", validate.inventory(path, text, found.nodes, settings, inventory).encode())


def _set(settings: Any) -> set[str]:
    """Settings that are written down, of those that a first start completes."""
    named = {"node": "device_id", "ssh": "host"}
    return {f"{group}.{key}" for group, key in named.items() if key in getattr(settings, group).model_fields_set}


def _complete(given: dict[str, Any], found: FirstBoot, known: Any) -> None:
    """What follows from the rest: the appliance is called like the machine, and users reach its console over SSH."""
    for key, value in (("node.device_id", found.system.hostname), ("ssh.host", EVERYWHERE if found.users else "")):
        group, name = key.split(".")
        if value and key not in (known or set()):
            inner: Mapping[str, Any] = given.get(group, {})
            given[group] = {**inner, name: value}


def taken(job: Job) -> Mapping[str, int]:
    """Numbers that somebody has: accounts of the image, and those whose homes are there, also where they may log in no more."""
    homes = job.data / "home"
    owners = {each.name: each.stat().st_uid for each in homes.iterdir()} if homes.is_dir() else {}
    return owners | dict(validate.accounts(job.root))


def _identity(found: FirstBoot, was: Identity, taken: Mapping[str, int]) -> Identity:
    system = {name: getattr(found.system, name) for name in found.system.model_fields_set}
    changes: dict[str, Any] = {name: value for name, value in system.items() if value}
    if found.network:
        changes["interfaces"] = tuple(
            Interface(
                name, (not each.address) if each.dhcp is None else each.dhcp, each.address, each.gateway, each.dns, each.search
            )
            for name, each in found.network.items()
        )
    if found.mounts:
        changes["mounts"] = tuple(
            Mount(name, each.kind, each.source, each.place(name), each.user, each.password, each.read_only)
            for name, each in found.mounts.items()
        )
    if found.wifi:
        changes["radios"] = tuple(_radio(each) for each in found.wifi)
    logins = {each.name: each for each in was.logins}
    for user in found.users:
        if user.shell:
            logins[user.name] = login(user, logins, taken)
        else:
            logins.pop(user.name, None)
    return replace(was, **changes, logins=tuple(logins.values()))


def _radio(wish: Any) -> Radio:
    psk = hashing.wifi_key(wish.ssid, wish.password) if wish.security == "wpa2" else ""
    phrase = wish.password if wish.security == "wpa3" else ""
    return Radio(wish.ssid, wish.interface, wish.security, psk, phrase, wish.country, wish.hidden)


def login(user: UserTable, known: Mapping[str, Login], taken: Mapping[str, int]) -> Login:
    """How somebody logs in at the machine.

    Args:
        user: As the file has it.
        known: Who may already.
        taken: Numbers that somebody has.
    """
    was = known.get(user.name)
    used = {each.uid for each in known.values()} | {uid for name, uid in taken.items() if name not in known}
    uid = was.uid if was else next(each for each in range(FIRST_UID, 60000) if each not in used)
    given = [each for each in user.password_hash if kind_of_hash(each) == "crypt"]
    digest = hashing.login_hash(user.password) if user.password else given[0] if given else was.hash if was else ""
    keys = user.ssh_keys or (was.keys if was else ())
    return Login(user.name, uid, user.role == "admin", digest, keys)


def _person(user: UserTable) -> Person:
    given = [each for each in user.password_hash if kind_of_hash(each) == "argon2"]
    digest = hash_password(user.password) if user.password else given[0] if given else ""
    return Person(user.name, user.role, digest, user.ssh_keys or None)


def _record(job: Job, found: FirstBoot, raw: bytes, identity: Identity, restored: tuple[str, ...]) -> Record:
    files = (found.restore.key_file,) if found.restore is not None and found.restore.key_file else ()
    text = raw.removeprefix(reading.BOM).decode()
    warnings = tuple(f"{name} may hold the same passwords: remove it" for name in reading.strays(job.boot))
    return Record(
        erase.mark(raw), len(raw), job.clock, identity.hostname, job.version, (*found.tables, *restored), False, files,
        (*notes(found), *erase.remarks(text), *warnings),
    )  # fmt: skip
