"""The face landmarks that ship with the package: where they lie on heads in the head frame."""

import dataclasses
import functools
import importlib.resources
import json
from collections.abc import Callable

import numpy as np

from ganavatar_jax.core.arrays import Float, Int, UInt8
from ganavatar_jax.geometry import point_models

# Finds the face landmarks of an image, in pixels; None where no face is readable.
FindLandmarks = Callable[[UInt8[np.ndarray, "h w 3"]], Float[np.ndarray, "m d"] | None]


_ASSET = "head_landmarks.json"


@dataclasses.dataclass(frozen=True)
class HeadLandmarks:
    """Where the landmarks lie on heads of the base generator.

    Attributes:
      indices: Numbers of the landmarks among the detector's.
      partners: Place of each landmark's mirror image in `indices`.
      model: Mean and modes of their places.
    """

    indices: Int[np.ndarray, " n"]
    partners: Int[np.ndarray, " n"]
    model: point_models.PointModel


@functools.cache
def load_head_landmarks() -> HeadLandmarks:
    """Reads the landmarks that ship with the package.

    Returns:
      Mean and modes in the head frame.

    Source: experiments/make_head_landmarks.py.
    """
    asset = importlib.resources.files("ganavatar_jax") / "assets" / _ASSET
    content = json.loads(asset.read_text(encoding="utf-8"))
    model = point_models.PointModel(
        np.array(content["points"]), np.array(content["modes"]), content["noise"]
    )
    return HeadLandmarks(np.array(content["indices"]), np.array(content["partners"]), model)
