"""ONNX Runtime on the CPU (implements ports.Accelerator)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from appliance.core.model import Device, Health
from appliance.errors import ModelError

if TYPE_CHECKING:
    import numpy.typing as npt


class OnnxModel:
    """A loaded session."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.input_shape = tuple(session.get_inputs()[0].shape)

    def infer(self, inputs: Mapping[str, npt.NDArray[Any]]) -> Sequence[npt.NDArray[Any]]:
        """Run one batch; blocks. Raises ModelError where the inputs do not fit."""
        try:
            outputs: Sequence[npt.NDArray[Any]] = self._session.run(None, dict(inputs))
        except Exception as error:  # the runtime's exceptions have no public base of their own
            raise ModelError(f"The model failed: {str(error).splitlines()[0]}", "verify the model's manifest.") from error
        return outputs

    def close(self) -> None:
        """Free the session's memory."""
        self._session = None


class OnnxAccelerator:
    """Runs ONNX files on the CPU.

    Args:
        threads: Threads within one operator.
    """

    name = "ONNX Runtime"
    backend = "cpu"

    def __init__(self, threads: int) -> None:
        self._threads = threads

    def detect(self) -> Device:
        """The CPU is always there; the library may not be."""
        from importlib.util import find_spec

        if find_spec("onnxruntime") is None:
            return Device("accelerator", self.name, Health.absent, "the library is not installed", "make setup")
        return Device("accelerator", self.name, Health.healthy, f"{self._threads} CPU threads")

    def load(self, path: str) -> OnnxModel:
        """Load a model file; blocks. Raises ModelError."""
        try:
            import onnxruntime
        except ImportError as error:
            raise ModelError(f"ONNX Runtime cannot be loaded: {error}.", "make setup") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            return OnnxModel(onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]))
        except Exception as error:  # the runtime's exceptions have no public base of their own
            raise ModelError(
                f"{path} is not a usable ONNX model: {str(error).splitlines()[0]}", "fetch it again: make setup"
            ) from error
