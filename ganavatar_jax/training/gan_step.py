"""The four phases of GAN training, each one pure step.

A phase is (state, batch, key, schedule) -> (state, metrics). `batch` holds, along the first axis:
image_u8 [b h w 3], label25 (real cameras), gen_label25 (cameras of generated images, drawn from
the dataset), swap_label25 (gen_label25 rolled by one over the whole batch) and sample_id (global).
`schedule` holds the numbers that change over a run, as arrays, so that a step compiles once:
ema_decay, lr_scale, swapping_p and, while it lasts, blur_taps.

Source: EG3D (Chan et al. 2022), supplement; Karras et al. 2020; order and gains as in section
"training" of CONVENTIONS.md.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp

from ganavatar_jax.core import images, rng
from ganavatar_jax.core.arrays import Array, PRNGKeyArray, PyTree
from ganavatar_jax.losses import adversarial, r1
from ganavatar_jax.losses import density as density_lib
from ganavatar_jax.models import discriminator, generator, mapping
from ganavatar_jax.ops import fir, resize
from ganavatar_jax.training import augment as augment_lib
from ganavatar_jax.training import ema, optimizers
from ganavatar_jax.training.parallel import pmean_if
from ganavatar_jax.training.state import GanState

Batch = Mapping[str, Array]
Schedule = Mapping[str, Array]
Phase = Literal["g_main", "g_reg", "d_main", "d_reg"]


@dataclasses.dataclass(frozen=True)
class StepConfig:
    """What the phases need to know at compile time.

    Attributes:
      g: Generator.
      d: Discriminator.
      g_adam: Optimiser of G, before lazy rescaling.
      d_adam: Optimiser of D, before lazy rescaling.
      gamma: Weight of R1.
      g_reg_interval: Iterations between density regularisations.
      d_reg_interval: Iterations between R1 steps.
      density: Density regulariser.
      style_mixing_p: Probability that rows of ws come from a second latent.
      augment: Augmentation pipe, or None.
      ada_target: Mean sign of real logits the augmentation is adapted to.
      ada_kimg: Images over which its probability could move by one, thousands.
      freeze_d: How many of D's largest blocks stay as they are.
      microbatch: Samples of a device handled at once; 0 takes all. Gradients are averaged.
    """

    g: generator.GeneratorConfig
    d: discriminator.DiscriminatorConfig
    g_adam: optimizers.AdamConfig = optimizers.AdamConfig(lr=0.0025)
    d_adam: optimizers.AdamConfig = optimizers.AdamConfig(lr=0.002)
    gamma: float = 5.0
    g_reg_interval: int = 4
    d_reg_interval: int = 16
    density: density_lib.DensityConfig = dataclasses.field(
        default_factory=density_lib.DensityConfig
    )
    style_mixing_p: float = 0.0
    augment: augment_lib.AugmentConfig | None = None
    ada_target: float = 0.6
    ada_kimg: float = 500.0
    freeze_d: int = 0
    microbatch: int = 0

    @property
    def g_adam_lazy(self) -> optimizers.AdamConfig:
        """Optimiser of G; rescaled only if the density regulariser is on."""
        return self.g_adam.for_interval(self.g_reg_interval if self.density.weight else None)

    @property
    def d_adam_lazy(self) -> optimizers.AdamConfig:
        """Optimiser of D; rescaled only if R1 is on."""
        return self.d_adam.for_interval(self.d_reg_interval if self.gamma else None)


def phases_due(iteration: int, config: StepConfig) -> tuple[Phase, ...]:
    """Lists the phases of an iteration, in order.

    Args:
      iteration: 0-based iteration.
      config: Intervals and weights.

    Returns:
      Phase names.

    Source: Karras et al. 2020 (lazy regularisation); EG3D reference behaviour.
    """
    due: list[Phase] = ["g_main"]
    if config.density.weight and iteration % config.g_reg_interval == 0:
        due.append("g_reg")
    due.append("d_main")
    if config.gamma and iteration % config.d_reg_interval == 0:
        due.append("d_reg")
    return tuple(due)


def make_phase(name: Phase, config: StepConfig, *, resolution: int) -> Callable[..., Any]:
    """Builds the per-shard step of a phase.

    Args:
      name: Which phase.
      config: Options.
      resolution: Neural resolution, pixels.

    Returns:
      Pure function (state, batch, key, schedule, *, axis) -> (state, metrics).

    Source: ours.
    """
    function = {"g_main": g_main, "g_reg": g_reg, "d_main": d_main, "d_reg": d_reg}[name]

    def step(
        state: GanState, batch: Batch, key: PRNGKeyArray, schedule: Schedule, *, axis: str | None
    ) -> tuple[GanState, dict[str, Array]]:
        return function(
            state, batch, key, schedule, config=config, resolution=resolution, axis=axis
        )

    return step


def sample_ws(
    g: PyTree,
    batch: Batch,
    key: PRNGKeyArray,
    schedule: Schedule,
    config: StepConfig,
    *,
    one_coin: bool = False,
) -> tuple[Array, Array]:
    """Draws latents and maps them.

    Args:
      g: Generator variables.
      batch: Holds gen_label25, swap_label25 and sample_id.
      key: Random key.
      schedule: Holds swapping_p.
      config: Options.
      one_coin: Whether one coin decides the swap of the whole batch (as in the density phase).

    Returns:
      ws [b l d] and the first latents' w [b d], before style mixing.

    Source: EG3D (Chan et al. 2022), section 4.4; Karras et al. 2019 (style mixing).
    """
    ids = batch["sample_id"]
    label = batch["gen_label25"]
    if config.g.condition_on_camera:
        swap_key = rng.stream(key, "swap")
        if one_coin:
            coin = jax.random.uniform(swap_key, (1,))
        else:
            coin = jax.vmap(jax.random.uniform)(rng.per_sample(swap_key, ids))
        label = jnp.where((coin < schedule["swapping_p"])[:, None], batch["swap_label25"], label)
    w = generator.map_latent(g, draw_latents(rng.stream(key, "z"), ids, config), label, config.g)
    ws = generator.broadcast(w, config.g)
    if config.style_mixing_p:
        z = draw_latents(rng.stream(key, "z.mixing"), ids, config)
        other = generator.map_latent(g, z, label, config.g)
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


def g_main(
    state: GanState,
    batch: Batch,
    key: PRNGKeyArray,
    schedule: Schedule,
    *,
    config: StepConfig,
    resolution: int,
    axis: str | None,
) -> tuple[GanState, dict[str, Array]]:
    """Trains G to be judged real.

    Args:
      state: Training state.
      batch: See the module docstring.
      key: Key of this phase and iteration.
      schedule: See the module docstring.
      config: Options.
      resolution: Neural resolution, pixels.
      axis: Device axis, or None.

    Returns:
      New state and metrics.

    Source: EG3D phase Gmain.
    """

    def loss_fn(params: PyTree, part: Batch) -> tuple[Array, dict[str, Array]]:
        g = {**state.g, "params": params}
        out, _ = _generate(g, part, key, schedule, config, resolution)
        logits = _judge(state, out.image, out.image_raw, part, key, "fake", config)
        loss = adversarial.generator_loss(logits)
        return loss, {"loss/g": loss, "signs/fake_g": jnp.mean(jnp.sign(logits))}

    gradients, metrics = _gradients(loss_fn, state.g["params"], batch, config, axis)
    return _step_g(state, gradients, schedule, config, inactive=()), metrics


def g_reg(
    state: GanState,
    batch: Batch,
    key: PRNGKeyArray,
    schedule: Schedule,
    *,
    config: StepConfig,
    resolution: int,
    axis: str | None,
) -> tuple[GanState, dict[str, Array]]:
    """Regularises G's density field.

    Args:
      state: Training state.
      batch: See the module docstring.
      key: Key of this phase and iteration.
      schedule: See the module docstring.
      config: Options.
      resolution: Not used: the field is sampled, not rendered.
      axis: Device axis, or None.

    Returns:
      New state and metrics.

    Source: EG3D phase Greg.
    """
    del resolution

    def loss_fn(params: PyTree, part: Batch) -> tuple[Array, dict[str, Array]]:
        g = {**state.g, "params": params}
        ws, _ = sample_ws(g, part, key, schedule, config, one_coin=True)
        ids = part["sample_id"]
        noise = generator.make_noise(rng.stream(key, "noise"), ids, config.g)
        planes = generator.make_planes(g, ws, config.g, noise=noise)
        draws = density_lib.make_draws(rng.stream(key, "density"), ids, config.density)
        loss = density_lib.density_loss(
            lambda points: generator.query(g, planes, points, config.g)[1],
            draws,
            config.density,
            box_warp=config.g.render.box_warp,
        )
        return loss * config.g_reg_interval, {"loss/density": loss}

    gradients, metrics = _gradients(loss_fn, state.g["params"], batch, config, axis)
    return _step_g(state, gradients, schedule, config, inactive=("superresolution.*",)), metrics


def d_main(
    state: GanState,
    batch: Batch,
    key: PRNGKeyArray,
    schedule: Schedule,
    *,
    config: StepConfig,
    resolution: int,
    axis: str | None,
) -> tuple[GanState, dict[str, Array]]:
    """Trains D on generated and real images; also moves w_avg and the average of G.

    Args:
      state: Training state.
      batch: See the module docstring.
      key: Key of this phase and iteration.
      schedule: See the module docstring.
      config: Options.
      resolution: Neural resolution, pixels.
      axis: Device axis, or None.

    Returns:
      New state and metrics.

    Source: EG3D phase Dmain.
    """

    def loss_fn(params: PyTree, part: Batch) -> tuple[Array, dict[str, Array]]:
        d_state = dataclasses.replace(state, d={"params": params})
        out, w = jax.lax.stop_gradient(_generate(state.g, part, key, schedule, config, resolution))
        fake = _judge(d_state, out.image, out.image_raw, part, key, "fake", config)
        image, raw = real_inputs(part, schedule, resolution)
        real = _judge(d_state, image, raw, part, key, "real", config)
        loss = adversarial.discriminator_loss(fake, real)
        return loss, {
            "loss/d": loss,
            "scores/fake": jnp.mean(fake),
            "scores/real": jnp.mean(real),
            "signs/real": jnp.mean(jnp.sign(real)),
            "w_mean": jnp.mean(w, axis=0),
        }

    gradients, metrics = _gradients(loss_fn, state.d["params"], batch, config, axis)
    w_mean = metrics.pop("w_mean")
    state = _step_d(state, gradients, schedule, config, inactive=())
    buffers = dict(state.g["buffers"])
    w_avg = mapping.update_average(buffers["backbone"]["mapping"]["w_avg"], w_mean[None])
    buffers["backbone"] = {**buffers["backbone"], "mapping": {"w_avg": w_avg}}
    g = {**state.g, "buffers": buffers}
    return dataclasses.replace(
        state,
        g=g,
        g_ema=ema.update(state.g_ema, g, schedule["ema_decay"]),
        real_sign=state.real_sign + jnp.stack([metrics["signs/real"], jnp.ones(())]),
    ), metrics


def d_reg(
    state: GanState,
    batch: Batch,
    key: PRNGKeyArray,
    schedule: Schedule,
    *,
    config: StepConfig,
    resolution: int,
    axis: str | None,
) -> tuple[GanState, dict[str, Array]]:
    """Regularises D by R1 on both of its inputs.

    Args:
      state: Training state.
      batch: See the module docstring.
      key: Key of this phase and iteration.
      schedule: See the module docstring.
      config: Options.
      resolution: Neural resolution, pixels.
      axis: Device axis, or None.

    Returns:
      New state and metrics.

    Source: EG3D phase Dreg; Mescheder et al. 2018.
    """

    def loss_fn(params: PyTree, part: Batch) -> tuple[Array, dict[str, Array]]:
        # As in the original, the penalty is taken at the blurred and augmented images.
        image, raw = real_inputs(part, schedule, resolution)
        image, raw = _augment(state, image, raw, part, rng.stream(key, "real"), config)
        penalty = jnp.mean(
            r1.r1_penalty(
                lambda i, r: discriminator.apply(
                    {"params": params}, i, r, part["label25"], config.d
                ),
                image,
                raw,
            )
        )
        loss = penalty * (config.gamma / 2)
        return loss * config.d_reg_interval, {"loss/r1_penalty": penalty, "loss/r1": loss}

    gradients, metrics = _gradients(loss_fn, state.d["params"], batch, config, axis)
    # The projection's bias does not enter the gradient of the logit.
    return _step_d(state, gradients, schedule, config, inactive=("b4.out.bias",)), metrics


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


def adapt_augmentation(
    state: GanState, config: StepConfig, *, batch_size: int, interval: int
) -> GanState:
    """Adapts the augmentation probability to the signs seen since the last call.

    Args:
      state: Training state.
      config: Holds target and speed.
      batch_size: Images an iteration.
      interval: Iterations since the last call.

    Returns:
      State with a new probability and empty statistics.

    Source: Karras et al. 2020 (ADA), section 3.
    """
    mean = state.real_sign[0] / jnp.maximum(state.real_sign[1], 1.0)
    p = augment_lib.update_p(
        state.augment_p,
        mean,
        batch=batch_size,
        interval=interval,
        ada_kimg=config.ada_kimg,
        target=config.ada_target,
    )
    return dataclasses.replace(state, augment_p=p, real_sign=jnp.zeros_like(state.real_sign))


def _generate(
    g: PyTree,
    batch: Batch,
    key: PRNGKeyArray,
    schedule: Schedule,
    config: StepConfig,
    resolution: int,
) -> tuple[generator.GeneratorOutput, Array]:
    ws, w = sample_ws(g, batch, key, schedule, config)
    draws = generator.make_draws(
        rng.stream(key, "synthesis"), batch["sample_id"], config.g, resolution=resolution
    )
    out = generator.synthesize(
        g, ws, batch["gen_label25"], config.g, draws=draws, resolution=resolution
    )
    if "blur_taps" in schedule:  # the generated raw image is not blurred, as in the original
        out = dataclasses.replace(out, image=fir.blur(out.image, schedule["blur_taps"]))
    return out, w


def _judge(
    state: GanState,
    image: Array,
    image_raw: Array,
    batch: Batch,
    key: PRNGKeyArray,
    kind: Literal["fake", "real"],
    config: StepConfig,
) -> Array:
    image, image_raw = _augment(state, image, image_raw, batch, rng.stream(key, kind), config)
    label = batch["gen_label25"] if kind == "fake" else batch["label25"]
    return discriminator.apply(state.d, image, image_raw, label, config.d)


def _augment(
    state: GanState,
    image: Array,
    image_raw: Array,
    batch: Batch,
    key: PRNGKeyArray,
    config: StepConfig,
) -> tuple[Array, Array]:
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


def _gradients(
    loss_fn: Callable[[PyTree, Batch], tuple[Array, dict[str, Array]]],
    params: PyTree,
    batch: Batch,
    config: StepConfig,
    axis: str | None,
) -> tuple[PyTree, dict[str, Array]]:
    grad_fn = jax.grad(loss_fn, has_aux=True)
    count = batch["sample_id"].shape[0]
    if config.microbatch and config.microbatch < count:
        passes = count // config.microbatch
        parts = jax.tree.map(
            lambda a: jnp.moveaxis(a.reshape(config.microbatch, passes, *a.shape[1:]), 1, 0), batch
        )
        first = jax.eval_shape(grad_fn, params, jax.tree.map(lambda a: a[0], parts))
        zero = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), first)

        def body(total: PyTree, part: Batch) -> tuple[PyTree, None]:
            new = grad_fn(params, part)
            return jax.tree.map(lambda t, n: t + n / passes, total, new), None

        (gradients, metrics), _ = jax.lax.scan(body, zero, parts)
    else:
        gradients, metrics = grad_fn(params, batch)
    gradients, metrics = pmean_if((gradients, metrics), axis)
    return optimizers.clean(gradients), metrics


def _step_g(
    state: GanState,
    gradients: PyTree,
    schedule: Schedule,
    config: StepConfig,
    *,
    inactive: tuple[str, ...],
) -> GanState:
    # Super-resolution never adds noise, so its noise strengths get no gradient.
    unused = tuple(
        f"superresolution.block{b}.conv{c}.noise_strength" for b in (0, 1) for c in (0, 1)
    )
    params, opt = optimizers.update(
        state.g["params"],
        gradients,
        state.g_opt,
        config.g_adam_lazy,
        active=optimizers.mask_names(state.g["params"], inactive=unused + inactive),
        lr_scale=schedule["lr_scale"],
    )
    return dataclasses.replace(state, g={**state.g, "params": params}, g_opt=opt)


def _step_d(
    state: GanState,
    gradients: PyTree,
    schedule: Schedule,
    config: StepConfig,
    *,
    inactive: tuple[str, ...],
) -> GanState:
    side = config.d.img_resolution
    frozen = tuple(f"b{side >> k}.*" for k in range(config.freeze_d))
    params, opt = optimizers.update(
        state.d["params"],
        gradients,
        state.d_opt,
        config.d_adam_lazy,
        active=optimizers.mask_names(state.d["params"], inactive=frozen + inactive),
        lr_scale=schedule["lr_scale"],
    )
    return dataclasses.replace(state, d={"params": params}, d_opt=opt)
