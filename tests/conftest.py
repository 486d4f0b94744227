"""Fixtures for all tests."""

from __future__ import annotations

import gc
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.order import arrange
from tests.unit.doctor_support import Machine

pytest_plugins = ["tests.servers.fixtures"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of the test's own, which the appliance takes as its home."""
    directory = tmp_path / "home"
    directory.mkdir(mode=0o700)
    monkeypatch.setenv("PRIME_SPARK_HOME", str(directory))
    return directory


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine made of files, with nothing in it."""
    root = tmp_path / "machine"
    root.mkdir()
    return Machine(root)


CHEAP = (1, 8, 1)
"""Rounds, KiB and lanes of a password's hash where its strength is not what is tested: the real ones cost 0.2 s of CPU."""


@pytest.fixture(scope="session", autouse=True)
def cheap_passwords() -> Iterator[tuple[object, ...]]:
    """Passwords that this process hashes cost next to nothing; appliances in processes of their own hash as ever."""
    from argon2 import PasswordHasher

    real = PasswordHasher.__init__.__defaults__ or ()
    PasswordHasher.__init__.__defaults__ = (*CHEAP, *real[len(CHEAP) :])
    yield real
    PasswordHasher.__init__.__defaults__ = real


@pytest.fixture
def real_passwords(cheap_passwords: tuple[object, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is outside of tests."""
    from argon2 import PasswordHasher

    monkeypatch.setattr(PasswordHasher.__init__, "__defaults__", cheap_passwords)


@pytest.hookimpl(tryfirst=True)  # before the runner of many reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep on one worker what belongs together; see tests.order."""
    arrange(items, sort=hasattr(config, "workerinput"))


def pytest_collection_finish() -> None:
    """Look for garbage less often, and never among what was imported: that took an eighth of the run's time.

    What a test leaves behind is still found, at the latest when the run ends; tests that look for leaks collect themselves.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Escape halves of surrogate pairs in what a test logged: the runner could not send them to its other process."""
    report = yield
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report
