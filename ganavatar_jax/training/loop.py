"""The GAN training loop: time, batches, checkpoints and samples around the pure phases."""

import dataclasses
import functools
import pathlib
import time
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jax.experimental import multihost_utils

from ganavatar_jax.core import rng
from ganavatar_jax.core.arrays import Int
from ganavatar_jax.metrics import lpips
from ganavatar_jax.runs import divergence, metric_writer, progress
from ganavatar_jax.training import (
    checkpoints,
    ema,
    gan_config,
    gan_step,
    parallel,
    phase_config,
    profiling,
    schedules,
    state,
    unseen,
)
from ganavatar_jax.training.step_inputs import Program

STAGE = "train_gan"
_RECON_RISE_KIMG = 0.16
_SHOWN = ("loss/g", "loss/d", "loss/recon_l1")  # metrics on the progress line
_SWAP_OFF = -1.0  # below every coin in [0, 1): never swap
# Maps numbers of frames to u8 [b h w]: 255 where something was filmed, 0 beyond.
ReadFilmed = Callable[[np.ndarray], np.ndarray]


@runtime_checkable
class Batches(Protocol):
    """Endless stream of batches that can be resumed; grain's iterators are such streams."""

    def __next__(self) -> dict[str, np.ndarray]:
        """Returns the next {"image" u8 [b h w 3], "label25" [b 25]} of this process.

        Where images reach beyond what was filmed, "filmed" u8 [b h w] says where.
        """
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
      profile: Folder of the trace of the first iterations, where one is asked for.
      facts: Saved with each checkpoint, JSON-serialisable.
    """

    checkpoints: pathlib.Path
    writer_options: dict[str, Any]
    draw_samples: Callable[[state.GanState, float], None]
    profile: pathlib.Path | None = None
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
    chosen = labels[
        choose_frames(
            len(labels), seed=seed, iteration=iteration, phase=phase, batch_size=batch_size
        )
    ]
    return chosen, np.roll(chosen, 1, axis=0)


def choose_frames(
    count: int, *, seed: int, iteration: int, phase: str, batch_size: int
) -> Int[np.ndarray, " b"]:
    """Draws the frames whose cameras generated images get.

    Args:
      count: Frames of the dataset, mirror images among them.
      seed: Seed of the run.
      iteration: 0-based iteration.
      phase: Phase name; every phase draws its own.
      batch_size: Images of the whole batch.

    Returns:
      Their numbers, with replacement.

    Source: EG3D reference behaviour.
    """
    order = ("g_main", "g_reg", "d_main", "d_reg", "recon", "unseen").index(phase)
    generator = np.random.default_rng((seed, iteration, order))
    return generator.integers(count, size=batch_size)


def train(
    initial: Callable[[], state.GanState],
    batches: Batches,
    labels: np.ndarray,
    *,
    options: phase_config.StepOptions,
    layout: parallel.Layout,
    outputs: Outputs,
    read_filmed: ReadFilmed | None = None,
    views: unseen.Views | None = None,
) -> state.GanState:
    """Trains until gan.total_kimg, from the newest checkpoint if there is one.

    Args:
      initial: Makes the state of a fresh start.
      batches: Batches of this process.
      labels: All training cameras, [f 25].
      options: Options of the run.
      layout: Devices.
      outputs: Where the results go.
      read_filmed: Reads which pixels of frames were filmed, by their places in `labels`; None where
        all were, and where batches hold no "filmed".
      views: Pictures of what was never seen, where the options ask for them.

    Returns:
      The final state, whole arrays.

    Raises:
      ConfigError: the batch cannot be shared out to the devices.
      Stopped: the user asked to stop; a checkpoint has been saved.
      RunError: a loss is no longer finite.

    Source: EG3D reference behaviour (phases, order, intervals).
    """
    config = options.gan
    options.check_devices(layout.mesh.size, layout.backend)
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
        runner = Runner(options, layout, labels, read_filmed, views)
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
        profile = profiling.Profile(
            outputs.profile, first=start + 1, count=config.profile_iterations
        )
        watch = divergence.DivergenceWatch(
            writer.path, stage=STAGE, names=_SHOWN, advice=checkpoints.DIVERGED_ADVICE
        )
        with writer, bar, profile:
            if start == 0:
                outputs.draw_samples(layout.unplace_state(current), 0.0)
            # Nobody waits in a step's collective for a process that is still loading.
            multihost_utils.sync_global_devices("train_gan: first iteration")
            for iteration in range(start, config.iterations):
                profile.begin(iteration)
                current, metrics = runner.iterate(current, next(batches), iteration)
                profile.end(iteration, (current, metrics))
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


class Runner:
    """Runs iterations; compiles each phase when it is first due."""

    def __init__(
        self,
        options: phase_config.StepOptions,
        layout: parallel.Layout,
        labels: np.ndarray,
        read_filmed: ReadFilmed | None = None,
        views: unseen.Views | None = None,
    ) -> None:
        self._options, self._layout, self._labels = options, layout, labels
        self._read_filmed, self._views = read_filmed, views
        gan = options.gan
        uses_lpips = gan.reconstruct and gan.reconstruction.lpips_weight
        self._lpips = lpips.load_params("alex") if uses_lpips else None
        self._steps: dict[tuple[str, int], parallel.Step] = {}
        self._adapt = parallel.make_step(
            functools.partial(gan_step.adapt_augmentation, options=options), layout=layout
        )
        self._root = layout.place_replicated(jax.random.key(gan.seed))
        self._keys = jax.jit(
            lambda root, iteration: {
                name: rng.stream(root, name, iteration) for name in gan_step.PHASES
            },
            out_shardings=layout.replicated,
        )
        self._at_rest = layout.place_replicated({"ema_decay": np.float32(1.0)})
        self._clock, self._clock_images, self._images = time.monotonic(), 0, 0

    def iterate(
        self, current: state.GanState, frames: dict[str, np.ndarray], iteration: int
    ) -> tuple[state.GanState, dict[str, jax.Array]]:
        """Runs all phases that are due; what goes to the devices goes there by name, once.

        Args:
          current: State as the compiled steps take it; it ends here.
          frames: This process's {"image", "label25"}, and "filmed" where not all of it is.
          iteration: 0-based iteration.

        Returns:
          The new state, and the metrics of all phases.
        """
        options, layout = self._options, self._layout
        names = {"image_u8": "image", "label25": "label25", "filmed": "filmed"}
        shared = layout.place_batch({k: frames[v] for k, v in names.items() if v in frames})
        keys = self._keys(self._root, layout.place_replicated(np.int32(iteration)))
        images = iteration * options.gan.batch_size
        resolution, moving, still = self._numbers(images)
        metrics: dict[str, jax.Array] = {}
        due = gan_step.phases_due(iteration, options, seen_all=self._views is None)
        # The average of G moves once an iteration, in the last phase that trains or shows G.
        mover = "d_main" if "d_main" in due else due[-1]
        for name in due:
            program = Program(name, options, resolution, layout.mesh.size, self._lpips)
            known = (name, resolution if gan_step.PHASES[name].renders else 0)
            if known not in self._steps:
                step = functools.partial(gan_step.take_step, program=program)
                self._steps[known] = parallel.make_step(step, layout=layout)
            if name == "unseen":
                batch = layout.place_batch(self.draw_views(iteration))
            else:
                batch = shared | layout.place_samples(self._draw_cameras(name, iteration))
            numbers = moving if name == mover else still
            current, values = self._steps[known](current, batch, keys[name], numbers)
            metrics.update(values)
        if options.gan.augment == "ada" and (iteration + 1) % options.gan.ada_interval == 0:
            current, values = self._adapt(current, {})
            metrics.update(values)
        self._images = images + options.gan.batch_size
        return current, metrics

    def seconds_per_kimg(self) -> float:
        """Seconds for a thousand images since the last call."""
        now = time.monotonic()
        rate = (now - self._clock) / max(self._images - self._clock_images, 1) * 1000
        self._clock, self._clock_images = now, self._images
        return rate

    def _numbers(self, images: int) -> tuple[int, dict[str, jax.Array], dict[str, jax.Array]]:
        """Places the schedule after some images: as it is, and with the average of G at rest."""
        gan, g = self._options.gan, self._options.g
        resolution = schedules.neural_resolution(
            images,
            initial=gan.neural_resolution_initial or g.neural_resolution,
            final=g.neural_resolution,
            fade_kimg=gan.neural_resolution_fade_kimg,
        )
        numbers = schedule_at(gan, current_images=images, condition_on_camera=g.condition_on_camera)
        moving = self._layout.place_replicated(numbers)
        return resolution, moving, moving | self._at_rest

    def draw_views(self, iteration: int) -> dict[str, np.ndarray]:
        """Draws this process's part of the pictures of what was never seen."""
        gan, views = self._options.gan, self._views
        assert views is not None
        drawn = choose_frames(
            len(views.label25),
            seed=gan.seed,
            iteration=iteration,
            phase="unseen",
            batch_size=gan.batch_size,
        )
        local = gan.batch_size // jax.process_count()
        mine = drawn[jax.process_index() * local : (jax.process_index() + 1) * local]
        return {"image_u8": views.image_u8[mine], "label25": views.label25[mine]}

    def _draw_cameras(self, phase: str, iteration: int) -> dict[str, np.ndarray]:
        """Draws this process's part of the cameras of generated images, and what they saw."""
        gan = self._options.gan
        draw: dict[str, Any] = {"seed": gan.seed, "iteration": iteration, "phase": phase}
        draw["batch_size"] = gan.batch_size
        chosen, rolled = generator_labels(self._labels, **draw)
        local = gan.batch_size // jax.process_count()
        mine = slice(jax.process_index() * local, (jax.process_index() + 1) * local)
        drawn = {"gen_label25": chosen[mine], "swap_label25": rolled[mine]}
        if self._read_filmed is not None:
            frames = choose_frames(len(self._labels), **draw)
            drawn["gen_filmed"] = self._read_filmed(frames[mine])
        return drawn
