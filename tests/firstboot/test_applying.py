"""A file is applied whole or not at all, once; its secrets are gone from the card then."""

from __future__ import annotations

import asyncio
import fcntl
import functools
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from appliance.core.audit import verify
from appliance.core.auth import Accounts
from appliance.core.clock import SystemClock
from appliance.core.fleet.inventory import FleetInventory
from appliance.core.lifecycle.firstboot import card, stage, validate
from appliance.core.lifecycle.firstboot.apply import ERASE, apply
from appliance.core.lifecycle.firstboot.prepare import prepare
from appliance.core.model import Role
from appliance.core.secrets import Secrets
from appliance.core.store import Store
from appliance.core.watermark import Watermark
from appliance.firstboot import FirstBootParts
from tests.cutting import killed_at
from tests.firstboot import rig

ARGON = "$argon2id$v=19$m=65536,t=3,p=4$dfbTv832hsQOP9JSJEu20g$7og7YKttZiao1tSbVLncMviOAi+qlRQuU5eglH+Fycg"
CRYPT = "$y$j9T$JJGSOFATrxgghj1Durtyf/$xOFY5ilgBJhTWQqoosq9xQfNgRZsn3DGF.BRhae6gj5"
QUICK = f"""\ufeff[system]
hostname = "spark-9"
[[users]]
name = "eve"
role = "admin"
password_hash = ["{ARGON}", "{CRYPT}"]
shell = true
[secrets]
"redis.password" = "abc def"
"""
"""Nothing in it is slow."""


def files(folder: Path) -> dict[str, bytes]:
    """Every file below, by its path."""
    return {str(each.relative_to(folder)): each.read_bytes() for each in sorted(folder.rglob("*")) if each.is_file()}


async def person(box: rig.Box, name: str, password: str) -> Any:
    store = Store(box.places.database)
    store.open()
    try:
        return await Accounts(store, SystemClock()).check_password(name, password)
    finally:
        store.close()


async def test_all_of_it_is_there_by_what_the_appliance_itself_reads(used: rig.Box) -> None:
    ada = await person(used, "ada", "correct horse")
    assert (ada.role, len(ada.keys)) == (Role.admin, 1)
    assert (await person(used, "bob", 'battery "staple"')).role is Role.viewer
    settings = FirstBootParts().configuration(used.places.config, {})[1]
    assert (settings.node.device_id, settings.ssh.host, settings.log.level) == ("spark-7", "0.0.0.0", "DEBUG")
    assert Secrets(used.places.secrets, {}).text("kafka.password") == "töp secret"
    inventory = FleetInventory((), used.places.data / "inventory.toml")
    assert inventory.load()
    assert inventory.get("agent").jump == "gate"
    assert used.record() is not None
    assert used.told()["state"] == "applied"


def test_the_audit_knows_of_it(used: rig.Box) -> None:
    key = Secrets(used.places.secrets, {}).get("audit.key")
    assert key is not None
    with closing(sqlite3.connect(used.places.database)) as connection:
        assert verify(connection, key, Watermark(used.places.audit_mark, key)).intact
    (row,) = used.rows("SELECT actor, via, action, args FROM audit")
    assert row[:3] == ("first-boot file", "card", "setup.first-boot")
    assert '"ada":"admin"' in row[3]
    assert "correct horse" not in row[3]


def test_no_secret_is_left_in_plain(used: rig.Box, tmp_path: Path) -> None:
    on_card = used.file.read_bytes()
    data = files(used.data)
    kept = data.pop("prime-spark/data/secrets/kafka.password")
    assert kept == "töp secret".encode()
    for secret in rig.SECRETS:
        assert secret not in on_card
        assert not [name for name, content in {**data, **files(used.root)}.items() if secret in content]
    assert on_card.startswith(rig.WHOLE.split('password = "')[0].encode())
    assert b'password = "*************"  # hers' in on_card


def test_the_secrets_are_overwritten_where_they_stand(box: rig.Box) -> None:
    """A name for the same clusters sees it: the file was not written anew beside them."""
    box.write(QUICK.replace("\n", "\r\n"))
    before = box.file.read_bytes()
    (box.boot / "the same file").hardlink_to(box.file)
    assert box.apply().state == "applied"
    after = (box.boot / "the same file").read_bytes()
    assert after == box.file.read_bytes()
    changed = [old for old, new in zip(before, after, strict=False) if old != new]
    assert len(changed) == len(f"{ARGON}{CRYPT}abc def") - (ARGON + CRYPT).count("*")
    assert b"[applied]" in after[len(before) :]


def test_the_card_is_written_by_one_program_at_a_time(box: rig.Box) -> None:
    """The boot choice is written under the same lock: bootslots.py."""
    other = os.open(box.boot, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with card.writable(box.boot, box.root), pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(other)


def test_it_is_applied_once(used: rig.Box) -> None:
    before, card = files(used.data), used.file.read_bytes()
    outcome = used.apply()
    assert (outcome.state, outcome.clock) == ("kept", rig.CLOCK)
    assert files(used.data) == before
    assert used.file.read_bytes() == card


def test_a_later_file_changes_what_it_names_and_nothing_else(used: rig.Box) -> None:
    was, users = used.identity(), used.rows("SELECT name, role, password_hash FROM users ORDER BY name")
    used.write('[[wifi]]\nssid = "café"\npassword = "another one"\ncountry = "DE"\nsecurity = "wpa3"\n')
    assert used.apply().parts == ("wifi",)
    now = used.identity()
    assert [each.ssid for each in now.radios] == ["café"]
    assert (now.hostname, now.logins, now.interfaces) == (was.hostname, was.logins, was.interfaces)
    assert used.rows("SELECT name, role, password_hash FROM users ORDER BY name") == users
    assert f"sae_password={b'another one'.hex()}" in used.etc("wpa_supplicant/wpa_supplicant-wlan0.conf")


def test_to_apply_it_again_the_secrets_are_written_anew(used: rig.Box) -> None:
    text = used.file.read_text()
    used.write(text.partition("[applied]")[0])
    outcome = used.apply()
    assert (outcome.state, outcome.line) == ("broken", 11)
    assert "was struck out" in outcome.message
    assert "write it again" in outcome.next_step


def test_who_is_changed_keeps_what_is_not_said(used: rig.Box) -> None:
    was = used.identity().logins[0]
    used.write(f'[[users]]\nname = "ada"\nrole = "admin"\nssh_keys = ["{rig.KEY}"]\nshell = true\n')
    assert used.apply().state == "applied"
    assert used.identity().logins == (was,)
    assert [row[0] for row in used.rows("SELECT name FROM users WHERE password_hash != '' ORDER BY name")] == ["ada", "bob"]
    used.write(f'[[users]]\nname = "ada"\nrole = "viewer"\nssh_keys = ["{rig.KEY}"]\n')
    outcome = used.apply()
    assert (outcome.state, outcome.message) == ("broken", "No administrator would be left.")
    assert used.identity().logins == (was,)


def done(box: rig.Box) -> tuple[Any, ...]:
    """What there is when it was applied."""
    record, card, identity = box.record(), box.file.read_bytes(), box.identity()
    return (
        identity.hostname,
        [each.name for each in identity.logins if each.name != "ada"],
        box.rows("SELECT name, role FROM users WHERE name = 'eve'"),
        Secrets(box.places.secrets, {}).text("redis.password"),
        record is not None and record.erased,
        b"abc def" in card,
        card.count(b"[applied]"),
        sorted(each.name for each in (box.data / ".first-boot").iterdir()),
    )


DONE: tuple[Any, ...] = ("spark-9", ["eve"], [("eve", "admin")], "abc def", True, False, 1, [])


def others(box: rig.Box) -> dict[str, bytes]:
    """What lies in the data partition beside what is being prepared, and what a reader of a database leaves beside it."""
    fleeting = (".first-boot", "prime-spark/data/appliance.sqlite-")
    return {name: content for name, content in files(box.data).items() if not name.startswith(fleeting)}


def armed(box: rig.Box) -> rig.Box:
    """The same machine, cut at the moment from which on the file will be applied, whatever happens."""
    box.write(QUICK)
    job, raw = box.job(), box.file.read_bytes()
    stage.arm(box.data, prepare(job, box.file, raw, validate.check(box.file, raw, job.parts, box.root)))
    return box


def cuts(box: rig.Box, memory: Path, every: int) -> Iterator[rig.Box]:
    """Copies of the machine, each cut at another step of applying the file, until one gets through."""
    step, cut = 0, True
    while cut:
        one = rig.Box(memory / f"copy{step}")
        shutil.copytree(box.base, one.base, symlinks=True)
        cut = killed_at(step, functools.partial(apply, one.job()))
        yield one
        shutil.rmtree(one.base, ignore_errors=True)  # a program of the killed one may still be writing
        step += every


def test_cut_before_it_is_armed_nothing_is_changed(box: rig.Box, memory: Path) -> None:
    box.write(QUICK)
    card, unchanged = box.file.read_bytes(), 0
    for one in cuts(box, memory, 2):
        if stage.is_ready(one.data):
            assert apply(one.job()).state == "applied"
            assert done(one) == DONE
            break
        assert one.file.read_bytes() == card, "the secrets are still there, to be applied at the next start"
        assert others(one) == {}
        unchanged += 1
    assert unchanged > 10


@pytest.mark.parametrize("every", [11, 1], ids=["fresh", "in use"])
def test_cut_at_any_step_from_there_all_of_it_is_applied(box: rig.Box, seed: rig.Box, memory: Path, every: int) -> None:
    if every == 1:  # its database is there, which makes it quick enough for each step
        shutil.rmtree(box.data)
        shutil.copytree(seed.data, box.data)
    states = []
    for one in cuts(armed(box), memory, every):
        states.append(apply(one.job()).state)
        assert done(one) == DONE
    assert set(states) == {"applied", "kept"}
    assert len(states) > (3 if every > 1 else 25)


def test_a_cut_while_it_is_carried_out_again_ends_the_same(box: rig.Box) -> None:
    job = armed(box).job()
    for step in (3, 5, 1, 4):
        killed_at(step, functools.partial(apply, job))
    assert apply(job).state == "applied"
    assert done(box) == DONE


def test_what_a_torn_note_left_is_mended(box: rig.Box) -> None:
    """A cut may leave a file of the new size with anything in its new part."""
    box.write(QUICK)
    raw = box.file.read_bytes()
    assert box.apply().state == "applied"
    record, good = box.record(), box.file.read_bytes()
    assert record is not None
    half = bytearray(raw)
    half[raw.index(b"abc def") : raw.index(b"abc def") + 3] = b"***"
    box.write(bytes(half) + b"\0\xff[[[" * 9)
    from appliance.core.lifecycle.firstboot import erase

    erase.strike_out(box.file, record)
    assert box.file.read_bytes() == good


def test_a_card_that_refuses_is_told_and_tried_again(box: rig.Box, monkeypatch: pytest.MonkeyPatch) -> None:
    box.write(QUICK)

    def refuse(*_: Any) -> int:
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr("os.pwrite", refuse)
        first, again = box.apply(), box.apply()
    assert (first.state, again.state) == ("applied", "kept")
    assert "could not be struck out" in first.warnings[0]
    assert "could not be struck out" in again.warnings[0]
    assert box.apply().warnings == ()
    assert b"abc def" not in box.file.read_bytes()


def test_while_the_data_partition_is_damaged_nothing_is_applied(box: rig.Box) -> None:
    box.write(QUICK)
    card = box.file.read_bytes()
    box.run.mkdir(parents=True)
    (box.run / "data-fault.json").write_text('{"reason": "x", "next": "y"}')
    assert box.apply().state == "waiting"
    assert box.file.read_bytes() == card
    assert not list(box.data.glob("prime-spark*"))
    (box.run / "data-fault.json").unlink()
    assert box.apply().state == "applied"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_root_leaves_there_becomes_the_appliances(used: rig.Box) -> None:
    (used.places.data / "appliance.sqlite-shm").touch()
    assert used.apply().state == "kept"
    owners = {each.stat().st_uid for each in (used.data / "prime-spark").rglob("*")}
    assert owners == {990}


def test_without_a_file_nothing_is_written_but_the_number_of_the_machine(box: rig.Box) -> None:
    assert box.apply().state == "none"
    assert list(files(box.data)) == ["system/machine-id"]
    assert box.etc("passwd") == rig.PASSWD
    (box.boot / "prime-spark.toml.example").write_text(QUICK)
    (box.boot / "prime-spark.toml.txt").write_text(QUICK)
    outcome = box.apply()
    assert (outcome.state, outcome.warnings) == ("none", ("prime-spark.toml.txt is not read: call it prime-spark.toml",))


def test_copies_that_editors_leave_are_told(box: rig.Box) -> None:
    box.write(QUICK + '# password = "her old one"\n')
    for name in ("prime-spark.toml~", ".prime-spark.toml.swp", "._prime-spark.toml", "prime-spark.toml.bak", "README.txt"):
        (box.boot / name).touch()
    warnings = box.apply().warnings
    assert "line 10 is a remark that looks like a password" in warnings[0]
    assert [each.split()[0] for each in warnings[1:]] == [
        "._prime-spark.toml", ".prime-spark.toml.swp", "prime-spark.toml.bak", "prime-spark.toml~",
    ]  # fmt: skip


def test_what_is_asked_to_go_goes_before_anything_is_applied(used: rig.Box) -> None:
    (used.data / "lost+found").mkdir()
    (used.data / "rauc").mkdir()
    (used.data / "rauc/central.raucs").touch()
    folders = {name: (used.data / name).stat().st_ino for name in ("home", "prime-spark", "rauc")}
    (used.data / ERASE).touch()
    used.write(QUICK)
    assert used.apply().state == "applied"
    assert [row[0] for row in used.rows("SELECT name FROM users")] == ["eve"]
    assert not (used.data / ERASE).exists()
    assert (used.data / "lost+found").is_dir()
    assert {name: (used.data / name).stat().st_ino for name in folders} == folders, (
        "/home is mounted from there, units want them"
    )
    assert not list((used.data / "rauc").iterdir())
    assert asyncio.run(person(used, "ada", "correct horse")) is None
