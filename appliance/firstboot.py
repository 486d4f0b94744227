"""The first start, put together: `python -m appliance.firstboot apply` is what the image runs before its network is up.

Nothing heavy is loaded where there is nothing to do.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from appliance.core.lifecycle.firstboot.model import Outcome
    from appliance.core.lifecycle.firstboot.validate import Source
    from appliance.paths import Paths
    from appliance.settings import Settings

BOOT, DATA, ROOT = Path("/boot/firmware"), Path("/data"), Path("/")
CLOCK = "%Y-%m-%dT%H:%M:%SZ"


def apply(boot: Path = BOOT, data: Path = DATA, root: Path = ROOT, run: Path | None = None) -> Outcome:
    """Apply the first-boot file where there is one, and write /etc.

    Args:
        boot: The card's first partition.
        data: The data partition.
        root: Of the system; tests give a directory.
        run: Where the outcome is told; RUN/prime-spark below the root where None.

    Raises:
        AbsentError: The system is not our image.
        ConflictError: The appliance runs, and holds what would be changed.
    """
    from appliance import __version__
    from appliance.core.lifecycle.firstboot import apply as applying
    from appliance.core.lifecycle.firstboot import card, generate
    from appliance.core.lifecycle.firstboot.model import Job
    from appliance.errors import ConflictError
    from appliance.lock import Lock

    card.demand_image(root)
    clock = time.strftime(CLOCK, time.gmtime())
    parts = FirstBootParts()
    if Lock(parts.places(data / "prime-spark").lock).held():
        raise ConflictError("The appliance runs.", "start the machine again: the file is applied then, before the appliance.")
    job = Job(boot, data, root, run or root / "run/prime-spark", parts, __version__, clock)
    try:
        return applying.apply(job)
    finally:
        generate.generate(data, root)


class FirstBootParts:
    """What the appliance outside of the core knows (implements validate.Parts)."""

    def places(self, home: Path) -> Paths:
        """See validate.Parts."""
        from appliance import paths

        return paths.find({"PRIME_SPARK_HOME": str(home), "PRIME_SPARK_SYSTEM": str(home.parent / "system")})

    def check_settings(self, given: Mapping[str, Any], path: Path, text: str) -> Settings:
        """See validate.Parts."""
        from appliance import config

        return config.check_part(given, path, text, ("settings",))

    def configuration(self, before: Path, given: Mapping[str, Any]) -> tuple[str, Settings]:
        """See validate.Parts."""
        import tomlkit

        from appliance import config

        document: Any = tomlkit.parse(config.read(before)[0] if before.exists() else "")
        _set(document, given)
        text = tomlkit.dumps(document)
        return text, config.check_part(document.unwrap(), before, text, ())

    def restore(self, home: Path, system: Path, source: Source) -> tuple[str, ...]:
        """See validate.Parts."""
        from appliance import firstbootrestore

        return firstbootrestore.restore(self.places(home), source)


def _set(table: Any, given: Mapping[str, Any]) -> None:
    """Set keys in a document that keeps its remarks."""
    import tomlkit

    for name, value in given.items():
        if isinstance(value, Mapping):
            if not isinstance(table.get(name), dict):
                table[name] = tomlkit.table()
            _set(table[name], value)
        else:
            table[name] = value


def main(words: list[str]) -> int:
    """Apply; the exit code says whether somebody has to do something: 0 or 2."""
    from appliance.errors import ApplianceError
    from appliance.errortext import error_text

    if words != ["apply"]:
        sys.stderr.write("usage: python -m appliance.firstboot apply\n")
        return 2
    try:
        outcome = apply()
    except ApplianceError as error:
        sys.stderr.write(error_text(error) + "\n")
        return error.exit_code
    where = sys.stderr if outcome.wrong or outcome.warnings else sys.stdout  # the image's screen shows what stands on stderr
    where.writelines(f"{line}\n" for line in told(outcome))
    return 2 if outcome.wrong else 0


def told(outcome: Outcome) -> list[str]:
    """What came of it, as lines for people."""
    place = f"{outcome.file}:{outcome.line}" if outcome.line else outcome.file
    first = {
        "none": f"{place}: nothing to apply" + (f": {outcome.message}" if outcome.message else ""),
        "applied": f"{place}: applied: {', '.join(outcome.parts)}",
        "kept": f"{place}: was applied before" + (f" (the clock showed {outcome.clock})" if outcome.clock else ""),
        "broken": f"{place}: {outcome.message}",
        "waiting": f"{place}: {outcome.message}",
        "failed": f"{place}: {outcome.message}",
    }[outcome.state]
    lines = [first]
    if outcome.state == "broken":
        lines.append("nothing of it was applied")
    if outcome.next_step:
        lines.append(f"next: {outcome.next_step}")
    for each in outcome.others:
        lines += [f"{outcome.file}{f':{each.line}' if each.line else ''}: {each.message}", f"next: {each.next_step}"]
    return [*lines, *(f"note: {each}" for each in outcome.warnings)]


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
