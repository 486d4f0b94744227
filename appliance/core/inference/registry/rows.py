"""What the registry shows: a row for each version and each split."""

from __future__ import annotations

from collections.abc import Callable

from appliance.core.inference.registry.records import NameRecord, VersionFacts
from appliance.core.inference.registry.registry import Registry
from appliance.core.inference.registry.shelf import Found
from appliance.core.inference.status import SplitRow, VersionRow


def version_rows(registry: Registry) -> tuple[VersionRow, ...]:
    """All versions, by name and version; one that should serve and is not on the disk too."""
    rows = [_row(registry, found) for found in registry.found.values()]
    rows += [
        VersionRow(
            name=record.name, version=record.active, stage=record.stages.get(record.active, "Production"),
            error="it served, but is not on the disk any more", next_step="add it again, or activate another version.",
        )
        for record in registry.names.values() if record.active and f"{record.name}@{record.active}" not in registry.found
    ]  # fmt: skip
    return tuple(sorted(rows, key=lambda row: (row.name, row.version)))


def _row(registry: Registry, found: Found) -> VersionRow:
    record, told = registry.record(found.name), found.manifest
    facts = registry.facts.get(found.key, VersionFacts(key=found.key))
    return VersionRow(
        name=found.name, version=found.version, stage=registry.stage(found).value,
        active=told is not None and record.active == found.version, previous=record.previous == found.version,
        task=told.task if told else "", labels=len(told.labels) if told else 0,
        kinds=tuple(dict.fromkeys(file.kind for file in told.files)) if told else (), size=found.size,
        licence=told.licence if told else "", directory=str(found.directory), removable=found.own, added=facts.added,
        origin=facts.origin, tested=facts.tested, error=found.error.message if found.error else "",
        next_step=found.error.next_step if found.error else "", served=registry.watching.served(found.key),
        drift=registry.watching.drift(found.key),
    )  # fmt: skip


def split_rows(registry: Registry, verdict: Callable[[str], str]) -> tuple[SplitRow, ...]:
    """All splits.

    Args:
        registry: Whose.
        verdict: What speaks for or against a name's candidate so far.
    """
    return tuple(_split(registry, record, verdict) for _, record in sorted(registry.names.items()) if record.split is not None)


def _split(registry: Registry, record: NameRecord, verdict: Callable[[str], str]) -> SplitRow:
    split, seen = record.split, registry.comparison(record.name)
    if split is None:
        raise ValueError(f"{record.name} has no split")
    return SplitRow(
        name=record.name, active=record.active, candidate=split.candidate, mode=split.mode, percent=split.percent,
        since=split.since, of_active=seen.active.status(), of_candidate=seen.candidate.status(),
        agreement=seen.agreement, compared=seen.compared, skipped=seen.skipped, until=split.until, wanted=split.wanted,
        verdict=verdict(record.name),
    )  # fmt: skip
