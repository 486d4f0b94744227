"""The routes that have names of their own (contracts.md, section 6), as rows: which action or section is behind each.

Nothing is decided here: who may ask, what is checked and audited is the dispatcher's to say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from appliance.api import projections as project
from appliance.core.state import Section

Shape = Callable[..., Any]
"""Makes the answer of what an action returned, or of what the state has."""


@dataclass(frozen=True)
class Row:
    """One route.

    Attributes:
        method: "GET", "POST", "PUT" or "DELETE".
        path: With names of arguments in braces.
        summary: One line, without a full stop.
        action: Action behind it; "" where it reads sections of the state.
        sections: What is read of the state, where no action stands behind it.
        shape: Makes the answer; it gets the action's result, or the values of the sections.
        arguments: Makes the action's arguments of the request's.
        schema: What the body may hold, where it is not what the action takes.
        body: Whether there is one.
        status: Of an answer that went well.
        upload: Action for a picture that the request brings, as a form or as the body itself; "" where there is none.
        waits: It may take long: what is done for it ends where the client goes.
        pages: The answer is a list, which may be read in pages.
    """

    method: str
    path: str
    summary: str
    action: str = ""
    sections: tuple[Section, ...] = ()
    shape: Shape = project.same
    arguments: Callable[[dict[str, Any]], dict[str, Any]] = project.same_arguments
    schema: dict[str, Any] | None = None
    body: bool = True
    status: int = 200
    upload: str = ""
    waits: bool = False
    pages: bool = False


ROWS = (
    Row("GET", "/api/power/status", "How the appliance is fed", sections=(Section.power,), shape=project.power),
    Row("POST", "/api/power/mode/{mode}", "Choose auto, on-grid or off-grid", "power.mode", body=False),
    Row("GET", "/api/vpn/status", "The VPN and its peers", "vpn.status", shape=project.vpn),
    Row("GET", "/api/system/info", "The machine and its services", sections=(Section.host, Section.services, Section.devices),
        shape=project.system),
    Row("POST", "/api/memory/set", "Keep a value", "memory.set", arguments=project.memory_set, schema=project.MEMORY_SET),
    Row("GET", "/api/memory/get", "A value (?key=…)", "memory.get"),
    Row("GET", "/api/memory/get/{key:path}", "A value", "memory.get"),
    Row("GET", "/api/memory/stats", "The tiers of the memory", "memory.status"),
    Row("DELETE", "/api/memory/{key:path}", "Forget a value", "memory.delete"),
    Row("POST", "/api/tasks/submit", "Have a task done", "task.submit", shape=project.task, arguments=project.task_submit,
        schema=project.TASK_SUBMIT, status=202),
    Row("GET", "/api/tasks", "Tasks, the newest first", "task.list"),
    Row("GET", "/api/tasks/{task_id}", "One task", "task.show", shape=project.task_detail),
    Row("DELETE", "/api/tasks/{task_id}", "Have a task not done", "task.cancel", shape=project.task),
    Row("GET", "/api/agents/status", "Who does tasks", sections=(Section.tasks, Section.agents), shape=project.agents),
    Row("POST", "/api/v1/inference", "Run a model on a picture that is sent along, or on pictures of this machine, as a job",
        "inference.run", status=202, upload="inference.upload", waits=True),
    Row("POST", "/api/v1/preprocess", "Make a picture ready for a model, and show how it lies in its input",
        "inference.prepare", upload="inference.prepare", body=False, waits=True),
    Row("GET", "/api/v1/inference/stats", "Counters, times and devices", "inference.stats"),
    Row("GET", "/api/v1/inference/results", "The newest results", "inference.results"),
    Row("GET", "/api/v1/cache", "The cache of results", "inference.stats", shape=project.cache),
    Row("POST", "/api/v1/cache/clear", "Forget the remembered results", "inference.cache-clear", body=False),
    Row("GET", "/api/v1/offline/status", "What waits for the cloud", sections=(Section.streams,), shape=project.offline),
    Row("GET", "/api/v1/offline/queue", "The queues to the cloud", sections=(Section.streams, Section.queues),
        shape=project.offline_queue),
    Row("POST", "/api/v1/analytics/query", "A question about a metric", "analytics.query"),
    Row("GET", "/api/v1/analytics/query", "A question about a metric", "analytics.query"),
    Row("GET", "/api/v1/analytics/summary", "How the questions are answered", sections=(Section.analytics, Section.quality),
        shape=project.analytics),
    Row("POST", "/api/v1/analytics/insert", "Keep readings that others took", "analytics.insert", status=201),
    Row("GET", "/api/v1/ml/models", "Models and their versions", "model.list", pages=True),
    Row("GET", "/api/v1/ml/pipeline", "Versions on trial, and how they compare", "model.splits", pages=True),
    Row("POST", "/api/v1/ml/pipeline", "Take in a version of a model: fetched, checked, proven; it serves once activated",
        "model.add", status=201),
    Row("POST", "/api/v1/compute/workload", "Have a task done", "task.submit", shape=project.task,
        arguments=project.task_submit, schema=project.TASK_SUBMIT, status=202),
    Row("GET", "/api/v1/compute/status", "Machines, workers, and the work under way",
        sections=(Section.fleet, Section.tasks, Section.inference), shape=project.compute),
    Row("POST", "/api/llm/generate", "Have a language model go on from a prompt", "llm.generate", shape=project.answer,
        waits=True),
    Row("POST", "/api/llm/chat", "Talk with a language model", "llm.chat", shape=project.answer, waits=True),
    Row("GET", "/api/llm/models", "Language models, where each is, and what the aliases stand for", "llm.models", pages=True),
    Row("GET", "/api/routing/stats", "Where requests to language models go, and what came of them", sections=(Section.llm,),
        shape=project.routing),
    Row("GET", "/api/auth/users", "Users, their roles and keys", "user.list", pages=True),
)  # fmt: skip
