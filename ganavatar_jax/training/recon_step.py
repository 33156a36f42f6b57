"""The reconstruction phase: encoder and generator learn to give training images back.

Not in the original method; for runs without a pretrained start.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ganavatar_jax.core import errors, images, rng
from ganavatar_jax.core.arrays import Array, Float, PyTree, UInt8
from ganavatar_jax.geometry import cameras
from ganavatar_jax.metrics import lpips
from ganavatar_jax.models import encoder, generator
from ganavatar_jax.ops import resize
from ganavatar_jax.training import parallel, reconstruction_config, step_inputs
from ganavatar_jax.training.state import GanState
from ganavatar_jax.training.step_inputs import Batch, Program, Step

_HIDDEN = 0.9  # How much less the middle of the face counts where pictures are made up.


class _Emphasis(NamedTuple):
    """A place that counts more: (u, v, radius) in each image, how much, and how often enlarged."""

    places: Array
    weight: float
    zoom: int


def recon(state: GanState, batch: Batch, step: Step) -> tuple[Array, dict[str, Array]]:
    """Judges how well encoder and generator give the real images back from their own cameras.

    Args:
      state: Training state with the parameters to differentiate by.
      batch: Part of the batch; see gan_step's docstring.
      step: Key, schedule and options.

    Returns:
      Mean loss, metrics and the mean w.

    Source: ours; a perceptual loss as in Zhang et al. 2018.
    """
    options, config = step.options.gan.reconstruction, step.options.g
    ids = batch["sample_id"]
    z = step_inputs.encode(state.e, batch, rng.stream(step.key, "encoder"), step.options)
    latent_loss, values = _judge_latents(state.e["probes"], z, batch, options, step.axis)
    coin = jax.vmap(jax.random.uniform)(rng.per_sample(rng.stream(step.key, "random"), ids))
    drawn = step_inputs.draw_latents(rng.stream(step.key, "z"), ids, z_dim=config.z_dim)
    z = jnp.where((coin < options.random_p)[:, None], drawn, z)
    w = generator.map_latent(state.g, z, batch["label25"], config)
    ws = generator.broadcast(w, config)
    out = step_inputs.synthesize(
        state.g, ws, batch["label25"], ids, step, filmed=batch.get("filmed")
    )
    loss, compared = _compare(out, batch, options, step.program)
    values |= compared | {"w_mean": jnp.mean(w, axis=0)}
    return loss + latent_loss, values


def unseen(state: GanState, batch: Batch, step: Step) -> tuple[Array, dict[str, Array]]:
    """Judges how far the generator keeps to what the base makes of sides that were never seen.

    Every expression is held to the same pictures: around the face, where they would say another
    one, they hardly count.

    Args:
      state: Training state with the parameters to differentiate by.
      batch: Part of the batch; its images are made up, see `unseen.Views`.
      step: Key, schedule and options.

    Returns:
      Mean loss and metrics.

    Source: ours; a perceptual loss as in Zhang et al. 2018.
    """
    options, config = step.options.gan.reconstruction, step.options.g
    ids = batch["sample_id"]
    z = step_inputs.draw_latents(rng.stream(step.key, "z"), ids, z_dim=config.z_dim)
    ws = generator.broadcast(generator.map_latent(state.g, z, batch["label25"], config), config)
    out = step_inputs.synthesize(state.g, ws, batch["label25"], ids, step, filmed=None)
    image = images.from_u8(batch["image_u8"])
    raw = resize.resize(image, step.program.resolution)
    face = project_place(batch["label25"], options.focus_point, radius=options.focus_radius)
    hidden = [_Emphasis(face, weight=-_HIDDEN, zoom=1)]
    l1 = _weighted_l1(out.image, image, hidden) + _weighted_l1(out.image_raw, raw, hidden)
    loss, values = options.l1_weight * l1, {"loss/unseen_l1": l1}
    if options.lpips_weight:
        lpips_params = step.program.lpips_params
        assert lpips_params is not None  # the loop loads them
        distance = jnp.mean(lpips.lpips(lpips_params, out.image, image, net="alex"))
        loss, values["loss/unseen_lpips"] = loss + options.lpips_weight * distance, distance
    return loss, values


def probe_sizes(options: reconstruction_config.ReconstructionConfig) -> dict[str, int]:
    """Lists the probes of the latent that the options ask for.

    Args:
      options: Holds camera_weight.

    Returns:
      How many numbers each probe tells.
    """
    return {"camera": 3} if options.camera_weight else {}


def project_place(
    label25: Float[Array, "b 25"], point: tuple[float, float, float], *, radius: float
) -> Float[Array, "b 3"]:
    """Projects a place on the head into images.

    Args:
      label25: Cameras.
      point: Its centre, world units.
      radius: Its extent, world units.

    Returns:
      (u, v, radius), as fractions of the image's side.

    Source: pinhole projection; the emphasis is ours.
    """
    camera = cameras.from_label25(label25)
    uv, depth = cameras.project(camera, jnp.asarray(point)[None, None])
    extent = camera.intrinsics[:, 0, :1] * radius / depth
    return jnp.concatenate([uv[:, 0], extent], axis=-1)


def uniformity(z: Float[Array, "b z"]) -> Float[Array, ""]:
    """Measures how evenly latents lie on their sphere: lower is more even.

    Args:
      z: Latents, at least two.

    Returns:
      Logarithm of the mean over pairs of exp(-2 |difference|^2) of the unit vectors.

    Raises:
      ConfigError: there is only one.

    Source: Wang and Isola 2020, equation 9 (t = 2).
    """
    if z.shape[0] < 2:
        raise errors.ConfigError(
            "gan.reconstruction.uniformity_weight compares latents of one step: expected two "
            "samples or more; got 1. Set gan.microbatch=2 or more, or the weight to 0."
        )
    unit = z * jax.lax.rsqrt(jnp.sum(jnp.square(z), axis=-1, keepdims=True) + 1e-8)
    first, second = jnp.triu_indices(z.shape[0], k=1)
    distance = jnp.sum(jnp.square(unit[first] - unit[second]), axis=-1)
    return jax.nn.logsumexp(-2.0 * distance) - jnp.log(float(len(first)))


def describe_truth(
    params: lpips.LpipsParams,
    image_u8: UInt8[Array, "b h w 3"],
    label25: Float[Array, "b 25"],
    *,
    options: reconstruction_config.ReconstructionConfig,
) -> Float[Array, "b n"]:
    """Gives what the perceptual loss compares with; see `training.truth`.

    Args:
      params: AlexNet's weights.
      image_u8: Real images.
      label25: Their cameras.
      options: Where the images count more.

    Returns:
      LPIPS' features of each image and its enlarged places, layer by layer in one row: the batch's
      "truth".
    """
    image = images.from_u8(image_u8)
    layers = _look(params, image, _list_emphases(label25, options))
    batch = image.shape[0]
    rows = [
        jnp.moveaxis(layer.reshape(-1, batch, *layer.shape[1:]), 1, 0).reshape(batch, -1)
        for layer in layers
    ]
    return jnp.concatenate(rows, axis=1)


def _judge_latents(
    probes: PyTree,
    z: Array,
    part: Batch,
    options: reconstruction_config.ReconstructionConfig,
    axis: str | None,
) -> tuple[Array, dict[str, Array]]:
    """Keeps the learned part of noisy latents even, asks the probes what it tells."""
    loss, values = jnp.zeros(()), {}
    z = z[:, options.encoder.face_dim :]
    if options.uniformity_weight:
        values["loss/uniformity"] = uniformity(parallel.all_gather_if(z, axis))
        loss += options.uniformity_weight * values["loss/uniformity"]
    if "camera" in probes:
        centre = part["label25"][:, 3:12:4]
        direction = centre / jnp.linalg.norm(centre, axis=-1, keepdims=True)
        reversed_z = encoder.reverse_gradient(z, options.camera_weight)
        told = encoder.apply_probe(probes["camera"], reversed_z, features=3)
        values["loss/camera_probe"] = jnp.mean(jnp.sum(jnp.square(told - direction), axis=-1))
        loss += values["loss/camera_probe"]
    return loss, values


def _compare(
    out: generator.GeneratorOutput,
    part: Batch,
    options: reconstruction_config.ReconstructionConfig,
    program: Program,
) -> tuple[Array, dict[str, Array]]:
    """Compares images with the truth: L1 with its emphases, and LPIPS."""
    image = images.from_u8(part["image_u8"])
    raw = resize.resize(image, program.resolution)
    emphases = _list_emphases(part["label25"], options)
    l1 = _weighted_l1(out.image, image, emphases)
    l1 = l1 + _weighted_l1(out.image_raw, raw, emphases)
    values = {"loss/recon_l1": l1}
    loss = options.l1_weight * l1
    if options.lpips_weight:
        lpips_params = program.lpips_params
        assert lpips_params is not None  # the loop loads them
        shown = _look(lpips_params, out.image, emphases)
        truth = (
            _unpack(part["truth"], shown)
            if "truth" in part
            else _look(lpips_params, image, emphases)
        )
        distance = jnp.mean(lpips.distance(lpips_params, shown, truth))
        values["loss/recon_lpips"] = distance
        loss = loss + options.lpips_weight * distance
    return loss, values


def _list_emphases(
    label25: Array, options: reconstruction_config.ReconstructionConfig
) -> list[_Emphasis]:
    """Finds the places that count more."""
    face = project_place(label25, options.focus_point, radius=options.focus_radius)
    eyes = project_place(label25, options.eyes_point, radius=options.eyes_radius)
    emphases = [
        _Emphasis(face, weight=options.focus_weight, zoom=2),
        _Emphasis(eyes, weight=options.eyes_weight, zoom=4),
    ]
    return [emphasis for emphasis in emphases if emphasis.weight]


def _look(params: lpips.LpipsParams, image: Array, emphases: list[_Emphasis]) -> tuple[Array, ...]:
    """Gives LPIPS' features of images, of one enlarged place after the other: one batch."""
    views = [image, *(_enlarge(image, emphasis) for emphasis in emphases)]
    return lpips.unit_features(params, jnp.concatenate(views), net="alex")


def _unpack(packed: Array, like: tuple[Array, ...]) -> tuple[Array, ...]:
    """Undoes `describe_truth`."""
    batch, start, features = packed.shape[0], 0, []
    for layer in like:
        size = layer.size // batch
        part = packed[:, start : start + size].reshape(batch, -1, *layer.shape[1:])
        features.append(jnp.moveaxis(part, 1, 0).reshape(layer.shape))
        start += size
    return tuple(features)


def _weighted_l1(image: Array, target: Array, emphases: list[_Emphasis]) -> Array:
    side = image.shape[1]
    centres = (jnp.arange(side, dtype=jnp.float32) + 0.5)[None] / side
    weight = jnp.ones((image.shape[0], side, side))
    for emphasis in emphases:
        across = jnp.square(centres - emphasis.places[:, :1])[:, None, :]
        down = jnp.square(centres - emphasis.places[:, 1:2])[:, :, None]
        spread = 2.0 * jnp.square(emphasis.places[:, 2])[:, None, None]
        weight = weight + emphasis.weight * jnp.exp(-(across + down) / spread)
    return jnp.mean(jnp.abs(image - target) * weight[..., None])


def _enlarge(image: Array, emphasis: _Emphasis) -> Array:
    """Cuts out a square around a place, `zoom` times smaller than the image, and enlarges it."""
    side = image.shape[1]
    part = side // emphasis.zoom
    corner = jnp.round(emphasis.places[:, 1::-1] * side - part / 2).astype(jnp.int32)
    corner = jnp.clip(corner, 0, side - part)

    def cut(x: Array, start: Array) -> Array:
        return jax.lax.dynamic_slice(x, (start[0], start[1], 0), (part, part, x.shape[-1]))

    return resize.resize(jax.vmap(cut)(image, corner), side)
