"""Brings expression codes to comparable scale, as input of the mapping network.

Coefficients differ a hundredfold in spread (MediaPipe's cheekPuff stays below 0.001). Either each
is standardised, or their principal components are. Fitted on training codes, kept beside the
network, applied to any code with the same names. `apply` uses operators only, so it also works on
traced JAX arrays.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from ganavatar_jax.core import errors
from ganavatar_jax.core.arrays import Array, Float


@dataclasses.dataclass(frozen=True)
class CodeNormalizer:
    """An affine map of codes to normalised codes, and one back.

    normalised = (code - mean) @ forward; code = normalised @ backward + mean.
    """

    names: tuple[str, ...]
    mean: Float[np.ndarray, " e"]
    forward: Float[np.ndarray, "e k"]
    backward: Float[np.ndarray, "k e"]

    @property
    def std(self) -> Float[np.ndarray, " e"]:
        """Standard deviation of each coefficient over the codes it was fitted on.

        At least the smallest one that `fit` divides by; less what dropped components carried.
        """
        return np.sqrt(np.sum(np.square(self.backward), axis=0))

    def apply(self, codes: Float[np.ndarray | Array, "*b e"]) -> Float[np.ndarray | Array, "*b k"]:
        """Normalises codes.

        Args:
          codes: Codes with this normaliser's names.

        Returns:
          Normalised codes: mean 0, standard deviation 1 over the codes it was fitted on (less
          for coefficients that hardly vary).
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
        }


def fit(
    codes: Float[np.ndarray, "f e"],
    names: Sequence[str],
    *,
    method: Literal["standardize", "pca"] = "standardize",
    components: int | None = None,
    min_std: float = 0.01,
) -> CodeNormalizer:
    """Fits a normaliser to codes.

    Args:
      codes: Training codes, one row per frame, all finite.
      names: Name of each coefficient.
      method: "standardize" scales each coefficient by itself; "pca" whitens: uncorrelated
        components, largest spread first.
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
    mean = values.mean(axis=0)
    if method == "standardize":
        axes, std = np.eye(width), values.std(axis=0)
    else:
        _, spread, axes = np.linalg.svd(values - mean, full_matrices=True)
        std = np.zeros(width)
        std[: len(spread)] = spread / np.sqrt(count)
    axes, scale = axes[:components], np.maximum(std, min_std)[:components]
    forward, backward = (axes / scale[:, None]).T, axes * scale[:, None]
    return CodeNormalizer(tuple(names), *(x.astype(np.float32) for x in (mean, forward, backward)))


def from_dict(values: Mapping[str, Any]) -> CodeNormalizer:
    """Rebuilds a normaliser from `CodeNormalizer.to_dict`.

    Args:
      values: Mapping with names, mean, forward and backward.

    Returns:
      The normaliser.

    Raises:
      DataFormatError: a key is missing, holds something else, or shapes disagree.

    Source: ours.
    """
    missing = [field.name for field in dataclasses.fields(CodeNormalizer)]
    missing = [name for name in missing if name not in values]
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
    return CodeNormalizer(names, mean, forward, backward)
