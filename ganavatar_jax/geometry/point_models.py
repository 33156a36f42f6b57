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
from ganavatar_jax.geometry import similarity

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
class Alignment(similarity.Similarity):
    """The similarity from the source to the model, and what it leaves.

    Attributes:
      coefficients: The person's shape, standard deviations of the modes.
      residual: Distance of each moved point from the person's model shape, model units.
    """

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

    Source: Umeyama's similarity with the mean; then, at that scale, the mode of the posterior of
      turn, shift and shape. Scale and modes of size cannot be told apart: left to the posterior,
      the scale shrinks, because small heads have small residuals.
    """
    if points.shape != model.mean.shape or len(points) < 3:
        raise ValueError(
            f"expected {len(model.mean)} points, at least 3; got {points.shape}. Pass one point "
            "for each of the model's."
        )
    if np.linalg.svd(points - points.mean(axis=0), compute_uv=False)[1] <= 1e-6 * np.ptp(points):
        raise ValueError("the points lie on one line; give points that span a plane.")
    found, residual = _fit_mean(points, model.mean)
    rotation, translation = found.rotation, found.translation
    coefficients = np.zeros(model.modes.shape[-1])
    if len(coefficients):
        rotation, translation, coefficients, residual = _fit_shape(
            found.scale * points, model, start=(rotation, translation)
        )
    return Alignment(found.scale, rotation, translation, coefficients, residual)


def _fit_mean(
    points: Float[np.ndarray, "n 3"], mean: Float[np.ndarray, "n 3"]
) -> tuple[similarity.Similarity, Float[np.ndarray, " n"]]:
    """Fits the mean alone, so that points that stray lose their say step by step."""
    weights, matrix = np.ones(len(points)), np.zeros((3, 4))
    for _ in range(_MAX_ITERATIONS):
        found = similarity.from_points(points, mean, weights)
        residual = np.linalg.norm(similarity.move_points(points, found) - mean, axis=1)
        weights = _robust_weights(residual)
        before, matrix = matrix, np.column_stack([found.scale * found.rotation, found.translation])
        if np.abs(matrix - before).max() < _CONVERGED:
            break
    return found, residual


def _fit_shape(
    points: Float[np.ndarray, "n 3"],
    model: PointModel,
    *,
    start: tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "3"]],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Solves turn, shift and shape together (Gauss-Newton); points have the model's scale."""
    rotation, translation = start
    basis = model.modes.reshape(3 * len(points), -1)
    coefficients = np.zeros(basis.shape[1])
    prior = np.concatenate([np.zeros(6), np.ones(len(coefficients))])
    for _ in range(_MAX_ITERATIONS):
        moved = points @ rotation.T + translation
        residual = np.linalg.norm(moved - model.mean - model.modes @ coefficients, axis=1)
        weights = _robust_weights(residual)
        center = weights @ moved / weights.sum()
        x, y, z = (moved - center).T
        step = np.zeros((len(points), 3, 6))
        step[:, 0, 1], step[:, 1, 2], step[:, 2, 0] = z, x, y
        step[:, 0, 2], step[:, 1, 0], step[:, 2, 1] = -y, -z, -x
        step[:, [0, 1, 2], [3, 4, 5]] = 1.0
        slopes = np.concatenate([step.reshape(-1, 6), -basis], axis=1)
        precision = np.repeat(weights, 3) / model.noise**2
        normal = slopes.T @ (precision[:, None] * slopes) + np.diag(prior)
        solved = np.linalg.solve(normal, slopes.T @ (precision * (model.mean - moved).ravel()))
        turn = _turn(solved[:3])
        rotation = turn @ rotation
        translation = turn @ (translation - center) + center + solved[3:6]
        coefficients = solved[6:]
        if np.abs(solved[:6]).max() < _CONVERGED:
            break
    return rotation, translation, coefficients, residual


def _turn(vector: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3 3"]:
    """The rotation nearest to a small turn."""
    x, y, z = vector
    u, _, vt = np.linalg.svd(np.array([[1.0, -z, y], [z, 1.0, -x], [-y, x, 1.0]]))
    return u @ vt


def _robust_weights(residual: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    width = _ROBUST_WIDTH * np.median(residual) + 1e-12
    return 1.0 / (1.0 + (residual / width) ** 2) ** 2
