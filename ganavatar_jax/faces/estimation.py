"""The interface every expression estimator fulfils, and reading many images through it.

`code` is a vector of coefficients named by `Estimator.names`; what they mean is the estimator's
own affair, the rest of the package only needs that equal names mean equal things. Landmarks are
in pixels of the image that was given (continuous: pixel centres at +0.5).
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from ganavatar_jax.core.arrays import Bool, Float, UInt8
from ganavatar_jax.faces import measures


@dataclasses.dataclass(frozen=True)
class Reading:
    """What an estimator read off one face."""

    code: Float[np.ndarray, " e"]
    confidence: float  # [0, 1]; how sure the estimator is that it looked at a face
    landmarks: Float[np.ndarray, "478 3"] | None  # pixels; z grows away from the camera


class Readings(NamedTuple):
    """Readings of many images; rows of images that could not be read are NaN and not found."""

    codes: Float[np.ndarray, "f e"]
    confidence: Float[np.ndarray, " f"]
    found: Bool[np.ndarray, " f"]
    openings_px: Float[np.ndarray, "f 3"]  # of `measures.OPENINGS`; NaN without landmarks


@runtime_checkable
class Estimator(Protocol):
    """Reads expression codes off images, each image on its own."""

    names: tuple[str, ...]

    def estimate(
        self, image_u8: UInt8[np.ndarray, "h w 3"], *, frame: str | None = None
    ) -> Reading | None:
        """Reads one image.

        Args:
          image_u8: RGB image, 0..255.
          frame: Name of the frame, for estimators that look codes up.

        Returns:
          The reading, or None when there is no face the estimator can read.
        """
        ...


def estimate_many(
    estimator: Estimator,
    images_u8: Iterable[UInt8[np.ndarray, "_ _ 3"]],
    *,
    frames: Sequence[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Readings:
    """Reads every image, keeping a row for those that could not be read.

    Args:
      estimator: What reads.
      images_u8: RGB images, 0..255; sizes may differ.
      frames: Name of each image, for estimators that look codes up.
      progress: Called after each image with the numbers of images done and skipped so far.

    Returns:
      Codes, confidences, the mask of readable images, and how far lids and lips are apart.

    Raises:
      ValueError: there are more or fewer frame names than images.
    """
    codes, confidence, found, openings = [], [], [], []
    unread = np.full(len(estimator.names), np.nan, np.float32)
    unseen = np.full(len(measures.OPENINGS), np.nan, np.float32)
    for index, image_u8 in enumerate(images_u8):
        if frames is not None and index >= len(frames):
            raise ValueError(f"expected one frame name per image; got {len(frames)} names only.")
        frame = None if frames is None else frames[index]
        reading = estimator.estimate(image_u8, frame=frame)
        found.append(reading is not None)
        codes.append(unread if reading is None else reading.code)
        confidence.append(0.0 if reading is None else reading.confidence)
        seen = None if reading is None else reading.landmarks
        openings.append(unseen if seen is None else measures.openings_px(seen))
        if progress is not None:
            progress(len(found), found.count(False))
    if frames is not None and len(frames) != len(found):
        raise ValueError(
            f"expected one frame name per image; got {len(frames)} names, {len(found)} images."
        )
    return Readings(
        np.asarray(codes, np.float32).reshape(len(found), len(estimator.names)),
        np.asarray(confidence, np.float32),
        np.asarray(found, bool),
        np.asarray(openings, np.float32).reshape(len(found), len(measures.OPENINGS)),
    )
