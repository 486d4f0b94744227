"""Which Debian packages an image has, and where they come from."""

from __future__ import annotations

import re
from pathlib import Path

from imagekit.errors import BuildError
from imagekit.plan import FIRMWARE, SUITE

LISTS = FIRMWARE / "packages"
SOURCES = Path("/etc/apt/sources.list.d/debian.sources")
COMPONENTS = "main non-free-firmware"
BACKPORTS = f"{SUITE}-backports"

EXCLUDED = (
    "path-exclude=/usr/share/man/*", "path-exclude=/usr/share/info/*", "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/locale/*", "path-include=/usr/share/locale/locale.alias", "path-exclude=/usr/share/lintian/*",
)  # fmt: skip
"""What of packages is not unpacked. Licences stay."""


def wanted(arch: str, lists: Path = LISTS) -> list[str]:
    """The packages of an image, in the order of their names; `name/suite` asks for one from that suite.

    Raises:
        BuildError: A list is missing, or a line in it is no name of a package.
    """
    names: set[str] = set()
    for file in (lists / "base.txt", lists / f"{arch}.txt"):
        names.update(parse(file))
    return sorted(names)


def parse(file: Path) -> list[str]:
    """The names in one list: one a line, `#` begins a remark. Raises BuildError."""
    try:
        lines = file.read_text().splitlines()
    except OSError as error:
        raise BuildError(
            f"The list of packages {file} cannot be read: {error.strerror}.", "restore it from the repository."
        ) from error
    found = []
    for number, line in enumerate(lines, 1):
        name = line.split("#", 1)[0].strip()
        if name and not re.fullmatch(r"[a-z0-9][a-z0-9+.-]+(/[a-z-]+)?", name):
            raise BuildError(
                f"{file}, line {number}: {name!r} is no name of a package.", "one name a line, such as openssh-server."
            )
        if name:
            found.append(name)
    return found


def stanzas(text: str) -> list[dict[str, str]]:
    """The paragraphs of a file in the format of deb822(5), with names of fields in lower case."""
    found = []
    for paragraph in re.split(r"\n\s*\n", text):
        fields: dict[str, str] = {}
        last = ""
        for line in paragraph.splitlines():
            if line.startswith("#") or not line.strip():
                continue
            if line[0] in " \t" and last:
                fields[last] += " " + line.strip()
            elif ":" in line:
                last, value = line.split(":", 1)
                last = last.strip().lower()
                fields[last] = value.strip()
        if fields:
            found.append(fields)
    return found


def archive_lines(text: str, *, backports: bool, release: str = SUITE) -> str:
    """Lines of sources.list(5) for the image's suite, from a debian.sources of whatever suite this machine has.

    Args:
        text: The machine's own debian.sources.
        backports: Also the suite of backports.
        release: Name of the suite.

    Raises:
        BuildError: It names no archive.
    """
    lines: list[str] = []
    for each in stanzas(text):
        if "deb" not in each.get("types", "").split() or each.get("enabled", "yes").lower() == "no":
            continue
        for uri in each.get("uris", "").split():
            kinds = {re.sub(r"^[a-z]+", "", suite) for suite in each.get("suites", "").split()}
            if kinds & {"-security", "/updates"}:
                lines.append(f"deb {uri} {release}-security {COMPONENTS}")
            elif kinds & {"", "-updates"}:
                lines += [
                    f"deb {uri} {release}{kind} {COMPONENTS}"
                    for kind in ("", "-updates", *(["-backports"] if backports else []))
                ]
    if not lines:
        raise BuildError(
            f"{SOURCES} names no archive of Debian.",
            "give one yourself: --sources FILE with lines of sources.list(5) for " + release,
        )
    return "\n".join(dict.fromkeys(lines)) + "\n"


def sources(arch: str, given: Path | None = None) -> str:
    """Where the packages come from: the given file, else what this machine itself uses. Raises BuildError."""
    file = given or SOURCES
    try:
        text = file.read_text()
    except OSError as error:
        raise BuildError(
            f"{file} cannot be read: {error.strerror}.", "give a file with lines of sources.list(5): --sources FILE"
        ) from error
    if given:
        return text
    return archive_lines(text, backports=any(name.endswith(f"/{BACKPORTS}") for name in wanted(arch)))
