"""Discriminator augmentation: random flips, geometry and colour, each with probability p.

Real and generated images pass through `augment` before the discriminator sees them. All maps are
linear in the images, so gradients of any order pass. What happens to a sample depends only on the
key and its global id, never on the batch it sits in. `update_p` is the adaptive controller (ADA).

Labels are not touched: a flipped or turned image keeps its camera. With pose conditioning the
discriminator learns the augmented joint distribution; set multipliers to zero to leave an
operation out.

Source: Karras et al. 2020, "Training generative adversarial networks with limited data", appendix
B, pipeline "bgc" (pixel blitting, geometry, colour).
"""

import jax
import jax.numpy as jnp
import numpy as np

from ganavatar_jax.core import precision, rng, trees
from ganavatar_jax.core.arrays import Array, Bool, Float, Int, Key, PRNGKeyArray
from ganavatar_jax.geometry import rotations
from ganavatar_jax.ops import affine_warp
from ganavatar_jax.training import augment_config

# Sizes of the operations, Karras et al. 2020, appendix B.
_WHOLE_SHIFT_MAX = 0.125  # of the side
_LOG2_SCALE_STD = 0.2
_LOG2_ASPECT_STD = 0.2
_SHIFT_STD = 0.125  # of the side
_BRIGHTNESS_STD = 0.2  # of the half range, images being in [-1, 1]
_LOG2_CONTRAST_STD = 0.5
_LOG2_SATURATION_STD = 1.0
_LUMA = np.full(3, 1.0 / np.sqrt(3.0))


@trees.pytree_dataclass
class AugmentDraws:
    """What is done to each sample; a neutral value where an operation did not fire.

    Attributes:
      flip: Whether to mirror left and right.
      quarter_turns: Multiples of 90 degrees, 0..3.
      whole_shift: (x, y) as a fraction of the side; rounded to whole pixels when applied.
      log2_scale: Enlargement, powers of two.
      angle_before: Rotation before the stretch, radians.
      log2_aspect: Stretch along x (and shrinking along y), powers of two.
      angle_after: Rotation after the stretch, radians.
      shift: (x, y) as a fraction of the side.
      brightness: Added to every channel.
      log2_contrast: Factor on every channel, powers of two.
      luma_flip: Whether to reflect the luma axis.
      hue: Rotation about the luma axis, radians.
      log2_saturation: Factor on the chroma, powers of two.
    """

    flip: Bool[Array, " b"]
    quarter_turns: Int[Array, " b"]
    whole_shift: Float[Array, "b 2"]
    log2_scale: Float[Array, " b"]
    angle_before: Float[Array, " b"]
    log2_aspect: Float[Array, " b"]
    angle_after: Float[Array, " b"]
    shift: Float[Array, "b 2"]
    brightness: Float[Array, " b"]
    log2_contrast: Float[Array, " b"]
    luma_flip: Bool[Array, " b"]
    hue: Float[Array, " b"]
    log2_saturation: Float[Array, " b"]


def sample_draws(
    key: PRNGKeyArray,
    sample_ids: Int[Array, " b"],
    p: float | Float[Array, ""],
    *,
    config: augment_config.AugmentConfig,
) -> AugmentDraws:
    """Decides which operations fire for each sample, and how strongly.

    Args:
      key: Key of this step's augmentation.
      sample_ids: Global index of each sample; equal ids get equal draws.
      p: Probability of each operation, 0..1; larger counts as 1.
      config: Factors on p.

    Returns:
      The draws. The two rotations fire with 1 - sqrt(1 - p) each, so that any rotation fires
      with p.

    Source: Karras et al. 2020, appendix B.
    """
    gate, uniform, normal = _raw_numbers(rng.per_sample(key, sample_ids))
    centered = 2.0 * uniform - 1.0

    def gated(index: int, multiplier: Array | float, value: Array) -> Array:
        fires = gate[:, index] < p * multiplier
        fires = fires.reshape(fires.shape + (1,) * (value.ndim - 1))
        return jnp.where(fires, value, jnp.zeros_like(value))

    def turned(index: int, value: Array) -> Array:
        either = 1.0 - jnp.sqrt(jnp.maximum(1.0 - p * config.rotate, 0.0))
        return jnp.where(gate[:, index] < either, value, 0.0)

    return AugmentDraws(
        flip=gated(0, config.xflip, uniform[:, 0] < 0.5),
        quarter_turns=gated(1, config.rotate90, (4.0 * uniform[:, 1]).astype(jnp.int32)),
        whole_shift=gated(2, config.xint, _WHOLE_SHIFT_MAX * centered[:, 2:4]),
        log2_scale=gated(3, config.scale, _LOG2_SCALE_STD * normal[:, 0]),
        angle_before=turned(4, np.pi * centered[:, 4]),
        log2_aspect=gated(5, config.aniso, _LOG2_ASPECT_STD * normal[:, 1]),
        angle_after=turned(6, np.pi * centered[:, 5]),
        shift=gated(7, config.xfrac, _SHIFT_STD * normal[:, 2:4]),
        brightness=gated(8, config.brightness, _BRIGHTNESS_STD * normal[:, 4]),
        log2_contrast=gated(9, config.contrast, _LOG2_CONTRAST_STD * normal[:, 5]),
        luma_flip=gated(10, config.lumaflip, uniform[:, 6] < 0.5),
        hue=gated(11, config.hue, np.pi * centered[:, 7]),
        log2_saturation=gated(12, config.saturation, _LOG2_SATURATION_STD * normal[:, 6]),
    )


def augment(
    key: PRNGKeyArray,
    images: Float[Array, "b s s c"],
    p: float | Float[Array, ""],
    *,
    config: augment_config.AugmentConfig,
    draws: AugmentDraws | None = None,
    sample_ids: Int[Array, " b"] | None = None,
) -> Float[Array, "b s s c"]:
    """Applies random operations to images; a sample that none fires for comes back unchanged.

    Args:
      key: Key of this step's augmentation.
      images: Square images in [-1, 1] whose channels are RGB triples (3 for one image, 6 for an
        image and its raw render); every triple of a sample is treated alike.
      p: Probability of each operation, 0..1. 0 is exactly the identity.
      config: Factors on p.
      draws: What to do, instead of drawing it from key.
      sample_ids: Global index of each sample; None counts from zero.

    Returns:
      Images of the same shape, not clamped.

    Raises:
      ValueError: the images are not square, or the channels are not triples.

    Source: Karras et al. 2020, appendix B, pipeline "bgc".
    """
    batch, height, width, channels = images.shape
    if height != width or height < 2 or channels % 3:
        raise ValueError(
            f"augmentation needs square images of RGB triples; got shape {images.shape}. "
            "Pass [b, s, s, 3] or [b, s, s, 6]."
        )
    if draws is None:
        ids = jnp.arange(batch) if sample_ids is None else sample_ids
        draws = sample_draws(key, ids, p, config=config)
    return transform_colors(_transform_geometry(images, draws), color_matrix(draws))


def color_matrix(draws: AugmentDraws) -> Float[Array, "b 4 4"]:
    """Composes the colour operations of each sample.

    Args:
      draws: What is done to each sample.

    Returns:
      Affine maps of (r, g, b, 1): saturation, hue, luma flip, contrast, brightness, of which the
      last acts first.

    Source: Karras et al. 2020, appendix B.
    """
    batch = draws.hue.shape[0]
    luma = jnp.asarray(np.outer(_LUMA, _LUMA), jnp.float32)[None]
    identity = jnp.eye(3)[None]
    flip = identity - 2.0 * luma * draws.luma_flip[:, None, None]
    hue = rotations.from_axis_angle(draws.hue[:, None] * jnp.asarray(_LUMA, jnp.float32)[None])
    saturation = luma + (identity - luma) * jnp.exp2(draws.log2_saturation)[:, None, None]
    # Where nothing fired the factors are the identity up to rounding; make them exactly so.
    saturation = jnp.where((draws.log2_saturation == 0.0)[:, None, None], identity, saturation)
    linear = _compose(saturation, hue, flip) * jnp.exp2(draws.log2_contrast)[:, None, None]
    offset = jnp.sum(linear, axis=-1, keepdims=True) * draws.brightness[:, None, None]
    top = jnp.concatenate([linear, offset], axis=-1)
    bottom = jnp.broadcast_to(jnp.asarray([[[0.0, 0.0, 0.0, 1.0]]]), (batch, 1, 4))
    return jnp.concatenate([top, bottom], axis=1)


def transform_colors(
    images: Float[Array, "b h w c"], matrix: Float[Array, "b 4 4"]
) -> Float[Array, "b h w c"]:
    """Applies one affine colour map per sample to every RGB triple of its channels.

    Args:
      images: Images whose channels are RGB triples.
      matrix: Maps of (r, g, b, 1).

    Returns:
      Images of the same shape; exactly the input where the map is the identity.

    Source: Karras et al. 2020, appendix B.
    """
    triples = images.reshape(*images.shape[:3], -1, 3)
    colored = precision.einsum("bhwti,boi->bhwto", triples, matrix[:, :3, :3])
    colored = colored + matrix[:, None, None, None, :3, 3]
    return _where_not_identity(matrix, colored.reshape(images.shape), images)


def update_p(
    p: float | Float[Array, ""],
    sign_mean: float | Float[Array, ""],
    *,
    batch: int,
    interval: int = 4,
    ada_kimg: float = 500.0,
    target: float = 0.6,
) -> Float[Array, ""]:
    """Moves the augmentation probability towards keeping overfitting at its target.

    Args:
      p: Current probability.
      sign_mean: Mean sign of the discriminator's output on real images since the last update;
        near 1 when it knows them by heart.
      batch: Images in a training step.
      interval: Steps between updates.
      ada_kimg: Thousands of images in which p can rise from 0 to 1; 100 when resuming.
      target: Mean sign at which p stays.

    Returns:
      p + sign(sign_mean - target) batch interval / (1000 ada_kimg), at least 0; not limited
      above, as in the reference.

    Source: Karras et al. 2020, section 3; EG3D reference behaviour for the constants.
    """
    step = batch * interval / (ada_kimg * 1000.0)
    return jnp.maximum(p + jnp.sign(jnp.asarray(sign_mean) - target) * step, 0.0)


def _raw_numbers(
    keys: Key[Array, " b"],
) -> tuple[Float[Array, "b 13"], Float[Array, "b 8"], Float[Array, "b 7"]]:
    """Draws the gates, the uniform and the normal numbers of all operations."""
    numbers = jax.vmap(lambda key: jax.random.uniform(key, (28,)))(keys)
    gate, uniform, rest = jnp.split(numbers, (13, 21), axis=1)
    # One draw for all, as compiling several costs seconds; normal numbers by inversion.
    open_interval = jnp.maximum(2.0 * rest - 1.0, np.nextafter(np.float32(-1.0), np.float32(0.0)))
    return gate, uniform, np.sqrt(2.0).item() * jax.lax.erf_inv(open_interval)


def _transform_geometry(
    images: Float[Array, "b s s c"], draws: AugmentDraws
) -> Float[Array, "b s s c"]:
    """Blits where only whole-pixel operations fired, else resamples once along the whole map."""
    whole, fractional = _geometry_maps(draws, images.shape[1])
    warped = affine_warp.warp(images, _compose(whole, fractional))
    return _where_not_identity(fractional, warped, affine_warp.blit(images, whole))


def _geometry_maps(
    draws: AugmentDraws, side: int
) -> tuple[Float[Array, "b 3 3"], Float[Array, "b 3 3"]]:
    """Returns the inverse maps of the blitting and of the general operations, in pixels."""
    one, zero = jnp.ones_like(draws.hue), jnp.zeros_like(draws.hue)

    def linear(xx: Array, xy: Array, yx: Array, yy: Array) -> Array:
        rows = [xx, xy, zero, yx, yy, zero, zero, zero, one]
        return jnp.stack(rows, axis=-1).reshape(-1, 3, 3)

    def rotation(angle: Array) -> Array:
        cosine, sine = jnp.cos(angle), jnp.sin(angle)
        return linear(cosine, sine, -sine, cosine)

    def translation(offset: Array) -> Array:
        moved = linear(one, zero, zero, one)
        return moved.at[:, :2, 2].set(-offset)

    unscale = jnp.exp2(-draws.log2_scale)
    unstretch = jnp.exp2(-draws.log2_aspect)
    whole = _compose(
        linear(jnp.where(draws.flip, -one, one), zero, zero, one),
        jnp.round(rotation(draws.quarter_turns * (np.pi / 2))),
        translation(jnp.round(draws.whole_shift * side)),
    )
    fractional = _compose(
        linear(unscale, zero, zero, unscale),
        rotation(draws.angle_before),
        linear(unstretch, zero, zero, 1.0 / unstretch),
        rotation(draws.angle_after),
        translation(draws.shift * side),
    )
    return whole, fractional


def _compose(*matrices: Float[Array, "b n n"]) -> Float[Array, "b n n"]:
    product = matrices[0]
    for matrix in matrices[1:]:
        product = precision.matmul(product, matrix)
    return product


def _where_not_identity(
    matrix: Float[Array, "b n n"], changed: Float[Array, "b h w c"], same: Float[Array, "b h w c"]
) -> Float[Array, "b h w c"]:
    fired = jnp.any(matrix != jnp.eye(matrix.shape[-1])[None], axis=(1, 2))
    return jnp.where(fired[:, None, None, None], changed, same)
