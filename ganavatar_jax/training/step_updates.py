"""How the phases turn a loss into a new state."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from ganavatar_jax.core.arrays import Array, PyTree
from ganavatar_jax.models import mapping
from ganavatar_jax.training import ema, optimizers
from ganavatar_jax.training.parallel import pmean_if
from ganavatar_jax.training.phase_config import Batch, Schedule, StepConfig
from ganavatar_jax.training.state import GanState

# Super-resolution never adds noise, so its noise strengths get no gradient.
UNUSED = tuple(f"superresolution.block{b}.conv{c}.noise_strength" for b in (0, 1) for c in (0, 1))


def gradients(
    loss_fn: Callable[[PyTree, Batch], tuple[Array, dict[str, Array]]],
    params: PyTree,
    batch: Batch,
    config: StepConfig,
    *,
    axis: str | None,
) -> tuple[PyTree, dict[str, Array]]:
    """Differentiates a loss over the batch, in microbatches if configured.

    Args:
      loss_fn: Maps (params, part of the batch) to the mean loss of that part and metrics.
      params: What to differentiate by.
      batch: This device's samples.
      config: Holds microbatch.
      axis: Device axis to average over, or None.

    Returns:
      Gradients with non-finite values replaced, and metrics, averaged over all samples.

    Source: EG3D reference behaviour (accumulation); Karras et al. 2020 (clean gradients).
    """
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

        (grads, metrics), _ = jax.lax.scan(body, zero, parts)
    else:
        grads, metrics = grad_fn(params, batch)
    grads, metrics = pmean_if((grads, metrics), axis)
    return optimizers.clean(grads), metrics


def step_g(
    state: GanState,
    grads: PyTree,
    schedule: Schedule,
    config: StepConfig,
    *,
    inactive: tuple[str, ...] = (),
) -> GanState:
    """Moves G's parameters.

    Args:
      state: Training state.
      grads: Gradients of G's parameters.
      schedule: Holds lr_scale.
      config: Options.
      inactive: Patterns of parameters the loss does not reach; their moments stay too.

    Returns:
      The new state.

    Source: Karras et al. 2020 (Adam with lazy regularisation).
    """
    params, opt = optimizers.update(
        state.g["params"],
        grads,
        state.g_opt,
        config.g_adam_lazy,
        active=optimizers.mask_names(state.g["params"], inactive=UNUSED + inactive),
        lr_scale=schedule["lr_scale"],
    )
    return dataclasses.replace(state, g={**state.g, "params": params}, g_opt=opt)


def step_d(
    state: GanState,
    grads: PyTree,
    schedule: Schedule,
    config: StepConfig,
    *,
    inactive: tuple[str, ...] = (),
) -> GanState:
    """Moves D's parameters, but for its frozen blocks.

    Args:
      state: Training state.
      grads: Gradients of D's parameters.
      schedule: Holds lr_scale.
      config: Options.
      inactive: Patterns of parameters the loss does not reach; their moments stay too.

    Returns:
      The new state.

    Source: Karras et al. 2020 (Adam with lazy regularisation); Mo et al. 2020 (FreezeD).
    """
    side = config.d.img_resolution
    frozen = tuple(f"b{side >> k}.*" for k in range(config.freeze_d))
    params, opt = optimizers.update(
        state.d["params"],
        grads,
        state.d_opt,
        config.d_adam_lazy,
        active=optimizers.mask_names(state.d["params"], inactive=frozen + inactive),
        lr_scale=schedule["lr_scale"],
    )
    return dataclasses.replace(state, d={"params": params}, d_opt=opt)


def move_averages(state: GanState, w_mean: Array, schedule: Schedule) -> GanState:
    """Moves w_avg and the average of G.

    Args:
      state: Training state.
      w_mean: Mean w of the step's samples [d].
      schedule: Holds ema_decay.

    Returns:
      The new state.

    Source: Karras et al. 2019 (w_avg); Karras et al. 2018 (average of G).
    """
    buffers = dict(state.g["buffers"])
    w_avg = mapping.update_average(buffers["backbone"]["mapping"]["w_avg"], w_mean[None])
    buffers["backbone"] = {**buffers["backbone"], "mapping": {"w_avg": w_avg}}
    g = {**state.g, "buffers": buffers}
    return dataclasses.replace(state, g=g, g_ema=ema.update(state.g_ema, g, schedule["ema_decay"]))
