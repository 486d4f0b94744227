"""How a model is run fastest on this machine: found by running it in each way, not by guessing."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from appliance.errors import ModelError

if TYPE_CHECKING:
    import numpy.typing as npt

    from appliance.core.inference.model import TensorSpec

log = logging.getLogger(__name__)

BETTER = 0.95
"""A way must take less than this part of the time of the plainer one, to be worth leaving it."""
ROUNDS = 5
"""Runs of each of two ways, in turns, of which the quickest counts: disturbances only ever add time."""
KEPT = 64
"""Models whose measured way is kept."""
SHORT = 0.2
"""A model is only measured where one run takes no more than this part of the time for it."""
PROVIDERS = ("XnnpackExecutionProvider", "ACLExecutionProvider")
"""ONNX Runtime's for the CPU, beside its own; tried where the installed library was built with them."""
OWN = "CPUExecutionProvider"


@dataclass(frozen=True)
class Way:
    """How a session is set up.

    Attributes:
        provider: ONNX Runtime's name of what computes.
        threads: Within one operator.
        arena: Whether memory is kept between runs.
        binding: Whether outputs are bound before the run.
    """

    provider: str = OWN
    threads: int = 1
    arena: bool = True
    binding: bool = False

    def __str__(self) -> str:
        parts = [self.provider.removesuffix("ExecutionProvider"), f"{self.threads} threads"]
        parts += ["memory given back"] * (not self.arena) + ["bound outputs"] * self.binding
        return ", ".join(parts)


class Ways:
    """What was measured, kept in a file, so that the next start need not measure again.

    Args:
        path: JSON file; None to keep it in memory alone.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._known: dict[str, tuple[Way, str]] | None = None

    def get(self, key: str) -> tuple[Way, str] | None:
        """The way and the reason, by model and machine."""
        with self._lock:
            return self._all().get(key)

    def put(self, key: str, way: Way, reason: str) -> None:
        """Keep one; the oldest goes beyond the bound. A file that cannot be written is no fault: it is measured again."""
        with self._lock:
            known = self._all()
            while len(known) >= KEPT:
                del known[next(iter(known))]
            known[key] = (way, reason)
            if self._path is None:
                return
            made = self._path.with_suffix(".new")
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                made.write_text(json.dumps({name: [asdict(way), why] for name, (way, why) in known.items()}), encoding="utf-8")
                made.replace(self._path)
            except OSError as error:
                log.warning("what was measured cannot be kept in %s: %s", self._path, error.strerror)

    def _all(self) -> dict[str, tuple[Way, str]]:
        if self._known is None:
            self._known = {}
            if self._path is not None and self._path.exists():
                try:
                    told = json.loads(self._path.read_text(encoding="utf-8"))
                    self._known = {name: (Way(**way), str(why)) for name, (way, why) in told.items()}
                except (OSError, ValueError, TypeError, AttributeError) as error:
                    log.warning("%s cannot be read, so it is measured again: %s", self._path, error)
        return self._known


class Runnable(Protocol):
    """A model set up in one way."""

    inputs: tuple[TensorSpec, ...]

    def infer(self, inputs: Any) -> Any:
        """Run it."""

    def close(self) -> None:
        """Free it."""


def sample(specs: Sequence[TensorSpec]) -> dict[str, npt.NDArray[Any]] | None:
    """Inputs to measure with; None where a side other than the batch is free, or the type is none of numpy's."""
    import numpy as np

    generator, made = np.random.default_rng(0), {}
    for spec in specs:
        shape = tuple(1 if side is None and axis == 0 else side for axis, side in enumerate(spec.shape))
        if None in shape:
            return None
        try:
            dtype = np.dtype(spec.dtype)
        except TypeError:
            return None
        values = generator.random([side or 0 for side in shape])
        made[spec.name] = values.astype(dtype) if dtype.kind == "f" else np.zeros(values.shape, dtype)
    return made


def choose(build: Callable[[Way], Runnable], *, threads: int, providers: Sequence[str], seconds: float) -> tuple[Way, str]:
    """The quickest way to run a model.

    Args:
        build: Sets the model up in a way; may raise.
        threads: The most that may be used.
        providers: Those that the installed library has.
        seconds: After this time no further way is tried, and none for longer than it must be.

    Returns:
        The way, and why it was chosen.
    """
    end, best = time.monotonic() + seconds, Way(threads=threads)
    plain = build(best)
    try:
        inputs = sample(plain.inputs)
        if inputs is None:
            return best, "not measured: the model has free sides"
        if told := _unfit(plain, inputs, SHORT * seconds):
            return best, f"not measured: {told}"
        steps = []
        for step in _steps(threads, providers):
            if time.monotonic() > end:
                steps.append("time was up")
                break
            other = replace(best, **step)
            if other != best and (quicker := _compare(build, plain, other, inputs, end)) is not None:
                model, share = quicker
                plain.close()
                plain, best = model, other
                steps.append(f"{other} takes {share:.0%}")
        return best, "measured: " + ("; ".join(steps) or "nothing was quicker than the plain way")
    finally:
        plain.close()


def _unfit(model: Runnable, inputs: dict[str, npt.NDArray[Any]], most: float) -> str:
    """Why a model cannot be measured: one run takes longer than so many seconds, or fails; empty where it can."""
    began = time.monotonic()
    try:
        model.infer(inputs)
    except ModelError as error:
        return f"it does not run on made-up inputs ({error.message})"
    took = time.monotonic() - began
    return f"one run takes {took:.1f} s" if took > most else ""


def _steps(threads: int, providers: Sequence[str]) -> Iterator[dict[str, Any]]:
    for provider in PROVIDERS:
        if provider in providers:
            yield {"provider": provider}
    for fewer in sorted({threads // 2, 1} - {0, threads}, reverse=True):
        yield {"threads": fewer}
    yield {"arena": False}
    yield {"binding": True}


def _compare(
    build: Callable[[Way], Runnable], plain: Runnable, way: Way, inputs: dict[str, npt.NDArray[Any]], end: float
) -> tuple[Runnable, float] | None:
    try:
        other = build(way)
    except ModelError as error:
        log.info("%s cannot run this model: %s", way, error)
        return None
    try:
        share = _share(plain, other, inputs, end)
    except ModelError as error:
        log.info("%s fails on this model: %s", way, error)
        share = None
    if share is None or share >= BETTER:
        other.close()
        return None
    return other, share


def _share(plain: Runnable, other: Runnable, inputs: dict[str, npt.NDArray[Any]], end: float) -> float:
    """The other's time as a part of the plain one's; runs take turns, so that a busy machine disturbs both."""
    times: tuple[list[float], list[float]] = ([], [])
    for ran in range(ROUNDS + 1):
        if ran > 1 and time.monotonic() > end:
            break
        for model, taken in zip((plain, other), times, strict=True):
            began = time.perf_counter()
            model.infer(inputs)
            taken.append(time.perf_counter() - began)
    return min(times[1][1:]) / min(times[0][1:])
