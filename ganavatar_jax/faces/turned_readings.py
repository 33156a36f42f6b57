"""What turning a head does to the codes that are read off it, and how that is undone.

An estimator reads less of a smile off a turned face, and sees brows move when the head nods. An
avatar shows the same face from any side, so that its own renders tell what the estimator makes of
each: for every coefficient an offset and a factor, polynomials of the camera's angles that are 0
and 1 in front. With them codes read off frames whose cameras are known become what would be read
from the front, where the avatar's codes come from.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ganavatar_jax.core import errors
from ganavatar_jax.core.arrays import Float
from ganavatar_jax.faces import coefficients
from ganavatar_jax.geometry import cameras

MAX_ANGLE_DEG = 45.0  # further to the side readings say little, and the polynomials nothing
_RIDGE = 1e-2  # of standardised terms
_LEAST_FACTOR = 0.4  # noise is not to be blown up further
_ARRAYS = ("centre", "offset", "gain")


@dataclasses.dataclass(frozen=True)
class TurnedReadings:
    """Offsets and factors of some coefficients.

    Attributes:
      names: Name of each coefficient.
      centre: Code around which factors work: the mean from the front.
      offset: What the terms of a camera add.
      gain: What the terms of a camera add to a factor of 1.
    """

    names: tuple[str, ...]
    centre: Float[np.ndarray, " e"]
    offset: Float[np.ndarray, "5 e"]
    gain: Float[np.ndarray, "5 e"]

    def to_front(
        self, codes: Float[np.ndarray, "f e"], label25: Float[np.ndarray, "f 25"]
    ) -> Float[np.ndarray, "f e"]:
        """Restates codes as if they had been read from the front.

        Args:
          codes: Codes read off frames, columns `names`.
          label25: The frames' cameras; those further to the side count as at MAX_ANGLE_DEG.

        Returns:
          Codes.
        """
        terms = _terms(label25)
        factor = np.maximum(1.0 + terms @ self.gain, _LEAST_FACTOR)
        apart = (codes - self.centre - terms @ self.offset) / factor
        return np.asarray(self.centre + apart, np.float32)

    def select(self, names: Sequence[str]) -> "TurnedReadings":
        """Keeps some coefficients, in another order."""
        arrays = (coefficients.select(getattr(self, a), self.names, names) for a in _ARRAYS)
        return TurnedReadings(tuple(names), *arrays)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain lists, ready for JSON; `from_dict` reads them."""
        return {"names": list(self.names)} | {a: getattr(self, a).tolist() for a in _ARRAYS}


def fit(
    front: Float[np.ndarray, "f e"],
    turned: Float[np.ndarray, "f e"],
    label25: Float[np.ndarray, "f 25"],
    names: Sequence[str],
) -> TurnedReadings:
    """Compares what is read off the same faces from the front and from elsewhere.

    Args:
      front: Codes of faces seen from the front.
      turned: Codes of the same faces seen by other cameras.
      label25: These cameras.
      names: Name of each coefficient.

    Returns:
      The offsets and factors.

    Source: ridge regression (Hoerl and Kennard 1970).
    """
    terms = _terms(label25)
    front, turned = np.asarray(front, np.float64), np.asarray(turned, np.float64)
    centre, count = front.mean(axis=0), terms.shape[1]
    solved = []
    for column in range(len(names)):
        apart = front[:, column] - centre[column]
        known = np.concatenate([terms, terms * apart[:, None]], axis=1)
        unit = known.std(axis=0) + 1e-9
        gram = (known / unit).T @ (known / unit) + _RIDGE * len(known) * np.eye(2 * count)
        moved = (known / unit).T @ (turned[:, column] - front[:, column])
        solved.append(np.linalg.solve(gram, moved) / unit)
    offset, gain = np.split(np.stack(solved, axis=1), 2)
    return TurnedReadings(tuple(names), *(a.astype(np.float32) for a in (centre, offset, gain)))


def from_dict(values: Mapping[str, Any]) -> TurnedReadings:
    """Rebuilds what `TurnedReadings.to_dict` wrote.

    Args:
      values: Names and arrays.

    Returns:
      The offsets and factors.

    Raises:
      DataFormatError: something is missing or of another shape.
    """
    try:
        names = tuple(str(name) for name in values["names"])
        centre, offset, gain = (np.asarray(values[a], np.float32) for a in _ARRAYS)
    except (KeyError, TypeError, ValueError) as error:
        raise errors.DataFormatError(
            f"readings of turned heads: expected names, centre, offset and gain; got {error!r}. "
            "Run --task=make_frontals again."
        ) from error
    shapes = centre.shape, offset.shape, gain.shape
    expected = (len(names),), (_TERMS, len(names)), (_TERMS, len(names))
    if shapes != expected:
        raise errors.DataFormatError(
            f"readings of turned heads: expected arrays of shapes {expected}; got {shapes}. Run "
            "--task=make_frontals again."
        )
    return TurnedReadings(names, centre, offset, gain)


def angle_deg(label25: Float[np.ndarray, "f 25"]) -> Float[np.ndarray, " f"]:
    """Tells how far cameras stand from the front.

    Args:
      label25: Cameras.

    Returns:
      Angles between the direction to the camera and the face's own, degrees.
    """
    centre = np.asarray(label25, np.float64)[:, 3:12:4]
    cosine = centre[:, 2] / np.maximum(np.linalg.norm(centre, axis=1), 1e-9)
    return np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0)))


_TERMS = 5


def _terms(label25: np.ndarray) -> Float[np.ndarray, "f 5"]:
    """Lists the monomials of yaw and pitch in units of MAX_ANGLE_DEG, without the constant."""
    angles = cameras.yaw_pitch_deg(cameras.from_label25(np.asarray(label25)).cam2world)
    yaw, pitch = (np.clip(np.asarray(a, np.float64) / MAX_ANGLE_DEG, -1.0, 1.0) for a in angles)
    return np.stack([yaw, pitch, yaw * yaw, yaw * pitch, pitch * pitch], axis=1)
