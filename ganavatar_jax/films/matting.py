"""Mattes of people: MediaPipe's selfie segmenter by LiteRT, refined by PyMatting.

The segmenter gives a soft mask of 256 px. Read twice (the image and its mirror image), sharpened,
it is the matte of method "fast"; "closed_form" lets PyMatting decide the uncertain border from the
image's colours. The equations are solved at 256 px at most; their solution is a local linear
function of colour, which larger images then follow. Colours of half-covered pixels are freed from
the background by PyMatting, too.

Source: MediaPipe selfie segmenter (behaviour of the model file); Levin et al. 2008 (closed form);
He and Sun 2015 (fast guided filter); Germer et al. 2020 (foreground).
"""

import dataclasses
import types
from typing import Literal

import numpy as np
from ai_edge_litert import interpreter
from PIL import Image, ImageFilter
from scipy import ndimage

from ganavatar_jax.core import errors
from ganavatar_jax.core.arrays import Float, UInt8
from ganavatar_jax.faces import model_files

Method = Literal["closed_form", "fast"]

_INPUT_PX = 256
_LOW, _HIGH = 0.3, 0.8  # The mask's values that become 0 and 1.
_BORDER = 0.02  # Width of the uncertain band on each side, in image sides.
_SOLVED_PX = 256  # Solving takes four times as long at twice the side; mattes hardly differ (E006).
_FLATNESS = 1e-5  # Variance of colour below which the matte is taken as constant, not as linear.


@dataclasses.dataclass(frozen=True)
class Matte:
    """Coverage and the head's own colours.

    Attributes:
      alpha: 0..255.
      foreground: Colours without the background's share.
    """

    alpha: UInt8[np.ndarray, "h w"]
    foreground: UInt8[np.ndarray, "h w 3"]


class SelfieSegmenter:
    """MediaPipe's selfie segmenter, read on an image and on its mirror image.

    Not safe to share by threads.
    """

    def __init__(self, *, model_path: str | None = None, allow_download: bool = True) -> None:
        """Finds the model file, checks it and loads it.

        Args:
          model_path: selfie_segmenter.tflite; None looks it up.
          allow_download: Whether a missing model file may be fetched.

        Raises:
          EstimatorError: the model file is missing or not the expected one.
        """
        path = model_files.find(
            model_files.SELFIE_SEGMENTER, path=model_path, allow_download=allow_download
        )
        self._net = interpreter.Interpreter(model_content=path.read_bytes(), num_threads=1)
        self._net.allocate_tensors()
        self._input = self._net.get_input_details()[0]["index"]
        self._output = self._net.get_output_details()[0]["index"]

    def coverage(self, image_u8: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w"]:
        """Estimates where the person is.

        Args:
          image_u8: Square RGB image of a head, 0..255.

        Returns:
          Roughly how much of each pixel the person covers, 0..1.
        """
        mask = 0.5 * (self._mask(image_u8) + self._mask(image_u8[:, ::-1])[:, ::-1])
        side = image_u8.shape[1], image_u8.shape[0]
        picture = Image.fromarray(mask.astype(np.float32))
        mask = np.asarray(picture.resize(side, Image.Resampling.BICUBIC), np.float64)
        level = np.clip((mask - _LOW) / (_HIGH - _LOW), 0.0, 1.0)
        return level * level * (3.0 - 2.0 * level)

    def _mask(self, image_u8: np.ndarray) -> Float[np.ndarray, "256 256"]:
        picture = Image.fromarray(np.ascontiguousarray(image_u8))
        small = picture.resize((_INPUT_PX, _INPUT_PX), Image.Resampling.BILINEAR)
        self._net.set_tensor(self._input, np.asarray(small, np.float32)[None] / 255.0)
        self._net.invoke()
        return self._net.get_tensor(self._output)[0, ..., 0].astype(np.float64)


class SelfieMatter:
    """Makes mattes of square images. Not safe to share by threads.

    Attributes:
      remembers: Whether a matte depends on the images before it.
    """

    remembers = False

    def __init__(
        self, *, method: Method, model_path: str | None = None, allow_download: bool = True
    ) -> None:
        """Finds the model file, checks it and loads it.

        Args:
          method: "closed_form" (0.13 s of CPU at 512 px) or "fast".
          model_path: selfie_segmenter.tflite; None looks it up.
          allow_download: Whether a missing model file may be fetched.

        Raises:
          EstimatorError: the model file is missing or not the expected one.
          MissingDependencyError: PyMatting is not installed.
        """
        self._method = method
        self._pymatting = import_pymatting()
        self._segmenter = SelfieSegmenter(model_path=model_path, allow_download=allow_download)

    def matte(self, image_u8: UInt8[np.ndarray, "h w 3"]) -> Matte:
        """Separates the person from the background.

        Args:
          image_u8: Square RGB image of a head, 0..255.

        Returns:
          The matte, as large as the image.
        """
        alpha = self._segmenter.coverage(image_u8)
        if self._method == "closed_form":
            alpha = self._refine(image_u8, alpha)
        foreground = free_colors(image_u8, alpha)
        return Matte(to_u8(alpha), to_u8(foreground))

    def forget(self) -> None:
        """Begins a new shot, which makes no difference here."""

    def _refine(
        self, image_u8: UInt8[np.ndarray, "h w 3"], alpha: Float[np.ndarray, "h w"]
    ) -> Float[np.ndarray, "h w"]:
        """Solves the uncertain band at a small size and carries it back along its colours."""
        trimap = make_trimap(alpha)
        small = _shrink(image_u8) / 255.0
        small_trimap = make_trimap(_shrink(alpha.astype(np.float32)).astype(np.float64))
        if not ((small_trimap == 0).any() and (small_trimap == 1).any()):
            return alpha  # Nothing is certain: an image without a person, or without background.
        try:
            solved = np.clip(self._pymatting.estimate_alpha_cf(small, small_trimap), 0.0, 1.0)
        except ValueError:
            # The solver gives up on flat images; the sharpened mask is an answer, too.
            return alpha
        if small.shape[:2] == alpha.shape:
            return solved
        enlarged = follow_colors(solved, small, image_u8 / 255.0)
        return np.where(trimap == 0.5, enlarged, trimap)


def follow_colors(
    alpha: Float[np.ndarray, "s t"],
    small: Float[np.ndarray, "s t 3"],
    color: Float[np.ndarray, "h w 3"],
) -> Float[np.ndarray, "h w"]:
    """Enlarges a matte so that its edges are those of a larger image.

    Args:
      alpha: Matte of the small image, 0..1.
      small: The image, shrunk, 0..1.
      color: The image, 0..1.

    Returns:
      The matte of the image, 0..1.

    Source: He and Sun 2015: the matte is a linear function of colour in each 3x3 window, and the
    function's coefficients, not the matte, are enlarged.
    """
    mean_color, mean_alpha = _window_mean(small), _window_mean(alpha)
    products = _window_mean(small[..., :, None] * small[..., None, :])
    covariance = products - mean_color[..., :, None] * mean_color[..., None, :]
    together = _window_mean(small * alpha[..., None]) - mean_color * mean_alpha[..., None]
    slope = np.linalg.solve(covariance + _FLATNESS * np.eye(3), together[..., None])[..., 0]
    offset = mean_alpha - np.sum(slope * mean_color, axis=-1)
    side = color.shape[1], color.shape[0]
    planes = [*np.moveaxis(slope, -1, 0), offset]
    *slope, offset = (
        np.asarray(
            Image.fromarray(plane.astype(np.float32)).resize(side, Image.Resampling.BILINEAR)
        )
        for plane in planes
    )
    return np.clip(np.sum(np.stack(slope, axis=-1) * color, axis=-1) + offset, 0.0, 1.0)


def _window_mean(values: Float[np.ndarray, "s t *c"]) -> Float[np.ndarray, "s t *c"]:
    return ndimage.uniform_filter(values, 3, mode="nearest", axes=(0, 1))


def _shrink(pixels: np.ndarray) -> np.ndarray:
    """Averages pixels until the image is no larger than the matting equations are solved at."""
    height, width = pixels.shape[:2]
    if max(height, width) <= _SOLVED_PX:
        return pixels
    factor = _SOLVED_PX / max(height, width)
    side = max(1, round(width * factor)), max(1, round(height * factor))
    return np.asarray(Image.fromarray(pixels).resize(side, Image.Resampling.BOX))


def make_trimap(alpha: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Marks what is certainly background and head.

    Args:
      alpha: A rough matte, 0..1.

    Returns:
      0, 1, and 0.5 in a band around the border.

    Source: erosion and dilation of the mask.
    """
    width = 2 * max(1, round(_BORDER * max(alpha.shape))) + 1
    sure_head = Image.fromarray(np.where(alpha > 0.95, 255, 0).astype(np.uint8))
    maybe_head = Image.fromarray(np.where(alpha > 0.05, 255, 0).astype(np.uint8))
    eroded = np.asarray(sure_head.filter(ImageFilter.MinFilter(width)))
    dilated = np.asarray(maybe_head.filter(ImageFilter.MaxFilter(width)))
    return np.where(eroded == 255, 1.0, np.where(dilated == 0, 0.0, 0.5))


def free_colors(
    image_u8: UInt8[np.ndarray, "h w 3"], alpha: Float[np.ndarray, "h w"]
) -> Float[np.ndarray, "h w 3"]:
    """Estimates the head's own colours where the background shines through.

    Args:
      image_u8: The image, 0..255.
      alpha: Its matte, 0..1.

    Returns:
      Colours without the background's share, 0..1.

    Raises:
      MissingDependencyError: PyMatting is not installed.

    Source: Germer et al. 2020.
    """
    return import_pymatting().estimate_foreground_ml(image_u8 / 255.0, alpha)


def to_u8(values: Float[np.ndarray, "*b"]) -> UInt8[np.ndarray, "*b"]:
    """Stores coverage or colours in bytes.

    Args:
      values: 0..1; what lies outside is clamped.

    Returns:
      0..255, rounded.
    """
    return np.rint(np.clip(values, 0.0, 1.0) * 255.0).astype(np.uint8)


def import_pymatting() -> types.ModuleType:
    """Imports PyMatting, which only mattes need.

    Returns:
      The module.

    Raises:
      MissingDependencyError: it is not installed.
    """
    try:
        import pymatting  # pyright: ignore[reportMissingImports]  (an extra)
    except ImportError as error:
        raise errors.MissingDependencyError(
            "mattes of videos need PyMatting; it is not installed. pip install "
            "'ganavatar-jax[preprocess]', or set data.video.matte=none."
        ) from error
    return pymatting
