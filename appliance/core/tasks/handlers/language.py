"""The task type llm: a question to a language model, by the way that the router finds for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from appliance.core.tasks.handlers.forms import Form, read
from appliance.core.tasks.wire import Order
from appliance.errors import InvalidArgumentsError, TaskError

if TYPE_CHECKING:
    from appliance.core.llm.gateway import Gateway


class Turn(Form, frozen=True, kw_only=True):
    """One turn of a talk."""

    role: Literal["system", "user", "assistant"]
    content: str


class Question(Form, frozen=True, kw_only=True):
    """What is asked, of which model, and how far it may go."""

    prompt: str = ""
    messages: tuple[Turn, ...] = ()
    """Turns before the prompt, or instead of it."""
    system: str = ""
    model: str = ""
    """Model or alias; empty for llm.default_model."""
    edge_only: bool = False
    temperature: Annotated[float, msgspec.Meta(ge=0, le=10)] | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | None = None


class LanguageHandler:
    """Asks language models (implements executor.Handler).

    Args:
        gateway: The way to them. Raises AbsentError, NotRunningError.
        able: Whether one can be asked now.
    """

    name = "llm"
    summary = "Ask a language model"

    def __init__(self, gateway: Callable[[], Gateway], able: Callable[[], bool]) -> None:
        self._gateway = gateway
        self._able = able

    def available(self) -> bool:
        """See executor.Handler."""
        return self._able()

    async def run(self, payload: Any, order: Order) -> Any:
        """See executor.Handler."""
        wanted = read(Question, payload, self.name)
        if not wanted.prompt and not wanted.messages:
            raise InvalidArgumentsError("The payload asks nothing.", "give prompt, or messages.")
        from appliance.core.llm.faults import ELSEWHERE, LlmError
        from appliance.core.llm.stream import whole

        try:
            answer = await whole(await self._gateway().open(_request(wanted), f"task {order.task_id}"))
        except LlmError as error:  # what is wrong with the question itself will be wrong again
            final = error.fault not in ELSEWHERE and error.fault.value not in {"cut", "nobody"}
            raise TaskError(error.message, error.next_step, final=final) from error
        return {
            "text": answer.text, "model": answer.model, "endpoint": answer.endpoint, "place": answer.place.value,
            "why": answer.why, "finish": answer.finish, "cached": answer.cached, "latency_ms": answer.latency_ms,
            "left_house_bytes": answer.left_house_bytes, "usage": msgspec.to_builtins(answer.usage),
        }  # fmt: skip


def _request(wanted: Question) -> Any:
    from appliance.core.llm.model import Message, Operation, Privacy, Request, Wishes

    turns = [Message("system", wanted.system)] if wanted.system else []
    turns += [Message(each.role, each.content) for each in wanted.messages]
    turns += [Message("user", wanted.prompt)] if wanted.prompt else []
    given = {"temperature": wanted.temperature, "num_predict": wanted.max_tokens}
    return Request(
        operation=Operation.chat, model=wanted.model, messages=tuple(turns),
        options={name: value for name, value in given.items() if value is not None},
        wishes=Wishes(Privacy.edge_only if wanted.edge_only else Privacy.any),
    )  # fmt: skip
