"""Decodes image files into uint8 arrays, refusing what training could not use.

Only what a header says is trusted before the pixels are read: size and colour mode are checked
first, so a file that claims absurd dimensions is never decoded.
"""

import dataclasses
import io
import warnings

import numpy as np
from PIL import Image

from ganavatar_jax.core import errors
from ganavatar_jax.core.arrays import UInt8

EXTENSIONS = frozenset({"bmp", "jpeg", "jpg", "png", "tif", "tiff", "webp"})
# Larger than any camera's frame; keeps a forged header from claiming gigabytes.
_LARGEST_SIDE_PX = 16384
_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA"})


@dataclasses.dataclass(frozen=True)
class Header:
    """What an image file says about itself.

    Attributes:
      width: Pixels.
      height: Pixels.
      has_alpha: Whether it carries transparency.
    """

    width: int
    height: int
    has_alpha: bool


def is_picture(name: str) -> bool:
    """Tells by its extension whether a file is an image.

    Args:
      name: File name.

    Returns:
      Whether the extension is one of `EXTENSIONS`, in any case.
    """
    return name.rpartition(".")[2].lower() in EXTENSIONS


def read_header(data: bytes, *, where: str) -> Header:
    """Reads the size and kind of an image without decoding it.

    Args:
      data: The file.
      where: File and frame, for messages.

    Returns:
      The header.

    Raises:
      DataFormatError: it is no image, of absurd size, or not 8-bit grey or RGB.
    """
    with _opened(data, where) as image:
        return Header(image.width, image.height, _has_alpha(image))


def decode_color(
    data: bytes, *, where: str
) -> tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w"] | None]:
    """Decodes an image to RGB, and its transparency if it has any.

    Args:
      data: The file.
      where: File and frame, for messages.

    Returns:
      image: Colours, unassociated where there is transparency.
      alpha: Coverage, or None.

    Raises:
      DataFormatError: it is damaged, or not an 8-bit grey or RGB image.
    """
    with _opened(data, where) as image:
        if _has_alpha(image):
            rgba = np.asarray(_converted(image, "RGBA", where))
            return np.ascontiguousarray(rgba[..., :3]), np.ascontiguousarray(rgba[..., 3])
        return np.asarray(_converted(image, "RGB", where)), None


def decode_matte(data: bytes, *, where: str) -> UInt8[np.ndarray, "h w"]:
    """Decodes a matte; three equal channels, as WebP stores grey, become one without loss.

    Args:
      data: The file.
      where: File and frame, for messages.

    Returns:
      Coverage, 0..255.

    Raises:
      DataFormatError: it is damaged, or not an 8-bit grey or RGB image.
    """
    with _opened(data, where) as image:
        return np.asarray(_converted(image, "L", where))


def _opened(data: bytes, where: str) -> Image.Image:
    """Opens an image as far as its header; refuses what would not decode safely or rightly."""
    try:
        with warnings.catch_warnings():
            # Pillow's own warning about large images; the limit below is stricter and an error.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise errors.DataFormatError(
            f"{where}: cannot be read as an image ({_one_line(error)}). Export the frame again."
        ) from error
    if max(image.size) > _LARGEST_SIDE_PX:
        raise errors.DataFormatError(
            f"{where}: images may measure up to {_LARGEST_SIDE_PX} pixels; the file claims "
            f"{image.width}x{image.height}. Crop it or export it again."
        )
    if image.mode not in _MODES:
        raise errors.DataFormatError(
            f"{where}: expected an 8-bit RGB image; got Pillow mode {image.mode}. Convert it to "
            "8-bit RGB."
        )
    return image


def _converted(image: Image.Image, mode: str, where: str) -> Image.Image:
    try:
        return image.convert(mode)
    except (OSError, SyntaxError, ValueError, IndexError, Image.DecompressionBombError) as error:
        raise errors.DataFormatError(
            f"{where}: the image is damaged ({_one_line(error)}). Export the frame again."
        ) from error


def _has_alpha(image: Image.Image) -> bool:
    return image.mode in ("RGBA", "LA") or "transparency" in image.info


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
