"""Bytes in, a picture out; what is no picture, or too large, is refused before memory is spent on it."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.errors import ImageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL.Image import Image

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")


@dataclass(frozen=True)
class DecodedPicture:
    """A picture: height × width × 3, uint8, RGB, upright (implements ports.Picture)."""

    rgb: npt.NDArray[np.uint8]
    source: str


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


def decode(data: bytes, source: str, max_pixels: int) -> DecodedPicture:
    """Decode a picture, its first frame where it has several.

    Args:
        data: The file's bytes.
        source: Its name, for messages.
        max_pixels: Refuse more than this; looked up in the header before decoding.

    Raises:
        ImageError: Not a picture, of an unknown format, truncated, or too large.
    """
    import numpy as np
    from PIL import Image, ImageOps, UnidentifiedImageError

    if not data:
        raise ImageError(f"{source} is empty.", "give a picture file.")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            check_size(image, source, max_pixels)
            upright = ImageOps.exif_transpose(image)
            return DecodedPicture(np.asarray(to_rgb(upright)), source)
    except Image.DecompressionBombError as error:
        raise ImageError(
            f"{source} has far more pixels than the limit of {max_pixels / 1e6:g} megapixels.", "make it smaller."
        ) from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{source} is not a picture of a known format.", f"the formats are {', '.join(FORMATS)}.") from error
    except (OSError, SyntaxError, ValueError, EOFError, IndexError) as error:
        raise ImageError(f"{source} is truncated or damaged: {error}.", "take the picture again, or copy it again.") from error


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


def to_rgb(image: Image) -> Image:
    """Any mode as RGB: 16-bit scaled down, transparency on black, CMYK and palettes converted."""
    if image.mode.startswith("I"):
        import numpy as np
        from PIL import Image as Images

        wide = np.asarray(image).astype(np.int64)
        return Images.fromarray((np.clip(wide, 0, 65535) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in {"RGBA", "LA", "PA"} or "transparency" in image.info:
        from PIL import Image as Images

        rgba = image.convert("RGBA")
        ground = Images.new("RGBA", rgba.size, (0, 0, 0, 255))
        return Images.alpha_composite(ground, rgba).convert("RGB")
    return image.convert("RGB")
