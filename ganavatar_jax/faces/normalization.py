"""Brings expression codes to comparable scale, as input of the mapping network.

Coefficients differ a hundredfold in spread (MediaPipe's cheekPuff stays below 0.001). Either each
is standardised, or their principal components are, or they are fed as they are. Fitted on training
codes, kept beside the network, applied to any code with the same names. `apply` uses operators
only, so it also works on traced JAX arrays.

What the map does to a code, and where the codes of the pairs lay, are two things: raw codes are
mapped by the identity, and have a mean and a spread all the same. `CodeStatistics` says the second.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from ganavatar_jax.core import errors
from ganavatar_jax.core.arrays import Array, Float

_STATISTICS = {
    "mean": "code_mean",
    "std": "code_std",
    "normalized_std": "normalized_std",
    "rest": "code_rest",
}
# A face rests more often than not, but a jaw that talks or a smile that stays is no rest.
_REST_PERCENT = 25.0
_STILL = 1e-3  # Less is no movement.


@dataclasses.dataclass(frozen=True)
class CodeStatistics:
    """Where the codes lay that a network was trained on.

    Attributes:
      mean: Mean of each coefficient, code units.
      std: Standard deviation of each coefficient (divisor n), code units.
      normalized_std: Standard deviation of each normalised code.
      rest: Code of the face at rest: the lower quartile of each coefficient, code units; the mean
        in files from before it was stored.
    """

    mean: Float[np.ndarray, " e"]
    std: Float[np.ndarray, " e"]
    normalized_std: Float[np.ndarray, " k"]
    rest: Float[np.ndarray, " e"]


@dataclasses.dataclass(frozen=True)
class CodeNormalizer:
    """An affine map of codes to normalised codes, and one back.

    normalised = (code - mean) @ forward; code = normalised @ backward + mean.

    Attributes:
      names: Name of each coefficient.
      mean: What the map subtracts: the mean code of the pairs, or zeros where codes are fed raw.
      forward: Matrix to normalised codes.
      backward: Matrix back.
      statistics: Mean and spread of the pairs' codes, whatever the map; None where nobody knows
        them (imported networks).
    """

    names: tuple[str, ...]
    mean: Float[np.ndarray, " e"]
    forward: Float[np.ndarray, "e k"]
    backward: Float[np.ndarray, "k e"]
    statistics: CodeStatistics | None = None

    @property
    def std(self) -> Float[np.ndarray, " e"]:
        """Standard deviation of each coefficient over the pairs; see `require_statistics`."""
        return self.require_statistics().std

    def require_statistics(self) -> CodeStatistics:
        """Returns the statistics and insists that they are known.

        Raises:
          ConfigError: nobody knows them.
        """
        if self.statistics is None:
            raise errors.ConfigError(
                "expected a mapping that knows the mean and spread of the codes it was trained "
                "on, so that a driver can be brought to them; this one was imported, or mapped "
                'raw codes before they were stored. Set evaluation.driver_statistics="pairs" to '
                "take codes as they are, or run --task=train_mapping again."
            )
        return self.statistics

    def limit(
        self, normalized: Float[np.ndarray, "*b k"], spreads: float
    ) -> Float[np.ndarray, "*b k"]:
        """Cuts normalised codes off that lie far from those of the pairs.

        Args:
          normalized: Normalised codes.
          spreads: How many of the pairs' standard deviations a normalised code may lie from their
            mean: counted along each coefficient, or along each component with "pca".

        Returns:
          Normalised codes; unchanged where the pairs' statistics are not known.
        """
        if self.statistics is None:
            return normalized
        centre, reach = self.apply(self.statistics.mean), spreads * self.statistics.normalized_std
        return np.clip(normalized, centre - reach, centre + reach)

    def restate(
        self,
        codes: Float[np.ndarray, "f e"],
        mean: Float[np.ndarray, " e"],
        std: Float[np.ndarray, " e"],
    ) -> Float[np.ndarray, "f e"]:
        """Brings codes to the mean and spread of the pairs'.

        Args:
          codes: Codes of a driver.
          mean: The driver's mean.
          std: The driver's standard deviation.

        Returns:
          Codes; a coefficient that the driver never moves says nothing and stays at the mean.

        Raises:
          ConfigError: nobody knows the statistics of the pairs (imported).
        """
        own = self.require_statistics()
        scale = np.where(std > _STILL, own.std / np.maximum(std, _STILL), 0.0)
        return np.asarray((codes - mean) * scale + own.mean, np.float32)

    def apply(self, codes: Float[np.ndarray | Array, "*b e"]) -> Float[np.ndarray | Array, "*b k"]:
        """Normalises codes.

        Args:
          codes: Codes with this normaliser's names.

        Returns:
          Normalised codes: unless fed raw, mean 0 and standard deviation 1 over the codes it was
          fitted on (less for coefficients that hardly vary).
        """
        return (codes - self._mean_like(codes)) @ self.forward

    def _mean_like(self, codes: Float[np.ndarray | Array, "*b e"]) -> Float[np.ndarray, "*ones e"]:
        return self.mean[(None,) * (codes.ndim - 1)]  # JAX may be set to refuse rank promotion.

    def to_dict(self) -> dict[str, Any]:
        """Returns plain lists, ready for JSON; `from_dict` reads them."""
        return {
            "names": list(self.names),
            "mean": self.mean.tolist(),
            "forward": self.forward.tolist(),
            "backward": self.backward.tolist(),
            **{key: array.tolist() for key, array in _statistics_arrays(self).items()},
        }


def fit(
    codes: Float[np.ndarray, "f e"],
    names: Sequence[str],
    *,
    method: Literal["none", "standardize", "pca"] = "standardize",
    components: int | None = None,
    min_std: float = 0.01,
) -> CodeNormalizer:
    """Fits a normaliser to codes.

    Args:
      codes: Training codes, one row per frame, all finite.
      names: Name of each coefficient.
      method: "standardize" scales each coefficient by itself; "pca" whitens: uncorrelated
        components, largest spread first; "none" leaves codes as they are.
      components: Number kept with "pca"; None keeps all.
      min_std: Smallest standard deviation divided by, so that noise of coefficients that hardly
        vary is not blown up; in code units.

    Returns:
      The normaliser.

    Raises:
      ValueError: codes are empty, not finite or not as wide as names; or an option is wrong.

    Source: ours; PCA whitening as in Hyvarinen et al. 2009, chapter 5.
    """
    count, width = codes.shape
    if width != len(names) or count == 0 or not np.isfinite(codes).all():
        raise ValueError(
            f"expected finite codes [f {len(names)}], one column per name; got {codes.shape}. "
            "Keep only rows that were found."
        )
    most = width if method == "pca" else 0
    if min_std <= 0 or (components is not None and not 1 <= components <= most):
        raise ValueError(
            f'expected min_std > 0 and components in 1..{width} with method "pca" only; '
            f"got {min_std=}, {components=}, {method=}."
        )
    values = codes.astype(np.float64)
    mean, code_std = values.mean(axis=0), values.std(axis=0)
    axes, std = np.eye(width), code_std
    if method == "pca":
        _, spread, axes = np.linalg.svd(values - mean, full_matrices=True)
        std = np.zeros(width)
        std[: len(spread)] = spread / np.sqrt(count)
    scale = np.ones(width) if method == "none" else np.maximum(std, min_std)
    axes, std, scale = axes[:components], std[:components], scale[:components]
    offset = np.zeros(width) if method == "none" else mean
    forward, backward = (axes / scale[:, None]).T, axes * scale[:, None]
    rest = np.percentile(values, _REST_PERCENT, axis=0)
    told = (x.astype(np.float32) for x in (mean, code_std, std / scale, rest))
    statistics = CodeStatistics(*told)
    affine = (x.astype(np.float32) for x in (offset, forward, backward))
    return CodeNormalizer(tuple(names), *affine, statistics=statistics)


def from_dict(values: Mapping[str, Any]) -> CodeNormalizer:
    """Rebuilds a normaliser from `CodeNormalizer.to_dict`.

    Args:
      values: Mapping with names, mean, forward and backward, and the statistics. Files from before
        statistics were stored still tell them by their map, unless that maps raw codes.

    Returns:
      The normaliser.

    Raises:
      DataFormatError: a key is missing, holds something else, or shapes disagree.
    """
    missing = [key for key in ("names", "mean", "forward", "backward") if key not in values]
    if missing:
        raise errors.DataFormatError(
            f"code normaliser: expected keys names, mean, forward, backward; {missing} missing. "
            "Fit it anew."
        )
    try:
        names = tuple(str(name) for name in values["names"])
        mean, forward, backward = (
            np.asarray(values[key], np.float32) for key in ("mean", "forward", "backward")
        )
    except (TypeError, ValueError) as error:
        raise errors.DataFormatError(
            f"code normaliser: expected a list of names and lists of numbers ({error}). Fit it "
            "anew."
        ) from error
    width = len(names)
    if mean.shape != (width,) or forward.shape[:1] != (width,) or backward.T.shape != forward.shape:
        raise errors.DataFormatError(
            f"code normaliser: expected mean [{width}], forward [{width} k], backward "
            f"[k {width}]; got {mean.shape}, {forward.shape}, {backward.shape}. Fit it anew."
        )
    return CodeNormalizer(names, mean, forward, backward, _read_statistics(values, mean, backward))


def _read_statistics(
    values: Mapping[str, Any], mean: Float[np.ndarray, " e"], backward: Float[np.ndarray, "k e"]
) -> CodeStatistics | None:
    """Reads the statistics, or derives them from a map that was fitted before they were stored."""
    stored = {
        field: np.asarray(values[key], np.float32)
        for field, key in _STATISTICS.items()
        if key in values
    }
    components, width = backward.shape
    if not stored:
        if not mean.any() and np.array_equal(backward, np.eye(components, width)):
            return None  # Raw codes: the map says nothing of where they lay.
        # At least the smallest spread that `fit` divides by; less what dropped components carried.
        std = np.sqrt(np.sum(np.square(backward), axis=0))
        return CodeStatistics(mean, std, np.ones(components, np.float32), mean)
    if "mean" in stored:
        stored.setdefault("rest", stored["mean"])
    shapes = {field: array.shape for field, array in stored.items()}
    expected = {
        "mean": (width,),
        "std": (width,),
        "normalized_std": (components,),
        "rest": (width,),
    }
    if shapes != expected:
        raise errors.DataFormatError(
            f"code normaliser: expected statistics of shapes {expected}; got {shapes}. Fit it anew."
        )
    return CodeStatistics(**stored)


def _statistics_arrays(normalizer: CodeNormalizer) -> dict[str, Float[np.ndarray, "..."]]:
    """Names the statistics as files do; nothing where they are not known."""
    known = normalizer.statistics
    return {} if known is None else {k: getattr(known, f) for f, k in _STATISTICS.items()}
