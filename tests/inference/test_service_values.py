"""A result keeps all that its model found on its way through the topic and the tables."""

from __future__ import annotations

import msgspec

from appliance.core.events import InferenceCompleted, envelope, from_envelope
from appliance.core.findings import Box, Class, Keypoint, Mask, Pose, Segment
from appliance.core.inference.status import InferenceStatus
from appliance.core.model import InferenceResult

PLAIN = InferenceResult(
    "0190a8e4-0000-7000-8000-000000000001", 1_800_000_000.0, "bus.jpg", "m", "1", "detection", "cpu", 64, 48,
    (Box("bus", 0.9, 1, 2, 3, 4),), 5.0, 6.0,
)  # fmt: skip


def through_the_topic(result: InferenceResult) -> object:
    document = msgspec.json.decode(msgspec.json.encode(envelope(InferenceCompleted.of(result), "pi")))
    event = from_envelope(document)
    assert isinstance(event, InferenceCompleted)
    return event.to_result()


def test_all_findings_and_facts_come_back_as_they_were() -> None:
    full = msgspec.structs.replace(
        PLAIN, classes=(Class("cat", 0.75),), poses=(Pose((Keypoint("nose", 1.5, 2.5, 0.5),)),),
        masks=(Mask("person", 4, 2, (0, 3, 5)),), segments=(Segment("speech", 0.5, 0.0, 1.5),), embedding=(0.5, -0.5),
        statistics={"mean": 1.5}, device="ONNX Runtime", reason="no HEF of this model", fell_back=True, priority="low",
        queued_ms=0.0, masks_left_out=2, cached=True,
    )  # fmt: skip
    for result in (PLAIN, full):
        assert through_the_topic(result) == result


def test_a_row_of_an_older_version_is_still_read() -> None:
    body = InferenceCompleted.of(PLAIN).data()
    body["result"] = {"source": "bus.jpg", "width": 64, "height": 48, "boxes": [msgspec.to_builtins(PLAIN.boxes[0])]}
    told = msgspec.convert({**body, "time": PLAIN.time, "id": PLAIN.result_id}, InferenceCompleted).to_result()
    assert told == PLAIN


def test_the_state_is_json() -> None:
    empty = InferenceStatus(model="", backend="cpu", total=0, errors=0, p50_ms=None, p95_ms=None)
    assert msgspec.json.decode(msgspec.json.encode(empty), type=InferenceStatus) == empty
