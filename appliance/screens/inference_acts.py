"""What the keys of the Inference page do; and asking for some of an action's arguments, as the pages beside it do too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from appliance.core.model import JobStatus
from appliance.errors import ApplianceError
from appliance.screens import inference_view as view
from appliance.screens.page import Page

if TYPE_CHECKING:
    from appliance.screens.inference import Inference

FILES = "files on this machine"
MANY = "with commas between them"
OPTIONS = ("paths", "model", "task", "threshold", "priority")


async def ask_for(
    page: Page, name: str, title: str, fields: Sequence[str], known: Mapping[str, Any] | None = None,
    present: Mapping[str, Any] = MappingProxyType({}),
) -> Any:  # fmt: skip
    """Ask for some of an action's arguments until it takes them; its result, or None where the reader left.

    Args:
        page: Where the reader is.
        name: Of the action.
        title: Of the form.
        fields: What is asked for, in this order.
        known: Further arguments.
        present: What fields hold now, to be changed; a text or a list that is emptied is taken away.

    Raises:
        NotAuthorizedError: The reader's role does not reach: said before anything is typed.
    """
    given = dict(known or {})
    action = page.console.action(name)
    if action is None:
        return await page.console.invoke(name, given)
    schema = action.parameters.get("properties", {})
    properties = {field: _asked(field, schema[field], present) for field in fields if field in schema}

    async def submit(values: dict[str, Any]) -> Any:
        gone = [field for field, value in present.items() if value and isinstance(value, str | list) and field not in values]
        emptied = {field: "" if isinstance(present[field], str) else [] for field in gone}
        return await page.console.invoke(name, {**emptied, **values, **given})

    required = [field for field in action.parameters.get("required", []) if field in properties]
    done = await page.spark.flows.form(title, {"properties": properties, "required": required}, submit=submit)
    return None if done is None else done.result


def _asked(field: str, kind: Mapping[str, Any], present: Mapping[str, Any]) -> dict[str, Any]:
    """A field's schema in the words of a form, with what it holds now."""
    asked = {**kind, **({"default": present[field]} if field in present else {})}
    if kind.get("type") == "array":
        about = FILES if field == "paths" else str(kind.get("description", "")).partition(";")[0]
        asked["description"] = f"{about}, {MANY}"
    return asked


async def follow(page: Page, job: JobStatus) -> JobStatus | None:
    """Wait for a job's end, and say how it ended; None where that cannot be known."""
    try:
        ended: JobStatus = await page.console.invoke("job.wait", {"job_id": job.job_id})
    except ApplianceError as error:
        page.say(str(error), "bad")
        return None
    page.say(ended.error or f"{job.name}: done", "bad" if ended.error else "ok")
    return ended


class Acts:
    """Dialogs and invocations of one Inference page.

    Args:
        page: It.
    """

    def __init__(self, page: Inference) -> None:
        self._page = page

    def do(self, what: str) -> None:
        """One of the page's own keys."""
        flow = {
            "open": self._open, "options": self._options, "drivers": self._drivers, "bench": self._bench,
            "clear": self._clear, "all": self._all,
        }[what]  # fmt: skip
        self._page.spark.flows.start(flow(), what)

    def open(self, panel: str, key: str) -> None:
        """All of what the cursor is on."""
        page, flows = self._page, self._page.spark.flows
        if panel == "results" and (result := page.result) is not None:
            flows.start(flows.read("Result", page.all_of(result)), "result")
        elif panel == "drivers":
            flows.start(self._drivers(), "drivers")
        elif panel == "fallbacks" and (status := page.status) is not None:
            rows = [each for each in status.engine.last_fallbacks if view.fallback_key(each) == key]
            if rows:
                flows.start(flows.show("Fallback", rows[0]), "fallback")

    async def _open(self, fields: Sequence[str] = OPTIONS[:1]) -> None:
        page = self._page
        job = await ask_for(page, "inference.run", "Run a model on files", fields)
        if job is None:
            return
        page.say(f"{job.name}: running")
        page.run_worker(self._await(job), name="run", group="run", exit_on_error=False)

    async def _await(self, job: JobStatus) -> None:
        """Tell what came of a run, and go to its first result; keys go on working meanwhile."""
        page, ended = self._page, await follow(self._page, job)
        outcomes = (ended.result if ended is not None else None) or ()
        page.awaited = next((outcome["result"]["result_id"] for outcome in outcomes if "result" in outcome), "")
        page.go_to_awaited()
        bad = [outcome for outcome in outcomes if "error" in outcome]
        if ended is not None and not ended.error and bad:
            page.say(f"{bad[0]['error']} {bad[0].get('next_step', '')}", "bad")

    async def _options(self) -> None:
        await self._open(OPTIONS)

    async def _drivers(self) -> None:
        status = self._page.status
        if status is not None:
            told = {"drivers": status.engine.devices, "models on them": status.engine.loads}
            await self._page.spark.flows.show("Drivers", told)

    async def _bench(self) -> None:
        job = await ask_for(self._page, "model.bench", "Measure a model", ("name", "requests", "parallel"))
        if job is not None:
            self._page.say(f"{job.name}: running; F5 Models shows its figures")
            self._page.run_worker(follow(self._page, job), name="bench", group="bench", exit_on_error=False)

    async def _clear(self) -> None:
        flows = self._page.spark.flows
        held = self._page.status.cache.entries if self._page.status is not None else 0
        text = f"The {held} remembered results are forgotten; each is worked out again when it is asked for."
        await flows.confirm("inference.cache-clear", "Empty the cache", text, "yes, forget them")
        await flows.do("inference.cache-clear", {}, "the cache is empty")

    async def _all(self) -> None:
        await self._page.spark.flows.show("Inference", await self._page.console.invoke("inference.stats"))
