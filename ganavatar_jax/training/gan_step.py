"""The four phases of GAN training, each one pure step.

A phase is (state, batch, key, schedule) -> (state, metrics). `batch` holds, along the first axis:
image_u8 [b h w 3], label25 (real cameras), gen_label25 (cameras of generated images, drawn from
the dataset), swap_label25 (gen_label25 rolled by one over the whole batch) and sample_id (global).
`schedule` holds the numbers that change over a run, as arrays, so that a step compiles once:
ema_decay, lr_scale, recon_lr_scale, swapping_p and, while it lasts, blur_taps.

Source: EG3D (Chan et al. 2022), supplement; Karras et al. 2020; order and gains as in section
"training" of CONVENTIONS.md.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ganavatar_jax.core import rng
from ganavatar_jax.core.arrays import Array, PRNGKeyArray, PyTree
from ganavatar_jax.losses import adversarial, r1
from ganavatar_jax.losses import density as density_lib
from ganavatar_jax.metrics import lpips
from ganavatar_jax.models import discriminator, generator
from ganavatar_jax.training import augment as augment_lib
from ganavatar_jax.training import recon_step, step_inputs, step_updates
from ganavatar_jax.training.phase_config import Batch, Phase, Schedule, StepConfig
from ganavatar_jax.training.state import GanState


def phases_due(iteration: int, config: StepConfig) -> tuple[Phase, ...]:
    """Lists the phases of an iteration, in order.

    Args:
      iteration: 0-based iteration.
      config: Intervals and weights.

    Returns:
      Phase names.

    Source: Karras et al. 2020 (lazy regularisation); EG3D reference behaviour.
    """
    due: list[Phase] = []
    if config.reconstruction is not None:
        due.append("recon")
        if config.reconstruction.is_alone(iteration):
            return tuple(due)
    due.append("g_main")
    if config.density.weight and iteration % config.g_reg_interval == 0:
        due.append("g_reg")
    due.append("d_main")
    if config.gamma and iteration % config.d_reg_interval == 0:
        due.append("d_reg")
    return tuple(due)


def make_phase(
    name: Phase,
    config: StepConfig,
    *,
    resolution: int,
    lpips_params: lpips.LpipsParams | None = None,
) -> Callable[..., Any]:
    """Builds the per-shard step of a phase.

    Args:
      name: Which phase.
      config: Options.
      resolution: Neural resolution, pixels.
      lpips_params: AlexNet's weights, for a reconstruction phase that uses LPIPS.

    Returns:
      Pure function (state, batch, key, schedule, *, axis) -> (state, metrics).

    Source: ours.
    """
    if name == "recon":
        return functools.partial(
            recon_step.recon, config=config, resolution=resolution, lpips_params=lpips_params
        )
    function = {"g_main": g_main, "g_reg": g_reg, "d_main": d_main, "d_reg": d_reg}[name]

    def step(
        state: GanState, batch: Batch, key: PRNGKeyArray, schedule: Schedule, *, axis: str | None
    ) -> tuple[GanState, dict[str, Array]]:
        return function(
            state, batch, key, schedule, config=config, resolution=resolution, axis=axis
        )

    return step


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
        out, _ = step_inputs.generate(
            g,
            part,
            key,
            schedule,
            config,
            encoder_variables=state.e,
            resolution=resolution,
            axis=axis,
        )
        logits = step_inputs.judge(
            state, part, key, out.image, out.image_raw, kind="fake", config=config
        )
        loss = adversarial.generator_loss(logits)
        return loss, {"loss/g": loss, "signs/fake_g": jnp.mean(jnp.sign(logits))}

    grads, metrics = step_updates.gradients(loss_fn, state.g["params"], batch, config, axis=axis)
    return step_updates.step_g(state, grads, schedule, config), metrics


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
        ws, _ = step_inputs.sample_ws(g, part, key, schedule, config, one_coin=True)
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

    grads, metrics = step_updates.gradients(loss_fn, state.g["params"], batch, config, axis=axis)
    return step_updates.step_g(
        state, grads, schedule, config, inactive=("superresolution.*",)
    ), metrics


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
        out, w = jax.lax.stop_gradient(
            step_inputs.generate(
                state.g,
                part,
                key,
                schedule,
                config,
                encoder_variables=state.e,
                resolution=resolution,
                axis=axis,
            )
        )
        fake = step_inputs.judge(
            d_state, part, key, out.image, out.image_raw, kind="fake", config=config
        )
        image, raw = step_inputs.real_inputs(part, schedule, resolution)
        real = step_inputs.judge(d_state, part, key, image, raw, kind="real", config=config)
        loss = adversarial.discriminator_loss(fake, real)
        return loss, {
            "loss/d": loss,
            "scores/fake": jnp.mean(fake),
            "scores/real": jnp.mean(real),
            "signs/real": jnp.mean(jnp.sign(real)),
            "w_mean": jnp.mean(w, axis=0),
        }

    grads, metrics = step_updates.gradients(loss_fn, state.d["params"], batch, config, axis=axis)
    w_mean = metrics.pop("w_mean")
    state = step_updates.step_d(state, grads, schedule, config)
    state = step_updates.move_averages(state, w_mean, schedule)
    return dataclasses.replace(
        state,
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
        image, raw = step_inputs.real_inputs(part, schedule, resolution)
        image, raw = step_inputs.augment(
            state, part, rng.stream(key, "real"), image, raw, config=config
        )
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

    grads, metrics = step_updates.gradients(loss_fn, state.d["params"], batch, config, axis=axis)
    # The projection's bias does not enter the gradient of the logit.
    return step_updates.step_d(state, grads, schedule, config, inactive=("b4.out.bias",)), metrics


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
