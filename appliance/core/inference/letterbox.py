"""Fits a picture into a model's input: scaled, placed, normalised; and says how it lies there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from appliance.core.inference.manifest import Input

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

LONGEST = 32_766
"""Pixels of a side that OpenCV can warp."""
GREY = 127
"""Of the margins where nothing else is said: Darknet's."""


@dataclass(frozen=True)
class Fit:
    """How a picture lies in the input: input = picture · scale + offset, in pixels."""

    scale: float
    left: float
    top: float
    scale_y: float = 0.0
    """Where it differs from `scale`."""

    @property
    def down(self) -> float:
        """The scale from top to bottom."""
        return self.scale_y or self.scale


def letterbox(
    rgb: npt.NDArray[np.uint8], width: int, height: int, divisor: float, grey: int = GREY
) -> tuple[npt.NDArray[np.float32], Fit]:
    """Scale, centre on grey, divide: `fit_picture` for the commonest input.

    Args:
        rgb: height × width × 3, uint8.
        width: Of the input, pixels.
        height: Of the input, pixels.
        divisor: Values are divided by it.
        grey: Value (0…255) of the margins.

    Returns:
        1 × 3 × height × width, float32, C-contiguous; and how the picture lies in it.
    """
    return fit_picture(rgb, Input("images", width, height, scale=divisor, grey=grey))


def fit_picture(rgb: npt.NDArray[np.uint8], wanted: Input) -> tuple[npt.NDArray[Any], Fit]:
    """A picture as the tensor that the manifest describes.

    Args:
        rgb: height × width × 3, uint8.
        wanted: What the model takes.

    Returns:
        One picture with a leading axis of 1, C-contiguous; and how the picture lies in it.
    """
    if wanted.fit == "stretch":
        inner = _resize(rgb, wanted.width, wanted.height, wanted.resample)
        fit = Fit(wanted.width / rgb.shape[1], 0.0, 0.0, wanted.height / rgb.shape[0])
    elif wanted.fit == "crop":
        inner, fit = _crop(rgb, wanted)
    else:
        inner, fit = _inside(rgb, wanted)
    return _tensor(inner, max(0, int(fit.left)), max(0, int(fit.top)), wanted), fit


def _inside(rgb: npt.NDArray[np.uint8], wanted: Input) -> tuple[npt.NDArray[np.uint8], Fit]:
    tall, wide = rgb.shape[:2]
    scale = min(wanted.width / wide, wanted.height / tall)
    if wanted.resample == "corners":
        return _as_darknet(rgb, wanted)
    across, down = max(1, round(wide * scale)), max(1, round(tall * scale))
    left, top = (wanted.width - across) // 2, (wanted.height - down) // 2
    return _resize(rgb, across, down, wanted.resample), Fit(scale, left, top)


def _as_darknet(rgb: npt.NDArray[np.uint8], wanted: Input) -> tuple[npt.NDArray[np.uint8], Fit]:
    """Darknet's letterbox: sides rounded down, margins placed at whole pixels and thought of at halves."""
    tall, wide = rgb.shape[:2]
    if wanted.width * tall < wanted.height * wide:
        across, down = wanted.width, max(1, tall * wanted.width // wide)
    else:
        across, down = max(1, wide * wanted.height // tall), wanted.height
    fit = Fit(across / wide, (wanted.width - across) / 2, (wanted.height - down) / 2, down / tall)
    return _resize(rgb, across, down, "corners"), fit


def _crop(rgb: npt.NDArray[np.uint8], wanted: Input) -> tuple[npt.NDArray[np.uint8], Fit]:
    """The middle, of the input's proportions: `crop_share` of the largest such rectangle."""
    tall, wide = rgb.shape[:2]
    scale = max(wanted.width / wide, wanted.height / tall) / wanted.crop_share
    across, down = wanted.width / scale, wanted.height / scale
    left, top = max(0.0, (wide - across) / 2), max(0.0, (tall - down) / 2)
    fit = Fit(scale, -left * scale, -top * scale)
    corners = round(left), round(top), round(left + across), round(top + down)
    if wanted.resample == "bilinear":
        part = rgb[corners[1] : max(corners[3], corners[1] + 1), corners[0] : max(corners[2], corners[0] + 1)]
        return _resize(part, wanted.width, wanted.height, wanted.resample), fit
    return _resize(rgb, wanted.width, wanted.height, wanted.resample, (left, top, left + across, top + down)), fit


def _resize(
    rgb: npt.NDArray[np.uint8], width: int, height: int, how: str, box: tuple[float, float, float, float] | None = None
) -> npt.NDArray[np.uint8]:
    import numpy as np

    if (height, width) == rgb.shape[:2] and box is None:
        return rgb
    if how == "bilinear":
        import cv2

        return np.asarray(cv2.resize(rgb, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
    if how == "corners":
        return _between_corners(rgb, width, height)
    from PIL import Image

    resampling = Image.Resampling.BICUBIC if how == "bicubic" else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(rgb).resize((width, height), resampling, box=box))


def _between_corners(rgb: npt.NDArray[np.uint8], width: int, height: int) -> npt.NDArray[np.uint8]:
    import cv2
    import numpy as np

    if max(rgb.shape[:2]) > LONGEST:
        first = int(np.argmax(rgb.shape[:2]))  # the longer side first: it leaves little for the other one
        sides = (height, width)
        lines = _lines(_lines(rgb, sides[first], first), sides[1 - first], 1 - first)
        return np.rint(lines).astype(np.uint8)
    across, down = (rgb.shape[1] - 1) / max(1, width - 1), (rgb.shape[0] - 1) / max(1, height - 1)
    matrix = np.array([[across, 0, 0], [0, down, 0]])
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(rgb, matrix, (width, height), flags=how, borderMode=cv2.BORDER_REPLICATE), np.uint8)


def _lines(rgb: npt.NDArray[Any], count: int, axis: int) -> npt.NDArray[np.float32]:
    """So many rows (axis 0) or columns (1) from the first to the last, between their neighbours; see `_between_corners`."""
    import numpy as np

    places = np.arange(count) * ((rgb.shape[axis] - 1) / max(1, count - 1))
    low = np.minimum(places.astype(np.intp), rgb.shape[axis] - 1)
    high = np.minimum(low + 1, rgb.shape[axis] - 1)
    share = (places - low).astype(np.float32).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
    result: npt.NDArray[np.float32] = np.take(rgb, low, axis) * (1 - share) + np.take(rgb, high, axis) * share
    return result


def _tensor(inner: npt.NDArray[np.uint8], left: int, top: int, wanted: Input) -> npt.NDArray[Any]:
    """Margins and picture, each value (value / scale - mean) / std by channel; uint8 stays as it is."""
    import numpy as np

    tall, wide = inner.shape[:2]
    planes = wanted.layout == "NCHW"
    shape = (1, 3, wanted.height, wanted.width) if planes else (1, wanted.height, wanted.width, 3)
    full = (tall, wide) == (wanted.height, wanted.width)
    tensor = np.empty(shape, wanted.dtype)
    for channel in range(3):
        source = inner[:, :, channel if wanted.colours == "RGB" else 2 - channel]
        plane = tensor[0, channel] if planes else tensor[0, :, :, channel]
        place = plane[top : top + tall, left : left + wide]
        factor = np.float32(1 / (wanted.scale * wanted.std[channel]))
        shift = np.float32(-wanted.mean[channel] / wanted.std[channel])
        if wanted.dtype == "uint8":
            place[:] = source
            grey: Any = wanted.grey
        else:
            np.multiply(source, factor, out=place, casting="same_kind", dtype=np.float32)
            if shift:
                place += shift
            grey = np.float32(wanted.grey) * factor + shift
        if not full:
            _margins(plane, left, top, wide, tall, grey)
    return tensor


def _margins(plane: npt.NDArray[Any], left: int, top: int, wide: int, tall: int, grey: Any) -> None:
    plane[:top] = grey
    plane[top + tall :] = grey
    plane[top : top + tall, :left] = grey
    plane[top : top + tall, left + wide :] = grey
