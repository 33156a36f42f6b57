"""What w tells of the expression: a linear map from w to codes, and the way back.

A network that learns w from codes that were read with errors moves too little: part of what varies
in the codes is noise, and it answers with the mean of all w that might be meant. The other way
round nothing is lost, because w has no errors. The map from w to codes is therefore fitted, and
its inverse chosen under the spread of w: of all w with a code the most likely one.
"""

from typing import NamedTuple

import numpy as np

from ganavatar_jax.core.arrays import Float

# Directions of codes in which the pairs vary this little, in spreads of a coefficient squared, are
# what the estimator confuses, such as one lid alone; inverted, they would go anywhere.
_LEAST_VARIANCE = 0.05
_RIDGE = 1e-3  # of the mean variance of w: w is exact, the fit only has to exist
_MIN_SPREAD = 1e-6
_REST_PERCENT = 25.0  # as in faces.normalization
_CANDIDATES = 4000
_KNOWN = 256  # codes at hand from which new ones keep apart


class LinearCodes(NamedTuple):
    """The two maps: code = mean_code + (w - mean_w) @ forward, and backward the same.

    Attributes:
      mean_w: Mean w of the pairs.
      mean_code: Their mean code.
      forward: Codes for w.
      backward: The most likely w for codes.
      precision: Squared distances of codes in spreads of w are offset @ precision @ offset.
    """

    mean_w: Float[np.ndarray, " d"]
    mean_code: Float[np.ndarray, " e"]
    forward: Float[np.ndarray, "d e"]
    backward: Float[np.ndarray, "e d"]
    precision: Float[np.ndarray, "e e"]

    def read(self, w: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n e"]:
        """Tells the codes of some w."""
        return self.mean_code + (np.asarray(w, np.float64) - self.mean_w) @ self.forward

    def place(self, codes: Float[np.ndarray, "n e"]) -> Float[np.ndarray, "n d"]:
        """Finds the most likely w of some codes."""
        return self.mean_w + (np.asarray(codes, np.float64) - self.mean_code) @ self.backward

    def distance(self, codes: Float[np.ndarray, "n e"]) -> Float[np.ndarray, " n"]:
        """Tells how far the w of some codes lie from the mean, in spreads of w."""
        apart = np.asarray(codes, np.float64) - self.mean_code
        return np.sqrt(np.maximum(np.sum((apart @ self.precision) * apart, axis=1), 0.0))


def fit(w: Float[np.ndarray, "n d"], codes: Float[np.ndarray, "n e"]) -> LinearCodes:
    """Fits both maps to pairs.

    Args:
      w: Latents.
      codes: What was read off their renders, with errors.

    Returns:
      The maps. Directions in which the codes told by w hardly vary are not inverted.

    Raises:
      ValueError: there are fewer than two pairs.

    Source: ridge regression (Hoerl and Kennard 1970); the inverse is the conditional mean of a
    Gaussian w given an exact code.
    """
    if len(w) < 2:
        raise ValueError(f"expected two pairs or more; got {len(w)} w.")
    mean_w, mean_code = np.mean(w, axis=0, dtype=np.float64), np.mean(codes, axis=0, dtype=float)
    spread_w, spread_code = w - mean_w, codes - mean_code
    covariance = spread_w.T @ spread_w / len(w)
    ridge = _RIDGE * np.trace(covariance) / len(covariance) + _MIN_SPREAD**2
    forward = np.linalg.solve(
        covariance + ridge * np.eye(len(covariance)), spread_w.T @ spread_code / len(w)
    )
    told = forward.T @ covariance @ forward
    unit = np.sqrt(np.maximum(np.diag(told), _MIN_SPREAD**2))
    variances, axes = np.linalg.eigh(told / unit[:, None] / unit[None])
    variances = np.maximum(variances, 0.0)
    # Tikhonov's filter: nearly one for what varies, nearly nothing for what does not.
    inverse = (axes * (variances / (variances**2 + _LEAST_VARIANCE**2))) @ axes.T
    inverse = inverse / unit[:, None] / unit[None]
    backward = inverse @ forward.T @ covariance
    return LinearCodes(np.asarray(mean_w), np.asarray(mean_code), forward, backward, inverse)


def exaggerate(
    linear: LinearCodes,
    w: Float[np.ndarray, "n d"],
    *,
    count: int,
    gain: float,
    reach: float,
    seed: int,
) -> Float[np.ndarray, "m d"]:
    """Makes latents of expressions that those at hand hardly show, spread evenly over codes.

    A latent keeps all that says nothing of the expression; what its code has beyond the face at
    rest grows.

    Args:
      linear: The maps of these latents.
      w: Latents to start from.
      count: How many to make.
      gain: What is beyond rest is multiplied by 1 to `gain`.
      reach: How far a code may lie from the mean, in spreads of w.
      seed: Of what is drawn.

    Returns:
      At most `count` latents; fewer where nothing new lies within reach.

    Source: farthest-point sampling (Gonzalez 1985).
    """
    rng = np.random.default_rng(seed)
    told = linear.read(w)
    rest = np.percentile(told, _REST_PERCENT, axis=0)
    rows = rng.integers(len(w), size=_CANDIDATES)
    beyond = (told[rows] - rest) * rng.uniform(0.0, gain - 1.0, (_CANDIDATES, 1))
    codes = told[rows] + beyond
    near = linear.distance(codes) <= reach
    rows, beyond, codes = rows[near], beyond[near], codes[near]
    unit = np.maximum(told.std(axis=0), _MIN_SPREAD)
    known = told[rng.permutation(len(told))[:_KNOWN]]
    apart = np.full(len(codes), np.inf)
    for code in known:
        apart = np.minimum(apart, np.sum(np.square((codes - code) / unit), axis=1))
    chosen: list[int] = []
    for _ in range(min(count, len(codes))):
        chosen.append(int(np.argmax(apart)))
        distance = np.sum(np.square((codes - codes[chosen[-1]]) / unit), axis=1)
        apart = np.minimum(apart, distance)
        apart[chosen[-1]] = -1.0
    return np.asarray(w, np.float64)[rows[chosen]] + beyond[chosen] @ linear.backward
