"""Mattes of people: MediaPipe's selfie segmenter by LiteRT, refined by PyMatting.

The segmenter gives a soft mask of 256 px. Read twice (the image and its mirror image), sharpened,
it is the matte of method "fast"; "closed_form" lets PyMatting decide the uncertain border from the
image's colours. Colours of half-covered pixels are freed from the background by PyMatting, too.

Source: MediaPipe selfie segmenter (behaviour of the model file); Levin et al. 2008 (closed form);
Germer et al. 2020 (foreground).
"""

import dataclasses
from typing import Literal

import numpy as np
from ai_edge_litert import interpreter
from PIL import Image, ImageFilter

from ganavatar_jax.core import errors
from ganavatar_jax.core.arrays import Float, UInt8
from ganavatar_jax.faces import model_files

Method = Literal["closed_form", "fast"]

_INPUT_PX = 256
_LOW, _HIGH = 0.3, 0.8  # The mask's values that become 0 and 1.
_BORDER = 0.02  # Width of the uncertain band on each side, in image sides.


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
    """Makes mattes of square images. Not safe to share by threads."""

    def __init__(
        self, *, method: Method, model_path: str | None = None, allow_download: bool = True
    ) -> None:
        """Finds the model file, checks it and loads it.

        Args:
          method: "closed_form" (half a second at 512 px) or "fast".
          model_path: selfie_segmenter.tflite; None looks it up.
          allow_download: Whether a missing model file may be fetched.

        Raises:
          EstimatorError: the model file is missing or not the expected one.
          MissingDependencyError: PyMatting is not installed.
        """
        self._method = method
        self._pymatting = _import_pymatting()
        self._segmenter = SelfieSegmenter(model_path=model_path, allow_download=allow_download)

    def matte(self, image_u8: UInt8[np.ndarray, "h w 3"]) -> Matte:
        """Separates the person from the background.

        Args:
          image_u8: Square RGB image of a head, 0..255.

        Returns:
          The matte, as large as the image.
        """
        alpha = self._segmenter.coverage(image_u8)
        color = image_u8 / 255.0
        if self._method == "closed_form":
            alpha = self._refine(color, alpha)
        foreground = self._pymatting.estimate_foreground_ml(color, alpha)
        return Matte(_to_u8(alpha), _to_u8(foreground))

    def _refine(
        self, color: Float[np.ndarray, "h w 3"], alpha: Float[np.ndarray, "h w"]
    ) -> Float[np.ndarray, "h w"]:
        trimap = make_trimap(alpha)
        if not ((trimap == 0).any() and (trimap == 1).any()):
            return alpha  # Nothing is certain: an image without a person, or without background.
        try:
            return np.clip(self._pymatting.estimate_alpha_cf(color, trimap), 0.0, 1.0)
        except ValueError:
            # The solver gives up on flat images; the sharpened mask is an answer, too.
            return alpha


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


def _to_u8(values: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(values, 0.0, 1.0) * 255.0).astype(np.uint8)


def _import_pymatting():  # noqa: ANN202 (an optional module)
    try:
        import pymatting  # pyright: ignore[reportMissingImports]  (an extra)
    except ImportError as error:
        raise errors.MissingDependencyError(
            "mattes of videos need PyMatting; it is not installed. pip install "
            "'ganavatar-jax[preprocess]', or set data.video.matte=none."
        ) from error
    return pymatting
