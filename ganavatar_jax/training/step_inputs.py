"""What the phases generate, and what they show to the discriminator."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp

from ganavatar_jax.core import images, rng
from ganavatar_jax.core.arrays import Array, PRNGKeyArray, PyTree
from ganavatar_jax.models import discriminator, generator
from ganavatar_jax.models import encoder as encoder_lib
from ganavatar_jax.ops import fir, resize
from ganavatar_jax.training import augment as augment_lib
from ganavatar_jax.training.phase_config import Batch, Schedule, StepConfig
from ganavatar_jax.training.state import GanState


def sample_ws(
    g: PyTree,
    batch: Batch,
    key: PRNGKeyArray,
    schedule: Schedule,
    config: StepConfig,
    *,
    one_coin: bool = False,
    encoder_variables: PyTree = None,
) -> tuple[Array, Array]:
    """Draws latents and maps them.

    Args:
      g: Generator variables.
      batch: Holds gen_label25, swap_label25 and sample_id.
      key: Random key.
      schedule: Holds swapping_p.
      config: Options.
      one_coin: Whether one coin decides the swap of the whole batch (as in the density phase).
      encoder_variables: Encoder, where some latents are those of real images.

    Returns:
      ws [b l d] and the first latents' w [b d], before style mixing.

    Source: EG3D (Chan et al. 2022), section 4.4; Karras et al. 2019 (style mixing).
    """
    ids = batch["sample_id"]
    label = batch["gen_label25"]
    z = draw_latents(rng.stream(key, "z"), ids, config)
    if config.reconstruction is not None and encoder_variables:
        coin = jax.vmap(jax.random.uniform)(rng.per_sample(rng.stream(key, "encoded"), ids))
        encoded = encode(encoder_variables, batch, rng.stream(key, "encoder"), config)
        use = (coin < config.reconstruction.encoded_p)[:, None]
        z = jnp.where(use, jax.lax.stop_gradient(encoded), z)
    if config.g.condition_on_camera:
        swap_key = rng.stream(key, "swap")
        if one_coin:
            coin = jax.random.uniform(swap_key, (1,))
        else:
            coin = jax.vmap(jax.random.uniform)(rng.per_sample(swap_key, ids))
        label = jnp.where((coin < schedule["swapping_p"])[:, None], batch["swap_label25"], label)
    w = generator.map_latent(g, z, label, config.g)
    ws = generator.broadcast(w, config.g)
    if config.style_mixing_p:
        second = draw_latents(rng.stream(key, "z.mixing"), ids, config)
        other = generator.map_latent(g, second, label, config.g)
        ws = _mix_styles(ws, other, rng.stream(key, "mixing"), ids, config.style_mixing_p)
    return ws, w


def draw_latents(key: PRNGKeyArray, ids: Array, config: StepConfig) -> Array:
    """Draws one standard normal latent a sample.

    Args:
      key: Random key.
      ids: Global sample ids.
      config: Options.

    Returns:
      z [b z].

    Source: Goodfellow et al. 2014.
    """
    return jax.vmap(lambda k: jax.random.normal(k, (config.g.z_dim,)))(rng.per_sample(key, ids))


def encode(variables: PyTree, batch: Batch, key: PRNGKeyArray, config: StepConfig) -> Array:
    """Encodes the real images to noisy latents.

    Args:
      variables: Encoder variables.
      batch: Holds image_u8, label25 and sample_id.
      key: Key of the noise.
      config: Options, reconstruction included.

    Returns:
      z [b z].

    Source: ours.
    """
    assert config.reconstruction is not None  # callers check
    image = images.from_u8(batch["image_u8"])
    z = encoder_lib.apply(
        variables, image, batch["label25"], config.reconstruction.encoder, z_dim=config.g.z_dim
    )
    noise = draw_latents(key, batch["sample_id"], config)
    return z + config.reconstruction.noise * noise


def generate(
    g: PyTree,
    batch: Batch,
    key: PRNGKeyArray,
    schedule: Schedule,
    config: StepConfig,
    *,
    encoder_variables: PyTree,
    resolution: int,
    axis: str | None,
) -> tuple[generator.GeneratorOutput, Array]:
    """Generates the images of a phase.

    Args:
      g: Generator variables.
      batch: Holds gen_label25, swap_label25 and sample_id.
      key: Key of the phase and iteration.
      schedule: Holds swapping_p and, while the blur lasts, blur_taps.
      config: Options.
      encoder_variables: Encoder, where some latents are those of real images; or empty.
      resolution: Neural resolution, pixels.
      axis: Device axis, or None.

    Returns:
      The images, the final one blurred while the blur lasts, and w [b d] before style mixing.

    Source: EG3D (Chan et al. 2022), section 4; blur fade of the reference.
    """
    ws, w = sample_ws(g, batch, key, schedule, config, encoder_variables=encoder_variables)
    draws = generator.make_draws(
        rng.stream(key, "synthesis"), batch["sample_id"], config.g, resolution=resolution
    )
    out = generator.synthesize(
        g,
        ws,
        batch["gen_label25"],
        config.g,
        draws=draws,
        resolution=resolution,
        axis=axis,
    )
    if "blur_taps" in schedule:  # the generated raw image is not blurred, as in the original
        out = dataclasses.replace(out, image=fir.blur(out.image, schedule["blur_taps"]))
    return out, w


def real_inputs(batch: Batch, schedule: Schedule, resolution: int) -> tuple[Array, Array]:
    """Makes D's two inputs from real images.

    Args:
      batch: Holds image_u8.
      schedule: Holds blur_taps while the blur lasts.
      resolution: Side of the low-resolution copy, pixels.

    Returns:
      The image in [-1, 1] and its antialiased copy at the neural resolution, both blurred while
      the blur lasts.

    Source: EG3D (Chan et al. 2022), section 4.3; blur fade of the reference.
    """
    image = images.from_u8(batch["image_u8"])
    raw = resize.resize(image, resolution)
    if "blur_taps" in schedule:
        taps = schedule["blur_taps"]
        image, raw = fir.blur(image, taps), fir.blur(raw, taps)
    return image, raw


def judge(
    state: GanState,
    batch: Batch,
    key: PRNGKeyArray,
    image: Array,
    image_raw: Array,
    *,
    kind: Literal["fake", "real"],
    config: StepConfig,
) -> Array:
    """Shows images to D as it sees them, augmented.

    Args:
      state: Holds D and the augmentation probability.
      batch: Holds label25, gen_label25 and sample_id.
      key: Key of the phase and iteration.
      image: Final images [b h w 3].
      image_raw: Low-resolution images [b r r 3].
      kind: Whether they are generated or real: their cameras and random draws differ.
      config: Options.

    Returns:
      Logits [b].

    Source: EG3D (Chan et al. 2022), section 4.3 (dual discrimination).
    """
    image, image_raw = augment(state, batch, rng.stream(key, kind), image, image_raw, config=config)
    label = batch["gen_label25"] if kind == "fake" else batch["label25"]
    return discriminator.apply(state.d, image, image_raw, label, config.d)


def augment(
    state: GanState,
    batch: Batch,
    key: PRNGKeyArray,
    image: Array,
    image_raw: Array,
    *,
    config: StepConfig,
) -> tuple[Array, Array]:
    """Augments both of D's inputs alike.

    Args:
      state: Holds the augmentation probability.
      batch: Holds sample_id.
      key: Random key.
      image: Final images [b h w 3].
      image_raw: Low-resolution images [b r r 3].
      config: Options.

    Returns:
      Both, augmented; as they came without an augmentation pipe.

    Source: Karras et al. 2020 (ADA).
    """
    if config.augment is None:
        return image, image_raw
    side, raw_side = image.shape[1], image_raw.shape[1]
    both = jnp.concatenate([image, resize.resize(image_raw, side)], axis=-1)
    both = augment_lib.augment(
        rng.stream(key, "augment"),
        both,
        state.augment_p,
        config=config.augment,
        sample_ids=batch["sample_id"],
    )
    return both[..., :3], resize.resize(both[..., 3:], raw_side)


def _mix_styles(ws: Array, other: Array, key: PRNGKeyArray, ids: Array, p: float) -> Array:
    rows = ws.shape[1]

    def cutoff(k: PRNGKeyArray) -> Array:
        place, coin = jax.random.split(k)
        drawn = jax.random.randint(place, (), 1, rows)
        return jnp.where(jax.random.uniform(coin) < p, drawn, rows)

    cutoffs = jax.vmap(cutoff)(rng.per_sample(key, ids))
    keep = jnp.arange(rows)[None] < cutoffs[:, None]
    return jnp.where(keep[..., None], ws, other[:, None])
