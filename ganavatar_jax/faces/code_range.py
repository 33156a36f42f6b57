"""How far an expression code lies from those that an avatar has seen.

A density over codes, estimated from the pairs: the mean distance to a code's nearest neighbours
among the pairs, in the normalised space in which the mapping network sees it, over what is usual
among the pairs themselves. Nothing is assumed of their distribution, which has corners: weights
are not negative, and a mouth that smiles is rarely wide open.
"""

import dataclasses

import numpy as np
from scipy import spatial

from ganavatar_jax.core.arrays import Float

NEIGHBORS = 5
_USUAL = 0.95  # Part of the pairs that lie inside.
_HALVINGS = 20


@dataclasses.dataclass(frozen=True)
class CodeRange:
    """What an avatar has seen.

    Attributes:
      seen: Normalised codes of the pairs.
      unit: Mean distance to the nearest neighbours that 95 % of the pairs stay below.
      neighbors: How many neighbours are counted.
    """

    seen: Float[np.ndarray, "n k"]
    unit: float
    neighbors: int

    def score(self, normalized: Float[np.ndarray, "f k"]) -> Float[np.ndarray, " f"]:
        """Scores codes.

        Args:
          normalized: Normalised codes, not cut off.

        Returns:
          Distance to what was seen; up to 1 a code lies as near as 95 % of the pairs to the
          others, at 2 it is twice as far away.

        Source: Loftsgaarden and Quesenberry 1965 (density by nearest neighbours).
        """
        distances, _ = self._tree.query(normalized, k=self.neighbors)
        return np.mean(np.reshape(distances, (len(normalized), -1)), axis=1) / self.unit

    def clamp(self, normalized: Float[np.ndarray, "f k"]) -> Float[np.ndarray, "f k"]:
        """Brings codes back to where the avatar has seen some.

        Args:
          normalized: Normalised codes.

        Returns:
          Codes with a score of at most 1 where they were above, on the way to the nearest code
          that was seen; the others as they were.
        """
        _, nearest = self._tree.query(normalized, k=1)
        anchor = self.seen[nearest]
        # A pair at the border may itself score above 1: then it is the nearest there is.
        low, high = np.zeros(len(normalized)), np.ones(len(normalized))
        outside = self.score(normalized) > 1.0
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            tried = anchor + middle[:, None] * (normalized - anchor)
            inside = self.score(tried) <= 1.0
            low, high = np.where(inside, middle, low), np.where(inside, high, middle)
        moved = anchor + low[:, None] * (normalized - anchor)
        return np.where(outside[:, None], moved, normalized).astype(np.float32)

    @property
    def _tree(self) -> spatial.KDTree:
        if "tree" not in self._built:
            self._built["tree"] = spatial.KDTree(self.seen)
        return self._built["tree"]

    _built: dict[str, spatial.KDTree] = dataclasses.field(
        default_factory=dict, repr=False, compare=False
    )


def fit(normalized: Float[np.ndarray, "n k"]) -> CodeRange:
    """Learns what is usual among codes.

    Args:
      normalized: Normalised codes of the pairs.

    Returns:
      Their range.

    Raises:
      ValueError: there are too few codes, or all are alike.
    """
    codes = np.asarray(normalized, np.float32)
    neighbors = min(NEIGHBORS, len(codes) - 1)
    if neighbors < 1:
        raise ValueError(f"a range needs at least two codes; got {len(codes)}. Sample more pairs.")
    distances, _ = spatial.KDTree(codes).query(codes, k=neighbors + 1)
    unit = float(np.quantile(distances[:, 1:].mean(axis=1), _USUAL))
    if not unit > 0.0:
        raise ValueError("all codes are alike, which is no range. Sample more pairs.")
    return CodeRange(codes, unit, neighbors)
