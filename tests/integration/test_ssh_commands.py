"""Commands over SSH, as the process answers them: a real appliance, its own server, real clients."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance import __version__, config, launch, paths
from appliance.core.logs import LogRing
from appliance.core.model import Actor, Role
from appliance.runtime import Appliance
from appliance.session.ssh import SshService
from appliance.session.ui import UiThread
from tests.session.rig import connect
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
    [("--help", "Exit codes"), ("--version", __version__), ("status --help", "Show everything"), ("job --help", "Actions on"),
     ("job wait --help", "Needs the role viewer"), ("config --help", "Settings")],
)  # fmt: skip
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
