"""What models are for: input → tensors, outputs → findings. One file for each kind of head; `task_for` finds the right one.

The modules beside this one load numpy; this one does not, so that naming it costs nothing where no model runs.
"""

from __future__ import annotations

from appliance.core.inference import manifest as manifests
from appliance.core.inference.manifest import Manifest
from appliance.core.inference.model import Task
from appliance.errors import ModelError

HEADS = {
    "detection": ("yolov3", "yolov8", "hailo-nms", "heatmaps"),
    "classification": ("classes",),
    "pose": ("yolov8", "heatmaps", "points"),
    "segmentation": ("yolov8", "segments"),
    "audio": ("classes", "activity", "vector"),
    "embedding": ("vector",),
}
"""Heads that give what a task asks for."""


def task_for(manifest: Manifest, kind: str = "onnx") -> Task:
    """How the manifest's inputs are prepared and its outputs read.

    Args:
        manifest: Of the model.
        kind: Of the file that will run: "onnx", or "hef", whose inputs and outputs may be others.

    Raises:
        ModelError: The manifest's task, head and input do not go together.
    """
    head = manifest.hef_decode or manifest.decode if kind == "hef" else manifest.decode
    tag = str(head.__struct_config__.tag)
    if tag not in HEADS[manifest.task]:
        raise ModelError(
            f"The manifest of {manifest.name} has a head {tag!r} for the task {manifest.task!r}.",
            f"heads of that task: {', '.join(HEADS[manifest.task])}.",
        )
    return _of_sound(manifest, head) if manifest.sound is not None else _of_pictures(manifest, head, kind)


def _of_pictures(manifest: Manifest, head: manifests.Decode, kind: str) -> Task:  # noqa: PLR0911 one for each head
    from appliance.core.inference.tasks import classes, hailo, heatmaps, masks, points, yolov3, yolov8

    match head:
        case manifests.Yolov3():
            return yolov3.Yolov3Detection(manifest, kind, head)
        case manifests.Yolov8():
            return yolov8.Yolov8Heads(manifest, kind, head)
        case manifests.HailoNms():
            return hailo.HailoBoxes(manifest, kind, head)
        case manifests.Heatmaps():
            return heatmaps.HeatmapPoses(manifest, kind, head)
        case manifests.Points():
            return points.PointPose(manifest, kind, head)
        case manifests.Softmax():
            return classes.Classification(manifest, kind, head)
        case manifests.Semantic():
            return masks.SemanticMasks(manifest, kind, head)
        case manifests.Vector():
            return classes.Embedding(manifest, kind, head)
    raise ModelError(f"{manifest.name}: its head is not one of pictures.", "mend the manifest.")


def _of_sound(manifest: Manifest, head: manifests.Decode) -> Task:
    from appliance.core.inference.tasks import activity, audio

    match head:
        case manifests.Stateful():
            return activity.VoiceActivity(manifest, head)
        case manifests.Softmax():
            return audio.SoundClassification(manifest, head)
        case manifests.Vector():
            return audio.SoundEmbedding(manifest)
    raise ModelError(f"{manifest.name}: its head is not one of sound.", "mend the manifest.")
