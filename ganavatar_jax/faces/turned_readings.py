"""What turning a head does to the codes that are read off it, and how that is undone.

An estimator reads less of a smile off a turned face, and sees brows move when the head nods. An
avatar shows the same face from any side, so that its own renders tell what the estimator makes of
each: for every coefficient an offset and a factor, polynomials of the camera's angles that are 0
and 1 in front. With them codes read off frames whose cameras are known become what would be read
from the front, where the avatar's codes come from. Of heads turned further little is read, and what
is read counts as much as it has been worth on the renders: less and less.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ganavatar_jax.core import errors
from ganavatar_jax.core.arrays import Float
from ganavatar_jax.faces import coefficients
from ganavatar_jax.geometry import cameras

MAX_ANGLE_DEG = 45.0  # further to the side the polynomials say nothing
FAR_DEG = 75.0  # nor do readings beyond
_RIDGE = 1e-2  # of standardised terms
_LEAST_SPREAD = 0.05  # of a term of the camera
_LEAST_FACTOR = 0.4  # noise is not to be blown up further
_ARRAYS = ("centre", "offset", "gain", "trust")
# Angles for which what readings are worth is learnt from the renders beyond 35 and beyond 50
# degrees; up to the first they count in full.
_TRUST_FROM_DEG, _TRUST_BINS_DEG, _TRUST_DEG = 35.0, (35.0, 50.0, FAR_DEG), (42.5, 60.0)
_FEWEST = 15  # renders of a bin


@dataclasses.dataclass(frozen=True)
class TurnedReadings:
    """Offsets and factors of some coefficients.

    Attributes:
      names: Name of each coefficient.
      centre: Code around which factors work: the mean from the front.
      offset: What the terms of a camera add.
      gain: What the terms of a camera add to a factor of 1.
      trust: Share of what is read that is believed at 42.5 and from 60 degrees on.
    """

    names: tuple[str, ...]
    centre: Float[np.ndarray, " e"]
    offset: Float[np.ndarray, "5 e"]
    gain: Float[np.ndarray, "5 e"]
    trust: Float[np.ndarray, "2 e"]

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
        return np.asarray(self.centre + apart * self._believed(label25), np.float32)

    def _believed(self, label25: np.ndarray) -> np.ndarray:
        """Goes from 1 at 35 degrees to what was learnt."""
        known_deg = (_TRUST_FROM_DEG, *_TRUST_DEG)
        shares = np.concatenate([np.ones((1, len(self.names))), self.trust])
        angles = angle_deg(label25)
        return np.stack([np.interp(angles, known_deg, column) for column in shares.T], axis=1)

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
    front, turned = np.asarray(front, np.float64), np.asarray(turned, np.float64)
    angles, centre = angle_deg(label25), front.mean(axis=0)
    near = angles <= MAX_ANGLE_DEG
    arrays = centre, *_solve(front[near] - centre, (turned - front)[near], _terms(label25[near]))
    believed = np.ones((len(_TRUST_DEG), len(names)))
    blunt = TurnedReadings(tuple(names), *(a.astype(np.float32) for a in (*arrays, believed)))
    undone = blunt.to_front(turned.astype(np.float32), label25) - centre
    for row, (low, high) in enumerate(itertools.pairwise(_TRUST_BINS_DEG)):
        part = (angles >= low) & (angles < high)
        if part.sum() >= _FEWEST:
            both = np.mean(undone[part] * (front[part] - centre), axis=0)
            worth = both / np.maximum(np.mean(np.square(undone[part]), axis=0), 1e-9)
            believed[row] = np.clip(worth, 0.0, believed[max(row - 1, 0)])
        elif row:
            believed[row] = believed[row - 1]
    return dataclasses.replace(blunt, trust=np.asarray(believed, np.float32))


def _solve(
    apart: np.ndarray, moved: np.ndarray, terms: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Regresses what turning moved on a camera's terms, alone and times the code."""
    count, solved = terms.shape[1], []
    for column in range(apart.shape[1]):
        known = np.concatenate([terms, terms * apart[:, column, None]], axis=1)
        # Cameras that stand all at one height tell nothing of height: not to be blown up.
        least = _LEAST_SPREAD * np.repeat([1.0, apart[:, column].std() + 1e-6], count)
        unit = np.maximum(known.std(axis=0), least)
        gram = (known / unit).T @ (known / unit) + _RIDGE * len(known) * np.eye(2 * count)
        solved.append(np.linalg.solve(gram, (known / unit).T @ moved[:, column]) / unit)
    offset, gain = np.split(np.stack(solved, axis=1), 2)
    return offset, gain


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
        arrays = [np.asarray(values[a], np.float32) for a in _ARRAYS]
    except (KeyError, TypeError, ValueError) as error:
        raise errors.DataFormatError(
            "readings of turned heads: expected names, centre, offset, gain and trust; got "
            f"{error!r}. Run --task=make_frontals again."
        ) from error
    shapes, rows = tuple(a.shape for a in arrays), (_TERMS, _TERMS, len(_TRUST_DEG))
    expected = ((len(names),), *((count, len(names)) for count in rows))
    if shapes != expected:
        raise errors.DataFormatError(
            f"readings of turned heads: expected arrays of shapes {expected}; got {shapes}. Run "
            "--task=make_frontals again."
        )
    return TurnedReadings(names, *arrays)


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
