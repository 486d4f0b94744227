"""What papers and the models' own programs do, written out one value at a time, to hold the appliance's arrays against."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

Row = tuple[float, ...]


def logistic(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def overlap(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two corners."""
    across, down = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0.0, across) * max(0.0, down)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union if union > 0 else 0.0


def without_doubles(rows: list[Row], most: float) -> list[Row]:
    """Rows of corners, score, label, …: greedy, best first, within a label."""
    kept: list[Row] = []
    for row in sorted(rows, key=lambda each: -each[4]):
        if all(row[5] != other[5] or overlap(row, other) <= most for other in kept):
            kept.append(row)
    return kept


def darknet_letterbox(rgb: np.ndarray, size: int) -> tuple[np.ndarray, int, int]:
    """Darknet's letterbox_image and resize_image (src/image.c), values 0…1; and the inner width and height."""
    picture = rgb.astype(np.float32) / 255
    tall, wide = picture.shape[:2]
    inner = (size, tall * size // wide) if size / wide < size / tall else (wide * size // tall, size)
    across = np.arange(inner[0]) * (wide - 1) / (inner[0] - 1)
    left = np.minimum(across.astype(int), wide - 2)
    share = (across - left)[None, :, None].astype(np.float32)
    part = (1 - share) * picture[:, left] + share * picture[:, left + 1]
    down = np.arange(inner[1]) * (tall - 1) / (inner[1] - 1)
    top = np.minimum(down.astype(int), tall - 2)
    share = (down - top)[:, None, None].astype(np.float32)
    resized = (1 - share) * part[top] + share * part[top + 1]
    box = np.full((size, size, 3), 0.5, np.float32)
    x, y = (size - inner[0]) // 2, (size - inner[1]) // 2
    box[y : y + inner[1], x : x + inner[0]] = resized
    return np.ascontiguousarray(box.transpose(2, 0, 1)[None]), *inner


def darknet_boxes(
    maps: Sequence[np.ndarray],
    anchors: Sequence[Any],
    size: int,
    inner: tuple[int, int],
    picture: tuple[int, int],
    least: float,
) -> list[Row]:
    """Darknet's get_yolo_detections and correct_yolo_boxes (src/yolo_layer.c): corners in the picture, score, label."""
    found: list[Row] = []
    wide, tall = picture
    for head, pairs in zip(maps, anchors, strict=True):
        rows, columns = head.shape[2:]
        cells = head[0].reshape(len(pairs), -1, rows, columns)
        for anchor, y, x in np.argwhere(cells[:, 4] > -8).tolist():
            cell = [float(value) for value in cells[anchor, :, y, x]]
            sure = logistic(cell[4])
            bx, by = (x + logistic(cell[0])) / columns, (y + logistic(cell[1])) / rows
            bw, bh = math.exp(cell[2]) * pairs[anchor][0] / size, math.exp(cell[3]) * pairs[anchor][1] / size
            bx = (bx - (size - inner[0]) / 2 / size) / (inner[0] / size) * wide
            by = (by - (size - inner[1]) / 2 / size) / (inner[1] / size) * tall
            bw, bh = bw * size / inner[0] * wide, bh * size / inner[1] * tall
            for label, value in enumerate(cell[5:]):
                if sure * logistic(value) > least:
                    found.append((bx - bw / 2, by - bh / 2, bx + bw / 2, by + bh / 2, sure * logistic(value), label))
    return found


def cut(rows: list[Row], wide: int, tall: int) -> list[Row]:
    """Corners within the picture."""
    return [
        (min(max(a, 0), wide), min(max(b, 0), tall), min(max(c, 0), wide), min(max(d, 0), tall), *rest)
        for a, b, c, d, *rest in rows
    ]


def padded(rgb: np.ndarray, size: tuple[int, int], grey: int) -> tuple[np.ndarray, float, int, int]:
    """The letterbox of Ultralytics (data/augment.py, LetterBox): the picture, its scale, left, top."""
    tall, wide = rgb.shape[:2]
    ratio = min(size[0] / wide, size[1] / tall)
    inner = round(wide * ratio), round(tall * ratio)
    across, down = (size[0] - inner[0]) / 2, (size[1] - inner[1]) / 2
    resized = cv2.resize(rgb, inner, interpolation=cv2.INTER_LINEAR) if (wide, tall) != inner else rgb
    top, bottom = round(down - 0.1), round(down + 0.1)
    left, right = round(across - 0.1), round(across + 0.1)
    bordered = cv2.copyMakeBorder(resized, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(grey,) * 3)
    return bordered, ratio, left, top


def yolov8_rows(table: np.ndarray, labels: int, least: float) -> list[Row]:
    """Places of (4 + labels + extra): corners, score, label, extra; one label a place, as Ultralytics predicts."""
    found: list[Row] = []
    for place in table.T.tolist():
        scores = place[4 : 4 + labels]
        best = max(range(labels), key=scores.__getitem__)
        if scores[best] >= least:
            x, y, w, h = place[:4]
            found.append((x - w / 2, y - h / 2, x + w / 2, y + h / 2, scores[best], best, *place[4 + labels :]))
    return found


def raw_to_table(maps: Sequence[np.ndarray], strides: Sequence[int], bins: int, labels: int, points: int) -> np.ndarray:
    """Raw maps N × (4 · bins + labels + 3 · points + …) × rows × columns as the joined form, one place at a time."""
    places = []
    for each, stride in zip(maps, strides, strict=True):
        rows, columns = each.shape[2:]
        for y in range(rows):
            for x in range(columns):
                values = each[0, :, y, x].tolist()
                sides = []
                for side in range(4):
                    powers = [math.exp(value) for value in values[side * bins : (side + 1) * bins]]
                    sides.append(sum(i * power for i, power in enumerate(powers)) / sum(powers))
                left, top, right, bottom = sides
                corners = x + 0.5 - left, y + 0.5 - top, x + 0.5 + right, y + 0.5 + bottom
                place = [
                    (corners[0] + corners[2]) / 2,
                    (corners[1] + corners[3]) / 2,
                    corners[2] - corners[0],
                    corners[3] - corners[1],
                ]
                place = [value * stride for value in place]
                place += [logistic(value) for value in values[4 * bins : 4 * bins + labels]]
                rest = values[4 * bins + labels :]
                for point in range(points):
                    px, py, sure = rest[3 * point : 3 * point + 3]
                    place += [(px * 2 + x) * stride, (py * 2 + y) * stride, logistic(sure)]
                places.append(place + rest[3 * points :])
    return np.array(places).T


def centerface_rows(outputs: Sequence[np.ndarray], size: tuple[int, int], least: float) -> list[Row]:
    """CenterFace's decode (height, width of the input in `size`): corners, score, 0, five x and y."""
    heat, scale, offset, landmarks = outputs
    found: list[Row] = []
    for row, column in np.argwhere(heat[0, 0] > least).tolist():
        tall, wide = (math.exp(float(scale[0, axis, row, column])) * 4 for axis in (0, 1))
        x = max(0.0, (column + float(offset[0, 1, row, column]) + 0.5) * 4 - wide / 2)
        y = max(0.0, (row + float(offset[0, 0, row, column]) + 0.5) * 4 - tall / 2)
        x, y = min(x, size[1]), min(y, size[0])
        points: list[float] = []
        for point in range(5):
            points.append(float(landmarks[0, 2 * point + 1, row, column]) * wide + x)
            points.append(float(landmarks[0, 2 * point, row, column]) * tall + y)
        score = float(heat[0, 0, row, column])
        found.append((x, y, min(x + wide, size[1]), min(y + tall, size[0]), score, 0, *points))
    return found


def bilinear(plane: np.ndarray, x: float, y: float) -> float:
    """One value between pixel centres, the edge going on outside."""
    tall, wide = plane.shape
    x, y = min(max(x - 0.5, 0), wide - 1), min(max(y - 0.5, 0), tall - 1)
    left, top = int(x), int(y)
    right, bottom = min(left + 1, wide - 1), min(top + 1, tall - 1)
    dx, dy = x - left, y - top
    upper = plane[top, left] * (1 - dx) + plane[top, right] * dx
    return float(upper * (1 - dy) + (plane[bottom, left] * (1 - dx) + plane[bottom, right] * dx) * dy)


def runs(mask: np.ndarray) -> list[int]:
    """COCO's uncompressed run lengths, pixel by pixel."""
    counts, now, length = [], False, 0
    for value in mask.T.reshape(-1).tolist():
        if value != now:
            counts.append(length)
            now, length = value, 0
        length += 1
    return [*counts, length]


def speech(values: Sequence[float], hop: float, seconds: float, threshold: float) -> list[tuple[float, float]]:
    """Silero's get_speech_timestamps without padding: at least 250 ms of speech, ended by 100 ms of silence."""
    triggered, begin, low, found = False, 0.0, 0.0, []
    for index, value in enumerate(values):
        if value >= threshold and low:
            low = 0.0
        if value >= threshold and not triggered:
            triggered, begin = True, index * hop
            continue
        if value < threshold - 0.15 and triggered:
            low = low or index * hop
            if index * hop - low < 0.1:
                continue
            if low - begin > 0.25:
                found.append((begin, low))
            triggered, low = False, 0.0
    if triggered and seconds - begin > 0.25:
        found.append((begin, seconds))
    return found


def mel_features(
    samples: np.ndarray, rate: int, window: int, fft: int, hop: int, mels: int, low: float, high: float
) -> np.ndarray:
    """Log-mel features by the definition: a sum for each line of the spectrum, a triangle for each band."""

    def mel(hertz: float) -> float:
        return 2595 * math.log10(1 + hertz / 700)

    edges = [mel(low) + (mel(high) - mel(low)) * i / (mels + 1) for i in range(mels + 2)]
    turns = np.exp(-2j * np.pi * np.outer(np.arange(fft // 2 + 1), np.arange(window)) / fft)
    hann = np.array([0.5 - 0.5 * math.cos(2 * math.pi * i / window) for i in range(window)])
    rows = []
    for start in range(0, len(samples) - window + 1, hop):
        lines = np.abs(turns @ (samples[start : start + window] * hann))
        row = []
        for band in range(mels):
            total = 0.0
            for line in range(1, fft // 2 + 1):
                at = mel(line * rate / fft)
                rising = (at - edges[band]) / (edges[band + 1] - edges[band])
                falling = (edges[band + 2] - at) / (edges[band + 2] - edges[band + 1])
                total += max(0.0, min(rising, falling)) * lines[line]
            row.append(math.log(total + 0.001))
        rows.append(row)
    return np.array(rows)
