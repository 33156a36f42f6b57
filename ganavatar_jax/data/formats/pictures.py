"""Decodes image files into uint8 arrays, refusing what training could not use.

Only what a header says is trusted before the pixels are read: size and colour mode are checked
first, so a file that claims absurd dimensions is never decoded.
"""

import dataclasses
import io
import struct
import warnings

import numpy as np
from PIL import Image

from ganavatar_jax.core import errors
from ganavatar_jax.core.arrays import UInt8

EXTENSIONS = frozenset({"bmp", "jpeg", "jpg", "png", "tif", "tiff", "webp"})
# Endings of pictures that are not read, and what they are.
UNREAD = {
    **dict.fromkeys(("heic", "heif", "hif"), "HEIC pictures"),
    **dict.fromkeys(("avif", "avifs"), "AVIF pictures"),
    **dict.fromkeys(("cr2", "cr3", "nef", "arw", "dng", "orf", "raf", "rw2"), "raw pictures"),
    **dict.fromkeys(("jp2", "j2k", "jpx"), "JPEG 2000 pictures"),
    **dict.fromkeys(("exr", "hdr", "pfm"), "HDR pictures"),
    "gif": "GIF animations",
    "jxl": "JPEG XL pictures",
    "svg": "drawings",
    "psd": "Photoshop files",
    "tga": "Targa pictures",
    **dict.fromkeys(("ppm", "pgm", "pnm"), "PNM pictures"),
}
# Larger than any camera's frame; keeps a forged header from claiming gigabytes.
_LARGEST_SIDE_PX = 16384
_ORIENTATION, _LYING = 0x0112, (5, 6, 7, 8)  # EXIF's tag, and who swaps width and height.
_ANIMATED = ("GIF", "PNG", "WEBP")
_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"mif1", b"msf1")
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


def refuse_unread(name: str, *, where: str) -> None:
    """Says of a picture of a kind that is not read what it is; passes over everything else.

    Args:
      name: File name.
      where: File and frame, for messages.

    Raises:
      DataFormatError: its ending is one of `UNREAD`.
    """
    kind = UNREAD.get(name.rpartition(".")[2].lower())
    if kind is not None:
        raise errors.DataFormatError(
            f"{where}: {kind} are not read. Convert it to PNG or JPEG, and its name in the "
            "capture's files with it."
        )


def read_header(data: bytes, *, where: str, upright: bool = True) -> Header:
    """Reads the size and kind of an image without decoding it.

    Args:
      data: The file.
      where: File and frame, for messages.
      upright: Whether the size is that of the image as viewers show it, turned as its EXIF
        orientation says; else as it is stored.

    Returns:
      The header.

    Raises:
      DataFormatError: it is no image, of absurd size, or not 8-bit grey or RGB.
    """
    with _opened(data, where) as image:
        width, height = image.size
        if upright and _orientation(image) in _LYING:
            width, height = height, width
        return Header(width, height, _has_alpha(image))


def decode_color(
    data: bytes, *, where: str, upright: bool = True
) -> tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w"] | None]:
    """Decodes an image to RGB, and its transparency if it has any.

    Args:
      data: The file.
      where: File and frame, for messages.
      upright: Whether it is turned as its EXIF orientation says, as viewers do.

    Returns:
      image: Colours, unassociated where there is transparency.
      alpha: Coverage, or None.

    Raises:
      DataFormatError: it is damaged, or not an 8-bit grey or RGB image.
    """
    with _opened(data, where) as image:
        turn = _orientation(image) if upright else 1
        if _has_alpha(image):
            rgba = _turned(np.asarray(_converted(image, "RGBA", where)), turn)
            return np.ascontiguousarray(rgba[..., :3]), np.ascontiguousarray(rgba[..., 3])
        return _turned(np.asarray(_converted(image, "RGB", where)), turn), None


def decode_matte(data: bytes, *, where: str) -> UInt8[np.ndarray, "h w"]:
    """Decodes a matte; three equal channels, as WebP stores grey, become one without loss.

    Of a palette of colours the second entry in use is the head: such masks number their classes. Of
    a matte that is one colour and transparent, the transparency is the matte.

    Args:
      data: The file.
      where: File and frame, for messages.

    Returns:
      Coverage, 0..255.

    Raises:
      DataFormatError: it is damaged, not an 8-bit grey or RGB image, a map of more than two
        classes, or has colours and transparency.
    """
    with _opened(data, where) as image:
        turn = _orientation(image)
        if image.mode == "P" and "transparency" not in image.info:
            return _turned(_from_palette(image, where), turn)
        grey = np.asarray(_converted(image, "L", where))
        if not _has_alpha(image):
            return _turned(grey, turn)
        alpha = np.asarray(_converted(image, "RGBA", where))[..., 3]
        if alpha.min() != alpha.max() and (
            grey[alpha > 0].max(initial=0) != grey[alpha > 0].min(initial=255)
        ):
            raise errors.DataFormatError(
                f"{where}: a matte is grey, or one colour with transparency; this one has both. "
                "Save its transparency as a grey picture."
            )
        return _turned(grey if alpha.min() == alpha.max() else alpha, turn)


def _from_palette(image: Image.Image, where: str) -> np.ndarray:
    """Reads a mask with a palette: shades of grey by their brightness, classes by their number."""
    grey = np.asarray(_converted(image, "L", where))
    numbers = np.asarray(image)
    used = np.unique(numbers)
    colors = np.array(image.getpalette() or [], np.uint8).reshape(-1, 3)
    if used[-1] < len(colors) and (colors[used] == colors[used, :1]).all():
        return grey
    if len(used) > 2 or (len(used) == 2 and used[0] != 0):
        raise errors.DataFormatError(
            f"{where}: a mask with a palette may have class 0 and one more, the head; it has "
            f"classes {', '.join(map(str, used[:6]))}. Save a mask that is 255 where the head is."
        )
    return np.where(numbers > 0, 255, 0).astype(np.uint8)


def _opened(data: bytes, where: str) -> Image.Image:
    """Opens an image as far as its header; refuses what would not decode safely or rightly."""
    try:
        with warnings.catch_warnings():
            # Pillow's own warning about large images; the limit below is stricter and an error.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if data[4:8] == b"ftyp" and data[8:12] in _HEIC_BRANDS:
            refuse_unread("it.heic", where=where)
        raise errors.DataFormatError(
            f"{where}: cannot be read as an image ({_one_line(error)}). Export the frame again."
        ) from error
    if image.format in _ANIMATED and getattr(image, "is_animated", False):
        raise errors.DataFormatError(
            f"{where}: expected one picture; it is an animation ({image.format}). Export its "
            "frames."
        )
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


def _orientation(image: Image.Image) -> int:
    """EXIF's number of how an image is to be turned; 1 leaves it."""
    if image.format == "TIFF":
        return 1  # Pillow has turned it.
    try:
        # The base class's: that of PNG decodes all pixels first.
        return int(Image.Image.getexif(image).get(_ORIENTATION, 1))
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, struct.error):
        return 1  # Notes of the camera that cannot be read change no pixels.


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turns and mirrors stored pixels as viewers do; other numbers than 2..8 say nothing."""
    if orientation in _LYING:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _has_alpha(image: Image.Image) -> bool:
    return image.mode in ("RGBA", "LA") or "transparency" in image.info


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
