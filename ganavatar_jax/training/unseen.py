"""What the camera never saw, filled in by the base generator.

Fine-tuning on a clip that hardly turns knows nothing of sides and back: nothing holds them, and
they become fog. The base generator knows heads. Before training, the person is looked for in it;
what it makes of them is rendered from cameras far from all of the capture's, and these pictures are
shown now and then beside the real ones, under every expression.

Source: ours; the search in w as in Abdal et al. 2019 (Image2StyleGAN), one person for all frames.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ganavatar_jax.core import images, rng
from ganavatar_jax.core.arrays import Array, Float, PyTree, UInt8
from ganavatar_jax.geometry import cameras, trajectories
from ganavatar_jax.metrics import lpips
from ganavatar_jax.models import generator, generator_config
from ganavatar_jax.training import adam_config, optimizers

_FAR_DEG = 25.0  # Nearer to a camera of the capture, its own images speak.
# A head that turns so far (98th less 2nd percentile) is known: the base has another head for its
# person, which would only disturb it (E025).
_TURNED_DEG = 90.0
_PITCH_DEG = 12.0
_TRIES = 64  # Draws for each camera; of these, the first that is far enough is taken.
_SPREAD_SAMPLES = 2048
_LEAST_VARIANCE = 1e-3  # Of directions in w, over the largest.
_ADAM = adam_config.AdamConfig(lr=0.05, beta1=0.9, beta2=0.99)
STEPS = 80  # of the search for a person
_BATCH, _FRAMES = 4, 64
_STEPS_AT_ONCE = 10
_PRIOR = 2e-4  # On squared deviations of w: few frames from one side bend a head.
_RENDERED_AT_ONCE = 16
# World units. Planes see front and back alike, so that the base shows faint faces on short hair: a
# ball of the crown's colour covers them.
_BACK, _BACK_RADIUS, _BACK_EDGE = (0.0, 0.035, -0.1), 0.11, 0.012
_CROWN, _CROWN_RADIUS = (0.0, 0.17, -0.1), 0.03
_BACK_BEGINS, _BACK_WHOLE = 0.15, 0.6  # Cosines of a camera's direction and that of the back.
_EMPTY = 40.0  # Grey levels below white at which a pixel is the head's.


class Views(NamedTuple):
    """Pictures of what was never seen.

    Attributes:
      image_u8: Pictures, 0..255.
      label25: Their cameras.
    """

    image_u8: UInt8[np.ndarray, "m h w 3"]
    label25: Float[np.ndarray, "m 25"]


def choose_cameras(
    label25: Float[np.ndarray, "f 25"], *, count: int, seed: int
) -> Float[np.ndarray, "m 25"]:
    """Draws cameras all around the head, far from those of a capture.

    Args:
      label25: The capture's cameras.
      count: How many to draw.
      seed: Fixes the draw.

    Returns:
      At most `count` cameras, at the capture's median distance and with its median lens; none where
      the capture goes around the head or turns far.
    """
    known = _directions(label25)
    yaw = np.degrees(np.arctan2(known[:, 0], known[:, 2]))
    if np.ptp(np.percentile(yaw, (2.0, 98.0))) >= _TURNED_DEG:
        return np.zeros((0, 25), np.float32)
    seen = cameras.from_label25(label25)
    centre = np.asarray(seen.cam2world)[:, :3, 3]
    radius = float(np.median(np.linalg.norm(centre, axis=-1)))
    frontal = cameras.Camera(
        cameras.look_at(np.pi / 2, np.pi / 2, radius=radius),
        np.median(np.asarray(seen.intrinsics), axis=0),
    )
    draw = np.random.default_rng((seed, count))
    yaw = draw.uniform(-180.0, 180.0, count * _TRIES)
    pitch = np.clip(draw.normal(0.0, _PITCH_DEG, count * _TRIES), -2 * _PITCH_DEG, 2 * _PITCH_DEG)
    drawn = np.asarray(cameras.to_label25(trajectories.around(frontal, yaw, pitch)))
    near = np.cos(np.radians(_FAR_DEG))
    far = np.array([(known @ way).max() < near for way in _directions(drawn)])
    # A capture that has seen nearly everything leaves few: no more are asked for than its share.
    wanted = int(np.ceil(count * min(1.0, 4.0 * far.mean())))
    return drawn[far][:wanted].astype(np.float32)


def find_person(
    g: PyTree,
    z: Float[Array, " z"],
    image_u8: UInt8[np.ndarray, "f h w 3"],
    label25: Float[np.ndarray, "f 25"],
    config: generator_config.GeneratorConfig,
    *,
    seed: int,
    lpips_params: lpips.LpipsParams | None,
    progress: Callable[[int, int], None] | None = None,
) -> Float[Array, " w"]:
    """Looks for a person in a generator: the w whose renders resemble all of some frames.

    Args:
      g: Generator variables.
      z: Where to begin.
      image_u8: Frames of the person, 0..255.
      label25: Their cameras.
      config: Sizes of the generator.
      seed: Fixes draws.
      lpips_params: AlexNet's weights; None compares pixels alone.
      progress: Told how many steps of how many are taken.

    Returns:
      w.

    Source: Abdal et al. 2019; the prior is the covariance of w.
    """
    key = jax.random.key(seed)
    drawn = jax.random.normal(rng.stream(key, "unseen.z"), (_SPREAD_SAMPLES, config.z_dim))
    label = jnp.asarray(label25)
    many = generator.map_latent(g, drawn, jnp.broadcast_to(label[:1], (len(drawn), 25)), config)
    middle, spread, white = _whitening(np.asarray(many))
    real = images.from_u8(jnp.asarray(image_u8))
    start = (generator.map_latent(g, z[None], label[:1], config)[0] - middle) @ white

    def loss(u: Array, rows: Array) -> Array:
        w = jnp.broadcast_to(middle + u @ spread, (len(rows), config.w_dim))
        shown = generator.synthesize(g, generator.broadcast(w, config), label[rows], config).image
        value = jnp.mean(jnp.abs(shown - real[rows])) + _PRIOR * jnp.sum(jnp.square(u))
        if lpips_params is None:
            return value
        return value + jnp.mean(lpips.lpips(lpips_params, shown, real[rows], net="alex"))

    def step(carry: tuple[Array, PyTree], rows: Array) -> tuple[tuple[Array, PyTree], Array]:
        u, moments = carry
        value, slope = jax.value_and_grad(loss)(u, rows)
        return optimizers.update(u, slope, moments, _ADAM), value

    order = np.random.default_rng(seed)
    size = min(_BATCH, len(image_u8))
    rows = [order.choice(len(image_u8), size, replace=False) for _ in range(STEPS)]
    walk = jax.jit(lambda c, r: jax.lax.scan(step, c, r))
    carry = start, optimizers.init(start, _ADAM)
    for begin in range(0, STEPS, _STEPS_AT_ONCE):
        if progress is not None:
            progress(begin, STEPS)
        part = jnp.asarray(np.stack(rows[begin : begin + _STEPS_AT_ONCE]))
        carry = jax.block_until_ready(walk(carry, part)[0])
    return middle + carry[0] @ spread


def imagine(
    g: PyTree,
    w: Float[Array, " w"],
    label25: Float[np.ndarray, "m 25"],
    config: generator_config.GeneratorConfig,
) -> Views:
    """Renders a person.

    Args:
      g: Generator variables.
      w: Who it is.
      label25: Cameras, at least one.
      config: Sizes of the generator.

    Returns:
      The pictures.
    """

    @jax.jit
    def render(label: Array) -> Array:
        rows = generator.broadcast(jnp.broadcast_to(w, (len(label), config.w_dim)), config)
        return generator.synthesize(g, rows, label, config).image

    made = []
    for begin in range(0, len(label25), _RENDERED_AT_ONCE):
        part = label25[begin : begin + _RENDERED_AT_ONCE]
        whole = np.resize(part, (_RENDERED_AT_ONCE, 25))  # One shape compiles once.
        made.append(np.asarray(images.to_u8(render(jnp.asarray(whole))))[: len(part)])
    return Views(_cover_backs(np.concatenate(made), label25), label25)


def _cover_backs(
    image_u8: UInt8[np.ndarray, "m h w 3"], label25: Float[np.ndarray, "m 25"]
) -> UInt8[np.ndarray, "m h w 3"]:
    """Covers what looks like a face on the back of the head with the colour of the crown."""
    position = label25[:, 3:12:4]
    behind = -position[:, 2] / np.linalg.norm(position, axis=1)
    share = np.clip((behind - _BACK_BEGINS) / (_BACK_WHOLE - _BACK_BEGINS), 0.0, 1.0)
    share = (share**2 * (3.0 - 2.0 * share))[:, None, None]
    image = image_u8.astype(np.float32)
    away = _distance(label25, _BACK, side=image.shape[1])
    cover = share / (1.0 + np.exp(np.clip((away - _BACK_RADIUS) / _BACK_EDGE, -30.0, 30.0)))
    cover *= np.clip((255.0 - image.min(axis=-1)) / _EMPTY, 0.0, 1.0)
    away = _distance(label25, _CROWN, side=image.shape[1])
    near = np.exp(-((away / _CROWN_RADIUS) ** 2) / 2.0)
    total = np.maximum(near.sum(axis=(1, 2)), 1e-6)
    color = np.einsum("mhwc,mhw->mc", image, near) / total[:, None]
    covered = image + cover[..., None] * (color[:, None, None] - image)
    return np.rint(covered).astype(np.uint8)


def _distance(
    label25: Float[np.ndarray, "m 25"], point: tuple[float, float, float], *, side: int
) -> Float[np.ndarray, "m h w"]:
    """Distances of pixels from where a point is seen, world units at its depth."""
    camera = cameras.from_label25(jnp.asarray(label25))
    uv, depth = cameras.project(camera, jnp.asarray(point)[None, None])
    unit = np.asarray(camera.intrinsics)[:, 0, 0] / np.asarray(depth)[:, 0]
    centres = (np.arange(side) + 0.5) / side
    across = (centres[None] - np.asarray(uv)[:, 0, :1])[:, None, :]
    down = (centres[None] - np.asarray(uv)[:, 0, 1:])[:, :, None]
    return np.hypot(across, down) / unit[:, None, None]


def spread_frames(count: int) -> np.ndarray:
    """Chooses the frames in which a person is looked for.

    Args:
      count: How many there are.

    Returns:
      Numbers of at most 64, evenly spread.
    """
    return np.unique(np.linspace(0, count - 1, min(count, _FRAMES)).round().astype(int))


def _directions(label25: Float[np.ndarray, "f 25"]) -> Float[np.ndarray, "f 3"]:
    centre = np.asarray(label25)[:, 3:12:4]
    return centre / np.linalg.norm(centre, axis=-1, keepdims=True)


def _whitening(w: Float[np.ndarray, "n d"]) -> tuple[Array, Array, Array]:
    """Mean of w, what unit numbers are multiplied with to spread like it, and the inverse."""
    middle = w.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(w.T))
    sigma = np.sqrt(np.maximum(values, _LEAST_VARIANCE * values.max()))
    return (
        jnp.asarray(middle, jnp.float32),
        jnp.asarray((vectors * sigma).T, jnp.float32),
        jnp.asarray(vectors / sigma, jnp.float32),
    )
