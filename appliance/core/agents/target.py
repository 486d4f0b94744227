"""What a machine can run: its processor, its C library and its Python, and the wheels that fit these."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Iterator

import msgspec

OLDEST, NEWEST = (3, 11), (3, 13)
"""Python versions that the package runs on."""
MANYLINUX = {(2, 17): "manylinux2014", (2, 12): "manylinux2010", (2, 5): "manylinux1"}
"""Older names of some C libraries' platforms (PEP 600)."""


class Target(msgspec.Struct, frozen=True):
    """One kind of machine; two with equal values take the same wheels."""

    arch: str
    """As `uname -m` has it."""
    libc: str
    """"glibc" or "musl"."""
    libc_version: tuple[int, int]
    python: tuple[int, int]

    @property
    def platforms(self) -> tuple[str, ...]:
        """Names of platforms whose wheels run there, the best first."""
        return tuple(self._platforms())

    def _platforms(self) -> Iterator[str]:
        major, minor = self.libc_version
        if self.libc == "musl":
            yield from (f"musllinux_{major}_{each}_{self.arch}" for each in range(minor, -1, -1))
        else:
            oldest = 4 if self.arch in {"x86_64", "i686"} else 16
            for each in range(minor, oldest, -1):
                yield f"manylinux_{major}_{each}_{self.arch}"
                if old := MANYLINUX.get((major, each)):
                    yield f"{old}_{self.arch}"
        yield f"linux_{self.arch}"

    def tags(self) -> frozenset[str]:
        """All tags of wheels that run there, such as "cp311-cp311-manylinux_2_17_x86_64"."""
        from packaging.tags import compatible_tags, cpython_tags

        digits = f"cp{self.python[0]}{self.python[1]}"
        native = cpython_tags(self.python, platforms=self.platforms, abis=[digits])
        plain = compatible_tags(self.python, interpreter=digits, platforms=self.platforms)
        return frozenset(str(tag) for tag in (*native, *plain))

    def markers(self) -> dict[str, str]:
        """Values for the conditions of requirements (PEP 508)."""
        version = f"{self.python[0]}.{self.python[1]}"
        return {
            "python_version": version, "python_full_version": f"{version}.0", "platform_machine": self.arch,
            "sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "implementation_name": "cpython",
            "platform_python_implementation": "CPython", "implementation_version": f"{version}.0", "platform_release": "",
            "platform_version": "", "extra": "",
        }  # fmt: skip

    @property
    def words(self) -> str:
        """For people."""
        return f"Python {self.python[0]}.{self.python[1]} on {self.arch} ({self.libc} {'.'.join(map(str, self.libc_version))})"


def own() -> Target:
    """This machine, as this program runs on it."""
    name, version = platform.libc_ver()
    libc = "glibc" if name == "glibc" else "musl"
    found = number(version) if name == "glibc" else (1, 2)
    return Target(platform.machine(), libc, found, sys.version_info[:2])


def number(text: str) -> tuple[int, int]:
    """The first two numbers of a version; (0, 0) where there are none."""
    found = re.search(r"(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)
