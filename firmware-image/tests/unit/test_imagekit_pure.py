"""What the builder of images decides without running anything."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from imagekit import base, deb, layout, packages, plan, system, wheels
from imagekit.errors import BuildError
from imagekit.plan import Plan

DEB822 = """Types: deb
# URIs: http://old.example.net/debian
URIs: http://archive.example.net/debian
Suites: bookworm bookworm-updates
Components: main

Types: deb
URIs: http://archive.example.net/debian-security
Suites: bookworm-security
Components: main

Types: deb-src
URIs: http://sources.example.net/debian
Suites: bookworm

Enabled: no
Types: deb
URIs: http://off.example.net/debian
Suites: bookworm
"""


def test_sources_follow_the_building_machine() -> None:
    assert packages.archive_lines(DEB822, backports=True).splitlines() == [
        "deb http://archive.example.net/debian trixie main non-free-firmware",
        "deb http://archive.example.net/debian trixie-updates main non-free-firmware",
        "deb http://archive.example.net/debian trixie-backports main non-free-firmware",
        "deb http://archive.example.net/debian-security trixie-security main non-free-firmware",
    ]


def test_backports_only_where_a_package_comes_from_there() -> None:
    assert "backports" not in packages.archive_lines(DEB822, backports=False)


def test_sources_without_an_archive_say_what_to_give() -> None:
    with pytest.raises(BuildError) as caught:
        packages.archive_lines("Types: deb-src\nURIs: http://a.example.net\nSuites: bookworm\n", backports=False)
    assert "--sources" in caught.value.next_step


@pytest.mark.parametrize("arch", plan.ARCHES)
def test_package_lists_can_be_read_and_have_a_kernel(arch: str) -> None:
    names = packages.wanted(arch)
    assert names == sorted(set(names))
    assert any(name.startswith(f"linux-image-{arch}") for name in names)


def test_a_bad_line_of_a_list_is_named(tmp_path: Path) -> None:
    file = tmp_path / "base.txt"
    file.write_text("systemd # the manager\n\nrm -rf /\n")
    with pytest.raises(BuildError, match="line 3"):
        packages.parse(file)


def test_partitions_follow_each_other_and_keep_their_places() -> None:
    for arch in plan.ARCHES:
        rows = layout.partitions(arch)
        assert [row.label for row in rows] == ["config", "boot-a", "boot-b", "system-a", "system-b", "data"]
        assert [row.number for row in rows] == [1, 2, 3, 4, 5, 6]
        for before, after in pairwise(rows):
            assert before.start + before.size == after.start
        assert all(row.start % (4 * layout.MIB) == 0 for row in rows)
        assert layout.total(rows) > rows[-1].start + rows[-1].size


def test_only_the_data_partition_has_the_type_that_may_grow() -> None:
    rows = layout.partitions("amd64")
    assert [row.label for row in rows if row.kind == layout.LINUX] == ["data"]


def test_the_table_is_written_in_the_words_of_sfdisk() -> None:
    script = layout.script(layout.partitions("arm64"))
    assert script.startswith("label: gpt\n")
    assert script.count("start=") == 6
    assert 'name="system-a"' in script
    assert f"uuid={layout.identity('system-a')}" in script


def requirement_names(arch: str) -> set[str]:
    return {each.name for each in wheels.wanted(wheels.REQUIREMENTS.read_text(), arch)}


def test_python_packages_are_those_of_the_target_not_of_this_machine() -> None:
    assert "evdev-binary" in requirement_names("amd64")
    assert not {"evdev-binary", "evdev"} & requirement_names("arm64")
    assert {"textual", "onnxruntime"} <= requirement_names("arm64")


def test_what_has_no_wheel_comes_from_debian() -> None:
    assert "python3-evdev" in deb.depends("arm64")
    assert "python3-evdev" not in deb.depends("amd64")
    assert f"python3 (>= {plan.PYTHON})" in deb.depends("amd64")


def test_a_requirement_without_a_version_is_refused() -> None:
    with pytest.raises(BuildError, match="does not pin numpy"):
        wheels.wanted("numpy>=2\n", "amd64")


@pytest.mark.parametrize(
    ("name", "runs"),
    [
        ("numpy-2.4.6-cp313-cp313-manylinux_2_27_aarch64.manylinux_2_28_aarch64.whl", True),
        ("cryptography-50.0.2-cp311-abi3-manylinux_2_34_aarch64.whl", True),
        ("textual-8.2.8-py3-none-any.whl", True),
        ("numpy-2.4.6-cp313-cp313-manylinux_2_27_x86_64.whl", False),
        ("numpy-2.4.6-cp312-cp312-manylinux_2_27_aarch64.whl", False),
        ("numpy-2.4.6-cp313-cp313-manylinux_2_99_aarch64.whl", False),
    ],
    ids=["own", "stable-abi", "pure", "other-processor", "other-python", "newer-libc"],
)
def test_wheels_that_do_not_run_there_are_found(name: str, runs: bool) -> None:
    assert (wheels.misfit([name], "aarch64") == []) is runs


@pytest.mark.parametrize("version", ["1.4.0", "1.5.0~rc1", "2.0+git3"])
def test_versions(version: str) -> None:
    assert plan.check(Plan("amd64", version, Path("out"), Path("cache"))).name == f"prime-spark-{version}-amd64"


@pytest.mark.parametrize("version", ["", "v1", "1.0/2", "1.0-1", "1.0 "], ids=["empty", "letter", "slash", "dash", "space"])
def test_what_is_no_version_is_refused(version: str) -> None:
    with pytest.raises(BuildError, match="no version"):
        plan.check(Plan("amd64", version, Path("out"), Path("cache")))


@pytest.mark.parametrize("broken", [{"arch": "riscv64"}, {"compress": "gzip"}, {"extra": Path("/nowhere/at/all")}], ids=str)
def test_a_wrong_plan_is_refused(broken: dict[str, object]) -> None:
    with pytest.raises(BuildError):
        plan.check(Plan(**{"arch": "amd64", "version": "1", "out": Path("o"), "cache": Path("c"), **broken}))  # type: ignore[arg-type]


def test_the_time_of_a_build_can_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert plan.own_epoch() == 1_700_000_000
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(BuildError, match="SOURCE_DATE_EPOCH"):
        plan.own_epoch()


def test_days_of_passwords_do_not_depend_on_the_day_of_the_build(tmp_path: Path) -> None:
    file = tmp_path / "shadow"
    file.write_text("root:*:20414:0:99999:7:::\nredis:!:20414::::::\n")
    system.shadow(file, 20000)
    assert file.read_text() == "root:*:20000:0:99999:7:::\nredis:!:20000::::::\n"


def test_the_root_of_a_foreign_processor_is_only_extracted() -> None:
    words = base.command("arm64", ["udev"], Path("root"), Path("debs"), apart=True)
    assert "--variant=extract" in words
    assert "--variant=minbase" in base.command("amd64", ["udev"], Path("root"), Path("debs"))


def test_without_a_commit_the_time_of_the_build_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    monkeypatch.setattr(plan, "CHECKOUT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert plan.own_epoch() == plan.FLOOR
    assert "clocks begin at 2017-07-14" in capsys.readouterr().err
