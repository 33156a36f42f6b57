"""Codes of a driver: read off its frames or taken as they are, mended, smoothed, and restated.

Frames without a face, or without a code, take what lies between their neighbours in time.
"""

import dataclasses
import logging
from typing import NamedTuple

import numpy as np

from ganavatar_jax.apps import drive_sources, experiment_config
from ganavatar_jax.core import errors
from ganavatar_jax.core.arrays import Bool, Float, Int, UInt8
from ganavatar_jax.faces import estimation, estimator_config, estimators, regions
from ganavatar_jax.runs import progress

_LOG = logging.getLogger(__name__)

_HEAD_OVER_FACE = 1.9  # Side of a square around a head over the longest side of its landmarks.
_NEAR_FACE = 3.0  # Side of what is searched first around the last face, over the same.
_OUTLIERS = (2.0, 98.0)  # Percentiles of the faces' borders that the square holds.
_REACH = 4.0  # Standard deviations after which a Gaussian is nothing.


class DriverCodes(NamedTuple):
    """What was read.

    Attributes:
      names: All coefficients.
      frames: Names of the source's frames that were read, in order of time.
      codes: Their codes; NaN for frames without one.
      head: Square that holds the head in nearly all frames, pixels of the source; None where no
        landmarks were read.
    """

    names: tuple[str, ...]
    frames: tuple[str, ...]
    codes: Float[np.ndarray, "f e"]
    head: regions.Region | None


def read(
    source: drive_sources.Source,
    rows: Int[np.ndarray, " f"],
    wanted: tuple[str, ...],
    config: estimator_config.EstimatorConfig,
) -> DriverCodes:
    """Reads the codes of some frames.

    Args:
      source: What drives.
      rows: The frames' numbers, each once, in order.
      wanted: Coefficients the avatar takes.
      config: What reads pictures.

    Returns:
      The codes.

    Raises:
      DataFormatError: no frame has a code, or coefficients the avatar takes are lacking.
      EstimatorError: the estimator cannot be set up.
    """
    frames = tuple(source.frames[row] for row in rows)
    if source.codes is not None or source.read is None:
        assert source.codes is not None  # a source has pictures or codes
        _refuse_lacking(source.names, wanted, source.where)
        found = DriverCodes(source.names, frames, source.codes[rows], None)
    else:
        watcher = _Watcher(estimators.make_estimator(config), follow=source.in_time)
        _refuse_lacking(watcher.names, wanted, f"the estimator {config.name!r}")
        pictures = map(source.read, rows.tolist())
        with progress.Progress(len(rows), unit="frame", title="estimate", every_s=10) as bar:
            readings = estimation.estimate_many(
                watcher,
                pictures,
                frames=frames,
                progress=lambda done, skipped: bar.update(
                    done - bar.done, metrics={"skipped": skipped}
                ),
            )
        found = DriverCodes(watcher.names, frames, readings.codes, watcher.square())
    missing = int(np.isnan(found.codes).any(axis=1).sum())
    if missing == len(frames):
        raise errors.DataFormatError(
            f"{source.where}: no face was found in any of {len(frames)} frames. Show one face, "
            "large, bright and upright; or lower estimator.min_confidence."
        )
    if missing:
        _LOG.warning(
            "%s: %d of %d frames without a face take what lies between their neighbours",
            source.where,
            missing,
            len(frames),
        )
    return found


def prepare(
    codes: Float[np.ndarray, "f e"], *, times_s: Float[np.ndarray, " f"], sigma_s: float
) -> tuple[Float[np.ndarray, "f e"], Bool[np.ndarray, " f"]]:
    """Fills gaps linearly in time, holds the ends, and smooths over time.

    Args:
      codes: Codes in order of time; NaN for frames without one. At least one frame has one.
      times_s: When each frame is shown, seconds, rising.
      sigma_s: Standard deviation of the Gaussian, seconds; 0 does not smooth.

    Returns:
      Codes of all frames, and which of them were read.
    """
    found = np.isfinite(codes.sum(axis=1))
    filled = [np.interp(times_s, times_s[found], column[found]) for column in codes.T]
    smooth = np.stack(filled, axis=1)
    if sigma_s > 0 and len(codes) > 1:
        smooth = _smooth(smooth, times_s, sigma_s)
    return smooth.astype(np.float32), found


def _smooth(
    codes: Float[np.ndarray, "f e"], times_s: Float[np.ndarray, " f"], sigma_s: float
) -> Float[np.ndarray, "f e"]:
    """Averages by a Gaussian of time; a frame counts for as long as it is shown."""
    usual_s = float(np.median(np.diff(times_s)))
    reach_s = _REACH * sigma_s + usual_s / 2
    held = np.arange(1, int(reach_s / usual_s) + 2) * usual_s
    before, after = times_s[0] - held[::-1], times_s[-1] + held
    known_s = np.concatenate([before, times_s, after])
    known = np.pad(codes, ((len(held), len(held)), (0, 0)), mode="edge")
    shown_s = np.minimum(np.gradient(known_s), max(sigma_s, usual_s))
    own = np.arange(len(times_s)) + len(held)
    most = int((np.searchsorted(known_s, times_s + reach_s, side="right") - own).max())
    most = max(most, int((own - np.searchsorted(known_s, times_s - reach_s)).max()))
    total, weights = np.zeros_like(codes, np.float64), np.zeros(len(codes))
    for offset in range(-most, most + 1):
        place = np.clip(own + offset, 0, len(known_s) - 1)
        away_s = known_s[place] - times_s
        weight = np.exp(-0.5 * (away_s / sigma_s) ** 2) * shown_s[place]
        inside = (np.abs(away_s) < reach_s) & (place == own + offset)
        weight = np.where(inside, weight, 0.0)
        total += weight[:, None] * known[place]
        weights += weight
    return total / weights[:, None]


def at_rest(
    codes: Float[np.ndarray, "f e"],
    *,
    times_s: Float[np.ndarray, " f"],
    config: experiment_config.DriveConfig,
) -> Float[np.ndarray, "n e"] | None:
    """Chooses the codes of the driver's face at rest.

    Args:
      codes: Codes in order of time.
      times_s: When each frame is shown, seconds, rising.
      config: `neutral_s` says how long the face is at rest from the first frame on.

    Returns:
      Those codes, at least one; None where nobody says.
    """
    if not config.neutral_s:
        return None
    return codes[times_s - times_s[0] <= config.neutral_s]


def _refuse_lacking(names: tuple[str, ...], wanted: tuple[str, ...], where: str) -> None:
    missing = sorted(set(wanted) - set(names))
    if missing:
        raise errors.DataFormatError(
            f"{where}: expected the coefficients that drive this avatar; {', '.join(missing[:5])} "
            f"{'is' if len(missing) == 1 else 'are'} lacking. Use another source or estimator, or "
            "train the mapping with mapping.coefficients that both have."
        )


class _Watcher:
    """An estimator that remembers where the faces were, and looks there first in a film.

    A small face is found at once instead of in many tiles, and it stays the same person's.
    """

    def __init__(self, estimator: estimation.Estimator, *, follow: bool) -> None:
        self.names = estimator.names
        self._estimator, self._follow = estimator, follow
        self._boxes: list[np.ndarray] = []  # left, top, right, bottom

    def estimate(
        self, image_u8: UInt8[np.ndarray, "h w 3"], *, frame: str | None = None
    ) -> estimation.Reading | None:
        reading = self._estimate_near(image_u8, frame) if self._follow and self._boxes else None
        reading = reading or self._estimator.estimate(image_u8, frame=frame)
        if reading is not None and reading.landmarks is not None:
            points = reading.landmarks[:, :2]
            self._boxes.append(np.concatenate([points.min(axis=0), points.max(axis=0)]))
        return reading

    def _estimate_near(
        self, image_u8: UInt8[np.ndarray, "h w 3"], frame: str | None
    ) -> estimation.Reading | None:
        """Reads the surroundings of the last face, if they are less than the whole image."""
        low, high = self._boxes[-1][:2], self._boxes[-1][2:]
        center, reach = (low + high) / 2, _NEAR_FACE * (high - low).max() / 2
        size = np.array(image_u8.shape[1::-1])
        left, top = np.clip(np.floor(center - reach), 0, size).astype(int).tolist()
        right, bottom = np.clip(np.ceil(center + reach), 0, size).astype(int).tolist()
        if max(right - left, bottom - top) >= size.max() or right <= left or bottom <= top:
            return None
        near_u8 = np.ascontiguousarray(image_u8[top:bottom, left:right])
        reading = self._estimator.estimate(near_u8, frame=frame)
        if reading is None or reading.landmarks is None:
            return reading
        moved = reading.landmarks + np.array([left, top, 0], np.float32)
        return dataclasses.replace(reading, landmarks=moved)

    def square(self) -> regions.Region | None:
        """Returns the square of `DriverCodes.head`."""
        if not self._boxes:
            return None
        boxes = np.stack(self._boxes)
        low = np.percentile(boxes[:, :2], _OUTLIERS[0], axis=0)
        high = np.percentile(boxes[:, 2:], _OUTLIERS[1], axis=0)
        margin = (_HEAD_OVER_FACE - 1.0) * np.median(boxes[:, 2:] - boxes[:, :2], axis=0).max()
        x, y = ((low + high) / 2).tolist()
        return regions.Region(x, y, float((high - low).max() + margin))
