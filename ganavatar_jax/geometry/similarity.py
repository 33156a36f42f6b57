"""Similarity transforms: found from point pairs, and applied to points and cameras.

A capture lives in its tracker's frame and units; the generator lives in the head frame of its
training data. One similarity per subject, found from two sets of matching points (for example
vertices of the tracked face and of the generator's face), carries every camera over. Images and
intrinsics stay as they are; distances along rays grow by the scale.

Source: Umeyama 1991, "Least-squares estimation of transformation parameters between two point
patterns"; GAN-Avatar, section on data alignment.
"""

import jax.numpy as jnp
import numpy as np

from ganavatar_jax.core import precision, trees
from ganavatar_jax.core.arrays import Array, Float
from ganavatar_jax.geometry import cameras

AnyArray = Array | np.ndarray


@trees.pytree_dataclass
class Similarity:
    """The map x -> scale * rotation @ x + translation.

    Attributes:
      scale: Positive factor, target units per source unit.
      rotation: Rotation matrix, determinant +1.
      translation: In target units.
    """

    scale: Float[AnyArray, "*b"]
    rotation: Float[AnyArray, "*b 3 3"]
    translation: Float[AnyArray, "*b 3"]


def similarity_from_points(
    source: Float[AnyArray, "*b n 3"],
    target: Float[AnyArray, "*b n 3"],
    *,
    weights: Float[AnyArray, "*b n"] | None = None,
) -> Similarity:
    """Finds the similarity that carries source points onto target points with least squares.

    Args:
      source: Points before the map; at least three, not all on one line.
      target: Where each point should land; row i belongs to row i of source.
      weights: Importance of each pair, non-negative; None weighs all alike.

    Returns:
      The similarity that minimizes sum_i weights_i |target_i - (s R source_i + t)|^2; never a
      reflection.

    Raises:
      ValueError: the two sets differ in shape, or hold fewer than three points.

    Source: Umeyama 1991, equations 40 to 43, with weighted means.
    """
    source, target = jnp.asarray(source), jnp.asarray(target)
    if source.shape != target.shape or source.shape[-1] != 3 or source.shape[-2] < 3:
        raise ValueError(
            "a similarity needs at least 3 pairs of points, both sets as [n, 3]; got shapes "
            f"{source.shape} and {target.shape}. Pass matching points in the same order."
        )
    if weights is None:
        weights = jnp.ones(source.shape[:-1], source.dtype)
    weights = jnp.asarray(weights)
    weights = (weights / jnp.sum(weights, axis=-1, keepdims=True))[..., None]
    source_mean = jnp.sum(weights * source, axis=-2, keepdims=True)
    target_mean = jnp.sum(weights * target, axis=-2, keepdims=True)
    source_centred, target_centred = source - source_mean, target - target_mean
    variance = jnp.sum(weights * source_centred**2, axis=(-2, -1))
    covariance = precision.einsum("...ni,...nj->...ij", weights * target_centred, source_centred)
    rotation, singular_sum = _nearest_rotation(covariance)
    scale = singular_sum / variance
    moved_mean = precision.einsum("...ij,...j->...i", rotation, source_mean[..., 0, :])
    translation = target_mean[..., 0, :] - scale[..., None] * moved_mean
    return Similarity(scale=scale, rotation=rotation, translation=translation)


def similarity_from_matrix(matrix: Float[AnyArray, "*b 4 4"]) -> Similarity:
    """Reads a similarity from its 4x4 matrix.

    Args:
      matrix: [scale * rotation | translation] over 0 0 0 1; rounding of the entries is allowed.

    Returns:
      Its parts: the scale is the length of the first column, the rotation the one nearest to
      the 3x3 block.

    Source: GAN-Avatar reference behaviour for the scale.
    """
    matrix = jnp.asarray(matrix)
    rotation, _ = _nearest_rotation(matrix[..., :3, :3])
    return Similarity(
        scale=jnp.linalg.norm(matrix[..., :3, 0], axis=-1),
        rotation=rotation,
        translation=matrix[..., :3, 3],
    )


def scale_only(similarity: Similarity) -> Similarity:
    """Keeps the scale of a similarity and drops its rotation and translation.

    Args:
      similarity: Any similarity.

    Returns:
      The map x -> scale * x.

    Source: GAN-Avatar reference behaviour for INSTA captures. Quirk Q11.
    """
    rotation = jnp.asarray(similarity.rotation)
    return Similarity(
        scale=similarity.scale,
        rotation=jnp.broadcast_to(jnp.eye(3, dtype=rotation.dtype), rotation.shape),
        translation=jnp.zeros_like(jnp.asarray(similarity.translation)),
    )


def transform_points(
    points: Float[AnyArray, "*b n 3"], similarity: Similarity
) -> Float[Array, "*b n 3"]:
    """Moves points by a similarity.

    Args:
      points: Points in the source frame.
      similarity: The map; its batch axes equal those of points.

    Returns:
      Points in the target frame.

    Source: standard.
    """
    scaled = jnp.asarray(similarity.scale)[..., None, None] * jnp.asarray(points)
    rotated = precision.einsum("...ij,...nj->...ni", similarity.rotation, scaled)
    return rotated + jnp.asarray(similarity.translation)[..., None, :]


def transform_camera(camera: cameras.Camera, similarity: Similarity) -> cameras.Camera:
    """Carries cameras into the target frame, so that moved points project where they did.

    Args:
      camera: Cameras in the source frame, any batch axes.
      similarity: One map for all of them, without batch axes.

    Returns:
      Cameras with rotation Q R and centre scale Q o + translation; intrinsics unchanged. Depths
      along their rays are scale times the former ones.

    Source: standard; the scale cancels in the projection.
    """
    cam2world = jnp.asarray(camera.cam2world)
    rotation = precision.einsum("ij,...jk->...ik", similarity.rotation, cam2world[..., :3, :3])
    origin = transform_points(cam2world[..., :3, 3].reshape(-1, 3), similarity)
    origin = origin.reshape(*cam2world.shape[:-2], 3, 1)
    top = jnp.concatenate([rotation, origin], axis=-1)
    return cameras.Camera(
        cam2world=jnp.concatenate([top, cam2world[..., 3:, :]], axis=-2),
        intrinsics=camera.intrinsics,
    )


def _nearest_rotation(
    matrix: Float[Array, "*b 3 3"],
) -> tuple[Float[Array, "*b 3 3"], Float[Array, "*b"]]:
    """Returns the rotation R that maximizes trace(R^T matrix), and that maximum."""
    u, singular, vt = jnp.linalg.svd(matrix)
    sign = jnp.where(jnp.linalg.det(u) * jnp.linalg.det(vt) < 0.0, -1.0, 1.0)
    sign = sign.astype(matrix.dtype)
    ones = jnp.ones_like(sign)
    signs = jnp.stack([ones, ones, sign], axis=-1)
    rotation = precision.matmul(u * signs[..., None, :], vt)
    return rotation, jnp.sum(singular * signs, axis=-1)
