"""A restore is applied whole or not at all, wherever it is cut; exported files; what is copied while it is in use."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance import launch
from appliance.core.lifecycle.backup import archive, contents, proof, restoring, staging
from appliance.core.lifecycle.backup.faults import (
    DamagedBackupError,
    LockedError,
    NoLockError,
    TargetAwayError,
    WrongKeyError,
    explain,
)
from appliance.core.lifecycle.backup.model import MANIFEST, Manifest
from appliance.core.lifecycle.backup.restic import Complaints
from appliance.core.lifecycle.backup.targets import look
from appliance.core.secrets import Secrets
from appliance.core.store import Store
from appliance.errors import BackupError, DamagedError, DiskFullError, InvalidArgumentsError
from appliance.lock import Lock
from appliance.settingbackup import BackupSettings, BackupTarget
from tests.backup import rig
from tests.cutting import killed_at
from tests.support import needs_program

PARTS = ("settings", "secrets", "state", "streams", "models")


def unstopped() -> None:
    """Nobody stops it."""


def staged(home: Path, tree: Path, parts: tuple[str, ...] = PARTS) -> Manifest:
    chosen = [each for each in contents.pieces(rig.places(home)) if each.part in parts]
    about = staging.About("0.1.0", "control-pc", 1000.0, parts, contents.gaps(parts))
    return staging.stage(tree, chosen, about, None, unstopped)


@pytest.fixture
def old(used: Path, tmp_path: Path) -> Path:
    """A home with a restore of another state waiting."""
    manifest = staged(used, restoring.incoming(tmp_path / "home/data"))
    where = rig.places(used)
    (where.data / "inventory.toml").write_text("# later\n")
    Secrets(where.secrets, {}).put("later.key", b"later")
    with closing(sqlite3.connect(where.database)) as connection, connection:
        connection.execute("DELETE FROM users WHERE name = 'bob'")
    restoring.arm(where.data, manifest, PARTS, "usb:1234", "ada (ssh)")
    return used


def facts(home: Path) -> tuple[Any, ...]:
    where = rig.places(home)
    return (
        [name for name, _ in rig.users(home)], (where.data / "inventory.toml").read_text(),
        (where.secrets / "later.key").exists(), rig.audited(home).intact,
    )  # fmt: skip


BEFORE = (["ada"], "# later\n", True, True)
AFTER = (["ada", "bob"], "# machines\n", False, True)


def test_cut_at_any_step_the_next_start_ends_in_the_new_state(old: Path, tmp_path: Path) -> None:
    assert facts(old) == BEFORE
    step, cuts = 0, 0
    while True:
        home = tmp_path / f"copy{step}"
        shutil.copytree(old, home)
        where = rig.places(home)
        cut = killed_at(step, functools.partial(restoring.apply, where))
        cuts += cut
        if restoring.is_pending(where.data):
            restoring.apply(where)
        else:
            assert not cut or not (restoring.root_of(where.data) / "ready").exists()
        restoring.sweep(where.data)
        assert facts(home) == AFTER
        assert {each.name for each in restoring.root_of(where.data).iterdir()} <= {"applied.json"}
        aside = where.data / restoring.former(where.data)[0].name
        assert (aside / "secrets/all/later.key").read_bytes() == b"later", "what was here is kept"
        shutil.rmtree(home)
        if not cut:
            break
        step += 1
    assert cuts > 10


async def test_before_it_is_armed_a_cut_changes_nothing(used: Path, tmp_path: Path) -> None:
    where = rig.places(used)
    manifest = staged(used, restoring.incoming(where.data))
    assert killed_at(3, lambda: restoring.arm(where.data, manifest, PARTS, "usb:1"))
    assert not restoring.is_pending(where.data)
    restoring.sweep(where.data)
    assert not list(restoring.root_of(where.data).iterdir())
    assert facts(used)[0] == ["ada", "bob"]


def test_the_start_applies_it_before_anything_is_opened(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (old / "config.toml").write_text("[node]\nunknown = 1\n")  # settings that would not start: the restored ones do
    seen: list[Any] = []

    async def mode(settings: Any, where: Any, ring: Any, environ: Any) -> int:
        seen.append((settings.node.device_id, facts(old)))
        return 0

    monkeypatch.setattr("appliance.core.logs.configure", lambda *_, **__: None)
    monkeypatch.setattr("appliance.ending.run", asyncio.run)  # the real one ends the process
    environ = {"PRIME_SPARK_HOME": str(old)}
    assert launch._locked(environ, mode, on_held=launch._say_held, stderr=True) == 0
    assert seen == [("control-pc", AFTER)]
    held = Lock(rig.places(old).lock)
    assert held.take()
    held.release()


def test_what_was_restored_is_known_until_somebody_acknowledges_it(old: Path) -> None:
    where = rig.places(old)
    with closing(sqlite3.connect(where.database)) as connection:
        (rows,) = connection.execute("SELECT count(*) FROM audit").fetchone()
    assert restoring.applied(where.data) is None
    restoring.apply(where)
    done = restoring.applied(where.data)
    assert done is not None
    assert (done.source, done.by, done.aside) == ("usb:1234", "ada (ssh)", restoring.former(where.data)[0].name)
    assert (done.audit_rows, done.audit_newer) == (rows, rows), "all of them are newer than a backup of 1970"
    restoring.told(where.data)
    assert restoring.applied(where.data) is None
    assert restoring.last(where.data) == done
    assert restoring.acknowledge(where.data)
    assert not restoring.acknowledge(where.data)
    assert restoring.last(where.data) is None


def test_what_was_dropped_needs_no_acknowledging(old: Path) -> None:
    where = rig.places(old)
    restoring.apply(where)
    restoring.told(where.data)
    restoring.drop_former(where.data, restoring.former(where.data)[0].name)
    assert restoring.last(where.data) is None


def test_an_audit_that_was_put_aside_damaged_is_told_as_unknown(old: Path, caplog: pytest.LogCaptureFixture) -> None:
    where = rig.places(old)
    for each in where.database.parent.glob(where.database.name + "*"):
        each.write_bytes(b"no database at all" * 1000)
    restoring.apply(where)
    done = restoring.applied(where.data)
    assert done is not None
    assert (done.audit_rows, done.audit_newer) == (None, None)
    assert "the audit log that was put aside cannot be read" in caplog.text


def test_part_of_it_leaves_the_rest_alone(used: Path, tmp_path: Path) -> None:
    where = rig.places(used)
    manifest = staged(used, restoring.incoming(where.data))
    with pytest.raises(InvalidArgumentsError, match="does not contain memory"):
        restoring.choose(manifest, ("memory",))
    (where.data / "inventory.toml").write_text("# later\n")
    Secrets(where.secrets, {}).put("later.key", b"later")
    restoring.arm(where.data, manifest, restoring.choose(manifest, ("settings",)), "usb:1")
    with pytest.raises(BackupError, match="waits for the next start already"):
        restoring.arm(where.data, manifest, PARTS, "usb:1")
    restoring.apply(where)
    assert (where.data / "inventory.toml").read_text() == "# machines\n"
    assert (where.secrets / "later.key").exists()


def test_a_prepared_restore_can_be_taken_back(old: Path) -> None:
    where = rig.places(old)
    assert restoring.cancel(where.data)
    assert not restoring.cancel(where.data)
    assert not restoring.is_pending(where.data)
    assert facts(old) == BEFORE


def test_what_was_put_aside_goes_when_it_is_dropped(old: Path) -> None:
    where = rig.places(old)
    restoring.apply(where)
    name = restoring.former(where.data)[0].name
    with pytest.raises(InvalidArgumentsError, match="Nothing is kept as"):
        restoring.drop_former(where.data, "../secrets")
    restoring.drop_former(where.data, name)
    assert restoring.former(where.data) == ()


async def test_a_database_in_use_is_copied_as_it_is_at_one_moment(tmp_path: Path) -> None:
    store = Store(tmp_path / "live.sqlite")
    store.open()
    stop = False

    def pair(number: int) -> Callable[[sqlite3.Connection], object]:
        """Two rows that belong together."""
        rows = [(f"{sign}{number}", "1") for sign in "ab"]
        return lambda db: db.executemany("INSERT INTO meta VALUES (?, ?)", rows)

    async def write() -> None:
        number = 0
        while not stop:
            number += 1
            await store.write(pair(number))

    await store.write(lambda db: db.execute("CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT)"))
    writer = asyncio.create_task(write())
    for number in range(10):
        copy = tmp_path / f"{number}.sqlite"
        await asyncio.to_thread(staging.copy_sqlite, store.path, copy, unstopped)
        assert proof.whole(copy) == ""
        with closing(sqlite3.connect(copy)) as found:
            ones, twos = (found.execute(f"SELECT count(*) FROM meta WHERE name LIKE '{sign}%'").fetchone()[0] for sign in "ab")
        assert ones == twos
        assert {each.name for each in tmp_path.glob(f"{number}.sqlite*")} == {copy.name}
    stop = True
    await writer
    store.close()


async def test_a_newer_database_that_was_only_added_to_is_taken(used: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(rig.places(used).database)) as connection, connection:
        connection.execute("INSERT INTO migrations VALUES (9999, '9999_future.sql', 'x', 1)")
    made = staged(used, tmp_path / "tree")
    assert proof.prove(tmp_path / "tree", contents.pieces(rig.places(used)), made, unstopped) == made
    assert made.schemas["state/appliance.sqlite"] == 9999


async def test_a_newer_database_is_refused_with_the_next_step(used: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(rig.places(used).database)) as connection, connection:
        connection.execute("INSERT INTO migrations (version, name, sha256) VALUES (9999, '9999_future.sql', 'x')")
    made = staged(used, tmp_path / "tree")
    with pytest.raises(BackupError, match="newer program") as told:
        proof.prove(tmp_path / "tree", contents.pieces(rig.places(used)), made, unstopped)
    assert told.value.next_step == "update the appliance, then restore."
    raw = json.loads((tmp_path / "tree" / MANIFEST).read_text())
    (tmp_path / "tree" / MANIFEST).write_text(json.dumps({**raw, "format": 2, "files": None}))
    with pytest.raises(BackupError, match="has the format 2"):
        proof.read_manifest(tmp_path / "tree")


def spoil_database(tree: Path) -> None:
    path = tree / "state/appliance.sqlite"
    content = bytearray(path.read_bytes())
    content[4096 * 2 : 4096 * 3] = os.urandom(4096)
    path.write_bytes(content)
    raw = msgspec.json.decode((tree / MANIFEST).read_bytes(), type=Manifest)  # so that its hash is right, and only it is not
    files = {**raw.files, "state/appliance.sqlite": staging.fact(path, unstopped)}
    (tree / MANIFEST).write_bytes(msgspec.json.encode(msgspec.structs.replace(raw, files=files)))


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda tree: (tree / "secrets/all/vpn.key").write_bytes(b"x"), "vpn.key differs"),
        (lambda tree: (tree / "secrets/all/vpn.key").unlink(), "vpn.key is missing"),
        (lambda tree: (tree / "extra").write_bytes(b"x"), "extra is not in the manifest"),
        (lambda tree: (tree / MANIFEST).unlink(), "There is no manifest.json"),
        (lambda tree: (tree / MANIFEST).write_text("{"), "cannot be read"),
        (spoil_database, "state/appliance.sqlite: "),
    ],
    ids=["altered", "missing", "added", "no manifest", "broken manifest", "broken database"],
)
def test_a_proof_finds(used: Path, tmp_path: Path, spoil: Callable[[Path], object], told: str) -> None:
    staged(used, tmp_path / "tree")
    spoil(tmp_path / "tree")
    with pytest.raises(DamagedError, match=told):
        proof.prove(tmp_path / "tree", contents.pieces(rig.places(used)), None, unstopped)


async def test_an_exported_file_restores_and_opens_with_its_key_alone(used: Path, tmp_path: Path) -> None:
    one = rig.keeper(used, None)
    found = await one.export(tmp_path / "one.backup.age")
    key = archive.recovery_key(one.ground.secrets)
    assert b"vpn.key" not in (tmp_path / "one.backup.age").read_bytes()
    assert found.size == (tmp_path / "one.backup.age").stat().st_size
    assert not list(one.home.glob("*/*")), "nothing readable is left behind"
    two = rig.keeper(tmp_path / "fresh", None)
    stranger = archive.recovery_key(two.ground.secrets)
    with pytest.raises(WrongKeyError):
        await two.stage_file(tmp_path / "one.backup.age", stranger, "", (), other=False)
    (tmp_path / "cut").write_bytes((tmp_path / "one.backup.age").read_bytes()[:-40])
    with pytest.raises(DamagedError):
        await two.stage_file(tmp_path / "cut", key, "", (), other=False)
    assert not restoring.is_pending(rig.places(tmp_path / "fresh").data)
    await two.stage_file(tmp_path / "one.backup.age", key, "", (), other=False)
    restoring.apply(rig.places(tmp_path / "fresh"))
    assert rig.users(tmp_path / "fresh") == rig.users(used)


async def test_a_file_where_nothing_can_be_written_is_told(used: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BackupError, match="cannot be written"):
        await rig.keeper(used, None).export(tmp_path / "file/one.backup.age")


async def test_a_passphrase_opens_what_it_closed(used: Path, tmp_path: Path) -> None:
    one = rig.keeper(used, None, models=False, streams=False)
    found = await one.export(tmp_path / "two.backup.age", "a long phrase")  # its proof opens it with the phrase
    assert found.proved
    assert found.opened_by == "the passphrase that was given"


async def test_age_zstd_and_tar_read_an_exported_file(used: Path, tmp_path: Path) -> None:
    age, zstd = needs_program("age"), needs_program("zstd")
    one = rig.keeper(used, None)
    await one.export(tmp_path / "one.backup.age")
    key = tmp_path / "home/data/secrets/backup.password"
    plain = subprocess.run([age, "-d", "-i", key, tmp_path / "one.backup.age"], capture_output=True, check=True).stdout
    tar = subprocess.run([zstd, "-dc"], input=plain, capture_output=True, check=True).stdout
    listed = subprocess.run(["tar", "-t"], input=tar, capture_output=True, check=True).stdout.decode()
    assert "./secrets/all/vpn.key" in listed.splitlines()


def test_a_copy_that_would_fill_the_disk_is_not_begun(tmp_path: Path) -> None:
    with pytest.raises(DiskFullError, match="are free at"):
        staging.check_room(tmp_path, shutil.disk_usage(tmp_path).free)


@pytest.mark.parametrize(
    ("path", "mount", "told"),
    [
        ("nas/backup", "", "The NAS is not mounted"),
        ("usb/backup", "usb", "Nothing is mounted"),
        ("gone", "", "is not there"),
    ],
    ids=["nas without its marker", "no disk", "no directory"],
)
def test_nothing_is_written_where_the_disk_is_away(tmp_path: Path, path: str, mount: str, told: str) -> None:
    (tmp_path / "nas").mkdir()
    (tmp_path / "usb").mkdir()
    target = BackupTarget(path=str(tmp_path / path), mount=str(tmp_path / mount) if mount else "")
    with pytest.raises(TargetAwayError, match=told):
        look(target, tmp_path / "nas")
    assert not (tmp_path / path).exists()
    (tmp_path / "nas/.prime-spark-nas").touch()
    if path.startswith("nas"):
        look(target, tmp_path / "nas")
        assert (tmp_path / path).is_dir()


@pytest.mark.parametrize(
    ("what", "said", "kind", "told"),
    [
        ("snapshots", "Fatal: wrong password or no key found", WrongKeyError, "opens with another key"),
        ("backup", "Fatal: write x: no space left on device", DiskFullError, "No room at place"),
        (
            "restore",
            "write x: no space left on device\nFatal: There were 3 errors",
            DiskFullError,
            "No room for what comes from",
        ),
        ("check", "Load(<data/1>): connection refused\nFatal: repository contains errors", TargetAwayError, "does not answer"),
        ("check", "Fatal: repository contains errors", DamagedBackupError, "is damaged"),
        ("restore", "ciphertext verification failed\nFatal: There were 3 errors", DamagedBackupError, "is damaged"),
        ("restore", "Load(<data/1>): unexpected EOF\nFatal: There were 1 errors", DamagedBackupError, "is damaged"),
        ("forget", "unable to create lock in backend: repository is already locked by PID 7", LockedError, "at work"),
        ("backup", "Fatal: Access Denied.", TargetAwayError, "does not answer"),
        ("backup", "Fatal: something new", BackupError, "restic backup failed at place: Fatal: something new"),
        ("backup", "", BackupError, "it did not say why"),
    ],
    ids=lambda value: None if not isinstance(value, str) else value.split("\n")[0][:24],
)
def test_what_restic_says_becomes_an_error_with_a_next_step(what: str, said: str, kind: type[Exception], told: str) -> None:
    found = explain(what, "place", said)
    assert type(found) is kind
    assert told in found.message
    assert found.next_step


def test_the_cause_stands_before_the_calls_that_led_to_it() -> None:
    frames = "github.com/restic/restic/internal/x.(*Local).Save{0}\n\tgithub.com/restic/x/local.go:{0}"
    calls = "\n".join(frames.format(number) for number in range(40))
    heard = Complaints()
    for line in f"write /mnt/usb/locks/7-tmp: no space left on device\n{calls}\nunable to create lock in backend".splitlines():
        heard.add(line.strip())
    assert len(str(heard).splitlines()) == 2
    found = explain("snapshots", "/mnt/usb", str(heard))
    assert isinstance(found, NoLockError), "whoever only reads tries again without a lock"
    assert isinstance(found.why, DiskFullError)
    assert "no space left" in found.message


async def test_what_cannot_even_be_copied_is_a_failure_of_every_target(used: Path, tmp_path: Path) -> None:
    keeper = rig.keeper(used, tmp_path / "repository")
    rig.places(used).streams.write_bytes(b"no database at all" * 1000)
    with pytest.raises(BackupError, match=r"streams\.sqlite cannot be copied"):
        await keeper.run()
    status = keeper.book.targets["usb"]
    assert (status.failures, status.last_good) == (1, None)
    assert "cannot be copied" in status.problem
    assert rig.keeper(used, tmp_path / "repository").book.targets["usb"].first_seen == status.first_seen, "it is remembered"


def test_on_a_fresh_machine_nothing_is_put_aside(used: Path, tmp_path: Path) -> None:
    fresh = rig.places(tmp_path / "fresh")
    restoring.arm(fresh.data, staged(used, restoring.incoming(fresh.data)), PARTS, "usb:1")
    restoring.apply(fresh)
    assert restoring.former(fresh.data) == ()
    assert rig.users(tmp_path / "fresh") == rig.users(used)


def test_every_part_is_in_a_backup_or_named_as_missing() -> None:
    settings = BackupSettings(memory=True, secrets=False)
    parts = contents.wanted(settings)
    told = {gap.what for gap in contents.gaps(parts, ["redis.password"])}
    assert {contents.NAMES[part] for part in contents.PARTS if part not in parts} <= told
    assert not {contents.NAMES[part] for part in parts} & told
    assert "secrets given from outside: redis.password" in told
