"""Makes backups, proves them, fetches them back: one piece of work at a time."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from msgspec.structs import replace

from appliance.core.lifecycle.backup import archive, listing, proof, recovery, restoring, staging, targets
from appliance.core.lifecycle.backup.alone import Alone, blocking
from appliance.core.lifecycle.backup.book import Book, merged
from appliance.core.lifecycle.backup.contents import Places, closed, gaps, pieces, wanted
from appliance.core.lifecycle.backup.faults import NoRepositoryError, no_target
from appliance.core.lifecycle.backup.model import Exported, Manifest, Pending, Proof, Snapshot, TargetStatus
from appliance.core.lifecycle.backup.restic import Restic
from appliance.core.ports import Clock
from appliance.core.secrets import VARIABLES, Secrets
from appliance.errors import ApplianceError, BackupError, ConflictError, DamagedError, NotFoundError
from appliance.settingbackup import BackupSettings, BackupTarget

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Ground:
    """What the backups stand on.

    Attributes:
        settings: Of the backups.
        nas: Mount point of the NAS.
        device_id: Of this machine.
        version: Of the program.
        places: Where things are.
        secrets: This machine's.
        environ: Of the process.
        clock: For times.
        duckdb: Writes a copy of the analytics store; None where that is not open.
        report: Told what is being done, and how far it is.
    """

    settings: BackupSettings
    nas: Path
    device_id: str
    version: str
    places: Places
    secrets: Secrets
    environ: Mapping[str, str]
    clock: Clock
    duckdb: Callable[[Path], None] | None = None
    report: Callable[[str, float | None], None] = lambda _what, _share: None


class Keeper:
    """All that is done with backups while an appliance runs, or in its stead.

    Args:
        ground: What it stands on.
    """

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.home = ground.places.data / "backup"
        self.book = Book(self.home / "book.json")
        self._alone = Alone(ground.settings.limit_hours, ground.report)

    @property
    def busy(self) -> bool:
        """Whether something is under way."""
        return bool(self._alone.busy)

    def prepare(self) -> None:
        """Remove what was cut off, read what is known. Blocks. Raises OSError, StoreError."""
        for name in ("tree", "scratch", "pack", "tmp"):
            staging.sweep(self.home / name)
        restoring.sweep(self.ground.places.data)
        self.book.load()
        now, known = self.ground.clock.wall(), self.book.targets
        self.book.targets = {
            name: replace(known[name], kind=each.kind, place=targets.place(each)) if name in known and
            known[name].place == targets.place(each) else TargetStatus(name, each.kind, targets.place(each), now)
            for name, each in self.ground.settings.targets.items()
        }  # fmt: skip
        if self.book.targets != known:  # since when a target is known counts, also where nothing was ever kept there
            self.book.save()
        recovery.mark(self.ground.secrets, self.book, self.ground.places.secrets)

    def named(self, name: str) -> BackupTarget:
        """A target's settings. Raises NotFoundError."""
        found = self.ground.settings.targets.get(name)
        if found is None:
            known = ", ".join(self.ground.settings.targets) or "none; write one such as [backup.targets.nas]"
            raise NotFoundError(f"No target of backups is called {name[:60]!r}.", f"known are: {known}.")
        return found

    async def key(self) -> bytes:
        """The recovery key, made at the first use. Raises BackupError where it is gone, and there are backups made with it."""
        return await asyncio.to_thread(recovery.key, self.ground.secrets, self.book, self.ground.places.secrets)

    async def run(self, name: str = "") -> list[TargetStatus]:
        """Back up to one target, or all; each backup is proved. The targets as they are then.

        Raises:
            ConflictError: Something is under way.
            BackupError: It did not succeed at every target; what did is kept.
            ApplianceError: Nothing could be copied.
        """
        if name:
            self.named(name)
        chosen = [name] if name else list(self.ground.settings.targets)
        if not chosen:
            self.named("")
        try:
            async with self._alone.on("backup"):
                await self._to_all(chosen)
        except ConflictError:
            raise
        except ApplianceError as error:  # what concerns all of them: nothing was copied, or it took too long
            for each in chosen:
                self._failed(each, error)
            raise
        bad = [self.book.targets[each] for each in chosen if self.book.targets[each].problem]
        if bad:
            told = "; ".join(f"{each.name}: {each.problem.rstrip('.')}" for each in bad)
            raise BackupError(f"{len(chosen) - len(bad)} of {len(chosen)} targets have it. {told}.", bad[0].next_step)
        return [self.book.targets[each] for each in chosen]

    async def _to_all(self, chosen: list[str]) -> None:
        """Copy once, keep it everywhere, then prove each. Raises ApplianceError where nothing could be copied."""
        try:
            manifest = await self._stage("copying")
            made = {each: await self._try(each, self._keep(each, manifest)) for each in chosen}
        finally:
            await asyncio.to_thread(staging.sweep, self.home / "tree")
        for each, began in made.items():
            if began is not None:
                await self._try(each, self._finish(each, manifest, began))

    async def _try(self, name: str, work: Awaitable[T]) -> T | None:
        """Do something at a target; what goes wrong is in its status."""
        try:
            return await work
        except ApplianceError as error:
            self._failed(name, error)
            return None

    def _failed(self, name: str, error: ApplianceError) -> None:
        log.error("backup to %s: %s", name, error)
        now, told, step = self.ground.clock.wall(), error.message, error.next_step
        self.book.change(name, lambda was: replace(was, last_try=now, problem=told, next_step=step, failures=was.failures + 1))

    async def _stage(self, doing: str) -> Manifest:
        ground, parts = self.ground, wanted(self.ground.settings, self.ground.places)
        self.ground.report(doing, None)
        await self.key()  # made before the secrets are copied
        chosen = [piece for piece in pieces(ground.places) if piece.part in parts]
        about = staging.About(ground.version, ground.device_id, ground.clock.wall(), parts, gaps(parts, self.outside()))
        return await blocking(lambda check: staging.stage(self.home / "tree", chosen, about, ground.duckdb, check))

    def outside(self) -> list[str]:
        """Names of secrets that are given from outside, and so are in no backup."""
        elsewhere = self.ground.secrets.elsewhere
        names = {name for name, variable in VARIABLES.items() if self.ground.environ.get(variable)}
        return sorted(names | set(elsewhere.given if elsewhere is not None else ()))

    async def _keep(self, name: str, manifest: Manifest) -> tuple[str, float]:
        """Into the repository: (snapshot, when that began)."""
        began = self.ground.clock.monotonic()
        restic = await self._open(name)
        tags = tuple(f"{listing.PART}{part}" for part in manifest.parts)
        make = functools.partial(
            restic.backup, self.home / "tree", manifest.device_id, tags, self._seconds,
            lambda share: self.ground.report(f"to {name}", share),
        )  # fmt: skip
        try:
            kept = await make()
        except NoRepositoryError:
            await restic.make()
            kept = await make()
        fresh = Snapshot(
            kept.snapshot, manifest.made, name, manifest.device_id, manifest.parts, manifest.size, kept.added, None,
            manifest.gaps, kept.stored,
        )  # fmt: skip
        self.book.change(name, lambda was: replace(was, snapshots=(fresh, *was.snapshots)))
        return kept.snapshot, began

    async def _finish(self, name: str, manifest: Manifest, kept: tuple[str, float]) -> None:
        """Prove it, then let old ones go: never before the newest one was proved."""
        snapshot, began = kept
        await self._prove(name, snapshot, manifest)
        restic = await self._open(name)
        self.ground.report(f"letting old ones go at {name}", None)
        await restic.forget(self.ground.device_id, self._kept, self._seconds)
        listed = listing.read(name, await restic.snapshots())
        clock = self.ground.clock
        took, now = clock.monotonic() - began, clock.wall()
        self.book.change(name, lambda was: replace(
            was, last_try=now, last_good=manifest.made, problem="", next_step="", failures=0, seconds=took,
            snapshots=merged(was.snapshots, listed),
        ))  # fmt: skip

    async def _prove(self, name: str, snapshot: str, made: Manifest | None) -> Manifest:
        """Restore it into a scratch directory and compare; the outcome is remembered."""
        clock, began = self.ground.clock, self.ground.clock.monotonic()
        scratch = self.home / "scratch"
        self.ground.report(f"proving what is at {name}", None)
        try:
            found = await self._fetch(name, snapshot, scratch, made)
        except DamagedError as error:
            self._proved(name, snapshot, Proof(False, clock.wall(), error.message, clock.monotonic() - began))
            raise
        finally:
            await blocking(lambda _: staging.sweep(scratch))
        told = f"{len(found.files)} files restored and compared"
        self._proved(name, snapshot, Proof(True, clock.wall(), told, clock.monotonic() - began))
        return found

    def _proved(self, name: str, snapshot: str, outcome: Proof) -> None:
        def change(was: TargetStatus) -> TargetStatus:
            rows = tuple(replace(each, proof=outcome) if each.id == snapshot else each for each in was.snapshots)
            good = max((each.time for each in rows if each.proof is not None and each.proof.good), default=None)
            return replace(was, snapshots=rows, last_good=good)

        self.book.change(name, change)

    async def _fetch(self, name: str, snapshot: str, into: Path, made: Manifest | None = None) -> Manifest:
        known = next((each.size for each in self.book.targets[name].snapshots if each.id == snapshot), None)
        await blocking(lambda _: staging.fresh(into))
        staging.check_room(into, known or 0)
        restic = await self._open(name)
        await restic.restore(snapshot, into, self._seconds)
        return await blocking(lambda check: proof.prove(into, pieces(self.ground.places), made, check))

    async def list_all(self) -> list[Snapshot]:
        """What the repositories have, newest first. Raises ApplianceError where there are none, or none of them answers."""
        if not self.ground.settings.targets:
            raise no_target()
        errors = []
        async with self._alone.on("list"):
            for name in self.ground.settings.targets:
                try:
                    await self._list(name)
                except ApplianceError as error:
                    log.warning("the backups at %s cannot be listed: %s", name, error.message)
                    errors.append(error)
        if errors and len(errors) == len(self.book.targets):
            raise errors[0]
        found = [each for one in self.book.targets.values() for each in one.snapshots]
        return sorted(found, key=lambda each: -each.time)

    async def _list(self, name: str) -> TargetStatus:
        restic = await self._open(name)
        listed = listing.read(name, await restic.snapshots())
        self.book.change(name, lambda was: replace(was, snapshots=merged(was.snapshots, listed)))
        return self.book.targets[name]

    async def find(self, wish: str, name: str = "") -> tuple[str, str]:
        """(target, id) of a snapshot by the beginning of its id, or "latest". Raises NotFoundError, ApplianceError."""
        rows = [each for each in await self.list_all() if not name or each.target == name]
        hits = [each for each in rows if wish == "latest" or (len(wish) >= 4 and wish.startswith(each.id[: len(wish)]))]
        if wish == "latest":
            hits = hits[:1]
        if len({each.id for each in hits}) != 1:
            what = "No snapshot is" if not hits else "Several snapshots are"
            raise NotFoundError(f"{what} called {wish[:60]!r}.", "list them: prime-spark backup list")
        return hits[0].target, hits[0].id

    async def verify(self, wish: str, name: str = "") -> Proof:
        """Prove a snapshot again, and check its repository. Raises ApplianceError."""
        target, snapshot = await self.find(wish, name)
        async with self._alone.on("verify"):
            restic = await self._open(target)
            self.ground.report(f"checking the repository at {target}", None)
            try:
                await restic.check(self.ground.settings.check_percent, self._seconds)
            except DamagedError as error:
                self._proved(target, snapshot, Proof(False, self.ground.clock.wall(), error.message))
                raise
            await self._prove(target, snapshot, None)
        found = next(each.proof for each in self.book.targets[target].snapshots if each.id == snapshot)
        if found is None:
            raise BackupError("The proof was not kept.", "try again.")
        return found

    async def forget(self, wish: str, name: str = "") -> str:
        """Remove one snapshot for good; its id. Raises ApplianceError."""
        target, snapshot = await self.find(wish, name)
        async with self._alone.on("forget"):
            await (await self._open(target)).drop(snapshot, self._seconds)
            await self._list(target)
        return snapshot

    async def prune(self) -> int:
        """Let go what is older than the settings keep, at all targets; how many went. BackupError where one refuses."""
        gone, bad = 0, {}
        async with self._alone.on("prune"):
            for name in self.ground.settings.targets:
                try:
                    before = len((await self._list(name)).snapshots)
                    await (await self._open(name)).forget(self.ground.device_id, self._kept, self._seconds)
                    gone += before - len((await self._list(name)).snapshots)
                except ApplianceError as error:  # the others need not wait for it
                    bad[name] = error
        if bad:
            told = "; ".join(f"{name}: {error.message.rstrip('.')}" for name, error in bad.items())
            raise BackupError(f"{gone} went; not everywhere. {told}.", next(iter(bad.values())).next_step)
        return gone

    async def export(self, file: Path, phrase: str = "") -> Exported:
        """Write what there is now into one encrypted file, and prove that. Raises ApplianceError."""
        async with self._alone.on("export"):
            manifest = await self._stage("copying")
            key = await self.key()
            tree, pack = self.home / "tree", self.home / "pack"
            try:
                size, digest = await blocking(lambda check: archive.pack(tree, file, pack, key=key, phrase=phrase, check=check))
                await blocking(lambda _: staging.sweep(tree))
                await self._unpack(file, self.home / "scratch", pack, key, phrase, manifest)
            finally:
                for each in (tree, pack, self.home / "scratch"):
                    await asyncio.to_thread(staging.sweep, each)
        opened_by = "the passphrase that was given" if phrase else "the recovery key of this machine"
        return Exported(str(file), size, digest, manifest.parts, opened_by, True, manifest.gaps)

    async def _unpack(self, file: Path, into: Path, work: Path, key: bytes, phrase: str, made: Manifest | None) -> Manifest:
        await blocking(lambda check: archive.unpack(file, into, work, key=key, phrase=phrase, check=check))
        return await blocking(lambda check: proof.prove(into, pieces(self.ground.places), made, check))

    async def stage_snapshot(self, wish: str, name: str, only: tuple[str, ...], *, other: bool, by: str = "") -> Pending:
        """Fetch a snapshot, prove it, and have it applied at the next start. Raises ApplianceError."""
        target, snapshot = await self.find(wish, name)
        fetch = functools.partial(self._fetch, target, snapshot)
        return await self._arm(f"{target}:{snapshot[:8]}", fetch, only, other=other, by=by)

    async def stage_repository(
        self, restic: Restic, wish: str, told: str, only: tuple[str, ...], *, other: bool, by: str = ""
    ) -> Pending:
        """The same from a repository that no settings name. Raises ApplianceError."""

        async def fetch(into: Path) -> Manifest:
            await blocking(lambda _: staging.fresh(into))
            await restic.restore(wish, into, self._seconds)
            return await blocking(lambda check: proof.prove(into, pieces(self.ground.places), None, check))

        return await self._arm(told, fetch, only, other=other, by=by)

    async def stage_file(
        self, file: Path, key: bytes, phrase: str, only: tuple[str, ...], *, other: bool, by: str = ""
    ) -> Pending:
        """The same from an exported file. Raises ApplianceError."""
        work = restoring.root_of(self.ground.places.data) / "work"
        return await self._arm(
            file.name, lambda into: self._unpack(file, into, work, key, phrase, None), only, other=other, by=by
        )

    async def _arm(
        self, source: str, fetch: Callable[[Path], Awaitable[Manifest]], only: tuple[str, ...], *, other: bool, by: str
    ) -> Pending:
        data = self.ground.places.data
        async with self._alone.on("restore"):
            self.ground.report("fetching a backup", None)
            try:
                manifest = await fetch(restoring.incoming(data))
                parts = restoring.choose(manifest, only, closed(self.ground.places))
                if manifest.device_id != self.ground.device_id and not other:
                    told = f"The backup is of {manifest.device_id}; this machine is {self.ground.device_id}."
                    raise ConflictError(told, "to make this machine that one, say --other-device.")
                return await asyncio.to_thread(restoring.arm, data, manifest, parts, source, by)
            except OSError as error:
                raise BackupError(f"The restore cannot be prepared: {error.strerror}.", "see the data partition.") from error
            finally:
                await asyncio.to_thread(restoring.sweep, data)

    async def _open(self, name: str) -> Restic:
        target = self.named(name)
        await targets.reach(target, self.ground.nas, self.ground.places.data)
        key = await self.key()
        upload = self.ground.settings.bandwidth_kib
        found = targets.repository(target, key, self.ground.secrets.text, self.home, upload)
        return Restic(found, self.ground.environ)

    @property
    def _kept(self) -> tuple[int, int, int, int]:
        wanted = self.ground.settings
        return wanted.keep_all_days, wanted.keep_daily, wanted.keep_weekly, wanted.keep_monthly

    @property
    def _seconds(self) -> float:
        return self.ground.settings.limit_hours * 3600
