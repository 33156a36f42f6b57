"""The GAN training loop: time, batches, checkpoints and samples around the pure phases."""

import dataclasses
import functools
import pathlib
import time
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from ganavatar_jax.core import rng
from ganavatar_jax.metrics import lpips
from ganavatar_jax.runs import divergence, metric_writer, progress
from ganavatar_jax.training import (
    checkpoints,
    ema,
    gan_config,
    gan_step,
    parallel,
    schedules,
    state,
)

STAGE = "train_gan"
_RECON_RISE_KIMG = 0.16
_SHOWN = ("loss/g", "loss/d", "loss/recon_l1")  # metrics on the progress line
_SWAP_OFF = -1.0  # below every coin in [0, 1): never swap


@runtime_checkable
class Batches(Protocol):
    """Endless stream of batches that can be resumed; grain's iterators are such streams."""

    def __next__(self) -> dict[str, np.ndarray]:
        """Returns the next {"image" u8 [b h w 3], "label25" [b 25]} of this process."""
        ...

    def get_state(self) -> dict[str, Any]:
        """Returns the position, JSON-serialisable."""
        ...

    def set_state(self, state: Any) -> None:
        """Goes to a position."""
        ...


@dataclasses.dataclass(frozen=True)
class Outputs:
    """Where the results of a run go.

    Attributes:
      checkpoints: Folder of the checkpoints.
      writer_options: Arguments of MetricWriter besides stage and resumed_step.
      draw_samples: Called with (state with whole arrays, thousands of images) to draw pictures.
      facts: Saved with each checkpoint, JSON-serialisable.
    """

    checkpoints: pathlib.Path
    writer_options: dict[str, Any]
    draw_samples: Callable[[state.GanState, float], None]
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)


def schedule_at(
    config: gan_config.GanConfig, *, current_images: float, condition_on_camera: bool
) -> dict[str, np.float32 | np.ndarray]:
    """Computes the numbers of a step that change over the run.

    Args:
      config: Options of the run.
      current_images: Images shown so far.
      condition_on_camera: Whether G sees a camera.

    Returns:
      ema_decay, lr_scale, recon_lr_scale, swapping_p and, while it lasts, blur_taps.

    Source: EG3D reference behaviour.
    """
    decay = ema.ema_decay(
        batch_size=config.batch_size,
        ema_kimg=config.ema_kimg,
        current_images=current_images,
        rampup=config.ema_rampup,
    )
    swap = schedules.swapping_probability(
        current_images,
        probability=config.swapping_p if condition_on_camera else None,
        fade_kimg=config.swapping_fade_kimg,
    )
    warmup = schedules.fade(current_images + config.batch_size, kimg=config.lr_warmup_kimg)
    values: dict[str, np.float32 | np.ndarray] = {
        "ema_decay": np.float32(decay),
        "lr_scale": np.float32(warmup),
        "recon_lr_scale": np.float32(_recon_lr_scale(config, current_images)),
        "swapping_p": np.float32(_SWAP_OFF if swap is None else swap),
    }
    sigma = schedules.blur_sigma(
        current_images, initial=config.blur_init_sigma, fade_kimg=config.blur_fade_kimg
    )
    taps = schedules.blur_taps(sigma, initial=config.blur_init_sigma) if sigma > 0 else None
    if taps is not None:
        values["blur_taps"] = np.asarray(taps, np.float32)
    return values


def _recon_lr_scale(config: gan_config.GanConfig, current_images: float) -> float:
    """Rises over the first 160 images; falls linearly over the second half of the run."""
    rise = schedules.fade(current_images + config.batch_size, kimg=_RECON_RISE_KIMG)
    done = current_images / (config.iterations * config.batch_size)
    last = config.reconstruction.final_lr_scale
    return rise * (1.0 - max(0.0, 2.0 * done - 1.0) * (1.0 - last))


def generator_labels(
    labels: np.ndarray, *, seed: int, iteration: int, phase: str, batch_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draws the cameras of generated images from the dataset, with replacement.

    Args:
      labels: All training cameras, [f 25].
      seed: Seed of the run.
      iteration: 0-based iteration.
      phase: Phase name; every phase draws its own.
      batch_size: Images of the whole batch.

    Returns:
      The cameras [b 25], and the same rolled by one over the whole batch.

    Source: EG3D reference behaviour.
    """
    order = ("g_main", "g_reg", "d_main", "d_reg", "recon").index(phase)
    generator = np.random.default_rng((seed, iteration, order))
    chosen = labels[generator.integers(len(labels), size=batch_size)]
    return chosen, np.roll(chosen, 1, axis=0)


def train(
    initial: Callable[[], state.GanState],
    batches: Batches,
    labels: np.ndarray,
    *,
    config: gan_config.GanConfig,
    steps: gan_step.StepConfig,
    layout: parallel.Layout,
    outputs: Outputs,
) -> state.GanState:
    """Trains until config.total_kimg, from the newest checkpoint if there is one.

    Args:
      initial: Makes the state of a fresh start.
      batches: Batches of this process.
      labels: All training cameras, [f 25].
      config: Options of the run.
      steps: What the phases need.
      layout: Devices.
      outputs: Where the results go.

    Returns:
      The final state, whole arrays.

    Raises:
      Stopped: the user asked to stop; a checkpoint has been saved.
      RunError: a loss is no longer finite.

    Source: EG3D reference behaviour (phases, order, intervals).
    """
    fresh = jax.eval_shape(initial)
    with checkpoints.Checkpoints(outputs.checkpoints) as saved, progress.StopRequest() as stop:
        restored = saved.restore_latest(fresh)
        start = 0
        whole = initial() if restored is None else restored.state
        if restored is not None:
            start = restored.step
            batches.set_state(restored.data_state)
        current = layout.place_state(whole)
        del whole, restored
        runner = _Runner(config, steps, layout, labels)
        total_kimg = config.iterations * config.batch_size / 1000
        writer = metric_writer.MetricWriter(
            stage=STAGE, resumed_step=start if start else None, **outputs.writer_options
        )
        bar = progress.Progress(
            total_kimg,
            unit="kimg",
            title="train_gan",
            initial=start * config.batch_size / 1000,
            every_s=20,
            compiles=True,
        )
        watch = divergence.DivergenceWatch(
            writer.path, stage=STAGE, names=_SHOWN, advice=checkpoints.DIVERGED_ADVICE
        )
        with writer, bar:
            if start == 0:
                outputs.draw_samples(layout.unplace_state(current), 0.0)
            for iteration in range(start, config.iterations):
                current, metrics = runner.iterate(current, next(batches), iteration)
                done = iteration + 1
                kimg = done * config.batch_size / 1000
                shown = None
                if done % config.log_iterations == 0 or done == config.iterations:
                    values = metric_writer.to_floats(metrics)
                    metric_writer.check_finite(values, step=done, stage=STAGE)
                    values["time/s_per_kimg"] = runner.seconds_per_kimg()
                    writer.write(done, kimg=kimg, metrics=values)
                    watch.look(done, values, last=done == config.iterations)
                    shown = {k: values[k] for k in _SHOWN if k in values}
                bar.update(config.batch_size / 1000, metrics=shown)
                last = done == config.iterations
                if last or stop.requested or _crosses(done, config.snapshot_kimg, config):
                    saved.save(
                        done,
                        layout.unplace_state(current),
                        data_state=batches.get_state(),
                        meta={"kimg": kimg, **outputs.facts},
                    )
                if last or _crosses(done, config.sample_kimg, config):  # of what was worth saving
                    outputs.draw_samples(layout.unplace_state(current), kimg)
                if stop.requested and not last:
                    saved.wait()
                    raise progress.Stopped(
                        f"stopped at {kimg:.6g} kimg; checkpoint saved in {outputs.checkpoints}. "
                        f"Run the same command to go on."
                    )
        return layout.unplace_state(current)


def _crosses(iteration: int, period_kimg: float, config: gan_config.GanConfig) -> bool:
    """Whether this iteration passes a multiple of the period."""
    images, before = iteration * config.batch_size, (iteration - 1) * config.batch_size
    return int(images / (period_kimg * 1000)) > int(before / (period_kimg * 1000))


class _Runner:
    """Compiles phases as they are first due, and runs an iteration."""

    def __init__(
        self,
        config: gan_config.GanConfig,
        steps: gan_step.StepConfig,
        layout: parallel.Layout,
        labels: np.ndarray,
    ) -> None:
        self._config, self._steps, self._layout, self._labels = config, steps, layout, labels
        self._root = jax.random.key(config.seed)
        options = steps.reconstruction
        uses_lpips = options is not None and options.lpips_weight
        self._lpips = lpips.load_params("alex") if uses_lpips else None
        self._compiled: dict[tuple[str, int], Callable[..., Any]] = {}
        self._clock, self._clock_images, self._images = time.monotonic(), 0, 0
        self._adapt = jax.jit(
            functools.partial(
                gan_step.adapt_augmentation,
                config=steps,
                batch_size=config.batch_size,
                interval=config.ada_interval,
            )
        )

    def _phase(self, name: gan_step.Phase, resolution: int) -> Callable[..., Any]:
        if (name, resolution) not in self._compiled:
            step = gan_step.make_phase(
                name, self._steps, resolution=resolution, lpips_params=self._lpips
            )
            self._compiled[name, resolution] = parallel.make_step(step, layout=self._layout)
        return self._compiled[name, resolution]

    def iterate(
        self, current: state.GanState, frames: dict[str, np.ndarray], iteration: int
    ) -> tuple[state.GanState, dict[str, jax.Array]]:
        """Runs all phases that are due."""
        config = self._config
        images = iteration * config.batch_size
        final = self._steps.g.neural_resolution
        resolution = schedules.neural_resolution(
            images,
            initial=config.neural_resolution_initial or final,
            final=final,
            fade_kimg=config.neural_resolution_fade_kimg,
        )
        schedule = schedule_at(
            config,
            current_images=images,
            condition_on_camera=self._steps.g.condition_on_camera,
        )
        metrics: dict[str, jax.Array] = {}
        due = gan_step.phases_due(iteration, self._steps)
        # The average of G moves once an iteration, in the last phase that trains or shows G.
        moving = "d_main" if "d_main" in due else due[-1]
        for name in due:
            batch = self._layout.place_batch(self._with_cameras(frames, name, iteration))
            key = rng.stream(self._root, name, iteration)
            numbers = schedule if name == moving else {**schedule, "ema_decay": np.float32(1)}
            current, values = self._phase(name, resolution)(current, batch, key, numbers)
            metrics.update(values)
        if config.augment == "ada" and (iteration + 1) % config.ada_interval == 0:
            whole = self._layout.unplace_state(current)
            current = self._layout.place_state(self._adapt(whole))
            metrics["augment/p"] = jnp.mean(current.augment_p)
        self._images = images + config.batch_size
        return current, metrics

    def seconds_per_kimg(self) -> float:
        """Seconds for a thousand images since the last call."""
        now = time.monotonic()
        rate = (now - self._clock) / max(self._images - self._clock_images, 1) * 1000
        self._clock, self._clock_images = now, self._images
        return rate

    def _with_cameras(
        self, frames: dict[str, np.ndarray], phase: str, iteration: int
    ) -> dict[str, np.ndarray]:
        config = self._config
        chosen, rolled = generator_labels(
            self._labels,
            seed=config.seed,
            iteration=iteration,
            phase=phase,
            batch_size=config.batch_size,
        )
        local = len(frames["image"])
        mine = slice(jax.process_index() * local, (jax.process_index() + 1) * local)
        return {
            "image_u8": frames["image"],
            "label25": frames["label25"],
            "gen_label25": chosen[mine],
            "swap_label25": rolled[mine],
        }
