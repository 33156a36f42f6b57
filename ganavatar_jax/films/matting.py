"""Mattes of people: MediaPipe's selfie segmenter by LiteRT, and what is made of its word.

The segmenter gives a soft mask of 256 px. Read twice (the image and its mirror image), sharpened,
it is the matte of method "fast"; with "closed_form", `matte_solver` decides the uncertain border
from the image's colours and from the background, where that is known.

Source: MediaPipe selfie segmenter (behaviour of the model file).
"""

from typing import Literal, NamedTuple

import numpy as np
from ai_edge_litert import interpreter
from PIL import Image

from ganavatar_jax.core.arrays import Float, UInt8
from ganavatar_jax.faces import model_files
from ganavatar_jax.films import background_plate, matte_solver

Method = Literal["closed_form", "fast"]

_INPUT_PX = 256
_LOW, _HIGH = 0.3, 0.8  # The mask's values that become 0 and 1.


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


class Hint(NamedTuple):
    """What is known of an image besides its pixels.

    Attributes:
      coverage: Coverage that its neighbours in time agree with; None has the segmenter look.
      seen: The image beside its background; None where nothing of that is known.
    """

    coverage: Float[np.ndarray, "h w"] | None = None
    seen: background_plate.Seen | None = None


NO_HINT = Hint()


class SelfieMatter:
    """Makes mattes of square images. Not safe to share by threads.

    Attributes:
      remembers: Whether a matte depends on the images before it.
      segmenter: What finds the person.
      takes_plates: Whether a known background is of use.
    """

    remembers = False

    def __init__(
        self, *, method: Method, model_path: str | None = None, allow_download: bool = True
    ) -> None:
        """Finds the model file, checks it and loads it.

        Args:
          method: "closed_form" (0.2 s of CPU at 512 px) or "fast".
          model_path: selfie_segmenter.tflite; None looks it up.
          allow_download: Whether a missing model file may be fetched.

        Raises:
          EstimatorError: the model file is missing or not the expected one.
          MissingDependencyError: PyMatting is not installed.
        """
        matte_solver.import_pymatting()
        self.takes_plates = method == "closed_form"
        self.segmenter = SelfieSegmenter(model_path=model_path, allow_download=allow_download)

    def matte(
        self, image_u8: UInt8[np.ndarray, "h w 3"], hint: Hint = NO_HINT
    ) -> matte_solver.Matte:
        """Separates the person from the background.

        Args:
          image_u8: Square RGB image of a head, 0..255.
          hint: What else is known of it.

        Returns:
          The matte, as large as the image.
        """
        coverage = hint.coverage
        if coverage is None:
            coverage = self.segmenter.coverage(image_u8)
        if self.takes_plates:
            return matte_solver.solve(image_u8, coverage, hint.seen)
        colors = matte_solver.free_colors(image_u8, coverage)
        return matte_solver.Matte(matte_solver.to_u8(coverage), matte_solver.to_u8(colors))

    def forget(self) -> None:
        """Begins a new shot, which makes no difference here."""
