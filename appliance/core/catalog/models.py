"""Actions on models: their versions, which of them serves, how they compare, and what was offered."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Annotated, Any, Literal

from msgspec import structs
from pydantic import Field

from appliance.core.actions import Action, Invocation, NoParams, Params
from appliance.core.inference.manifest import fingerprint
from appliance.core.inference.parts import Parts
from appliance.core.inference.registry.bench import bench
from appliance.core.inference.registry.checks import examine
from appliance.core.inference.registry.records import VersionFacts
from appliance.core.inference.registry.rows import split_rows, version_rows
from appliance.core.inference.status import VersionRow
from appliance.core.jobs import JobHandle, Jobs
from appliance.core.model import JobStatus, Role
from appliance.errors import DeviceError, ModelError, NotFoundError

LONG = 900.0
"""Seconds: an archive comes over a slow line, and a large model is loaded."""

Name = Annotated[str, Field(min_length=1, max_length=64, description="Name of the model")]
Version = Annotated[str, Field(min_length=1, max_length=64, description="Its version")]


class Named(Params):
    """One name."""

    name: Name


class Versioned(Params):
    """One version."""

    name: Name
    version: Version


class Origin(Params):
    """Where a version comes from."""

    origin: str = Field(
        min_length=1,
        max_length=4096,
        description="A directory, a .tar or .zip, or s3://BUCKET/KEY (with / at its end: a directory)",
    )
    sha256: str = Field("", pattern=r"^([0-9a-fA-F]{64})?$", description="What the archive's SHA-256 must be; empty for any")


class Splitting(Versioned):
    """A share of the requests for another version."""

    mode: Literal["ab", "shadow", "canary"] = Field(
        "shadow", description="shadow: runs beside the active one; ab: answers its share; canary: as ab, then judged"
    )
    percent: float = Field(10.0, gt=0, le=100, description="Percent of the requests")


class Measured(Params):
    """What to measure."""

    name: str = Field("", max_length=129, description="NAME, or NAME@VERSION; empty for the one that serves")
    requests: int = Field(100, ge=1, le=100_000, description="How many requests")
    parallel: int = Field(1, ge=1, le=32, description="How many at a time")


class Offered(Params):
    """One offer."""

    name: str = Field(min_length=3, max_length=129, pattern="^[^@]+@[^@]+$", description="NAME@VERSION as it was offered")


def model_actions(parts: Parts, jobs: Jobs) -> list[Action]:
    """All of them."""
    return [*_reading(parts), *_changing(parts), *_splitting(parts), *_measuring(parts, jobs), *_offers(parts)]


def _reading(parts: Parts) -> list[Action]:
    registry = parts.registry

    async def listing(_: Invocation, __: NoParams) -> tuple[VersionRow, ...]:
        return version_rows(registry)

    async def show(_: Invocation, params: Named) -> list[VersionRow]:
        name, at, version = params.name.partition("@")
        found = [row for row in version_rows(registry) if row.name == name and (not at or row.version == version)]
        if not found:
            raise NotFoundError(f"No model is called {params.name!r}.", "list them with `prime-spark model list`.")
        return found

    async def splits(_: Invocation, __: NoParams) -> Any:
        return split_rows(registry, parts.updating.verdict)

    async def verify(_: Invocation, params: Versioned) -> dict[str, Any]:
        registry.look_up(params.name, params.version)
        version = registry.version(f"{params.name}@{params.version}")
        try:
            with registry.leases.use(version.key):
                proof = await examine(version, parts.pipeline)
        except DeviceError:  # it says nothing of the version
            raise
        except ModelError as error:
            told = f"failed: {error.message}"
            await keep(version.key, lambda facts: structs.replace(facts, tested=told))
            raise
        mark = version.mark or fingerprint(version.manifest)
        await keep(version.key, lambda facts: facts.with_proof(proof, mark))
        return {"model": version.key, "shown": proof.shown}

    async def keep(key: str, change: Callable[[VersionFacts], VersionFacts]) -> None:
        """What is known of a version is another thing now, on disk too."""
        registry.facts[key] = change(registry.facts.get(key, VersionFacts(key=key)))
        await registry.keep(key)

    query = functools.partial(Action, query=True, role=Role.viewer)
    return [
        query("model.list", "List the versions of all models, and which of them serve", listing),
        query("model.show", "Show a model's versions in full", show, params=Named, positional=("name",)),
        query("model.splits", "Show which requests are divided, and how the two versions compare", splits),
        Action("model.verify", "Prove a version: hashes, shapes, self-test", verify, params=Versioned,
               positional=("name", "version"), timeout=300.0),
    ]  # fmt: skip


def _changing(parts: Parts) -> list[Action]:
    deciding, registry = parts.deciding, parts.registry

    def row(name: str, version: str) -> VersionRow:
        return next(each for each in version_rows(registry) if (each.name, each.version) == (name, version))

    async def add(_: Invocation, params: Origin) -> VersionRow:
        version = await parts.intake.add(params.origin, sha256=params.sha256)
        return row(version.manifest.name, version.manifest.version)

    async def activate(_: Invocation, params: Versioned) -> VersionRow:
        await deciding.activate(params.name, params.version, "an operator asked for it")
        parts.cache.forget(f"{params.name}@{params.version}")
        return row(params.name, params.version)

    async def rollback(_: Invocation, params: Named) -> VersionRow:
        record = await parts.updating.rollback(params.name, "an operator asked for it")
        return row(params.name, record.active)

    async def archive(_: Invocation, params: Versioned) -> VersionRow:
        await deciding.archive(params.name, params.version)
        return row(params.name, params.version)

    async def remove(_: Invocation, params: Versioned) -> dict[str, Any]:
        freed = await deciding.remove(params.name, params.version, "an operator asked for it")
        parts.cache.forget(f"{params.name}@{params.version}")
        return {"removed": f"{params.name}@{params.version}", "freed_bytes": freed}

    async def there(params: Versioned) -> object:
        return registry.look_up(params.name, params.version)

    one = functools.partial(Action, params=Versioned, positional=("name", "version"))
    return [
        Action("model.add", "Add a version as Staging, after it was proven", add, params=Origin, positional=("origin",),
               role=Role.admin, timeout=LONG),
        one("model.activate", "Have a version serve, after it was proven", activate, timeout=300.0),
        Action("model.rollback", "Have the version before serve again", rollback, params=Named, positional=("name",),
               timeout=300.0),
        one("model.archive", "Mark a version as one that may go when room is needed", archive),
        one("model.remove", "Remove a version from the disk", remove, role=Role.admin, dangerous=True, look_up=there,
            confirm_text="{name} {version} is removed from the disk."),
    ]  # fmt: skip


def _splitting(parts: Parts) -> list[Action]:
    deciding, registry = parts.deciding, parts.registry

    async def split(_: Invocation, params: Splitting) -> Any:
        settings, now = registry.setup.settings, registry.setup.clock.wall()
        until = now + settings.canary_seconds if params.mode == "canary" else 0.0
        wanted = settings.canary_requests if params.mode == "canary" else 0
        await deciding.split(params.name, params.version, params.mode, params.percent, until=until, wanted=wanted)
        return split_rows(registry, parts.updating.verdict)

    async def end_split(_: Invocation, params: Named) -> dict[str, str]:
        split = await deciding.end_split(params.name, "an operator asked for it")
        return {"ended": f"{split.mode} of {params.name}@{split.candidate}"}

    return [
        Action("model.split", "Divide the requests between the active version and another one", split, params=Splitting,
               positional=("name", "version"), timeout=300.0),
        Action("model.split-end", "Give all requests to the active version again", end_split, params=Named,
               positional=("name",)),
    ]  # fmt: skip


def _measuring(parts: Parts, jobs: Jobs) -> list[Action]:
    async def measure(call: Invocation, params: Measured) -> JobStatus:
        version = parts.registry.pick(params.name)

        async def work(handle: JobHandle) -> dict[str, Any]:
            with parts.registry.leases.use(version.key):
                return await bench(version, parts.pipeline, params.requests, params.parallel, handle.report)

        return await jobs.submit(f"bench {version.key}", call.actor.name, work)

    return [
        Action("model.bench", "Measure how fast a version is on this machine", measure, params=Measured, positional=("name",),
               brief=lambda job: f"job {job.job_id[-6:]} {job.state.value}"),
    ]  # fmt: skip


def _offers(parts: Parts) -> list[Action]:
    async def offers(_: Invocation, __: NoParams) -> list[Any]:
        return parts.updating.all()

    async def install(_: Invocation, params: Offered) -> Any:
        return await parts.updating.install(params.name)

    async def stored(_: Invocation, __: NoParams) -> list[dict[str, Any]]:
        return await parts.publishing.stored()

    async def publish(_: Invocation, params: Versioned) -> dict[str, Any]:
        return await parts.publishing.publish(params.name, params.version)

    return [
        Action("model.stored", "List the versions that lie in S3; `model add` takes their addresses", stored, query=True,
               role=Role.viewer),
        Action("model.publish", "Store a version in S3, and say how to offer it", publish, params=Versioned,
               positional=("name", "version"), role=Role.admin, timeout=LONG),
        Action("model.offers", "List what was offered over models.updates, and how far it came", offers, query=True,
               role=Role.viewer),
        Action("model.install", "Install an offer: download, verify, canary, activate", install, params=Offered,
               positional=("name",), role=Role.admin),
    ]  # fmt: skip
