"""Results of all tasks as text: boxes, classes, poses, masks, stretches of time, embeddings, statistics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from appliance.core.inference.model import Keypoint, Mask, Pose, Segment
from appliance.core.model import InferenceResult
from appliance.screens import format as f
from appliance.screens.glyphs import Glyphs
from appliance.screens.widgets.lines import Line, Piece, cut

LONGEST = 18
"""Cells of a label at most."""
SURE = 0.3
"""Score from which a point of a pose is counted as seen."""
POINT, STRETCH, NUMBER = 38, 16, 7
"""Cells of a point of a pose, of a stretch of time, and of a number of an embedding."""
SHORT = 3
"""Classes, stretches or statistics that a row names."""


def found(result: InferenceResult) -> str:
    """In one line: "person x4, bus", "tabby cat 82 %", "speech 0.4–1.2 s"."""
    parts = [
        counted_labels(box.label for box in result.boxes),
        f"{_seen_points(result.poses)} points" if result.poses else "",
        ", ".join(f"{each.label} {f.percent(100 * each.score)}" for each in result.classes[:SHORT]),
        "masks: " + counted_labels(mask.label for mask in result.masks) if result.masks and not result.boxes else "",
        f"{len(result.masks)} masks" if result.masks and result.boxes else "",
        ", ".join(f"{each.label} {stretch(each)}" for each in result.segments[:SHORT]),
        f"embedding of {len(result.embedding)}" if result.embedding else "",
        ", ".join(f"{name} {value:.4g}" for name, value in list(result.statistics.items())[:SHORT]),
    ]
    return "; ".join(part for part in parts if part) or "nothing found"


def counted_labels(labels: Iterable[str]) -> str:
    """Labels with their counts: "person x4, bus"."""
    return ", ".join(label if count == 1 else f"{label} x{count}" for label, count in Counter(labels).items())


def stretch(segment: Segment) -> str:
    """From when to when."""
    return f"{segment.begin:.2f}–{segment.end:.2f} s"


def _seen_points(poses: Iterable[Pose]) -> int:
    return sum(point.score >= SURE for pose in poses for point in pose.keypoints)


def share(mask: Mask) -> float | None:
    """Part of the picture (0…1) that a mask covers; None where it has no size."""
    whole = mask.width * mask.height
    return sum(mask.counts[1::2]) / whole if whole else None


def bar(part: float, width: int, glyphs: Glyphs) -> tuple[Piece, Piece]:
    """A share (0…1) as a bar."""
    filled = max(0, min(width, round(part * width)))
    return (glyphs.fill * filled, "accent"), (glyphs.track * (width - filled), "track")


def fact_lines(result: InferenceResult, width: int) -> list[Line]:
    """Where a result comes from, what made it, and how long that took; of a long path, its end."""
    source = result.source if len(result.source) <= width else f"…{result.source[max(1, len(result.source) - width + 1) :]}"
    size = f"{result.width} x {result.height}, " if result.width else ""
    where = f"{result.device or result.backend}" + (f" ({result.backend})" if result.device else "")
    lines: list[Line] = [
        ((source, "title"),),
        ((f"{size}{result.task}, {result.model} {result.model_version} on {where}", "muted"),),
        ((_times(result), "muted"),),
    ]
    if result.reason:
        lines.append(
            ((f"{'fell back: ' if result.fell_back else ''}{result.reason}", "warn" if result.fell_back else "muted"),)
        )
    if result.masks_left_out:
        lines.append(((f"{result.masks_left_out} masks were too large to be kept", "warn"),))
    return lines


def _times(result: InferenceResult) -> str:
    if result.cached:
        return f"from the cache; {f.clock(result.time)}"
    waited = f"waited {f.ms(result.queued_ms)} ms, " if result.queued_ms is not None else ""
    asked = f"{result.priority} priority, " if result.priority else ""
    model, whole = f.ms(result.inference_time_ms), f.ms(result.total_time_ms)
    return f"{asked}{waited}model {model} ms, in all {whole} ms; {f.clock(result.time)}"


@dataclass(frozen=True)
class Room:
    """What there is room for.

    Attributes:
        width: Cells.
        label: Cells of a label: those of the longest one, to a bound.
        glyphs: Of the session.
    """

    width: int
    label: int
    glyphs: Glyphs

    @property
    def bar(self) -> int:
        """Cells beside score and label."""
        return max(0, min(40, self.width - self.label - 8))

    def row(self, score: str, label: str, rest: Iterable[Piece]) -> Line:
        """A score, a label, and what is told of it."""
        return ((f"{score:>5} ", "accent"), (f"{cut(label, self.label)} ", "text"), *rest)


def finding_lines(result: InferenceResult, width: int, glyphs: Glyphs) -> list[Line]:
    """Every finding, best first.

    Args:
        result: Of any task.
        width: Cells.
        glyphs: Of the session.
    """
    labels = [each.label for group in (result.boxes, result.classes, result.segments, result.masks) for each in group]
    room = Room(width, min(LONGEST, max(map(len, [*labels, *result.statistics]), default=LONGEST)), glyphs)
    lines = [
        *_box_lines(result, room),
        *_pose_lines(result.poses, width),
        *(room.row(f"{each.score:.2f}", each.label, bar(each.score, room.bar, glyphs)) for each in result.classes),
        *_segment_lines(result.segments, room),
        *_mask_lines(result.masks, room),
        *_number_lines(result, room),
    ]
    return lines or [(("nothing found", "muted"),)]


def _box_lines(result: InferenceResult, room: Room) -> list[Line]:
    """Score, label, and the corners in pixels."""
    corners = [tuple(f"{side:.0f}" for side in (box.x_min, box.y_min, box.x_max, box.y_max)) for box in result.boxes]
    most = max((len(side) for four in corners for side in four), default=0)
    return [
        room.row(f"{box.score:.2f}", box.label, [(" ".join(f"{side:>{most}}" for side in four), "muted")])
        for box, four in zip(result.boxes, corners, strict=True)
    ]


def _pose_lines(poses: tuple[Pose, ...], width: int) -> list[Line]:
    lines: list[Line] = []
    for index, pose in enumerate(poses):
        seen = _seen_points((pose,))
        lines.append(((f"pose {index + 1}: ", "title"), (f"{seen} of {len(pose.keypoints)} points are seen", "text")))
        across = max(1, width // POINT)
        for start in range(0, len(pose.keypoints), across):
            points = pose.keypoints[start : start + across]
            lines.append(tuple((_point(point), "text" if point.score >= SURE else "muted") for point in points))
    return lines


def _point(point: Keypoint) -> str:
    return f"{point.score:5.2f} {cut(point.name, 18)} {point.x:5.0f} {point.y:5.0f}  "


def _segment_lines(segments: tuple[Segment, ...], room: Room) -> list[Line]:
    """When in the recording, as text and as a place on a line of time."""
    end = max((each.end for each in segments), default=0.0)
    across = max(0, room.bar - STRETCH)
    lines: list[Line] = []
    for each in segments:
        begin, until = (round(moment / end * across) if end else 0 for moment in (each.begin, each.end))
        filled = max(1, until - begin) if across else 0
        first = min(begin, max(0, across - filled))
        track: list[Piece] = [
            (room.glyphs.track * first, "track"), (room.glyphs.fill * filled, "accent"),
            (room.glyphs.track * (across - first - filled), "track"),
        ]  # fmt: skip
        lines.append(room.row(f"{each.score:.2f}", each.label, [(f"{stretch(each):<{STRETCH}}", "muted"), *track]))
    return lines


def _mask_lines(masks: tuple[Mask, ...], room: Room) -> list[Line]:
    lines: list[Line] = []
    for mask in masks:
        part = share(mask)
        told = f.NONE if part is None else f.percent(100 * part)
        lines.append(room.row(told, mask.label, bar(part or 0.0, room.bar, room.glyphs)))
    return [(("masks, part of the picture:", "title"),), *lines] if lines else []


def _number_lines(result: InferenceResult, room: Room) -> list[Line]:
    lines: list[Line] = [
        ((f"{cut(name, room.label)} ", "text"), (f"{value:.6g}", "accent")) for name, value in result.statistics.items()
    ]
    if result.embedding:
        name = f"embedding of {len(result.embedding)}: "
        most = max(1, (room.width - len(name) - 1) // NUMBER)
        shown = " ".join(f"{value:+.3f}" for value in result.embedding[:most])
        lines.append(((name, "title"), (shown + ("…" if len(result.embedding) > most else ""), "muted")))
    return lines
