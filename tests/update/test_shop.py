"""The source beside the event loop: one that hangs costs one thread; what was fetched goes when it is written."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest
from pydantic import ValidationError

from appliance.core.lifecycle.update import releases, shop
from appliance.core.lifecycle.update.model import Release
from appliance.core.lifecycle.update.shop import Shop
from appliance.errors import UpdateError
from appliance.settingupdate import UpdateSettings
from tests.support import wait_for
from tests.update import release_rig as rig
from tests.update.release_rig import bundle


@pytest.fixture
def maker(tmp_path: Path) -> rig.Maker:
    """Of a release with one bundle for arm64."""
    return rig.maker(tmp_path)


def let_go(pipe: Path) -> None:
    """End whoever hangs at it."""
    os.close(os.open(pipe, os.O_RDWR | os.O_NONBLOCK))


async def test_a_source_that_hangs_is_told_and_takes_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = tmp_path / "SHA256SUMS"
    os.mkfifo(pipe)  # as a mount whose server is gone: whoever opens it hangs
    monkeypatch.setattr(shop, "LOOK", 0.2)
    found, before = Shop(UpdateSettings(source=str(tmp_path)), tmp_path / "into"), set(threading.enumerate())
    try:
        for _ in range(3):
            with pytest.raises(UpdateError, match=r"did not answer within 0.2 s") as told:
                await found.look("arm64", "1.0.0")
            assert "hangs" in told.value.next_step
        ours = set(threading.enumerate()) - before
        assert len(ours) == 1
    finally:
        let_go(pipe)
        found.close()
    await wait_for(lambda: not any(each.is_alive() for each in ours))


async def test_a_fetch_that_hangs_can_be_cancelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = tmp_path / "prime-spark-2.0.0-arm64.raucb"
    os.mkfifo(pipe)
    monkeypatch.setattr(shop, "ENDING", 0.1)
    found, before = Shop(UpdateSettings(source=str(tmp_path)), tmp_path / "into"), set(threading.enumerate())
    work = asyncio.create_task(found.fetch(Release("2.0.0", "arm64", str(pipe), sha256="0" * 64), lambda *_: None))
    try:
        await wait_for(lambda: set(threading.enumerate()) - before)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
    finally:
        let_go(pipe)


async def test_what_was_fetched_is_removed_when_it_is_written(maker: rig.Maker, tmp_path: Path) -> None:
    place = maker.release(bundle("2.0.0"))
    found = Shop(UpdateSettings(source=str(place), key=maker.access.key), tmp_path / "into")
    path = await found.fetch(await found.pick("", "arm64", "1.0.0"), lambda *_: None)
    assert path.is_file()
    await found.clear()
    assert list((tmp_path / "into").iterdir()) == []


def test_of_equal_versions_the_one_that_is_named_is_picked() -> None:
    both = [Release("1.0", "arm64", "/a"), Release("1.0.0", "arm64", "/b")]
    assert releases.pick(both, "1.0.0").place == "/b"
    assert releases.pick(both, "1.0.0.0").place == "/a"


def test_what_could_never_work_is_no_setting() -> None:
    with pytest.raises(ValidationError, match="leaves no time"):
        UpdateSettings(health_seconds=300, trial_minutes=1)
    with pytest.raises(ValidationError, match="never opens"):
        UpdateSettings(window="03:00-03:00")
    for proxy in ("http://ada:secret@proxy:3128", "socks5://proxy:1080", "proxy:3128", "http://[x"):
        with pytest.raises(ValidationError, match="no address of a proxy"):
            UpdateSettings(proxy=proxy)
    assert UpdateSettings(proxy="http://proxy.example.net:3128").proxy
    assert UpdateSettings(health_seconds=300, trial_minutes=10).health_seconds == 300
