"""How a loss becomes a new state: its gradients, and what they move."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ganavatar_jax.core import errors
from ganavatar_jax.core.arrays import Array, PyTree
from ganavatar_jax.models import mapping
from ganavatar_jax.training import adam_config, ema, faults, optimizers
from ganavatar_jax.training.parallel import pmean_if
from ganavatar_jax.training.phase_config import StepOptions
from ganavatar_jax.training.state import GanState, recon_params
from ganavatar_jax.training.step_inputs import Batch, Schedule

# Super-resolution never adds noise, so its noise strengths get no gradient.
_UNUSED = tuple(f"superresolution.block{b}.conv{c}.noise_strength" for b in (0, 1) for c in (0, 1))


class Trained(NamedTuple):
    """What a phase trains.

    Attributes:
      get: Takes the parameters out of a state.
      put: Puts parameters into a state.
      moments: Which field of the state holds the optimiser's moments.
      adam: The optimiser.
      lr_scale: Which number of the schedule scales its learning rate.
      idle: Patterns of parameters that no phase trains.
    """

    get: Callable[[GanState], PyTree]
    put: Callable[[GanState, PyTree], GanState]
    moments: str
    adam: Callable[[StepOptions], adam_config.AdamConfig]
    lr_scale: str
    idle: Callable[[StepOptions], tuple[str, ...]]


def _put_g(state: GanState, params: PyTree) -> GanState:
    """Puts a generator's parameters into the state."""
    return dataclasses.replace(state, g={**state.g, "params": params})


def _put_d(state: GanState, params: PyTree) -> GanState:
    """Puts a discriminator's parameters into the state."""
    return dataclasses.replace(state, d={"params": params})


def _put_recon(state: GanState, params: PyTree) -> GanState:
    """Puts the parameters of generator, encoder and probes into the state."""
    e = {**state.e, "params": params["e"], "probes": params.get("probes", {})}
    return dataclasses.replace(_put_g(state, params["g"]), e=e)


def _frozen(options: StepOptions) -> tuple[str, ...]:
    """Lists D's largest blocks that stay as they start (Mo et al. 2020, FreezeD)."""
    return tuple(f"b{options.d.img_resolution >> k}.*" for k in range(options.gan.freeze_d))


G = Trained(
    get=lambda state: state.g["params"],
    put=_put_g,
    moments="g_opt",
    adam=lambda options: options.gan.g_adam,
    lr_scale="lr_scale",
    idle=lambda options: _UNUSED,
)
D = Trained(
    get=lambda state: state.d["params"],
    put=_put_d,
    moments="d_opt",
    adam=lambda options: options.gan.d_adam,
    lr_scale="lr_scale",
    idle=_frozen,
)
G_AND_ENCODER = Trained(
    get=lambda state: recon_params(state.g, state.e),
    put=_put_recon,
    moments="recon_opt",
    adam=lambda options: options.gan.reconstruction.adam,
    lr_scale="recon_lr_scale",
    idle=lambda options: tuple(f"g.{name}" for name in _UNUSED),
)


def gradients(
    loss_fn: Callable[[PyTree, Batch], tuple[Array, dict[str, Array]]],
    params: PyTree,
    batch: Batch,
    *,
    microbatch: int,
    devices: int,
    axis: str | None,
) -> tuple[PyTree, dict[str, Array]]:
    """Differentiates a loss over the batch, in microbatches if configured.

    Args:
      loss_fn: Maps (params, part of the batch) to the mean loss of that part and metrics.
      params: What to differentiate by.
      batch: The whole batch or, with an axis, this device's samples.
      microbatch: Samples that a device handles at once; 0 takes all.
      devices: How many devices the samples of `batch` are spread over; 1 with an axis.
      axis: Device axis to average over, or None.

    Returns:
      Gradients with non-finite values replaced, and metrics, averaged over all samples. The metric
      `faults.KEY` says whether there were such values.

    Raises:
      ConfigError: the samples of a device cannot be cut into such microbatches.

    Source: EG3D reference behaviour (accumulation); Karras et al. 2020 (clean gradients).
    """
    grad_fn = jax.grad(loss_fn, has_aux=True)
    share = batch["sample_id"].shape[0] // devices
    if 0 < microbatch < share:
        parts = split(batch, microbatch, devices=devices)
        passes = share // microbatch
        first = jax.eval_shape(grad_fn, params, jax.tree.map(lambda a: a[0], parts))
        zero = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), first)

        def body(total: PyTree, part: Batch) -> tuple[PyTree, None]:
            new = grad_fn(params, part)
            return jax.tree.map(lambda t, n: t + n / passes, total, new), None

        (grads, metrics), _ = jax.lax.scan(body, zero, parts)
    else:
        grads, metrics = grad_fn(params, batch)
    grads, metrics = pmean_if((grads, metrics), axis)
    return optimizers.clean(grads), {**metrics, faults.KEY: faults.describe(metrics, grads)}


def split(batch: Batch, microbatch: int, *, devices: int) -> Batch:
    """Cuts a batch into passes, each with consecutive samples of every device.

    Nothing moves between devices, and blocks of the minibatch deviation stay whole.

    Args:
      batch: Arrays whose first axis is spread over the devices in consecutive shares.
      microbatch: Samples of each device in a pass.
      devices: How many devices there are.

    Returns:
      The arrays with an axis of passes before the axis of samples.

    Raises:
      ConfigError: the samples of a device cannot be cut into such microbatches.

    Source: EG3D reference behaviour (accumulation).
    """
    share = batch["sample_id"].shape[0] // devices
    if share % microbatch:
        raise errors.ConfigError(
            f"gan.microbatch must divide the {share} samples that a device holds; got {microbatch}."
        )

    def cut(array: Array) -> Array:
        shape = array.shape[1:]
        parts = array.reshape(devices, share // microbatch, microbatch, *shape)
        return jnp.moveaxis(parts, 1, 0).reshape(-1, devices * microbatch, *shape)

    return jax.tree.map(cut, batch)


def update(
    state: GanState,
    grads: PyTree,
    schedule: Schedule,
    *,
    trained: Trained,
    options: StepOptions,
    inactive: tuple[str, ...] = (),
) -> GanState:
    """Moves what a phase trains.

    Args:
      state: Training state.
      grads: Gradients of the parameters.
      schedule: Holds the scales of the learning rates.
      trained: What is trained.
      options: Options of the run.
      inactive: Patterns of parameters the loss does not reach; their moments stay too.

    Returns:
      The new state.

    Source: Karras et al. 2020 (Adam with lazy regularisation).
    """
    before = trained.get(state)
    params, moments = optimizers.update(
        before,
        grads,
        getattr(state, trained.moments),
        trained.adam(options),
        active=optimizers.mask_names(before, inactive=trained.idle(options) + inactive),
        lr_scale=schedule[trained.lr_scale],
    )
    moved: dict[str, Any] = {trained.moments: moments}
    return dataclasses.replace(trained.put(state, params), **moved)


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
