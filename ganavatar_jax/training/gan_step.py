"""The phases of GAN training: a table of their losses, and the one step that takes any of them.

A compiled step is (state, batch, key, schedule) -> (state, metrics). `batch` holds, along the first
axis: image_u8 [b h w 3], label25 (real cameras), gen_label25 (cameras of generated images, drawn
from the dataset), swap_label25 (gen_label25 rolled by one over the whole batch) and sample_id
(global). Where images of the dataset reach beyond what was filmed, filmed and gen_filmed [b h w]
say which pixels of the frames of both cameras show something; in the phase "unseen", image_u8 and
label25 are those of pictures that the base generator made. `schedule` holds the numbers that
change over a run, as arrays, so that a step compiles once: ema_decay, lr_scale, recon_lr_scale,
swapping_p and, while it lasts, blur_taps.

Source: EG3D (Chan et al. 2022), supplement; Karras et al. 2020; order and gains as in section
"training" of CONVENTIONS.md.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ganavatar_jax.core import rng
from ganavatar_jax.core.arrays import Array, PRNGKeyArray, PyTree
from ganavatar_jax.losses import adversarial, r1
from ganavatar_jax.losses import density as density_lib
from ganavatar_jax.models import discriminator, generator
from ganavatar_jax.training import augment as augment_lib
from ganavatar_jax.training import faults, recon_step, step_inputs, step_updates
from ganavatar_jax.training.phase_config import Phase, StepOptions
from ganavatar_jax.training.state import GanState
from ganavatar_jax.training.step_inputs import Batch, Program, Schedule, Step

Metrics = dict[str, Array]


def phases_due(
    iteration: int, options: StepOptions, *, seen_all: bool = False
) -> tuple[Phase, ...]:
    """Lists the phases of an iteration, in order.

    Args:
      iteration: 0-based iteration.
      options: Intervals and weights.
      seen_all: Whether the capture leaves no side unseen, so that nothing is to be filled in.

    Returns:
      Phase names.

    Source: Karras et al. 2020 (lazy regularisation); EG3D reference behaviour.
    """
    gan = options.gan
    due: list[Phase] = []
    if gan.reconstruct:
        # The last phase of an iteration moves the average of G: that is not the rarer one.
        interval = 0 if seen_all else gan.reconstruction.unseen_interval
        if interval and iteration % interval == 0:
            due.append("unseen")
        due.append("recon")
        if gan.reconstruction.is_alone(iteration):
            return tuple(due)
    due.append("g_main")
    if gan.density.weight and iteration % gan.g_reg_interval == 0:
        due.append("g_reg")
    due.append("d_main")
    if gan.gamma and iteration % gan.d_reg_interval == 0:
        due.append("d_reg")
    return tuple(due)


def take_step(
    state: GanState,
    batch: Batch,
    key: PRNGKeyArray,
    schedule: Schedule,
    *,
    program: Program,
    axis: str | None,
) -> tuple[GanState, Metrics]:
    """Takes the step of one phase: gradients of its loss, its optimiser, what comes after.

    Args:
      state: Training state.
      batch: See the module docstring.
      key: Key of this phase and iteration.
      schedule: See the module docstring.
      program: Which phase, and all that is fixed.
      axis: Device axis, or None.

    Returns:
      New state and metrics.

    Source: EG3D reference behaviour.
    """
    phase = PHASES[program.phase]
    step = Step(key, schedule, program, axis)

    def loss_fn(params: PyTree, part: Batch) -> tuple[Array, Metrics]:
        return phase.loss(phase.trained.put(state, params), part, step)

    grads, metrics = step_updates.gradients(
        loss_fn,
        phase.trained.get(state),
        batch,
        microbatch=program.options.gan.microbatch,
        devices=program.devices if axis is None else 1,
        axis=axis,
    )
    spoiled = metrics.pop(faults.KEY)
    new = step_updates.update(
        state,
        grads,
        schedule,
        trained=phase.trained,
        options=program.options,
        inactive=phase.inactive,
    )
    if phase.after is not None:
        new, metrics = phase.after(new, metrics, schedule)
    if program.options.gan.skip_nonfinite:
        new = faults.keep_if(spoiled, state, new)
    return new, {**metrics, f"{faults.KEY}/{program.phase}": spoiled}


def g_main(state: GanState, batch: Batch, step: Step) -> tuple[Array, Metrics]:
    """Judges how real D takes generated images to be.

    Args:
      state: Training state with the parameters to differentiate by.
      batch: Part of the batch.
      step: Key, schedule and options.

    Returns:
      Mean loss and metrics.

    Source: EG3D phase Gmain.
    """
    out, _ = step_inputs.generate(state.g, batch, step, encoder_variables=state.e)
    logits = step_inputs.judge(state, batch, step, out.image, out.image_raw, kind="fake")
    loss = adversarial.generator_loss(logits)
    return loss, {"loss/g": loss, "signs/fake_g": jnp.mean(jnp.sign(logits))}


def g_reg(state: GanState, batch: Batch, step: Step) -> tuple[Array, Metrics]:
    """Regularises G's density field, which is sampled and not rendered.

    Args:
      state: Training state with the parameters to differentiate by.
      batch: Part of the batch.
      step: Key, schedule and options.

    Returns:
      Mean loss and metrics.

    Source: EG3D phase Greg.
    """
    gan, config = step.options.gan, step.options.g
    ws, _ = step_inputs.sample_ws(state.g, batch, step, one_coin=True)
    ids = batch["sample_id"]
    noise = generator.make_noise(rng.stream(step.key, "noise"), ids, config)
    planes = generator.make_planes(state.g, ws, config, noise=noise)
    draws = density_lib.make_draws(rng.stream(step.key, "density"), ids, gan.density)
    loss = density_lib.density_loss(
        lambda points: generator.query(state.g, planes, points, config)[1],
        draws,
        gan.density,
        box_warp=config.render.box_warp,
    )
    return loss * gan.g_reg_interval, {"loss/density": loss}


def d_main(state: GanState, batch: Batch, step: Step) -> tuple[Array, Metrics]:
    """Judges how well D tells generated from real images.

    Args:
      state: Training state with the parameters to differentiate by.
      batch: Part of the batch.
      step: Key, schedule and options.

    Returns:
      Mean loss, metrics and the mean w.

    Source: EG3D phase Dmain.
    """
    out, w = jax.lax.stop_gradient(
        step_inputs.generate(state.g, batch, step, encoder_variables=state.e)
    )
    fake = step_inputs.judge(state, batch, step, out.image, out.image_raw, kind="fake")
    image, raw = step_inputs.real_inputs(batch, step)
    real = step_inputs.judge(state, batch, step, image, raw, kind="real")
    loss = adversarial.discriminator_loss(fake, real)
    return loss, {
        "loss/d": loss,
        "scores/fake": jnp.mean(fake),
        "scores/real": jnp.mean(real),
        "signs/real": jnp.mean(jnp.sign(real)),
        "w_mean": jnp.mean(w, axis=0),
    }


def d_reg(state: GanState, batch: Batch, step: Step) -> tuple[Array, Metrics]:
    """Regularises D by R1 on both of its inputs.

    Args:
      state: Training state with the parameters to differentiate by.
      batch: Part of the batch.
      step: Key, schedule and options.

    Returns:
      Mean loss and metrics.

    Source: EG3D phase Dreg; Mescheder et al. 2018.
    """
    gan = step.options.gan
    # As in the original, the penalty is taken at the blurred and augmented images (quirk Q17).
    image, raw = step_inputs.real_inputs(batch, step)
    image, raw = step_inputs.augment(state, batch, step, image, raw, kind="real")
    penalty = jnp.mean(
        r1.r1_penalty(
            lambda i, r: discriminator.apply(state.d, i, r, batch["label25"], step.options.d),
            image,
            raw,
        )
    )
    loss = penalty * (gan.gamma / 2)
    return loss * gan.d_reg_interval, {"loss/r1_penalty": penalty, "loss/r1": loss}


def _move_averages(
    state: GanState, metrics: Metrics, schedule: Schedule
) -> tuple[GanState, Metrics]:
    """Moves w_avg and the average of G, and takes the mean w out of the metrics."""
    rest = {name: value for name, value in metrics.items() if name != "w_mean"}
    return step_updates.move_averages(state, metrics["w_mean"], schedule), rest


def _finish_d_main(
    state: GanState, metrics: Metrics, schedule: Schedule
) -> tuple[GanState, Metrics]:
    """Moves the averages, and collects the signs of real logits for the augmentation."""
    state, metrics = _move_averages(state, metrics, schedule)
    signs = jnp.stack([metrics["signs/real"], jnp.ones(())])
    return dataclasses.replace(state, real_sign=state.real_sign + signs), metrics


class PhaseRow(NamedTuple):
    """One row of the table of phases.

    Attributes:
      loss: Maps (state, part of the batch, step) to the mean loss and metrics.
      trained: What its gradients move.
      inactive: Patterns of parameters the loss does not reach: they sit out (quirk Q14).
      after: What happens to state and metrics after the optimiser's step, if anything.
      renders: Whether images are made, so that the neural resolution matters.
    """

    loss: Callable[[GanState, Batch, Step], tuple[Array, Metrics]]
    trained: step_updates.Trained
    inactive: tuple[str, ...] = ()
    after: Callable[[GanState, Metrics, Schedule], tuple[GanState, Metrics]] | None = None
    renders: bool = True


PHASES: dict[Phase, PhaseRow] = {
    "recon": PhaseRow(recon_step.recon, step_updates.G_AND_ENCODER, after=_move_averages),
    "unseen": PhaseRow(recon_step.unseen, step_updates.G_AND_ENCODER, inactive=("e.*", "probes.*")),
    "g_main": PhaseRow(g_main, step_updates.G),
    "g_reg": PhaseRow(g_reg, step_updates.G, inactive=("superresolution.*",), renders=False),
    "d_main": PhaseRow(d_main, step_updates.D, after=_finish_d_main),
    # The projection's bias does not enter the gradient of the logit.
    "d_reg": PhaseRow(d_reg, step_updates.D, inactive=("b4.out.bias",)),
}


def adapt_augmentation(
    state: GanState, batch: Batch, *, options: StepOptions, axis: str | None
) -> tuple[GanState, Metrics]:
    """Adapts the augmentation probability to the signs seen since the last call.

    Args:
      state: Training state.
      batch: Not used; a step has one.
      options: Target, speed and interval.
      axis: Not used: all devices hold the same signs.

    Returns:
      State with a new probability and empty statistics, and the probability.

    Source: Karras et al. 2020 (ADA), section 3.
    """
    del batch, axis
    gan = options.gan
    p = augment_lib.update_p(
        state.augment_p,
        state.real_sign[0] / jnp.maximum(state.real_sign[1], 1.0),
        batch=gan.batch_size,
        interval=gan.ada_interval,
        ada_kimg=gan.ada_kimg,
        target=gan.ada_target,
    )
    state = dataclasses.replace(state, augment_p=p, real_sign=jnp.zeros_like(state.real_sign))
    return state, {"augment/p": p}
