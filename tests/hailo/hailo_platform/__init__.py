"""A stand-in for the vendor's package hailo_platform: the public names, signatures and exceptions that HailoRT documents.

It is no accelerator: it runs the ONNX model inside a made-up HEF, quantised and laid out as a Hailo would, and misbehaves as
the file named by FAKE_HAILO says. The worker runs on it unmodified, through PYTHONPATH.
"""

from hailo_platform.pyhailort import _pyhailort
from hailo_platform.pyhailort.pyhailort import (
    HEF,
    AsyncInferJob,
    Device,
    DvmTypes,
    FormatOrder,
    FormatType,
    HailoCommunicationClosedException,
    HailoPowerMode,
    HailoRTException,
    HailoRTStreamAbortedByUser,
    HailoSchedulingAlgorithm,
    PowerMeasurementTypes,
    VDevice,
)

__version__ = _pyhailort.control("version", "4.23.0")
if _pyhailort.__version__ != __version__:
    raise ImportError(f"_pyhailort version ({_pyhailort.__version__}) does not match pyhailort version ({__version__})")

__all__ = [
    "HEF",
    "AsyncInferJob",
    "Device",
    "DvmTypes",
    "FormatOrder",
    "FormatType",
    "HailoCommunicationClosedException",
    "HailoPowerMode",
    "HailoRTException",
    "HailoRTStreamAbortedByUser",
    "HailoSchedulingAlgorithm",
    "PowerMeasurementTypes",
    "VDevice",
]
