"""The planes of one avatar as a mean and a few components, so that no network has to make them.

One person's planes vary by the expression alone: over the codes that the avatar has seen they lie
near a curved sheet of few dimensions. Components are their principal ones; how much of each a
latent needs is a quadratic function of a few directions of w, fitted by least squares. Components
are stored in 8 bits, with one scale for each component, plane and channel.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from ganavatar_jax.core.arrays import Bool, Float, Int

_STEPS = 127.0  # of a signed byte
_RIDGE = 1e-4  # of the mean square of a feature


@dataclasses.dataclass(frozen=True)
class PlaneBasis:
    """Planes as mean + weights @ components.

    Attributes:
      mean: Mean planes.
      components: Components in steps of `scales`, int8.
      scales: What one step is worth.
      w_mean: Mean w.
      w_axes: Directions of w that are looked at; whitened.
      regression: Features of these to weights.
      kept: Part of the planes' variance over the seen codes that the components hold, 0..1.
    """

    mean: Float[np.ndarray, "p h w c"]
    components: Int[np.ndarray, "k p h w c"]
    scales: Float[np.ndarray, "k p c"]
    w_mean: Float[np.ndarray, " d"]
    w_axes: Float[np.ndarray, "d q"]
    regression: Float[np.ndarray, "m k"]
    kept: float

    def first(self, count: int) -> "PlaneBasis":
        """Keeps the first components only; the others' weights do not matter to theirs."""
        return dataclasses.replace(
            self,
            components=self.components[:count],
            scales=self.scales[:count],
            regression=self.regression[:, :count],
        )

    def weights(self, w: Float[np.ndarray, "f d"]) -> Float[np.ndarray, "f k"]:
        """Computes how much of each component latents need.

        Args:
          w: One latent a frame.

        Returns:
          Weights of the components.
        """
        return _features((w - self.w_mean) @ self.w_axes) @ self.regression

    def planes(self, w: Float[np.ndarray, "f d"]) -> Float[np.ndarray, "f p h w c"]:
        """Makes planes as the generator would, nearly.

        Args:
          w: One latent a frame.

        Returns:
          Feature planes.
        """
        steps = self.components.astype(np.float32) * self.scales[:, :, None, None]
        return self.mean + np.tensordot(self.weights(w), steps, axes=1)


def fit(
    w: Float[np.ndarray, "n d"],
    make_planes: Callable[[np.ndarray], np.ndarray],
    *,
    components: int,
    directions: int = 10,
    spanning: int = 192,
    batch_size: int = 8,
    used: Bool[np.ndarray, "p h w"] | None = None,
) -> PlaneBasis:
    """Finds the components of the planes of some latents, and what latents need of them.

    Args:
      w: Latents the avatar has seen.
      make_planes: Makes planes [b p h w c] of latents [b d].
      components: Most components.
      directions: Most directions of w that their weights depend on.
      spanning: How many of the latents, evenly spread, the components are found on; weights are
        fitted on all.
      batch_size: Latents whose planes are made at once.
      used: Whether a texel matters; others become zero. None keeps all.

    Returns:
      The basis.

    Raises:
      ValueError: there are too few latents.

    Source: Sirovich 1987 (method of snapshots) for the components.
    """
    if len(w) < 2:
        raise ValueError(f"components need at least two latents; got {len(w)}. Give more codes.")
    chosen = w[np.unique(np.linspace(0, len(w) - 1, min(spanning, len(w))).round().astype(int))]
    shown = np.float32(1.0) if used is None else used[..., None].astype(np.float32)

    def make(latents: np.ndarray) -> np.ndarray:
        planes = np.asarray(make_planes(latents), np.float32) * shown
        return planes.reshape(len(latents), -1)

    snapshots = np.concatenate([make(part) for part in _batches(chosen, batch_size)])
    shape = np.asarray(make_planes(chosen[:1])).shape[1:]
    mean = snapshots.mean(axis=0)
    snapshots -= mean
    axes, kept = _principal(snapshots, components)
    steps, scales = _quantize(axes.reshape(-1, *shape))
    # Weights for the components as they are stored, not as they were before rounding.
    stored = (steps.astype(np.float32) * scales[:, :, None, None]).reshape(len(steps), -1)
    solve = np.linalg.pinv((stored @ stored.T).astype(np.float64))
    targets = np.concatenate(
        [((make(part) - mean) @ stored.T) @ solve for part in _batches(w, batch_size)]
    )
    w_mean, w_axes = _whiten(w, directions)
    regression = _least_squares(_features((w - w_mean) @ w_axes), targets)
    return PlaneBasis(
        mean=mean.reshape(shape),
        components=steps,
        scales=scales,
        w_mean=w_mean,
        w_axes=w_axes,
        regression=regression.astype(np.float32),
        kept=kept,
    )


def _batches(w: np.ndarray, size: int) -> list[np.ndarray]:
    return [w[start : start + size] for start in range(0, len(w), size)]


def _principal(snapshots: np.ndarray, count: int) -> tuple[np.ndarray, float]:
    """Finds unit components by the small matrix of products, and the variance they hold."""
    products = (snapshots @ snapshots.T).astype(np.float64)
    variances, vectors = np.linalg.eigh(products)
    order = np.argsort(variances)[::-1]
    total = max(float(variances.clip(0.0).sum()), 1e-30)
    order = [i for i in order[:count] if variances[i] > 1e-9 * total] or [order[0]]
    kept = float(variances[order].clip(0.0).sum() / total)
    lengths = np.sqrt(np.maximum(variances[order], 1e-30))
    axes = (vectors[:, order] / lengths).T.astype(np.float32) @ snapshots
    return axes, kept


def _quantize(axes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rounds components [k p h w c] to bytes; each plane's channel has a scale of its own."""
    scales = np.abs(axes).max(axis=(2, 3)) / _STEPS
    scales = np.maximum(scales, np.float32(1e-12)).astype(np.float32)
    steps = np.rint(axes / scales[:, :, None, None])
    return steps.astype(np.int8), scales


def _whiten(w: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Finds the directions in which latents vary most, scaled to a spread of one."""
    mean = w.mean(axis=0)
    _, lengths, directions = np.linalg.svd(w - mean, full_matrices=False)
    spread = lengths / np.sqrt(len(w))
    kept = [i for i in range(min(count, len(spread))) if spread[i] > 1e-3 * spread[0]] or [0]
    axes = directions[kept].T / np.maximum(spread[kept], 1e-12)
    return mean.astype(np.float32), axes.astype(np.float32)


def _features(x: np.ndarray) -> np.ndarray:
    """Computes one, the inputs and their products [f m]."""
    rows, columns = np.triu_indices(x.shape[1])
    return np.concatenate([np.ones((len(x), 1)), x, x[:, rows] * x[:, columns]], axis=1)


def _least_squares(features: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Fits with a little ridge: there may be fewer latents than features."""
    products = features.T @ features
    ridge = _RIDGE * np.trace(products) / len(products) * np.eye(len(products))
    return np.linalg.solve(products + ridge, features.T @ targets)
