"""How corresponding points of heads vary over people, and aligning a person to that.

Landmarks of one person and of the mean head differ by a similarity and by the person's shape. Least
squares takes part of the shape for a rotation: a short nose looks like a head held up. A model
`mean + modes z + noise`, z and noise Gaussian, tells the two apart: of all similarities, the one is
taken that leaves the most probable shape. All in float64 on the host.

Source: Tipping and Bishop 1999, "Probabilistic principal component analysis"; Umeyama 1991.
"""

import dataclasses

import numpy as np

from ganavatar_jax.core.arrays import Float

_MAX_ITERATIONS = 1000
_CONVERGED = 1e-7  # Change of the similarity's matrix, in model units.
# Points that fit worse than this many median residuals lose influence (Geman and McClure).
_ROBUST_WIDTH = 3.0


@dataclasses.dataclass(frozen=True)
class PointModel:
    """Mean and modes of corresponding points.

    Attributes:
      mean: In model units.
      modes: Displacement per standard deviation of each mode; no mode leaves a plain mean.
      noise: Standard deviation of what the modes leave, each coordinate.
    """

    mean: Float[np.ndarray, "n 3"]
    modes: Float[np.ndarray, "n 3 k"]
    noise: float


@dataclasses.dataclass(frozen=True)
class Alignment:
    """The similarity x -> scale * rotation @ x + translation and what it leaves.

    Attributes:
      scale: Model units per source unit.
      rotation: Determinant +1.
      translation: Model units.
      coefficients: The person's shape, standard deviations of the modes.
      residual: Distance of each moved point from the person's model shape, model units.
    """

    scale: float
    rotation: Float[np.ndarray, "3 3"]
    translation: Float[np.ndarray, "3"]
    coefficients: Float[np.ndarray, " k"]
    residual: Float[np.ndarray, " n"]


def align(points: Float[np.ndarray, "n 3"], model: PointModel) -> Alignment:
    """Finds the similarity that carries a person's points into the model's frame.

    Args:
      points: The person's points in any frame and unit; row i is the model's point i.
      model: Mean, modes and noise.

    Returns:
      The similarity, the person's shape, and residuals. Points that fit badly count less.

    Raises:
      ValueError: there are fewer than three points, another number than the model's, or all of
        them lie on one line.

    Source: alternating Umeyama's similarity and the mode of the shape's posterior.
    """
    if points.shape != model.mean.shape or len(points) < 3:
        raise ValueError(
            f"expected {len(model.mean)} points, at least 3; got {points.shape}. Pass one point "
            "for each of the model's."
        )
    if np.linalg.svd(points - points.mean(axis=0), compute_uv=False)[1] <= 1e-6 * np.ptp(points):
        raise ValueError("the points lie on one line; give points that span a plane.")
    basis = model.modes.reshape(3 * len(points), model.modes.shape[-1])
    coefficients = np.zeros(basis.shape[1])
    weights, matrix = np.ones(len(points)), np.zeros((3, 4))
    for _ in range(_MAX_ITERATIONS):
        shape = model.mean + model.modes @ coefficients
        scale, rotation, translation = weighted_similarity(points, shape, weights)
        moved = scale * points @ rotation.T + translation
        residual = np.linalg.norm(moved - shape, axis=1)
        width = _ROBUST_WIDTH * np.median(residual) + 1e-12
        weights = 1.0 / (1.0 + (residual / width) ** 2) ** 2
        if basis.shape[1]:
            precision = np.repeat(weights, 3) / model.noise**2
            normal = basis.T @ (precision[:, None] * basis) + np.eye(len(coefficients))
            offset = (moved - model.mean).reshape(-1)
            coefficients = np.linalg.solve(normal, basis.T @ (precision * offset))
        before, matrix = matrix, np.column_stack([scale * rotation, translation])
        if np.abs(matrix - before).max() < _CONVERGED:
            break
    return Alignment(scale, rotation, translation, coefficients, residual)


def weighted_similarity(
    source: Float[np.ndarray, "n 3"],
    target: Float[np.ndarray, "n 3"],
    weights: Float[np.ndarray, " n"],
) -> tuple[float, Float[np.ndarray, "3 3"], Float[np.ndarray, "3"]]:
    """Finds the similarity of least squares in float64; `geometry.alignment` has it for JAX.

    Args:
      source: Points before the map.
      target: Where they should land.
      weights: Importance of each pair, not negative.

    Returns:
      scale: Target units per source unit.
      rotation: Never a reflection.
      translation: Target units.

    Source: Umeyama 1991, equations 40 to 43, with weighted means.
    """
    weights = weights / weights.sum()
    source_mean, target_mean = weights @ source, weights @ target
    from_mean, to_mean = source - source_mean, target - target_mean
    u, singular, vt = np.linalg.svd((weights[:, None] * to_mean).T @ from_mean)
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = (u * signs) @ vt
    scale = float(singular @ signs / (weights @ (from_mean**2).sum(axis=1)))
    return scale, rotation, target_mean - scale * rotation @ source_mean
