"""What the keys of the Models page do; each change is asked about first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from appliance.core.inference.status import VersionRow
from appliance.core.model import JobState
from appliance.core.state import Section
from appliance.screens.flows import Flows
from appliance.screens.inference_acts import ask_for, follow
from appliance.screens.widgets.grid import Grid

if TYPE_CHECKING:
    from appliance.screens.models import Models


def named(offer: str) -> str:
    """NAME@VERSION of an offer's key, which has the hash of its archive too."""
    return offer.rpartition(":")[0]


class Acts:
    """Dialogs and invocations of one Models page.

    Args:
        page: It.
    """

    def __init__(self, page: Models) -> None:
        self._page = page

    @property
    def _flows(self) -> Flows:
        return self._page.spark.flows

    def do(self, what: str) -> None:
        """One of the page's own keys."""
        free = {"add": self._add, "cancel": self._cancel, "install": self._install}
        if what in free:
            self._flows.start(free[what](), what)
            return
        row = self._page.row
        if row is not None:
            flow = {
                "activate": self._activate, "rollback": self._rollback, "verify": self._verify, "bench": self._bench,
                "split": self._split, "end_split": self._end_split, "archive": self._archive, "remove": self._remove,
            }[what]  # fmt: skip
            self._flows.start(flow(row), what)

    def open(self, panel: str, key: str) -> None:
        """All of what the cursor is on."""
        if panel == "offers":
            self._flows.start(self._offer(key), "offer")
        elif (row := self._page.row) is not None:
            self._flows.start(self._show(row), "version")

    async def _show(self, row: VersionRow) -> None:
        shown = await self._page.console.invoke("model.show", {"name": f"{row.name}@{row.version}"})
        await self._flows.show(f"{row.name}@{row.version}", shown)

    async def _offer(self, key: str) -> None:
        offers = await self._page.console.invoke("model.offers")
        await self._flows.show(f"Offer of {named(key)}", [each for each in offers if each.offer == key])

    async def _change(self, action: str, row: VersionRow, text: str, yes: str, done: str, *, whole: bool = True) -> None:
        """Ask, say that it is on its way, and what came of it."""
        await self._flows.confirm(action, yes.capitalize(), text, f"yes, {yes}")
        args: dict[str, Any] = {"name": row.name, **({"version": row.version} if whole else {})}
        self._page.say(f"{yes} {row.name}: under way")
        await self._page.console.invoke(action, args, confirm=True)
        self._page.say(done, "ok")

    async def _activate(self, row: VersionRow) -> None:
        name = f"{row.name}@{row.version}"
        text = f"{name} is proven first (hashes, shapes, self-test), then serves the requests for {row.name}; none is lost."
        await self._change("model.activate", row, text, "activate", f"{name} serves")

    async def _rollback(self, row: VersionRow) -> None:
        models = self._page.status.models if self._page.status is not None else ()
        before = next((each.version for each in models if each.name == row.name and each.previous), "")
        text = f"{row.name}: {f'version {before}' if before else 'the version before'} serves again."
        await self._change("model.rollback", row, text, "roll back", f"{row.name} is rolled back", whole=False)

    async def _archive(self, row: VersionRow) -> None:
        text = f"{row.name}@{row.version} is marked as one that may go when room is needed."
        await self._change("model.archive", row, text, "archive", f"{row.name}@{row.version} is archived")

    async def _remove(self, row: VersionRow) -> None:
        text = f"{row.name}@{row.version} ({row.stage}) and its files are gone from the disk."
        await self._change("model.remove", row, text, "remove", f"{row.name}@{row.version} is removed")

    async def _end_split(self, row: VersionRow) -> None:
        if self._page.split is None:
            self._page.say(f"all requests for {row.name} go to its active version; s divides them", "warn")
            return
        text = f"All requests for {row.name} go to its active version again."
        await self._change("model.split-end", row, text, "end the split", f"the split of {row.name} has ended", whole=False)

    async def _verify(self, row: VersionRow) -> None:
        name = f"{row.name}@{row.version}"
        self._page.say(f"verify {name}: under way")
        told = await self._page.console.invoke("model.verify", {"name": row.name, "version": row.version})
        self._page.say(f"{name} is proven: {told['shown']}", "ok")

    async def _split(self, row: VersionRow) -> None:
        known = {"name": row.name, "version": row.version}
        title = f"Requests for {row.version} of {row.name}"
        if await ask_for(self._page, "model.split", title, ("mode", "percent"), known) is not None:
            self._page.say(f"requests for {row.name} are divided", "ok")

    async def _bench(self, row: VersionRow) -> None:
        name = f"{row.name}@{row.version}"
        job = await ask_for(self._page, "model.bench", f"Measure {name}", ("requests", "parallel"), {"name": name})
        if job is not None:
            self._page.open_panel("bench")
            self._page.run_worker(follow(self._page, job), name="bench", group="bench", exit_on_error=False)

    async def _cancel(self) -> None:
        jobs = self._page.console.get(Section.jobs).value or ()
        job = next((each for each in jobs if each.name.startswith("bench ") and each.state is JobState.running), None)
        if job is None:
            self._page.say("no benchmark runs", "warn")
        else:
            await self._flows.do("job.cancel", {"job_id": job.job_id}, f"{job.name} is cancelled")

    async def _add(self) -> None:
        self._page.say("a new version is proven before it is on the list; it comes as Staging")
        row = await ask_for(self._page, "model.add", "Add a model", ("origin", "sha256"))
        if row is not None:
            self._page.say(f"{row.name}@{row.version} is here, {row.stage}; a activates it", "ok")

    async def _install(self) -> None:
        key = self._page.query_one("#offers", Grid).key
        if self._page.panel != "offers" or not key:
            self._page.open_panel("offers")
            self._page.say("choose an offer, then i installs it" if key else "no model was offered over models.updates")
            return
        name = named(key)
        text = f"{name} is downloaded, verified, given a share of the requests, and activated where it does well."
        await self._flows.confirm("model.install", "Install", text, "yes, install it")
        await self._flows.do("model.install", {"name": name}, f"{name} is queued")
        self._page.read()
