"""The stand-in for the vendor's package has the vendor's names, parameters and exceptions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.inference.hailo_rig import STAND_IN

PROGRAM = """
import inspect, json, sys
import hailo_platform
from hailo_platform.pyhailort import pyhailort
told = {"version": hailo_platform.__version__, "callables": {}, "exceptions": {}}
for name in sys.argv[1:]:
    thing = pyhailort
    for part in name.split("."):
        thing = getattr(thing, part)
    if isinstance(thing, property):
        told["callables"][name] = "property"
    elif isinstance(thing, type) and issubclass(thing, Exception):
        told["exceptions"][name] = [base.__name__ for base in thing.__mro__[:-2]]
    else:
        told["callables"][name] = [
            [each.name, each.kind.name, each.default is not each.empty] for each in inspect.signature(thing).parameters.values()
        ]
print(json.dumps(told))
"""
DOCUMENTED = {
    "HEF.__init__": "self hef_source",
    "HEF.get_network_group_names": "self",
    "HEF.get_network_groups_infos": "self",
    "HEF.get_input_vstream_infos": "self name=",
    "HEF.get_output_vstream_infos": "self name=",
    "VDevice.__init__": "self params= *device_ids=",
    "VDevice.create_params": "",
    "VDevice.create_infer_model": "self hef_source name=",
    "VDevice.get_physical_devices": "self",
    "VDevice.get_physical_devices_ids": "self",
    "VDevice.release": "self",
    "Device.__init__": "self device_id=",
    "Device.scan": "",
    "Device.release": "self",
    "Device.device_id": "property",
    "Device.control": "property",
    "Control.identify": "self",
    "Control.chip_reset": "self",
    "Control.nn_core_reset": "self",
    "Control.get_chip_temperature": "self",
    "Control.power_measurement": "self dvm= measurement_type=",
    "Control.set_notification_callback": "self callback_func notification_id opaque",
    "Control.remove_notification_callback": "self notification_id",
    "InferModel.hef": "property",
    "InferModel.inputs": "property",
    "InferModel.outputs": "property",
    "InferModel.input_names": "property",
    "InferModel.output_names": "property",
    "InferModel.input": "self name=",
    "InferModel.output": "self name=",
    "InferModel.configure": "self",
    "InferModel.set_batch_size": "self batch_size",
    "InferModel.set_power_mode": "self power_mode",
    "InferModel.InferStream.name": "property",
    "InferModel.InferStream.shape": "property",
    "InferModel.InferStream.format": "property",
    "InferModel.InferStream.quant_infos": "property",
    "InferModel.InferStream.is_nms": "property",
    "InferModel.InferStream.set_format_type": "self type",
    "InferModel.InferStream.set_format_order": "self order",
    "InferModel.InferStream.set_nms_score_threshold": "self threshold",
    "InferModel.InferStream.set_nms_iou_threshold": "self threshold",
    "InferModel.InferStream.set_nms_max_proposals_per_class": "self max_proposals",
    "ConfiguredInferModel.activate": "self",
    "ConfiguredInferModel.deactivate": "self",
    "ConfiguredInferModel.create_bindings": "self input_buffers= output_buffers=",
    "ConfiguredInferModel.wait_for_async_ready": "self timeout_ms= frames_count=",
    "ConfiguredInferModel.run": "self bindings timeout",
    "ConfiguredInferModel.run_async": "self bindings callback=",
    "ConfiguredInferModel.set_scheduler_timeout": "self timeout_ms",
    "ConfiguredInferModel.set_scheduler_threshold": "self threshold",
    "ConfiguredInferModel.set_scheduler_priority": "self priority",
    "ConfiguredInferModel.get_async_queue_size": "self",
    "ConfiguredInferModel.shutdown": "self",
    "ConfiguredInferModel.Bindings.input": "self name=",
    "ConfiguredInferModel.Bindings.output": "self name=",
    "ConfiguredInferModel.Bindings.get": "self",
    "ConfiguredInferModel.Bindings.InferStream.set_buffer": "self buffer",
    "ConfiguredInferModel.Bindings.InferStream.get_buffer": "self tf_format=",
    "AsyncInferJob.wait": "self timeout_ms",
    "AsyncInferCompletionInfo.exception": "property",
}
"""By HailoRT's public sources, the same in 4.23.0 and 5.2.0: parameters in order; = has a default, * is by keyword alone."""
EXCEPTIONS = (
    "HailoRTException",
    "HailoRTTimeout",
    "HailoRTStreamAborted",
    "HailoRTStreamAbortedByUser",
    "HailoRTInvalidOperationException",
    "HailoRTInvalidArgumentException",
    "HailoRTNotFoundException",
    "HailoRTInvalidHEFException",
    "HailoRTHEFNotCompatibleWithDevice",
    "HailoRTFirmwareControlFailedException",
    "HailoRTInvalidFrameException",
    "HailoRTNetworkGroupNotActivatedException",
    "HailoRTUnsupportedOpcodeException",
    "HailoRTDriverOperationFailedException",
    "HailoCommunicationClosedException",
)


def told(python: str, environ: dict[str, str]) -> dict[str, Any] | str:
    """What a package says of itself; or why it cannot be asked."""
    command = [python, "-c", PROGRAM, *DOCUMENTED, *EXCEPTIONS]
    try:
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=60)
    except OSError as error:
        return str(error)
    return json.loads(done.stdout) if done.returncode == 0 else done.stderr.strip().splitlines()[-1]


@pytest.fixture
def stand_in(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "hailo.json").write_text("{}")
    answer = told(sys.executable, {**os.environ, "PYTHONPATH": str(STAND_IN), "FAKE_HAILO": str(tmp_path / "hailo.json")})
    assert isinstance(answer, dict), answer
    return answer


def written(parameters: Any) -> str:
    """As the table above has it."""
    if parameters == "property":
        return "property"
    return " ".join(
        ("*" if kind == "KEYWORD_ONLY" else "") + name + ("=" if default else "") for name, kind, default in parameters
    )


def test_the_stand_in_has_the_documented_signatures(stand_in: dict[str, Any]) -> None:
    assert {name: written(each) for name, each in stand_in["callables"].items()} == DOCUMENTED


def test_the_stand_in_has_the_documented_exceptions(stand_in: dict[str, Any]) -> None:
    wanted = {name: [name] if name == "HailoRTException" else [name, "HailoRTException"] for name in EXCEPTIONS}
    assert {name: [base for base in bases if base != "Exception"] for name, bases in stand_in["exceptions"].items()} == wanted


def test_the_installed_package_has_them_too(stand_in: dict[str, Any]) -> None:
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    installed = told("/usr/bin/python3", environ)
    if isinstance(installed, str):
        pytest.skip(f"no hailo_platform for /usr/bin/python3 here: {installed}")
    assert installed["callables"] == stand_in["callables"]
    assert installed["exceptions"] == stand_in["exceptions"]
