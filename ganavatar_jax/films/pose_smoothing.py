"""Poses of a film, smoothed in time: each moves as far as it is unsure.

Second differences of neighbouring frames are small for heads, but for cuts and quick turns, which
lose their say (Geman and McClure). The equations are banded and solved at once.
"""

import numpy as np
from scipy import linalg

from ganavatar_jax.core.arrays import Float, Int
from ganavatar_jax.geometry import rotation_vectors

# Least deviation of second differences from frame to frame; a head that moves more than that sets
# its own, so that quick turns are not flattened.
_ROTATION, _SHIFT = np.radians(0.2), 0.002
_MEDIAN_TO_DEVIATION = 1.4826
_ITERATIONS = 8
_ROBUST = 3.0


def smooth(
    rotation: Float[np.ndarray, "f 3 3"],
    translation: Float[np.ndarray, "f 3"],
    precision: Float[np.ndarray, "f 6 6"],
    starts: Int[np.ndarray, " s"],
) -> tuple[Float[np.ndarray, "f 3 3"], Float[np.ndarray, "f 3"]]:
    """Smooths poses.

    Args:
      rotation: Head to camera.
      translation: Head to camera, world units.
      precision: Inverse covariance of a turn (applied last, radians) and a shift of each pose.
      starts: Numbers of the frames at which a continuous recording begins.

    Returns:
      rotation: Smoothed.
      translation: Smoothed.
    """
    frames = len(rotation)
    inner = np.setdiff1d(np.arange(1, frames - 1), np.concatenate([starts, starts - 1]))
    if not len(inner):
        return rotation, translation
    bends = np.abs(_second_differences(rotation, translation, inner))
    floor = np.repeat([_ROTATION, _SHIFT], 3)
    usual = np.maximum(_MEDIAN_TO_DEVIATION * np.median(bends, axis=0), floor)
    turned, shifted = rotation, translation
    for _ in range(_ITERATIONS):
        bent = _second_differences(turned, shifted, inner)
        surprise = ((bent / usual) ** 2).mean(axis=1)
        weight = (1.0 / (1.0 + surprise / _ROBUST**2) ** 2)[:, None] / usual**2
        away = np.concatenate(
            [
                rotation_vectors.log(turned @ np.swapaxes(rotation, 1, 2)),
                shifted - translation,
            ],
            axis=1,
        )
        right = -np.einsum("fij,fj->fi", precision, away)
        bands = np.zeros((13, 6 * frames))  # Upper form: row 12 is the diagonal.
        for i in range(6):
            for j in range(i, 6):
                bands[12 - (j - i), j::6] += precision[:, i, j]
        for place, factor in ((-1, 1.0), (0, -2.0), (1, 1.0)):
            np.add.at(right, inner + place, -factor * weight * bent)
            for other, second in ((-1, 1.0), (0, -2.0), (1, 1.0)):
                if other >= place:
                    columns = (6 * (inner + other)[:, None] + np.arange(6)).ravel()
                    value = (factor * second * weight).ravel()
                    np.add.at(bands[12 - 6 * (other - place)], columns, value)
        moves = linalg.solveh_banded(bands, right.ravel()).reshape(frames, 6)
        turned = rotation_vectors.exp(moves[:, :3]) @ turned
        shifted = shifted + moves[:, 3:]
        if np.abs(moves).max() < 1e-5:
            break
    return turned, shifted


def _second_differences(
    rotation: np.ndarray, translation: np.ndarray, inner: np.ndarray
) -> np.ndarray:
    later = rotation_vectors.log(rotation[inner + 1] @ np.swapaxes(rotation[inner], 1, 2))
    earlier = rotation_vectors.log(rotation[inner] @ np.swapaxes(rotation[inner - 1], 1, 2))
    shift = translation[inner + 1] - 2.0 * translation[inner] + translation[inner - 1]
    return np.concatenate([later - earlier, shift], axis=1)
