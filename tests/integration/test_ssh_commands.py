"""Commands over SSH, as the process answers them: a real appliance, its own server, real clients."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncssh
import msgspec
import pytest

from appliance import __version__, config, launch, paths
from appliance.core.logs import LogRing
from appliance.core.model import Actor, Role
from appliance.errors import NotAuthorizedError
from appliance.runtime import Appliance
from appliance.session.ssh import SshService
from appliance.session.ui import UiThread
from tests.session.rig import connect, terminal
from tests.support import wait_for

ADMIN = Actor("ada", Role.admin, "console")
PASSWORDS = {"ada": "correct horse", "vic": "battery staple"}


class Post:
    """The appliance and its SSH server."""

    def __init__(self, appliance: Appliance, service: SshService) -> None:
        self.appliance, self.service = appliance, service

    async def run(self, user: str, command: str, given: str | None = None, **more: Any) -> tuple[int | None, str]:
        """One command; (exit code, what it said)."""
        async with await connect(self.service, user, PASSWORDS[user]) as conn:
            done = await asyncio.wait_for(conn.run(command, input=given, **more), 20)
        return done.exit_status, str(done.stdout)

    async def invoke(self, action: str, /, **args: object) -> Any:
        return await self.appliance.dispatcher.invoke(action, args, ADMIN, confirm=True)

    async def audited(self, action: str) -> list[tuple[str, str]]:
        """(actor, outcome) of an action's rows."""
        return [(row.actor, row.outcome) for row in await self.appliance.audit.entries(100) if row.action == action]


@pytest.fixture
async def post(home: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Post]:
    (home / "config.toml").write_text("[ssh]\nport = 0\n")
    monkeypatch.setenv("LOG_LEVEL", "WARNING")
    where = paths.find()
    where.make()
    appliance = Appliance(config.load(where, os.environ), where, LogRing(), dict(os.environ))
    appliance.start([])
    assert appliance.supervisor is not None
    await appliance.supervisor.settled()
    ui = UiThread()
    ui.start()
    service = launch._ssh(appliance, ui, launch._make_sessions(appliance, ui, launch.Owners()))
    assert isinstance(service, SshService)
    await service.start()
    post = Post(appliance, service)
    await post.invoke("setup.complete", admin="ada", password=PASSWORDS["ada"])
    await post.invoke("user.add", name="vic", role="viewer", password=PASSWORDS["vic"])
    yield post
    await service.stop()
    await asyncio.to_thread(ui.stop)
    await appliance.stop()


CHANGES: dict[str, dict[str, object]] = {
    "user.remove": {}, "user.set-role": {"role": "viewer"}, "user.set-password": {"password": "another one"},
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
async def test_a_changed_account_ends_what_it_has_open(post: Post, change: str) -> None:
    await post.invoke("user.add", name="eve", role="admin", password="long enough 1")
    conn = await connect(post.service, "eve", "long enough 1")
    shown = await terminal(conn)
    waiting = await conn.create_process("user set-password vic --password-stdin")
    await wait_for(lambda: len(post.service.desk.answers) == 1)
    await wait_for(lambda: post.service.desk.sessions.count("ssh") == 1)
    async with await connect(post.service) as ada:
        await post.invoke(change, name="eve", **CHANGES[change])
        await wait_for(lambda: shown.process.exit_status is not None)
        await asyncio.wait_for(conn.wait_closed(), 10)
        await wait_for(lambda: len(post.service.desk.answers) == 0)
        assert (await ada.run("status")).exit_status == 0
    assert waiting.exit_status is None or waiting.exit_status != 0


@pytest.mark.parametrize(("change", "told"), [("user.remove", "is gone"), ("user.set-role", "eve is viewer")])
async def test_rights_are_those_of_now(post: Post, change: str, told: str) -> None:
    """Whoever was removed or demoted kept their rights for as long as their connection lasted."""
    await post.invoke("user.add", name="eve", role="admin", password="long enough 1")
    eve = Actor("eve", Role.admin, "ssh", "127.0.0.1")
    assert await post.appliance.dispatcher.invoke("user.list", {}, eve)
    await post.invoke(change, name="eve", **CHANGES[change])
    for action in ("user.list", "config.init"):
        with pytest.raises(NotAuthorizedError, match=told):
            await post.appliance.dispatcher.invoke(action, {}, eve)


@pytest.mark.parametrize(("limit", "code"), [("viewer", 4), ("operator", 4), ("admin", 0), ("", 0)])
async def test_a_key_may_give_less_than_its_user_may(post: Post, limit: str, code: int) -> None:
    key, owners = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    public = key.export_public_key().decode()
    added = await post.invoke("user.add-key", name="ada", public_key=public, role=limit)
    await post.invoke("user.add-key", name="ada", public_key=owners.export_public_key().decode())
    listed = {user.name: user for user in await post.invoke("user.list")}["ada"]
    assert listed.key_roles == ({added["fingerprint"]: Role(limit)} if limit else {})
    forged = asyncssh.load_keypairs([asyncssh.generate_private_key("ssh-ed25519")])[0]
    forged.public_data = asyncssh.load_keypairs([owners])[0].public_data  # offered, but whoever offers it has not got it
    async with await connect(post.service, "ada", "", client_keys=[forged, key]) as conn:
        assert (await conn.run("user list")).exit_status == code


async def test_a_new_limit_holds_at_once(post: Post) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    public = key.export_public_key().decode()
    await post.invoke("user.add-key", name="ada", public_key=public)
    conn = await connect(post.service, "ada", "", client_keys=[key])
    await post.invoke("user.add-key", name="ada", public_key=public)  # as before: nothing happens
    assert (await conn.run("user list")).exit_status == 0
    await post.invoke("user.add-key", name="ada", public_key=public, role="viewer")
    await asyncio.wait_for(conn.wait_closed(), 10)
    async with await connect(post.service, "ada", "", client_keys=[key]) as again:
        assert (await again.run("user list")).exit_status == 4


@pytest.mark.parametrize("rest", ["ada", "ada --password-stdin", "--help", "--nonsense", ""])
async def test_what_is_not_allowed_is_refused_unread(post: Post, rest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It asked for the password on the appliance's own terminal, for anybody."""

    def asked(*_: object, **__: object) -> None:
        raise AssertionError("somebody was asked on the appliance's terminal")

    monkeypatch.setattr("click.termui.visible_prompt_func", asked)
    monkeypatch.setattr("click.termui.hidden_prompt_func", asked)
    code, said = await post.run("vic", f"user set-password {rest}")
    assert (code, "needs the role admin" in said) == (4, True), said
    assert await post.audited("user.set-password") == [("vic", "refused")]


async def test_a_password_comes_on_standard_input_and_from_nowhere_else(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)  # the appliance's own is never touched
    code, said = await post.run("ada", "user set-password vic")
    assert (code, "give --password-stdin" in said) == (2, True), said
    assert (await post.run("ada", "user set-password vic --password-stdin", "\n"))[0] == 2
    assert await post.run("ada", "user set-password vic --password-stdin", "a new one!\n") == (0, "done\n")
    assert await post.appliance.accounts.check_password("vic", "a new one!") is not None
    code, said = await post.run("ada", "user add bob --password-stdin --json", "bob's own one\n")
    assert (code, msgspec.json.decode(said)["has_password"]) == (0, True)
    code, said = await post.run("ada", "user add joe")
    assert code == 0
    assert not (await post.appliance.accounts.get("joe")).has_password


async def test_waiting_for_jobs_and_going_away_locks_nobody_out(post: Post) -> None:
    async def forever(_: object) -> None:
        await asyncio.Event().wait()

    job = await post.appliance.jobs.submit("forever", "ada", forever)
    for _ in range(4):
        conn = await connect(post.service, "vic", PASSWORDS["vic"])
        for _ in range(4):
            await conn.create_process(f"job wait {job.job_id}")
        await wait_for(lambda: len(post.service.desk.answers) == 4)
        conn.abort()
        await wait_for(lambda: len(post.service.desk.answers) == 0)
    assert (await post.run("vic", "status"))[0] == 0
    await post.appliance.jobs.stop(1)


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("--help", "Exit codes"),
        ("--version", __version__),
        ("status --help", "Show everything"),
        ("job --help", "runs in the background"),
        ("job wait --help", "Needs the role viewer"),
        ("config --help", "Settings"),
    ],
)
async def test_help_goes_to_whoever_asked(post: Post, command: str, told: str, capfd: pytest.CaptureFixture[str]) -> None:
    code, said = await post.run("vic", command)
    assert (code, told in said) == (0, True), said
    here = capfd.readouterr()
    assert told not in here.out + here.err


async def test_what_is_no_action_is_not_there(post: Post) -> None:
    """These read and wrote files of the appliance for anybody, unaudited."""
    before = post.appliance.paths.config.read_bytes()
    for command, refusal in (("config init", 4), ("doctor", 4), ("config check", 2), ("completion bash", 2), ("headless", 2)):
        assert (await post.run("vic", command))[0] == refusal, command
    assert post.appliance.paths.config.read_bytes() == before
    assert await post.audited("config.init") == await post.audited("doctor.run") == [("vic", "refused")]
    post.appliance.paths.config.unlink()
    assert (await post.run("vic", "config init"))[0] == 4
    assert not post.appliance.paths.config.exists()
    assert (await post.run("ada", "config init"))[0] == 0
    assert "[ssh]" in post.appliance.paths.config.read_text()


async def test_the_doctor_is_audited(post: Post) -> None:
    code, said = await post.run("ada", "doctor --json")
    found = msgspec.json.decode(said.partition("\n]")[0] + "]")
    assert "python" in {row["check"] for row in found}
    assert code == (1 if any(row["status"] == "failed" for row in found) else 0)
    assert await post.audited("doctor.run") == [("ada", "ok"), ("ada", "started")]


async def test_settings_are_told_as_they_are(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of the caller says nothing about the appliance."""
    monkeypatch.setenv("LOG_LEVEL", "ERROR")
    code, said = await post.run("vic", "config show --json")
    assert code == 0
    rows = {row["key"]: row for row in msgspec.json.decode(said)}
    assert (rows["log.level"]["value"], rows["log.level"]["origin"]) == ("WARNING", "environment LOG_LEVEL")
    assert rows["ssh.port"]["value"] == 0
