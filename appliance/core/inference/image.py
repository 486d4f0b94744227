"""Bytes in, a picture out; what is no picture, or too large, is refused before memory is spent on it."""

from __future__ import annotations

import io
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.errors import ImageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL.Image import Image

log = logging.getLogger(__name__)

ORIENTATION = 0x0112
LYING = frozenset({5, 6, 7, 8})
"""Orientations (Exif 2.32, 4.6.5) that are turned by a quarter."""
BAND = 512
"""Rows that are converted at a time."""
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")


@dataclass(frozen=True)
class DecodedPicture:
    """A picture, upright (implements ports.Picture).

    Attributes:
        rgb: Height × width × 3, uint8; reduced where fewer pixels were enough.
        source: Its name.
        width: Of the whole picture, pixels.
        height: Of the whole picture, pixels.
    """

    rgb: npt.NDArray[np.uint8]
    source: str
    width: int
    height: int


def read_file(path: Path, max_bytes: int) -> bytes:
    """The file's bytes. Raises ImageError."""
    try:
        if not path.is_file():
            what = "is a directory" if path.is_dir() else "is not there" if not path.exists() else "is not a regular file"
            raise ImageError(f"{path} {what}.", "give the path of a picture file.")
        size = path.stat().st_size
        if size > max_bytes:
            raise ImageError(
                f"{path} has {size / 2**20:.0f} MiB; the limit is {max_bytes / 2**20:.0f} MiB.",
                "raise inference.max_file_mib, or make it smaller.",
            )
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror}.", "make it readable for this user.") from error


def decode(data: bytes, source: str, max_pixels: int, enough: int | None = None) -> DecodedPicture:
    """Decode a picture, its first frame where it has several.

    Args:
        data: The file's bytes.
        source: Its name, for messages.
        max_pixels: Refuse more than this; looked up in the header before decoding.
        enough: Pixels along the longer side that are enough: a larger picture comes reduced by a whole factor, to at
            least as many. All pixels where None.

    Raises:
        ImageError: Not a picture, of an unknown format, truncated, or too large.
    """
    from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

    if not data:
        raise ImageError(f"{source} is empty.", "give a picture file.")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            check_size(image, source, max_pixels)
            whole = image.size
            if enough is None and (fast := _jpeg(image, data)) is not None:
                return DecodedPicture(fast, source, fast.shape[1], fast.shape[0])
            if enough is not None:
                image.draft(None, (enough, enough))  # a JPEG is decoded at a half, a quarter or an eighth
            image.load()
            if image.getexif().get(ExifTags.Base.Orientation, 1) in LYING:
                whole = whole[::-1]
            ImageOps.exif_transpose(image, in_place=True)
            rgb = to_array(image, 1 if enough is None else max(1, max(image.size) // enough))
            return DecodedPicture(rgb, source, *whole)
    except Image.DecompressionBombError as error:
        raise ImageError(
            f"{source} has far more pixels than the limit of {max_pixels / 1e6:g} megapixels.", "make it smaller."
        ) from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{source} is not a picture of a known format.", f"the formats are {', '.join(FORMATS)}.") from error
    except (OSError, SyntaxError, ValueError, EOFError, IndexError) as error:
        raise ImageError(f"{source} is truncated or damaged: {error}.", "take the picture again, or copy it again.") from error


def _jpeg(image: Image, data: bytes) -> npt.NDArray[np.uint8] | None:
    """A JPEG's pixels without a detour through Pillow's four bytes a pixel; None where Pillow has to look at it."""
    if image.format != "JPEG" or image.mode not in {"RGB", "L"}:
        return None
    import simplejpeg

    try:
        rgb = simplejpeg.decode_jpeg(data, "RGB")
    except ValueError as error:
        log.debug("not decoded the fast way: %s", error)  # Pillow tells what is wrong with it, or can read it
        return None
    return upright(rgb, image.getexif().get(ORIENTATION, 1)) if "exif" in image.info else rgb


def upright(rgb: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    """The picture turned as its orientation (Exif 2.32, 4.6.5) says; an unknown one changes nothing."""
    import numpy as np

    if orientation in LYING:
        rgb = rgb.transpose(1, 0, 2)
    turned = {2: rgb[:, ::-1], 3: rgb[::-1, ::-1], 4: rgb[::-1], 6: rgb[:, ::-1], 7: rgb[::-1, ::-1], 8: rgb[::-1]}
    return np.ascontiguousarray(turned.get(orientation, rgb))


def area(data: bytes) -> int:
    """Pixels of a picture by its header; 0 of what is none."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return image.size[0] * image.size[1]
    except Exception as error:  # noqa: BLE001 whatever is wrong with it, `decode` says it
        log.debug("no picture by its header: %s", error)
        return 0


def check_size(image: Image, source: str, max_pixels: int) -> None:
    """Refuse by the header alone. Raises ImageError."""
    width, height = image.size
    if width * height > max_pixels:
        raise ImageError(
            f"{source} has {width} x {height} pixels; the limit is {max_pixels / 1e6:g} megapixels.",
            "make it smaller, or raise inference.max_megapixels.",
        )
    if width < 1 or height < 1:
        raise ImageError(f"{source} has no pixels ({width} x {height}).", "give a picture.")


def to_array(image: Image, factor: int) -> npt.NDArray[np.uint8]:
    """Any mode as RGB, both sides divided by `factor`; band by band, so that no second whole copy lies in memory."""
    import numpy as np

    width, height = image.size
    step = max(factor, BAND // factor * factor)
    rgb = np.empty((-(-height // factor), -(-width // factor), 3), np.uint8)
    for top in range(0, height, step):
        band = to_rgb(image.crop((0, top, width, min(top + step, height))))
        piece = np.asarray(band.reduce(factor) if factor > 1 else band)
        rgb[top // factor : top // factor + piece.shape[0]] = piece
    return rgb


def to_rgb(image: Image) -> Image:
    """Any mode as RGB: 16-bit scaled down, transparency on black, CMYK and palettes converted."""
    from PIL import Image as Images

    if image.mode.startswith("I"):
        import numpy as np

        deep = np.asarray(image)
        return Images.fromarray((np.clip(deep, 0, 65535) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in {"RGBA", "LA", "PA"} or "transparency" in image.info:
        rgba = image.convert("RGBA")
        ground = Images.new("RGBA", rgba.size, (0, 0, 0, 255))
        return Images.alpha_composite(ground, rgba).convert("RGB")
    return image.convert("RGB")
