"""How often strangers may try, and what that costs."""

from __future__ import annotations

import asyncio
import logging

import asyncssh
import pytest

from appliance.session.doorkeeper import HALF_OPEN, PER_SOURCE
from appliance.session.gate import OFFERS
from appliance.session.limits import (
    BUSY,
    BUSY_WINDOW,
    FORGET,
    FREE,
    LOCK,
    LONGEST,
    REMEMBERED,
    LoginLimiter,
    SparingLog,
    source_of,
)
from appliance.session.ssh import SshService
from tests.session.rig import connect
from tests.support import ManualClock, wait_for

WRONG = (asyncssh.PermissionDenied, asyncssh.DisconnectError, OSError)


def test_the_lock_grows_and_ends() -> None:
    clock = ManualClock()
    limiter = LoginLimiter(clock.monotonic)
    assert [limiter.failed("a") for _ in range(FREE)] == [False] * FREE
    assert limiter.locked("a") == 0
    waits = []
    for _ in range(12):
        assert limiter.failed("a")
        waits.append(limiter.locked("a"))
        clock.move(waits[-1])
        assert limiter.locked("a") == 0
    assert waits[:3] == [LOCK, 2 * LOCK, 4 * LOCK]
    assert waits[-1] == LONGEST
    assert limiter.locked("b") == 0


def test_success_and_time_forget() -> None:
    clock = ManualClock()
    limiter = LoginLimiter(clock.monotonic)
    for _ in range(FREE):
        limiter.failed("a")
    limiter.succeeded("a")
    assert not limiter.failed("a")
    for _ in range(FREE - 1):
        limiter.failed("a")
    clock.move(FORGET + 1)
    assert not limiter.failed("a")


def test_a_hundred_thousand_addresses_take_bounded_memory() -> None:
    limiter = LoginLimiter(ManualClock().monotonic)
    for number in range(100_000):
        limiter.failed(str(number))
    assert len(limiter) == REMEMBERED
    assert limiter.failures == 100_000


def test_many_addresses_make_everybody_wait_a_little() -> None:
    clock = ManualClock()
    limiter = LoginLimiter(clock.monotonic)
    for number in range(BUSY):
        assert limiter.delay() == 0
        limiter.failed(str(number))
    assert limiter.delay() == 1
    clock.move(BUSY_WINDOW)
    assert limiter.delay() == 0


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unknown", "unknown"),
    ],
)
def test_who_an_address_counts_as(address: str, source: str) -> None:
    assert source_of(address) == source


def test_the_log_is_not_flooded(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock()
    sparing = SparingLog(logging.getLogger("sparing"), clock.monotonic)
    for number in range(1000):
        sparing.warning("try %d", number)
    assert len(caplog.messages) == 10
    clock.move(60)
    sparing.warning("later")
    assert caplog.messages[-2:] == ["990 more of these were not logged one by one", "later"]


async def test_a_thousand_login_attempts(ssh: SshService, caplog: pytest.LogCaptureFixture) -> None:
    refused = 0
    for number in range(1000):
        try:
            await connect(ssh, f"user{number}", "guess number one", local_addr=("127.0.0.2", 0))
        except WRONG:
            refused += 1
    assert refused == 1000
    limiter = ssh.keeper.limiter
    assert FREE < limiter.failures < 50
    assert limiter.refused > 900
    assert len(limiter) == 1
    await wait_for(lambda: not ssh.keeper.connections)
    ours = [record for record in caplog.records if record.name.startswith("appliance") and record.levelno >= logging.WARNING]
    assert 1 <= len(ours) <= 12
    assert any("127.0.0.2 is locked out" in record.getMessage() for record in ours)
    async with await connect(ssh) as conn:  # from another address
        assert (await conn.run("status")).exit_status == 0


async def test_a_right_password_does_not_open_a_locked_address(ssh: SshService) -> None:
    for _ in range(FREE + 1):
        with pytest.raises(WRONG):
            await connect(ssh, "ada", "wrong password")
    with pytest.raises(WRONG):
        await connect(ssh)


async def test_idle_strangers_of_one_address_leave_room_for_others(ssh: SshService) -> None:
    idle = [await asyncio.open_connection("127.0.0.1", ssh.port, local_addr=("127.0.0.3", 0)) for _ in range(HALF_OPEN + 4)]
    await wait_for(lambda: len(ssh.keeper.connections) == PER_SOURCE)
    async with await connect(ssh) as conn:
        assert (await conn.run("status")).exit_status == 0
    for _, writer in idle:
        writer.close()
    await wait_for(lambda: not ssh.keeper.connections)


async def test_a_client_with_too_many_keys_is_sent_away(ssh: SshService) -> None:
    keys = [asyncssh.generate_private_key("ssh-ed25519") for _ in range(OFFERS + 1)]
    with pytest.raises(asyncssh.DisconnectError, match="Too many keys"):
        await connect(ssh, "ada", "", client_keys=keys)
    assert ssh.keeper.limiter.failures == 1


async def test_passwords_are_checked_on_no_loop(ssh: SshService, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    threads: list[str] = []
    accounts = ssh.keeper.accounts
    verify = accounts._verify  # type: ignore[attr-defined]

    def watched(digest: str, password: str) -> bool:
        threads.append(threading.current_thread().name)
        return bool(verify(digest, password))

    monkeypatch.setattr(accounts, "_verify", watched)
    async with await connect(ssh):
        assert threads
    assert not {"MainThread", "ui"} & set(threads)
