"""Fixtures for all tests."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

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


@pytest.hookimpl(tryfirst=True)  # before the runner of many reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the serial tests on one worker, one after the other."""
    for item in items:
        if item.get_closest_marker("serial") is not None:
            item.add_marker(pytest.mark.xdist_group("serial"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Escape halves of surrogate pairs in what a test logged: the runner could not send them to its other process."""
    report = yield
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report
