"""Renders a field along rays: coarse samples, importance samples, one composite of both.

The field is a callable `field_fn(points [b n 3]) -> (features [b n c], density [b n])`, so that
this file can be tested with an analytic sphere. Rays are processed in blocks when `ray_chunk` is
set: memory then does not grow with resolution.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from ganavatar_jax.core import precision, rng, trees
from ganavatar_jax.core.arrays import Array, Float, Int, PRNGKeyArray
from ganavatar_jax.geometry import boxes
from ganavatar_jax.rendering import compositing, render_config, sampling

FieldFn = Callable[[Array], tuple[Array, Array]]


@trees.pytree_dataclass
class RenderDraws:
    """Uniform draws in [0, 1] of one rendering; None stands for midpoints.

    Attributes:
      coarse: Jitter of the stratified samples, [b r s].
      fine: Draws of the importance samples, [b r n].
    """

    coarse: Float[Array, "b r s"] | None
    fine: Float[Array, "b r n"] | None


@trees.pytree_dataclass
class RenderOutput:
    """What a rendering yields per ray.

    Attributes:
      features: Composited features mapped by 2 x - 1 (quirk Q5), [b r c].
      t_expected: Mean distance, clamped to the range of all samples, [b r], world units.
      opacity: Sum of weights in [0, 1], [b r].
    """

    features: Float[Array, "b r c"]
    t_expected: Float[Array, "b r"]
    opacity: Float[Array, "b r"]


def make_draws(
    key: PRNGKeyArray | None,
    ids: Int[Array, " b"],
    config: render_config.RenderConfig,
    *,
    rays: int,
) -> RenderDraws:
    """Makes the random draws of a rendering, per sample.

    Args:
      key: Random key; None makes a deterministic rendering (midpoints).
      ids: Global sample ids, so that draws do not depend on the device layout.
      config: Sample counts.
      rays: Rays an image.

    Returns:
      The draws.
    """
    if key is None:
        return RenderDraws(coarse=None, fine=None)

    coarse, fine = config.depth_resolution, config.depth_resolution_importance
    keys = rng.per_sample(rng.stream(key, "rays"), ids)
    drawn = jax.vmap(lambda k: jax.random.uniform(k, (rays, coarse + fine)))(keys)
    return RenderDraws(coarse=drawn[..., :coarse], fine=drawn[..., coarse:] if fine else None)


def render(
    field_fn: FieldFn,
    origins: Float[Array, "b r 3"],
    directions: Float[Array, "b r 3"],
    draws: RenderDraws,
    config: render_config.RenderConfig,
    *,
    axis: str | None = None,
) -> RenderOutput:
    """Renders a field along rays.

    Args:
      field_fn: Maps points [b n 3] to (features [b n c], raw density [b n]).
      origins: Ray starts, world units.
      directions: Unit directions.
      draws: Random draws, or None inside for midpoints.
      config: Sampling options.
      axis: Device axis over which the batch is spread, or None; see `boxes.ray_bounds`.

    Returns:
      Features, expected distance and opacity of each ray.

    Raises:
      ValueError: the rays cannot be split into blocks of config.ray_chunk.

    Source: EG3D (Chan et al. 2022), section 4.2; Mildenhall et al. 2020.
    """
    if config.ray_start == "auto" or config.ray_end == "auto":
        t_near, t_far = boxes.ray_bounds(origins, directions, side=config.box_warp, axis=axis)
    else:
        t_near = jnp.full(origins.shape[:-1], config.ray_start, origins.dtype)
        t_far = jnp.full(origins.shape[:-1], config.ray_end, origins.dtype)
    rays = (origins, directions, t_near, t_far, draws)
    count = origins.shape[1]
    if config.ray_chunk and config.ray_chunk < count:
        if count % config.ray_chunk:
            raise ValueError(
                f"ray_chunk must divide the {count} rays of an image; got {config.ray_chunk}."
            )
        blocks = jax.tree.map(lambda a: _split_rays(a, config.ray_chunk), rays)
        body = jax.checkpoint(lambda block: _render_block(field_fn, *block, config=config))
        results = jax.lax.map(body, blocks)
        features, distance, opacity, lowest, highest = results
        features, distance, opacity = map(_join_rays, (features, distance, opacity))
        lowest, highest = jnp.min(lowest), jnp.max(highest)
    else:
        features, distance, opacity, lowest, highest = _render_block(field_fn, *rays, config)
    if config.white_back:
        features = features + (1.0 - opacity)[..., None]
    return RenderOutput(
        features=2.0 * features - 1.0,
        t_expected=jnp.clip(distance, lowest, highest),
        opacity=opacity,
    )


def _split_rays(x: Array, size: int) -> Array:
    batch, rays = x.shape[:2]
    blocks = x.reshape(batch, rays // size, size, *x.shape[2:])
    return jnp.moveaxis(blocks, 1, 0)


def _join_rays(x: Array) -> Array:
    blocks = jnp.moveaxis(x, 0, 1)
    return blocks.reshape(blocks.shape[0], -1, *blocks.shape[3:])


def _query(field_fn: FieldFn, origins: Array, directions: Array, t: Array) -> tuple[Array, Array]:
    points = origins[..., None, :] + t[..., None] * directions[..., None, :]
    features, density = field_fn(points.reshape(points.shape[0], -1, 3))
    return features.reshape(*t.shape, features.shape[-1]), density.reshape(t.shape)


def _render_block(
    field_fn: FieldFn,
    origins: Array,
    directions: Array,
    t_near: Array,
    t_far: Array,
    draws: RenderDraws,
    config: render_config.RenderConfig,
) -> tuple[Array, Array, Array, Array, Array]:
    """Renders some rays: coarse samples say where the fine ones go, and both are composited."""
    coarse_t = sampling.stratified(
        t_near, t_far, draws.coarse, count=config.depth_resolution, disparity=config.disparity
    )
    colors, density = _query(field_fn, origins, directions, coarse_t)
    if not config.depth_resolution_importance:
        weights = compositing.interval_weights(density, coarse_t)
        features = _composite([(colors, compositing.sample_weights(weights))])
        return features, *compositing.expected_distance(weights, coarse_t), *_range(coarse_t)
    with jax.named_scope("importance"):
        coarse_weights = compositing.interval_weights(jax.lax.stop_gradient(density), coarse_t)
        fine_t = sampling.importance(
            coarse_t, coarse_weights, draws.fine, count=config.depth_resolution_importance
        )
    fine_colors, fine_density = _query(field_fn, origins, directions, fine_t)
    # Only scalars are sorted; colours stay where they are and get their weights back in place.
    t = jnp.concatenate([coarse_t, fine_t], axis=-1)
    rank = sampling.ranks(t)
    t_sorted = sampling.to_order(t, rank)
    density = sampling.to_order(jnp.concatenate([density, fine_density], axis=-1), rank)
    weights = compositing.interval_weights(density, t_sorted)
    per_sample = sampling.from_order(compositing.sample_weights(weights), rank)
    split = config.depth_resolution
    features = _composite(
        [(colors, per_sample[..., :split]), (fine_colors, per_sample[..., split:])]
    )
    return features, *compositing.expected_distance(weights, t_sorted), *_range(t_sorted)


def _composite(parts: list[tuple[Array, Array]]) -> Array:
    return sum(
        (precision.einsum("brsc,brs->brc", colors, weights) for colors, weights in parts[1:]),
        start=precision.einsum("brsc,brs->brc", *parts[0]),
    )


def _range(t: Array) -> tuple[Array, Array]:
    return jnp.min(t), jnp.max(t)
