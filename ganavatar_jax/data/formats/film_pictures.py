"""Decoded frames become pictures as players show them: upright, square pixels, one size, sRGB."""

import dataclasses
import struct
from fractions import Fraction

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from ganavatar_jax.core import errors
from ganavatar_jax.core.arrays import UInt8
from ganavatar_jax.data import canonicalize
from ganavatar_jax.data.formats import film_colors, film_stream

# H.273's number of a colour matrix, and swscale's.
_MATRICES = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
}
_UNSAID = (2, 3)
_HD_WIDTH, _HD_HEIGHT = 1280, 577  # From which on players take unsaid colours for BT.709's.
_OTHER_MATRICES = {8: "YCgCo", 10: "BT.2020 with constant luminance", 14: "ICtCp"}
_LARGEST_STRETCH = 4  # Of a pixel; more is a mistake of the file.
_DIAGONAL = 0.1  # Share of a display matrix that is no quarter turn.


@dataclasses.dataclass(frozen=True)
class Look:
    """How the frames of a film are to be seen.

    Attributes:
      stored: Width and height of the first frame in the file, pixels.
      stretch: Width of a pixel over its height.
      matrix: Display matrix (a, b, c, d): a point (x, y) goes to (a x + c y, b x + d y).
    """

    stored: tuple[int, int]
    stretch: Fraction = Fraction(1)
    matrix: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 1.0)

    @property
    def lying(self) -> tuple[int, int]:
        """Width and height in square pixels before turning."""
        return _square(self.stored, self.stretch)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the pictures."""
        width, height = self.lying
        return (height, width) if _is_quarter(self.matrix) else (width, height)


def find_look(frame: av.VideoFrame, stretch: Fraction | None) -> Look:
    """Finds how a film is to be seen.

    Args:
      frame: Its first frame.
      stretch: Width of a pixel over its height, where the file says so.

    Returns:
      The look.
    """
    data = frame.side_data.get("DISPLAYMATRIX")
    matrix = (1.0, 0.0, 0.0, 1.0)
    if data is not None:
        a, b, _, c, d = (value / 65536 for value in struct.unpack("=5i", bytes(data)[:20]))
        if abs(a * d - b * c) > 1e-6:
            matrix = (a, b, c, d)
    usable = stretch and 1 / _LARGEST_STRETCH <= stretch <= _LARGEST_STRETCH
    return Look((frame.width, frame.height), stretch if stretch and usable else Fraction(1), matrix)


def describe(look: Look, frame: av.VideoFrame, stretch: Fraction | None) -> list[str]:
    """Says what of a film is unusual and changes its pictures.

    Args:
      look: How it is seen.
      frame: Its first frame.
      stretch: Width of a pixel over its height, as the file says.

    Returns:
      Parts of a sentence.
    """
    notes = []
    kind = film_colors.name_kind(int(frame.color_trc), int(frame.color_primaries))
    if kind:
        notes.append(f"its {kind} colours are brought to sRGB")
    if look.stretch != 1:
        notes.append(
            f"pixels of {look.stretch.numerator}:{look.stretch.denominator} are made square "
            f"({look.stored[0]}x{look.stored[1]} to {look.lying[0]}x{look.lying[1]})"
        )
    elif stretch and stretch != 1:
        notes.append(f"the shape of its pixels ({stretch}) is absurd and taken for square")
    a, b, c, d = map(abs, look.matrix)
    if min(max(a, d), max(b, c)) > _DIAGONAL * max(a, b, c, d):
        notes.append("it is turned by no quarter; the nearest one is taken")
    return notes


def is_transparent(shown: film_stream.Shown) -> bool:
    """Tells whether anything of a frame is transparent.

    Args:
      shown: The frame.

    Returns:
      Whether a pixel is not opaque.
    """
    alpha = _alpha(shown, (shown.frame.width, shown.frame.height))
    return alpha is not None and bool((alpha < 255).any())


def to_picture(
    shown: film_stream.Shown, look: Look, *, where: str
) -> tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w"] | None]:
    """Makes the picture of a frame.

    Args:
      shown: The frame.
      look: How the film is to be seen.
      where: File and frame, for messages.

    Returns:
      image: sRGB, on white where it is transparent.
      alpha: Coverage; None for films without.

    Raises:
      DataFormatError: its colours are of a kind that is not read.
    """
    width, height = _square((shown.frame.width, shown.frame.height), look.stretch)
    share = min(look.lying[0] / width, look.lying[1] / height)
    size = (width, height)
    if size != look.lying:
        size = (max(1, round(width * share)), max(1, round(height * share)))
    image = _colors(shown.frame, size, where)
    alpha = _alpha(shown, size)
    if alpha is not None:
        image = canonicalize.replace_background(image, alpha, source="straight", target="white")
        alpha = _upright(_framed(alpha, look.lying), look.matrix)
    return _upright(_framed(image, look.lying), look.matrix), alpha


def _square(stored: tuple[int, int], stretch: Fraction) -> tuple[int, int]:
    """Enlarges the shorter side of pixels, so that nothing is lost."""
    width, height = stored
    if stretch >= 1:
        return max(1, round(width * stretch)), height
    return width, max(1, round(height / stretch))


def _colors(frame: av.VideoFrame, size: tuple[int, int], where: str) -> UInt8[np.ndarray, "h w 3"]:
    transfer, primaries = int(frame.color_trc), int(frame.color_primaries)
    is_deep = film_colors.name_kind(transfer, primaries) is not None
    rgb = _reformat(frame, size, "rgb48le" if is_deep else "rgb24", where).to_ndarray()
    if is_deep:
        return film_colors.to_srgb(rgb, transfer=transfer, primaries=primaries)
    return rgb


def _alpha(shown: film_stream.Shown, size: tuple[int, int]) -> UInt8[np.ndarray, "h w"] | None:
    """Coverage from the second picture, or from the frame's own channel."""
    if shown.alpha is not None:
        layer = shown.alpha
        plane = layer.planes[0]
        full = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)  # type: ignore
        full = np.ascontiguousarray(full[: layer.height, : layer.width])
        if (layer.width, layer.height) == size:
            return full
        grey = av.VideoFrame.from_ndarray(full, format="gray")
        scaled = grey.reformat(*size, interpolation=Interpolation.BICUBIC)
        return scaled.to_ndarray()
    layout = shown.frame.format
    if layout.has_palette or any(part.is_alpha for part in layout.components):
        rgba = _reformat(shown.frame, size, "rgba", "").to_ndarray()
        return np.ascontiguousarray(rgba[..., 3])
    return None


def _reformat(
    frame: av.VideoFrame, size: tuple[int, int], layout: str, where: str
) -> av.VideoFrame:
    """Converts colours and scales; what a file leaves unsaid is taken as players take it."""
    matrix = int(frame.colorspace)
    if matrix in _OTHER_MATRICES:
        raise errors.DataFormatError(
            f"{where}: its colours are coded as {_OTHER_MATRICES[matrix]}, which is not read. "
            "Convert the film to BT.709."
        )
    hd = frame.width >= _HD_WIDTH or frame.height >= _HD_HEIGHT
    guess = Colorspace.ITU709 if hd and matrix in _UNSAID else None
    same = (frame.width, frame.height) == size
    return VideoReformatter().reformat(
        frame,
        *size,
        layout,
        src_colorspace=_MATRICES.get(matrix, guess),
        interpolation=None if same else Interpolation.BICUBIC,
        dst_color_range=ColorRange.JPEG,
    )


def _framed(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Puts a picture of another shape in the middle of black."""
    height, width = pixels.shape[:2]
    if (width, height) == size:
        return pixels
    framed = np.zeros((size[1], size[0], *pixels.shape[2:]), pixels.dtype)
    top, left = (size[1] - height) // 2, (size[0] - width) // 2
    framed[top : top + height, left : left + width] = pixels
    return framed


def _is_quarter(matrix: tuple[float, float, float, float]) -> bool:
    a, b, c, d = map(abs, matrix)
    return b + c > a + d


def _upright(pixels: np.ndarray, matrix: tuple[float, float, float, float]) -> np.ndarray:
    """Turns and mirrors by the nearest quarter of a display matrix."""
    a, b, c, d = matrix
    if _is_quarter(matrix):
        pixels, a, d = pixels.swapaxes(0, 1), c, b
    if a < 0:
        pixels = pixels[:, ::-1]
    if d < 0:
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)
