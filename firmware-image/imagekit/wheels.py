"""Python packages for another machine: fetched and unpacked here, with the versions that requirements/run.txt pins."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import parse_wheel_filename

from imagekit import cache
from imagekit.errors import BuildError
from imagekit.plan import CHECKOUT, MACHINES, PYTHON, Plan
from imagekit.shell import run, step

REQUIREMENTS = CHECKOUT / "requirements/run.txt"
SETUPTOOLS = "84.2.1"
"""What builds our own wheel, in an environment apart."""
GLIBC = 41
"""Minor version of the C library of the suite: the newest that wheels may ask for."""

FROM_DEBIAN = {"arm64": frozenset({"evdev"}), "amd64": frozenset()}
"""What has no wheel for that processor and comes as a package of Debian."""


def environment(machine: str) -> dict[str, str]:
    """What markers of requirements look at, for the machine that is built for."""
    return {
        "implementation_name": "cpython", "implementation_version": f"{PYTHON}.0", "os_name": "posix",
        "platform_machine": machine,
        "platform_python_implementation": "CPython", "platform_release": "", "platform_system": "Linux", "platform_version": "",
        "python_full_version": f"{PYTHON}.0", "python_version": PYTHON, "sys_platform": "linux", "extra": "",
    }  # fmt: skip


def wanted(text: str, arch: str) -> list[Requirement]:
    """The requirements that hold for that processor, in the order of their names.

    Args:
        text: A file of requirements.
        arch: Debian's name of the processor.

    Raises:
        BuildError: One is not pinned.
    """
    around = environment(MACHINES[arch])
    lines = (line.split(" #")[0].strip() for line in text.splitlines())
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    for each in found:
        if [one.operator for one in each.specifier] != ["=="]:
            raise BuildError(f"requirements/run.txt does not pin {each.name}.", f"write {each.name}==VERSION there.")
    kept = [each for each in found if each.marker is None or each.marker.evaluate(around)]
    return sorted((each for each in kept if each.name not in FROM_DEBIAN[arch]), key=lambda each: each.name.lower())


def platforms(machine: str) -> list[str]:
    """Names of platforms whose wheels run there, the newest first."""
    old = [
        f"{name}_{machine}"
        for name in (("manylinux2014", "manylinux2010", "manylinux1") if machine == "x86_64" else ("manylinux2014",))
    ]
    return [*(f"manylinux_2_{minor}_{machine}" for minor in range(GLIBC, 4, -1)), *old, f"linux_{machine}"]


def tags(machine: str) -> Iterator[Tag]:
    """What a wheel may be for, to run there."""
    version = tuple(int(part) for part in PYTHON.split("."))
    yield from cpython_tags(version, platforms=platforms(machine))
    yield from compatible_tags(version, f"cp{PYTHON.replace('.', '')}", platforms(machine))


def misfit(names: list[str], machine: str) -> list[str]:
    """Of names of wheels, those that do not run on that machine."""
    good = set(tags(machine))
    return [name for name in names if not parse_wheel_filename(name)[3] & good]


def fetched(plan: Plan) -> Path:
    """The directory with all wheels of that processor, from the cache or downloaded now. Raises BuildError."""
    needed = [f"{each.name}=={next(iter(each.specifier)).version}" for each in wanted(REQUIREMENTS.read_text(), plan.arch)]

    def fetch(into: Path) -> None:
        (into / "requirements.txt").write_text("\n".join(needed) + "\n")
        with step(f"fetching {len(needed)} Python packages for {plan.machine}"):
            run(
                *pip("download"), "--no-deps", "--only-binary=:all:", *targeted(plan.machine), "--dest", into, "-r",
                into / "requirements.txt",
                log=into / "log",
            )  # fmt: skip
        wrong = misfit([each.name for each in into.glob("*.whl")], plan.machine)
        if wrong:
            raise BuildError(
                f"pip fetched what does not run on {plan.machine}: {' '.join(wrong)}.", "pin versions that have wheels for it."
            )

    return cache.made(plan.cache, f"wheels-{plan.machine}", cache.digest(PYTHON, "\n".join(needed)), fetch)


def install(wheels: list[Path], target: Path, machine: str) -> None:
    """Unpack wheels as an installation has them, without running anything of them, and without traces of this machine.

    Args:
        wheels: The files.
        target: The directory `site-packages`.
        machine: The processor as Python names it.

    Raises:
        BuildError: pip failed.
    """
    target.mkdir(parents=True)
    run(
        *pip("install"),
        "--no-deps",
        "--no-index",
        "--no-compile",
        "--only-binary=:all:",
        *targeted(machine),
        "--target",
        target,
        *wheels,
    )
    for name in ("bin", "share", "include", "__pycache__"):
        shutil.rmtree(target / name, ignore_errors=True)
    for each in (*target.glob("*.dist-info/direct_url.json"), *target.glob("*.dist-info/REQUESTED")):
        each.unlink()
    for record in target.glob("*.dist-info/RECORD"):
        lines = record.read_text().splitlines(keepends=True)
        gone = ("../", "direct_url.json", "REQUESTED")
        record.write_text(
            "".join(line for line in lines if not line.startswith("../") and line.split(",")[0].rpartition("/")[2] not in gone)
        )


def own(plan: Plan, into: Path) -> Path:
    """The appliance itself as a wheel, made from the checkout. Raises BuildError."""
    source = into / "source"
    source.mkdir(parents=True)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copyfile(CHECKOUT / name, source / name)
    for name in ("appliance", "requirements"):
        shutil.copytree(CHECKOUT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    (into / "constraints.txt").write_text(f"setuptools=={SETUPTOOLS}\n")
    env = {**plan.env, "PIP_CONSTRAINT": str(into / "constraints.txt")}
    run(*pip("wheel"), "--no-deps", "--wheel-dir", into, source, env=env, log=into / "log")
    return next(into.glob("prime_spark-*.whl"))


def targeted(machine: str) -> list[str]:
    """Options that make pip choose for that machine instead of this one."""
    words = [
        "--implementation",
        "cp",
        "--python-version",
        PYTHON,
        "--abi",
        f"cp{PYTHON.replace('.', '')}",
        "--abi",
        "abi3",
        "--abi",
        "none",
    ]
    for each in platforms(machine):
        words += ["--platform", each]
    return words


def pip(command: str) -> list[str]:
    """The beginning of a command line of pip."""
    return [sys.executable, "-m", "pip", command, "-q", "--disable-pip-version-check", "--no-input"]
