"""The parts of the networks that `bench.py` times, each as a function of its weights and inputs."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ganavatar_jax.core import trees
from ganavatar_jax.geometry import cameras
from ganavatar_jax.metrics import lpips
from ganavatar_jax.models import discriminator, expression_mapping, generator, generator_network
from ganavatar_jax.ops import blocks
from ganavatar_jax.rendering import triplane
from ganavatar_jax.training import mapping_step

Part = tuple[Callable[..., Any], tuple[Any, ...]]
_CODES = 7  # coefficients that the mapping of small runs takes


def make_labels(batch: int) -> np.ndarray:
    """Returns cameras in front of the head, [b 25]."""
    poses = [
        cameras.look_at(1.3 + 0.05 * k, 1.6, pivot=(0.0, 0.0, 0.0), radius=2.7)
        for k in range(batch)
    ]
    lenses = np.stack([cameras.intrinsics(4.2647)] * batch)
    return np.asarray(
        cameras.to_label25(cameras.Camera(cam2world=np.stack(poses), intrinsics=lenses))
    )


def draw_weights(make: Callable[[], Any], seed: int = 0) -> Any:
    """Draws variables in NumPy, as a network's `init` would, which takes long to compile."""
    draws, flat = np.random.default_rng(seed), {}
    for name, leaf in trees.flatten_names(jax.eval_shape(make)):
        value = draws.normal(size=leaf.shape)
        if name.endswith(("affine.bias", "spread")):
            value = np.ones(leaf.shape)
        elif name.endswith(("bias", "noise_strength", "w_avg")):
            value = np.zeros(leaf.shape)
        elif "mapping.fc" in name:
            value = 100.0 * value
        flat[name] = jnp.asarray(value, leaf.dtype)
    return trees.unflatten_names(flat)


def make_inputs(config: Any, batch: int) -> dict[str, np.ndarray]:
    """Draws what the parts take, other than weights; the same in every process."""
    g, draws = config.generator, np.random.default_rng(0)
    side, pixels, planes = g.neural_resolution, g.img_resolution, g.plane_resolution
    count = side * side * g.render.depth_resolution

    def normal(*shape: int) -> np.ndarray:
        return draws.normal(size=shape).astype(np.float32)

    return {
        "z": normal(batch, g.z_dim),
        "w": normal(batch, g.w_dim),
        "label25": make_labels(batch),
        "points": draws.uniform(-0.5, 0.5, (batch, count, 3)).astype(np.float32),
        "planes": normal(batch, 3, planes, planes, g.plane_channels),
        "point_features": normal(batch, count, g.plane_channels),
        "features": normal(batch, side, side, g.decoder_features),
        "image": normal(batch, pixels, pixels, 3),
        "image_raw": normal(batch, side, side, 3),
        "target": normal(batch, pixels, pixels, 3),
        "code": normal(batch, _CODES),
    }


def make_batch(config: Any, batch: int) -> dict[str, np.ndarray]:
    """Draws the batch of a training step."""
    pixels = config.generator.img_resolution
    frames = np.random.default_rng(1).integers(0, 256, (batch, pixels, pixels, 3), np.uint8)
    labels = dict.fromkeys(("label25", "gen_label25", "swap_label25"), make_labels(batch))
    return {"image_u8": frames, **labels}


def gradient_of(function: Callable[..., Any], count: int) -> Callable[..., Any]:
    """Differentiates the sum of sines of a function's values by all of its arguments."""

    def loss(*arguments: Any) -> Any:
        return sum(jnp.sum(jnp.sin(out)) for out in jax.tree.leaves(function(*arguments)))

    return jax.grad(loss, argnums=tuple(range(count)))


def _setup(config: Any, batch: int) -> tuple[Any, Any, dict[str, Any], Any]:
    """Returns the generator's sizes and weights, the inputs and a latent for each layer."""
    g = config.generator
    inputs = {k: jnp.asarray(v) for k, v in make_inputs(config, batch).items()}
    variables = draw_weights(lambda: generator.init(jax.random.key(0), g))
    return g, variables, inputs, generator.broadcast(inputs["w"], g)


def mapping_of(config: Any, batch: int) -> Part:
    g, variables, inputs, _ = _setup(config, batch)
    label = inputs["label25"]
    return lambda v, z: generator.map_latent(v, z, label, g), (variables, inputs["z"])


def backbone_of(config: Any, batch: int) -> Part:
    g, variables, _, ws = _setup(config, batch)
    return lambda v, ws: generator.make_planes(v, ws, g), (variables, ws)


def sampling_of(config: Any, batch: int) -> Part:
    g, _, inputs, _ = _setup(config, batch)
    points, render = inputs["points"], g.render
    return lambda planes: triplane.lookup(
        planes, points, axes=render.plane_axes, box_warp=render.box_warp
    ), (inputs["planes"],)


def decoder_of(config: Any, batch: int) -> Part:
    g, variables, inputs, _ = _setup(config, batch)
    network = generator_network.decoder_network(g)
    params = {"params": variables["params"]["decoder"]}
    return lambda p, x: blocks.map_points(lambda part: network.apply(p, part), x), (
        params,
        inputs["point_features"],
    )


def query_of(config: Any, batch: int) -> Part:
    g, variables, inputs, _ = _setup(config, batch)
    points = inputs["points"]
    return lambda v, planes: generator.query(v, planes, points, g), (variables, inputs["planes"])


def renderer_of(config: Any, batch: int) -> Part:
    g, variables, inputs, ws = _setup(config, batch)
    label = inputs["label25"]
    return lambda v, planes: generator.render_planes(v, planes, ws, label, g).image_raw, (
        variables,
        inputs["planes"],
    )


def superresolution_of(config: Any, batch: int) -> Part:
    g, variables, inputs, ws = _setup(config, batch)
    return lambda v, features: generator.enlarge(v, features[..., :3], features, ws, g), (
        variables,
        inputs["features"],
    )


def generator_of(config: Any, batch: int) -> Part:
    g, variables, inputs, ws = _setup(config, batch)
    label = inputs["label25"]
    return lambda v, ws: generator.synthesize(v, ws, label, g).image, (variables, ws)


def discriminator_of(config: Any, batch: int) -> Part:
    inputs = {k: jnp.asarray(v) for k, v in make_inputs(config, batch).items()}
    d, label = config.discriminator, inputs["label25"]
    return lambda v, image, raw: discriminator.apply(v, image, raw, label, d), (
        draw_weights(lambda: discriminator.init(jax.random.key(1), d)),
        inputs["image"],
        inputs["image_raw"],
    )


def lpips_of(config: Any, batch: int) -> Part:
    inputs = make_inputs(config, batch)
    params, target = lpips.load_params("alex"), jnp.asarray(inputs["target"])
    return lambda image: lpips.lpips(params, image, target, net="alex"), (
        jnp.asarray(inputs["image"]),
    )


def mapping_step_of(config: Any, batch: int) -> Part:
    """A step of the expression mapping with the photometric loss; gradients are its own."""
    g, variables, inputs, _ = _setup(config, batch)
    options = config.mapping
    key = jax.random.key(2)
    params = expression_mapping.init(key, options.network, code_dim=_CODES, w_dim=g.w_dim)
    optimizer, step = mapping_step.make_step(options, g, photometric=True)
    arrays = {
        "image_u8": jnp.asarray(make_batch(config, batch)["image_u8"]),
        "w": inputs["w"],
        "code": inputs["code"],
        "mean_w": jnp.mean(inputs["w"], axis=0),
        "label25": inputs["label25"][0],
        "code_spread": jnp.ones((_CODES,)),
    }
    return step, (params, optimizer.init(params), variables, arrays, key)


PARTS: dict[str, Callable[[Any, int], Part]] = {
    "mapping": mapping_of,
    "backbone": backbone_of,
    "sampling": sampling_of,
    "decoder": decoder_of,
    "query": query_of,
    "renderer": renderer_of,
    "superresolution": superresolution_of,
    "generator": generator_of,
    "discriminator": discriminator_of,
    "lpips": lpips_of,
}
