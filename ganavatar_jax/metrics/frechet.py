"""Frechet distance between two sets of images, from pooled features of a network.

`alexnet_frechet_distance` needs no weights but LPIPS's, and is NOT the FID: the two are not
comparable. Use it to compare our own runs with each other at an equal number of images: like the
FID it is biased upwards when images are few, and with fewer images than features (256) the
covariances are singular. `fid` is the FID, of statistics that `metrics.inception` makes with
weights the user brings.

Sums are float64 on the host, and statistics merge, so that images may come in any order and from
several processes.
"""

import dataclasses
import functools

import jax
import numpy as np

from ganavatar_jax.core import chunks, image_sequences, images
from ganavatar_jax.core.arrays import Array, Float, UInt8
from ganavatar_jax.metrics import lpips


@dataclasses.dataclass(frozen=True)
class FeatureStatistics:
    """First and second moments of a set of feature vectors, as sums that add up.

    Attributes:
      count: Number of vectors.
      total: Their sum.
      outer: Sum of their outer products.
    """

    count: int
    total: Float[np.ndarray, " e"]
    outer: Float[np.ndarray, "e e"]


def from_features(features: Float[np.ndarray, "f e"]) -> FeatureStatistics:
    """Sums feature vectors into statistics.

    Args:
      features: One vector per image.

    Returns:
      Statistics in float64.
    """
    wide = np.asarray(features, np.float64)
    return FeatureStatistics(count=wide.shape[0], total=wide.sum(axis=0), outer=wide.T @ wide)


def from_images(
    params: lpips.LpipsParams, images_u8: image_sequences.Images, *, chunk: int = 16
) -> FeatureStatistics:
    """Sums the pooled AlexNet features of images into statistics.

    Args:
      params: AlexNet weights of `lpips.load_params("alex")`.
      images_u8: Images, 0..255, [f h w 3].
      chunk: Images per device call.

    Returns:
      Statistics in float64.
    """
    return from_features(
        chunks.map_in_chunks(functools.partial(_features_u8, params), images_u8, chunk=chunk)
    )


def merge(first: FeatureStatistics, second: FeatureStatistics) -> FeatureStatistics:
    """Adds the statistics of two disjoint sets.

    Args:
      first: Statistics of one set.
      second: Statistics of the other.

    Returns:
      Statistics of the union.
    """
    return FeatureStatistics(
        count=first.count + second.count,
        total=first.total + second.total,
        outer=first.outer + second.outer,
    )


def alexnet_frechet_distance(real: FeatureStatistics, generated: FeatureStatistics) -> float:
    """Gives the squared Frechet distance of two Gaussians fitted to AlexNet features.

    Covariances have the divisor n.

    Args:
      real: Statistics of real images.
      generated: Statistics of generated images.

    Returns:
      The distance in squared feature units; 0 for equal statistics.

    Raises:
      ValueError: a set holds fewer than two images.

    Source: Dowson and Landau 1982; Heusel et al. 2017 with other features.
    """
    _check_counts("alexnet_frechet_distance", real, generated)
    return _distance(real, generated, ddof=0)


def fid(real: FeatureStatistics, generated: FeatureStatistics) -> float:
    """Gives the FID: the same distance of Inception features, covariances with divisor n - 1.

    Args:
      real: Statistics of real images, from `inception.from_images`.
      generated: Statistics of generated images.

    Returns:
      The FID; 0 for equal statistics.

    Raises:
      ValueError: a set holds fewer than two images.

    Source: Heusel et al. 2017, equation 6.
    """
    _check_counts("fid", real, generated)
    return _distance(real, generated, ddof=1)


def _check_counts(name: str, real: FeatureStatistics, generated: FeatureStatistics) -> None:
    if min(real.count, generated.count) < 2:
        raise ValueError(
            f"{name} needs at least 2 images on each side; got {real.count} and {generated.count}."
        )


def _distance(real: FeatureStatistics, generated: FeatureStatistics, *, ddof: int) -> float:
    """Computes |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)).

    The root's trace is taken from the eigenvalues of the symmetric C1^(1/2) C2 C1^(1/2), which
    stays real when covariances are singular.
    """
    mean_r, covariance_r = _moments(real, ddof=ddof)
    mean_g, covariance_g = _moments(generated, ddof=ddof)
    values, vectors = np.linalg.eigh(covariance_r)
    root = (vectors * np.sqrt(np.clip(values, 0.0, None))) @ vectors.T
    overlap = np.clip(np.linalg.eigvalsh(root @ covariance_g @ root), 0.0, None)
    shift = float(np.sum((mean_r - mean_g) ** 2))
    spread = float(np.trace(covariance_r) + np.trace(covariance_g) - 2.0 * np.sqrt(overlap).sum())
    return max(shift + spread, 0.0)


def _moments(
    statistics: FeatureStatistics, *, ddof: int
) -> tuple[Float[np.ndarray, " e"], Float[np.ndarray, "e e"]]:
    mean = statistics.total / statistics.count
    covariance = statistics.outer / statistics.count - np.outer(mean, mean)
    return mean, covariance * (statistics.count / (statistics.count - ddof))


@jax.jit
def _features_u8(
    params: lpips.LpipsParams, image_u8: UInt8[Array, "b h w 3"]
) -> Float[Array, "b e"]:
    return lpips.alex_features(params, images.from_u8(image_u8))
