"""Tri-plane generator: latent and camera to image, rendered image and depth.

`init` makes variables {"params", "buffers"}; everything else is a pure function of them. Random
draws come in as `GeneratorDraws`; `draws=None` renders deterministically (midpoint samples and the
stored noise maps).
"""

import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from ganavatar_jax.core import rng, trees
from ganavatar_jax.core.arrays import Array, Float, Int, PRNGKeyArray
from ganavatar_jax.geometry import rays
from ganavatar_jax.models import generator_config, generator_network, synthesis
from ganavatar_jax.ops import blocks
from ganavatar_jax.rendering import triplane, volume

Variables = dict[str, Any]


@trees.pytree_dataclass
class GeneratorDraws:
    """Random draws of one synthesis.

    Attributes:
      noise: Noise maps of the synthesis layers, [b h w] each.
      render: Draws of the renderer.
    """

    noise: Any
    render: volume.RenderDraws


@trees.pytree_dataclass
class GeneratorOutput:
    """Images of one synthesis.

    Attributes:
      image: Final image, nominally in [-1, 1], not clamped.
      image_raw: Rendered image at the neural resolution.
      depth: Mean distance from the camera, world units.
      opacity: Sum of compositing weights in [0, 1].
    """

    image: Float[Array, "b h w 3"]
    image_raw: Float[Array, "b r r 3"]
    depth: Float[Array, "b r r"]
    opacity: Float[Array, "b r r"]


def init(key: PRNGKeyArray, config: generator_config.GeneratorConfig) -> Variables:
    """Makes fresh variables.

    Args:
      key: Random key.
      config: Sizes.

    Returns:
      {"params": ..., "buffers": ...} as plain nested dicts.

    Source: Karras et al. 2020 (unit normal weights, equalised at run time).
    """
    z = jnp.zeros((1, config.z_dim))
    label = jnp.zeros((1, config.label_dim))
    return jax.jit(generator_network.Generator(config).init)(key, z, label)


def map_latent(
    variables: Variables,
    z: Float[Array, "b z"],
    label25: Float[Array, "b 25"],
    config: generator_config.GeneratorConfig,
) -> Float[Array, "b d"]:
    """Maps latents to w.

    Args:
      variables: Generator variables.
      z: Standard normal latents.
      label25: Conditioning cameras; ignored unless config.condition_on_camera.
      config: Options.

    Returns:
      One w a sample.

    Source: EG3D (Chan et al. 2022), section 4.
    """
    # Zeros rather than a scale of zero, which would let a NaN of a camera through.
    if config.condition_on_camera:
        label = label25 * config.condition_scale
    else:
        label = jnp.zeros_like(label25)
    network = generator_network.mapping_network(config)
    w: Any = network.apply(_branch(variables, "backbone", "mapping"), z, label)
    return w


def broadcast(
    w: Float[Array, "b d"], config: generator_config.GeneratorConfig
) -> Float[Array, "b l d"]:
    """Repeats w for every layer.

    Args:
      w: One latent a sample.
      config: Sizes.

    Returns:
      ws, identical rows.

    Source: Karras et al. 2019.
    """
    return jnp.repeat(w[:, None], config.num_ws, axis=1)


def make_draws(
    key: PRNGKeyArray | None,
    ids: Int[Array, " b"],
    config: generator_config.GeneratorConfig,
    *,
    resolution: int,
) -> GeneratorDraws | None:
    """Draws what one synthesis needs, per sample.

    Args:
      key: Random key; None stands for the deterministic synthesis.
      ids: Global sample ids.
      config: Options.
      resolution: Neural resolution, pixels.

    Returns:
      The draws, or None.
    """
    if key is None:
        return None
    noise = make_noise(rng.stream(key, "noise"), ids, config)
    render = volume.make_draws(
        rng.stream(key, "render"), ids, config.render, rays=resolution * resolution
    )
    return GeneratorDraws(noise=noise, render=render)


def make_noise(
    key: PRNGKeyArray, ids: Int[Array, " b"], config: generator_config.GeneratorConfig
) -> dict[str, dict[str, Float[Array, "b h w"]]]:
    """Draws the noise maps of the synthesis layers.

    Args:
      key: Random key.
      ids: Global sample ids.
      config: Sizes.

    Returns:
      One map for each sample and convolution.

    Source: Karras et al. 2019.
    """
    return synthesis.draw_noise(key, ids, resolution=config.plane_resolution)


def make_planes(
    variables: Variables,
    ws: Float[Array, "b l d"],
    config: generator_config.GeneratorConfig,
    *,
    noise: synthesis.Noise = "const",
) -> Float[Array, "b p h w c"]:
    """Synthesises the feature planes of latents.

    Args:
      variables: Generator variables.
      ws: One latent per layer.
      config: Options.
      noise: Drawn maps, "const" (stored maps) or "none".

    Returns:
      Three planes a sample.

    Source: EG3D (Chan et al. 2022), section 4.1.
    """
    network = generator_network.synthesis_network(config)
    flat: Any = network.apply(_branch(variables, "backbone", "synthesis"), ws, noise)
    batch, side = flat.shape[:2]
    split = flat.reshape(batch, side, side, 3, config.plane_channels)
    return jnp.moveaxis(split, 3, 1)


def query(
    variables: Variables,
    planes: Float[Array, "b p h w c"],
    points: Float[Array, "b n 3"],
    config: generator_config.GeneratorConfig,
) -> tuple[Float[Array, "b n k"], Float[Array, "b n"]]:
    """Evaluates the radiance field at points.

    Args:
      variables: Generator variables.
      planes: Feature planes.
      points: World units.
      config: Options.

    Returns:
      colors: Colour features in (-0.001, 1.001).
      density: Raw density (before softplus).

    Source: EG3D (Chan et al. 2022), section 4.1.
    """
    features = triplane.lookup(
        planes, points, axes=config.render.plane_axes, box_warp=config.render.box_warp
    )
    network, branch = generator_network.decoder_network(config), _branch(variables, "decoder")
    return blocks.map_points(lambda part: network.apply(branch, part), features)


def decoder_layers(
    variables: Variables, config: generator_config.GeneratorConfig
) -> dict[str, tuple[Float[np.ndarray, "i o"], Float[np.ndarray, " o"]]]:
    """Takes the decoder's two layers out, for renderers of other languages.

    Args:
      variables: Generator variables.
      config: Options.

    Returns:
      "first" and "second": weight [i o] and bias [o] with their run-time gains; of the second layer
      density, red, green and blue.

    Source: EG3D (Chan et al. 2022), section 4.1.
    """
    net, scale = variables["params"]["decoder"]["net"], config.decoder_lr_multiplier
    layers = {}
    for name, key, outputs in (("first", "0", None), ("second", "2", 4)):
        weight, bias = np.asarray(net[key]["weight"]), np.asarray(net[key]["bias"])
        gain = scale / math.sqrt(len(weight))
        layers[name] = (weight[:, :outputs] * gain, bias[:outputs] * scale)
    return layers


def enlarge(
    variables: Variables,
    rgb: Float[Array, "b h w 3"],
    features: Float[Array, "b h w c"],
    ws: Float[Array, "b l d"],
    config: generator_config.GeneratorConfig,
) -> Float[Array, "b h2 w2 3"]:
    """Applies the super-resolution.

    Args:
      variables: Generator variables.
      rgb: Rendered image.
      features: Rendered features; the first three are rgb.
      ws: One latent per layer.
      config: Options.

    Returns:
      The final image; rgb where there is no super-resolution.

    Source: EG3D (Chan et al. 2022), section 4.3.
    """
    if config.superresolution == "none":
        return rgb
    network = generator_network.superresolution_network(config)
    image: Any = network.apply(_branch(variables, "superresolution"), rgb, features, ws)
    return image


def render_planes(
    variables: Variables,
    planes: Float[Array, "b p h w c"],
    ws: Float[Array, "b l d"],
    label25: Float[Array, "b 25"],
    config: generator_config.GeneratorConfig,
    *,
    draws: volume.RenderDraws | None = None,
    resolution: int | None = None,
    axis: str | None = None,
) -> GeneratorOutput:
    """Renders given planes from cameras and applies the super-resolution.

    Args:
      variables: Generator variables.
      planes: Feature planes.
      ws: Latents, for the super-resolution.
      label25: Cameras to render from.
      config: Options.
      draws: Draws of the renderer; None is deterministic.
      resolution: Neural resolution, pixels; None takes the configured one.
      axis: Device axis over which the batch is spread, or None; see `boxes.ray_bounds`.

    Returns:
      The images.

    Source: EG3D (Chan et al. 2022), sections 4.2 and 4.3.
    """
    side = config.neural_resolution if resolution is None else resolution
    batch = label25.shape[0]
    origins, directions = rays.pixel_rays(
        label25[:, :16].reshape(batch, 4, 4), label25[:, 16:].reshape(batch, 3, 3), resolution=side
    )
    with jax.named_scope("render"):
        out = volume.render(
            lambda points: query(variables, planes, points, config),
            origins,
            directions,
            draws if draws is not None else volume.RenderDraws(coarse=None, fine=None),
            config.render,
            axis=axis,
        )
    features = out.features.reshape(batch, side, side, -1)
    rgb = features[..., :3]
    with jax.named_scope("superresolution"):
        image = enlarge(variables, rgb, features, ws, config)
    return GeneratorOutput(
        image=image,
        image_raw=rgb,
        depth=out.t_expected.reshape(batch, side, side),
        opacity=out.opacity.reshape(batch, side, side),
    )


def synthesize(
    variables: Variables,
    ws: Float[Array, "b l d"],
    label25: Float[Array, "b 25"],
    config: generator_config.GeneratorConfig,
    *,
    draws: GeneratorDraws | None = None,
    noise: Literal["const", "none"] = "const",
    resolution: int | None = None,
    axis: str | None = None,
) -> GeneratorOutput:
    """Synthesises images of latents seen from cameras.

    Args:
      variables: Generator variables.
      ws: One latent per layer.
      label25: Cameras to render from.
      config: Options.
      draws: Random draws; None is deterministic: midpoint samples and `noise`.
      noise: Which noise a deterministic synthesis adds: the stored maps or none.
      resolution: Neural resolution, pixels; None takes the configured one.
      axis: Device axis over which the batch is spread, or None; see `boxes.ray_bounds`.

    Returns:
      The images.

    Source: EG3D (Chan et al. 2022), section 4.
    """
    with jax.named_scope("synthesis"):
        planes = make_planes(variables, ws, config, noise=noise if draws is None else draws.noise)
    return render_planes(
        variables,
        planes,
        ws,
        label25,
        config,
        draws=None if draws is None else draws.render,
        resolution=resolution,
        axis=axis,
    )


def _branch(variables: Variables, *path: str) -> Variables:
    """Cuts one network's variables out of every collection; not every network has buffers."""
    branches = {}
    for collection, tree in variables.items():
        for name in path:
            tree = tree.get(name, {})
        if tree:
            branches[collection] = tree
    return branches
