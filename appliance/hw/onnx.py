"""ONNX Runtime on the CPU (implements ports.Accelerator)."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliance.core.inference.model import DeviceReading, TensorSpec
from appliance.core.model import Device, Health
from appliance.errors import DeviceError, ModelError
from appliance.hw import onnx_faults, onnx_tuning
from appliance.hw.onnx_tuning import Way

if TYPE_CHECKING:
    import numpy.typing as npt

log = logging.getLogger(__name__)

DTYPES = {"float": "float32", "double": "float64", "float16": "float16", "bool": "bool"}
"""ONNX Runtime's names of element types that are not numpy's."""


class Usage:
    """How much of the time something runs; used by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._since = self._read = time.monotonic()
        self._busy = 0.0
        self._now: set[Any] = set()

    @contextmanager
    def running(self, options: Any) -> Iterator[None]:
        """While a session runs with these options."""
        with self._lock:
            self._count()
            self._running += 1
            self._now.add(options)
        try:
            yield
        finally:
            with self._lock:
                self._count()
                self._running -= 1
                self._now.discard(options)

    def _count(self) -> None:
        now = time.monotonic()
        self._busy += (now - self._since) if self._running else 0.0
        self._since = now

    def share(self) -> float | None:
        """Part of the time since the last call, 0…1, during which something ran; None for under 10 ms."""
        with self._lock:
            self._count()
            passed = self._since - self._read
            if passed < 0.01:
                return None
            busy, self._busy, self._read = self._busy, 0.0, self._since
        return min(1.0, busy / passed)

    def stop(self) -> None:
        """Make what runs end with an error."""
        with self._lock:
            for options in self._now:
                options.terminate = True


class OnnxModel:
    """A loaded session.

    Args:
        session: onnxruntime.InferenceSession.
        way: How it was set up.
        usage: Told of every run.
        reason: Why this way.
    """

    def __init__(self, session: Any, way: Way, usage: Usage, reason: str = "") -> None:
        self._session: Any = session
        self._usage = usage
        self.way = way
        self.reason = reason
        self.inputs = tuple(_spec(each) for each in session.get_inputs())
        self.outputs = tuple(_spec(each) for each in session.get_outputs())
        self.batches = bool(self.inputs and self.outputs) and all(
            each.shape and each.shape[0] is None for each in self.inputs + self.outputs
        )
        """Several requests fit into one run: the first axis of all inputs and outputs is free."""

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """Of the first input."""
        return self.inputs[0].shape

    def infer(self, inputs: Mapping[str, npt.NDArray[Any]]) -> Sequence[npt.NDArray[Any]]:
        """Run one batch; blocks.

        A model whose first axis is 1 runs once for each entry of the batch.

        Raises:
            ModelError: The inputs do not fit, or the model failed on them.
            DeviceError: The run was stopped by a reset, or the model was closed.
        """
        size = self._batch(inputs)
        self._check(inputs, size)
        if size == 1:
            return self._run(inputs)
        import numpy as np

        runs = [self._run({name: value[at : at + 1] for name, value in inputs.items()}) for at in range(size)]
        return [np.concatenate(parts) for parts in zip(*runs, strict=True)]

    def _batch(self, inputs: Mapping[str, npt.NDArray[Any]]) -> int:
        """How many runs are needed: 1, but where every input's first axis is 1 and longer ones came."""
        if not self.inputs or any(not each.shape or each.shape[0] != 1 for each in self.inputs + self.outputs):
            return 1
        sizes = {value.shape[0] if value.ndim else 1 for value in inputs.values()}
        if len(sizes) != 1:
            raise ModelError(f"The inputs hold different numbers of samples: {sorted(sizes)}.", "give the same number in each.")
        return int(sizes.pop())

    def _check(self, inputs: Mapping[str, npt.NDArray[Any]], size: int) -> None:
        wanted = {each.name: each for each in self.inputs}
        if missing := wanted.keys() - inputs.keys():
            raise ModelError(f"The model's input {', '.join(sorted(missing))} is missing.", _fix(self.inputs))
        if unknown := inputs.keys() - wanted.keys():
            raise ModelError(f"The model has no input {', '.join(sorted(unknown))}.", _fix(self.inputs))
        if size < 1:
            raise ModelError("The batch is empty.", "give at least one sample.")
        for name, value in inputs.items():
            _fits(wanted[name], value, size)

    def _run(self, inputs: Mapping[str, npt.NDArray[Any]]) -> Sequence[npt.NDArray[Any]]:
        import onnxruntime

        session = self._session
        if session is None:
            raise DeviceError("The model was closed.", "load it again.")
        options = onnxruntime.RunOptions()
        with self._usage.running(options):
            try:
                return _bound(session, inputs, options) if self.way.binding else _plain(session, inputs, options)
            except Exception as error:  # the runtime's exceptions have no public base of their own
                if options.terminate:
                    raise DeviceError("The run on the CPU was stopped by a reset.", "try again.") from error
                raise onnx_faults.run_error(error) from error

    def close(self) -> None:
        """Free the session's memory."""
        self._session = None


class OnnxAccelerator:
    """Runs ONNX files on the CPU.

    Args:
        threads: Most threads within one operator.
        host: What the machine says of itself (temperature, throttling); None where nobody tells.
        tune_seconds: Time to try ways of running a model when it is loaded first; 0 for the plain way.
        ways: File that keeps what was measured; None to forget it at the end.
    """

    name = "ONNX Runtime"
    backend = "cpu"
    kind = "onnx"

    def __init__(
        self,
        threads: int,
        host: Callable[[], DeviceReading] | None = None,
        tune_seconds: float = 0.0,
        ways: Path | None = None,
    ) -> None:
        self._threads = max(1, threads)
        self._host = host
        self._tune_seconds = tune_seconds
        self._usage = Usage()
        self._ways = onnx_tuning.Ways(ways)

    def detect(self) -> Device:
        """The CPU is always there; the library may not be."""
        from importlib.util import find_spec

        if find_spec("onnxruntime") is None:
            return Device("accelerator", self.name, Health.absent, "the library is not installed", "make setup")
        return Device("accelerator", self.name, Health.healthy, f"{self._threads} CPU threads")

    def load(self, path: str) -> OnnxModel:
        """Load a model file; blocks. The first load also measures how it runs best. Raises ModelError."""
        way, reason = self.way(path)
        return self._build(path, way, reason)

    def way(self, path: str) -> tuple[Way, str]:
        """How a model is run here, and why. Raises ModelError."""
        try:
            status = os.stat(path)  # noqa: PTH116 the path may be relative to nothing that exists
        except OSError as error:
            raise ModelError(f"The model {path} cannot be read: {error.strerror}.", onnx_faults.AGAIN + ".") from error
        if self._tune_seconds <= 0:
            return Way(threads=self._threads), "not measured"
        library = _library()
        version, machine = library.__version__, f"{os.cpu_count()} cores, {self._threads} threads"
        key = f"{path} {status.st_size} {status.st_mtime_ns} on {version}, {machine}"
        if (known := self._ways.get(key)) is not None:
            return known
        found = self._tune(path, library.get_available_providers())
        self._ways.put(key, *found)
        return found

    def _tune(self, path: str, providers: Sequence[str]) -> tuple[Way, str]:
        way, reason = onnx_tuning.choose(
            lambda each: self._build(path, each), threads=self._threads, providers=providers, seconds=self._tune_seconds
        )
        log.info("%s runs with %s (%s)", path, way, reason)
        return way, reason

    def _build(self, path: str, way: Way, reason: str = "") -> OnnxModel:
        onnxruntime = _library()
        other = way.provider != onnx_tuning.OWN
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1 if other else way.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        options.enable_cpu_mem_arena = way.arena
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        own: list[Any] = [onnx_tuning.OWN]
        chosen = [(way.provider, _provider_options(way)), *own] if other else own
        try:
            return OnnxModel(onnxruntime.InferenceSession(path, options, providers=chosen), way, self._usage, reason)
        except Exception as error:  # the runtime's exceptions have no public base of their own
            raise onnx_faults.load_error(path, error) from error

    def reading(self) -> DeviceReading:
        """The machine's temperature and throttling, and how busy inference keeps it (since the last reading)."""
        told = self._host() if self._host is not None else DeviceReading()
        return DeviceReading(told.temperature_c, told.power_w, self._usage.share(), told.throttled)

    def reset(self) -> None:
        """Stop what runs now; loaded models stay usable."""
        self._usage.stop()

    def close(self) -> None:
        """Stop what runs now."""
        self._usage.stop()


def _library() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelError(f"ONNX Runtime cannot be loaded: {error}.", "make setup") from error
    return onnxruntime


def _provider_options(way: Way) -> dict[str, str]:
    return {"intra_op_num_threads": str(way.threads)} if way.provider.startswith("Xnnpack") else {}


def _plain(session: Any, inputs: Mapping[str, Any], options: Any) -> Sequence[npt.NDArray[Any]]:
    outputs: Sequence[npt.NDArray[Any]] = session.run(None, dict(inputs), options)
    return outputs


def _bound(session: Any, inputs: Mapping[str, Any], options: Any) -> Sequence[npt.NDArray[Any]]:
    import numpy as np

    binding = session.io_binding()
    for name, value in inputs.items():
        binding.bind_cpu_input(name, np.ascontiguousarray(value))
    for output in session.get_outputs():
        binding.bind_output(output.name, "cpu")
    session.run_with_iobinding(binding, options)
    outputs: Sequence[npt.NDArray[Any]] = binding.copy_outputs_to_cpu()
    return outputs


def _spec(node: Any) -> TensorSpec:
    """Shapes have names (or nothing) where a side is free; types are written tensor(float), seq(…), map(…)."""
    inner = node.type.removeprefix("tensor(").removesuffix(")") if node.type.startswith("tensor(") else node.type
    shape = tuple(side if isinstance(side, int) and side >= 0 else None for side in node.shape)
    return TensorSpec(node.name, shape, DTYPES.get(inner, inner))


def _fits(spec: TensorSpec, value: npt.NDArray[Any], size: int) -> None:
    if value.dtype.name != spec.dtype:
        raise ModelError(f"The input {spec.name} has type {value.dtype.name}, the model takes {spec.dtype}.", _fix((spec,)))
    shape = (1, *value.shape[1:]) if size > 1 else value.shape
    if len(shape) != len(spec.shape) or any(side not in {None, has} for side, has in zip(spec.shape, shape, strict=False)):
        raise ModelError(
            f"The input {spec.name} has shape {_sides(value.shape)}, the model takes {_sides(spec.shape)}.", _fix((spec,))
        )


def _sides(shape: Sequence[int | None]) -> str:
    return "×".join("any" if side is None else str(side) for side in shape) or "one number"


def _fix(specs: Sequence[TensorSpec]) -> str:
    takes = ", ".join(f"{each.name} ({_sides(each.shape)}, {each.dtype})" for each in specs)
    return f"it takes {takes}; mend the model's manifest."
