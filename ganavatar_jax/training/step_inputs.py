"""What the phases see, what they generate, and what they show to the discriminator."""

import dataclasses
from collections.abc import Mapping
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from ganavatar_jax.core import images, rng
from ganavatar_jax.core.arrays import Array, PRNGKeyArray, PyTree
from ganavatar_jax.metrics import lpips
from ganavatar_jax.models import discriminator, generator
from ganavatar_jax.models import encoder as encoder_lib
from ganavatar_jax.ops import fir, resize
from ganavatar_jax.training import augment as augment_lib
from ganavatar_jax.training import gan_config
from ganavatar_jax.training.phase_config import Phase, StepOptions
from ganavatar_jax.training.state import GanState

Batch = Mapping[str, Array]
Schedule = Mapping[str, Array]


@dataclasses.dataclass(frozen=True)
class Program:
    """What is fixed in one compiled step.

    Attributes:
      phase: Which phase.
      options: Options of the run.
      resolution: Neural resolution, pixels.
      devices: Devices that a batch without a device axis is spread over.
      lpips_params: AlexNet's weights, for a reconstruction that uses LPIPS.
    """

    phase: Phase
    options: StepOptions
    resolution: int
    devices: int = 1
    lpips_params: lpips.LpipsParams | None = None


class Step(NamedTuple):
    """What a phase sees besides state and batch; see gan_step's docstring.

    Attributes:
      key: Key of this phase and iteration.
      schedule: The numbers that change over a run.
      program: What is fixed.
      axis: Device axis, or None.
    """

    key: PRNGKeyArray
    schedule: Schedule
    program: Program
    axis: str | None = None

    @property
    def options(self) -> StepOptions:
        """The options of the run."""
        return self.program.options


def load_lpips(gan: gan_config.GanConfig) -> lpips.LpipsParams | None:
    """Loads the network of the perceptual loss.

    Args:
      gan: Options of the run.

    Returns:
      AlexNet's weights; None where nothing is compared with them.
    """
    wanted = gan.reconstruct and gan.reconstruction.lpips_weight
    return lpips.load_params("alex") if wanted else None


def sample_ws(
    g: PyTree,
    batch: Batch,
    step: Step,
    *,
    one_coin: bool = False,
    encoder_variables: PyTree = None,
) -> tuple[Array, Array]:
    """Draws latents and maps them.

    Args:
      g: Generator variables.
      batch: Holds gen_label25, swap_label25 and sample_id.
      step: Its schedule holds swapping_p.
      one_coin: Whether one coin decides the swap of the whole batch (as in the density phase).
      encoder_variables: Encoder, where some latents are those of real images.

    Returns:
      ws [b l d] and the first latents' w [b d], before style mixing.

    Source: EG3D (Chan et al. 2022), section 4.4; Karras et al. 2019 (style mixing).
    """
    key, gan, g_config = step.key, step.options.gan, step.options.g
    ids = batch["sample_id"]
    label = batch["gen_label25"]
    z = draw_latents(rng.stream(key, "z"), ids, z_dim=g_config.z_dim)
    if gan.reconstruct and encoder_variables:
        coin = jax.vmap(jax.random.uniform)(rng.per_sample(rng.stream(key, "encoded"), ids))
        encoded = encode(encoder_variables, batch, rng.stream(key, "encoder"), step.options)
        use = (coin < gan.reconstruction.encoded_p)[:, None]
        z = jnp.where(use, jax.lax.stop_gradient(encoded), z)
    if g_config.condition_on_camera:
        swap_key = rng.stream(key, "swap")
        if one_coin:
            coin = jax.random.uniform(swap_key, (1,))
        else:
            coin = jax.vmap(jax.random.uniform)(rng.per_sample(swap_key, ids))
        swap = coin < step.schedule["swapping_p"]
        label = jnp.where(swap[:, None], batch["swap_label25"], label)
    w = generator.map_latent(g, z, label, g_config)
    ws = generator.broadcast(w, g_config)
    if gan.style_mixing_p:
        second = draw_latents(rng.stream(key, "z.mixing"), ids, z_dim=g_config.z_dim)
        other = generator.map_latent(g, second, label, g_config)
        ws = _mix_styles(ws, other, rng.stream(key, "mixing"), ids, gan.style_mixing_p)
    return ws, w


def draw_latents(key: PRNGKeyArray, ids: Array, *, z_dim: int) -> Array:
    """Draws one standard normal latent a sample.

    Args:
      key: Random key.
      ids: Global sample ids.
      z_dim: Length of the latent.

    Returns:
      z [b z].

    Source: Goodfellow et al. 2014.
    """
    return jax.vmap(lambda k: jax.random.normal(k, (z_dim,)))(rng.per_sample(key, ids))


def encode(variables: PyTree, batch: Batch, key: PRNGKeyArray, options: StepOptions) -> Array:
    """Encodes the real images to noisy latents.

    Args:
      variables: Encoder variables.
      batch: Holds image_u8, label25 and sample_id.
      key: Key of the noise.
      options: Options of the run, which reconstructs.

    Returns:
      z [b z].
    """
    config, z_dim = options.gan.reconstruction, options.g.z_dim
    image = images.from_u8(batch["image_u8"])
    z = encoder_lib.apply(variables, image, batch["label25"], config.encoder, z_dim=z_dim)
    return z + config.noise * draw_latents(key, batch["sample_id"], z_dim=z_dim)


def generate(
    g: PyTree, batch: Batch, step: Step, *, encoder_variables: PyTree
) -> tuple[generator.GeneratorOutput, Array]:
    """Generates the images of a phase.

    Args:
      g: Generator variables.
      batch: Holds gen_label25, swap_label25, sample_id and, where images reach beyond what was
        filmed, gen_filmed.
      step: Its schedule holds swapping_p and, while the blur lasts, blur_taps.
      encoder_variables: Encoder, where some latents are those of real images; or empty.

    Returns:
      The images, the final one blurred while the blur lasts, and w [b d] before style mixing.

    Source: EG3D (Chan et al. 2022), section 4; blur fade of the reference.
    """
    ws, w = sample_ws(g, batch, step, encoder_variables=encoder_variables)
    out = synthesize(
        g, ws, batch["gen_label25"], batch["sample_id"], step, filmed=batch.get("gen_filmed")
    )
    if "blur_taps" in step.schedule:  # the generated raw image is not blurred, as in the original
        out = dataclasses.replace(out, image=fir.blur(out.image, step.schedule["blur_taps"]))
    return out, w


def synthesize(
    g: PyTree,
    ws: Array,
    label25: Array,
    ids: Array,
    step: Step,
    *,
    filmed: Array | None,
) -> generator.GeneratorOutput:
    """Synthesises images with the draws of a phase.

    Args:
      g: Generator variables.
      ws: One latent per layer [b l d].
      label25: Cameras to render from [b 25].
      ids: Global sample ids [b].
      step: Key, neural resolution and device axis.
      filmed: 255 where the frames of these cameras show something, 0 beyond [b h w]; None where
        they do everywhere.

    Returns:
      The images, white where nothing was filmed, as real ones are: no loss reaches these pixels.

    Source: EG3D (Chan et al. 2022), section 4.
    """
    config, resolution = step.options.g, step.program.resolution
    draws = generator.make_draws(
        rng.stream(step.key, "synthesis"), ids, config, resolution=resolution
    )
    out = generator.synthesize(
        g, ws, label25, config, draws=draws, resolution=resolution, axis=step.axis
    )
    if filmed is None:
        return out
    share = filmed[..., None].astype(jnp.float32) / 255.0
    return dataclasses.replace(
        out, image=_whiten(out.image, share), image_raw=_whiten(out.image_raw, share)
    )


def real_inputs(batch: Batch, step: Step) -> tuple[Array, Array]:
    """Makes D's two inputs from real images.

    Args:
      batch: Holds image_u8.
      step: Its schedule holds blur_taps while the blur lasts.

    Returns:
      The image in [-1, 1] and its antialiased copy at the neural resolution, both blurred while
      the blur lasts.

    Source: EG3D (Chan et al. 2022), section 4.3; blur fade of the reference.
    """
    image = images.from_u8(batch["image_u8"])
    raw = resize.resize(image, step.program.resolution)
    if "blur_taps" in step.schedule:
        taps = step.schedule["blur_taps"]
        image, raw = fir.blur(image, taps), fir.blur(raw, taps)
    return image, raw


def judge(
    state: GanState,
    batch: Batch,
    step: Step,
    image: Array,
    image_raw: Array,
    *,
    kind: Literal["fake", "real"],
) -> Array:
    """Shows images to D as it sees them, augmented.

    Args:
      state: Holds D and the augmentation probability.
      batch: Holds label25, gen_label25 and sample_id.
      step: Key and options.
      image: Final images [b h w 3].
      image_raw: Low-resolution images [b r r 3].
      kind: Whether they are generated or real: their cameras and random draws differ.

    Returns:
      Logits [b].

    Source: EG3D (Chan et al. 2022), section 4.3 (dual discrimination).
    """
    image, image_raw = augment(state, batch, step, image, image_raw, kind=kind)
    label = batch["gen_label25"] if kind == "fake" else batch["label25"]
    return discriminator.apply(state.d, image, image_raw, label, step.options.d)


def augment(
    state: GanState,
    batch: Batch,
    step: Step,
    image: Array,
    image_raw: Array,
    *,
    kind: Literal["fake", "real"],
) -> tuple[Array, Array]:
    """Augments both of D's inputs alike.

    Args:
      state: Holds the augmentation probability.
      batch: Holds sample_id.
      step: Key and options.
      image: Final images [b h w 3].
      image_raw: Low-resolution images [b r r 3].
      kind: Whether they are generated or real: their random draws differ.

    Returns:
      Both, augmented; as they came without augmentation.

    Source: Karras et al. 2020 (ADA).
    """
    if step.options.gan.augment == "none":
        return image, image_raw
    side, raw_side = image.shape[1], image_raw.shape[1]
    both = jnp.concatenate([image, resize.resize(image_raw, side)], axis=-1)
    both = augment_lib.augment(
        rng.stream(rng.stream(step.key, kind), "augment"),
        both,
        state.augment_p,
        config=step.options.gan.augment_pipe,
        sample_ids=batch["sample_id"],
    )
    return both[..., :3], resize.resize(both[..., 3:], raw_side)


def _whiten(image: Array, share: Array) -> Array:
    """Puts white where nothing was filmed; at another size as a shrunk real image has it."""
    share = resize.resize(share, image.shape[1])
    return image * share + (1.0 - share)  # White is 1; exact where the share is 0 or 1.


def _mix_styles(ws: Array, other: Array, key: PRNGKeyArray, ids: Array, p: float) -> Array:
    """Takes the last rows of some samples' ws from their other w."""
    rows = ws.shape[1]

    def cutoff(k: PRNGKeyArray) -> Array:
        place, coin = jax.random.split(k)
        drawn = jax.random.randint(place, (), 1, rows)
        return jnp.where(jax.random.uniform(coin) < p, drawn, rows)

    cutoffs = jax.vmap(cutoff)(rng.per_sample(key, ids))
    keep = jnp.arange(rows)[None] < cutoffs[:, None]
    return jnp.where(keep[..., None], ws, other[:, None])
