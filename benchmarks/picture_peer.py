"""Runs in the peer's own Python (Ultralytics): images/s of its predict() with an ONNX file. Prints JSON, one line a round.

picture_peer.py MODEL PICTURE... ; each line on stdin is a round.
"""

from __future__ import annotations

import json
import os
import sys
import time

os.environ["YOLO_OFFLINE"] = "true"
os.environ["YOLO_VERBOSE"] = "false"


def main() -> None:
    """One round for each line that comes in."""
    from ultralytics import YOLO, settings  # type: ignore[import-not-found]

    settings.update({"sync": False})
    model = YOLO(sys.argv[1], task="detect")
    pictures = sys.argv[2:]
    options = {"conf": 0.25, "iou": 0.7, "imgsz": 640, "device": "cpu", "verbose": False}
    for picture in pictures[:2]:
        model.predict(picture, **options)
    for _ in sys.stdin:
        began, around, found = time.perf_counter(), 0.0, {}
        for picture in pictures:
            result = model.predict(picture, **options)[0]
            around += result.speed["preprocess"] + result.speed["postprocess"]
            rows = zip(result.boxes.cls.tolist(), result.boxes.conf.tolist(), result.boxes.xyxy.tolist(), strict=True)
            found[picture] = [[model.names[int(label)], score, *box] for label, score, box in rows]
        seconds = time.perf_counter() - began
        print(json.dumps({"rate": len(pictures) / seconds, "around_ms": around / len(pictures), "found": found}), flush=True)


if __name__ == "__main__":
    main()
