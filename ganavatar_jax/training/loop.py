"""The GAN training loop: time, batches, checkpoints and samples around the pure phases."""

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from ganavatar_jax.core import rng
from ganavatar_jax.runs import divergence, memory, metric_writer, progress, together
from ganavatar_jax.training import (
    checkpoints,
    drawn_cameras,
    ema,
    faults,
    gan_config,
    gan_step,
    parallel,
    phase_config,
    profiling,
    schedules,
    state,
    step_inputs,
    step_memory,
    truth,
    unseen,
)
from ganavatar_jax.training.run_inputs import Batches, Outputs, ReadFilmed
from ganavatar_jax.training.step_inputs import Program

STAGE = "train_gan"
_SHOWN = ("loss/g", "loss/d", "loss/recon_l1")  # metrics on the progress line
_SKIPPED = "nonfinite/skipped"
_SWAP_OFF = -1.0  # below every coin in [0, 1): never swap


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
    last, batch = config.reconstruction.final_lr_scale, config.batch_size
    total = config.iterations * batch
    recon = schedules.recon_lr_scale(current_images, batch=batch, total=total, last=last)
    values: dict[str, np.float32 | np.ndarray] = {
        "ema_decay": np.float32(decay),
        "lr_scale": np.float32(warmup),
        "recon_lr_scale": np.float32(recon),
        "swapping_p": np.float32(_SWAP_OFF if swap is None else swap),
    }
    sigma = schedules.blur_sigma(
        current_images, initial=config.blur_init_sigma, fade_kimg=config.blur_fade_kimg
    )
    taps = schedules.blur_taps(sigma, initial=config.blur_init_sigma) if sigma > 0 else None
    if taps is not None:
        values["blur_taps"] = np.asarray(taps, np.float32)
    return values


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
      RunError: a loss, a gradient or the state is no longer finite; or a checkpoint cannot be
        written.

    Source: EG3D reference behaviour (phases, order, intervals).
    """
    config = options.gan
    options.check_devices(layout.mesh.size, layout.backend)
    fresh = jax.eval_shape(initial)
    options, told = step_memory.settle_microbatch(
        options,
        fresh,
        schedule_at(config, current_images=0.0, condition_on_camera=options.g.condition_on_camera),
        devices=layout.mesh.size,
    )
    if jax.process_index() == 0:
        print(f"{STAGE}: {told}", flush=True)
    saves_to = checkpoints.Checkpoints(outputs.checkpoints, saved=outputs.saved)
    with saves_to as saved, progress.StopRequest() as stop:
        restored = saved.restore_latest(fresh)
        start = 0
        whole = initial() if restored is None else restored.state
        if restored is not None:
            start = restored.step
            batches.set_state(restored.data_state)
        guard = faults.Guard(
            STAGE,
            limit=config.skip_nonfinite,
            start=start,
            skipped=0 if restored is None else restored.meta.get(_SKIPPED, 0),
        )
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
        health = divergence.GanWatch(writer.path, stage=STAGE)
        with writer, bar, profile:
            if start == 0:
                health.look(0, outputs.draw_samples(layout.unplace_state(current), 0.0))
            # Nobody waits in a step's collective for a process that is still loading.
            together.meet("train_gan: first iteration")
            for iteration in range(start, config.iterations):
                frames = next(batches)
                guard.check_frames(frames, iteration + 1)
                profile.begin(iteration)
                current, metrics = runner.iterate(current, frames, iteration)
                profile.end(iteration, (current, metrics))
                done = iteration + 1
                metrics = guard.take(done, metrics)
                kimg = done * config.batch_size / 1000
                last = done == config.iterations
                stops = together.stop_after(done, requested=stop.requested)
                logs = last or done % config.log_iterations == 0
                saves = last or stops or _crosses(done, config.snapshot_kimg, config)
                draws = last or _crosses(done, config.sample_kimg, config)
                shown, drawn = None, {}
                if logs or saves or draws:
                    guard.look(_networks(layout.unplace_state(current)))
                if draws:  # of what is worth saving, and before the line that tells of it
                    drawn = outputs.draw_samples(layout.unplace_state(current), kimg)
                if logs:
                    values = metric_writer.to_floats(metrics)
                    # What was passed over is no number, and told already.
                    if not config.skip_nonfinite:
                        metric_writer.check_finite(values, step=done, stage=STAGE)
                    guard.learn(values)
                    values |= drawn
                    if guard.skipped:
                        values[_SKIPPED] = float(guard.skipped)
                    values["time/s_per_kimg"] = runner.seconds_per_kimg()
                    writer.write(done, kimg=kimg, metrics=values)
                    watch.look(done, values, last=last)
                    health.look(done, values)
                    shown = {k: values[k] for k in _SHOWN if k in values}
                    shown["GB"] = memory.peak_gb()
                bar.update(config.batch_size / 1000, metrics=shown)
                if saves:
                    saved.save(
                        done,
                        layout.unplace_state(current),
                        data_state=batches.get_state(),
                        meta={"kimg": kimg, _SKIPPED: guard.skipped, **outputs.facts},
                    )
                if saves or draws:  # the first process writes; others wait here, not in a step
                    together.meet("train_gan: saved")
                if stops and not last:
                    saved.wait()
                    together.meet("train_gan: stopped")
                    raise progress.Stopped(
                        f"stopped at {kimg:.6g} kimg; checkpoint saved in {outputs.checkpoints}. "
                        "Run the same command to go on.",
                        stop.number,
                    )
        saved.wait()
        together.meet("train_gan: last iteration")
        if stop.requested:
            raise progress.Stopped(
                f"stopped after the last iteration; checkpoint saved in {outputs.checkpoints}. Run "
                "the same command to go on.",
                stop.number,
            )
        return layout.unplace_state(current)


def _networks(whole: state.GanState) -> dict[str, Any]:
    """What a fault's message may name."""
    return {"g": whole.g, "d": whole.d, "e": whole.e}


def _crosses(iteration: int, period_kimg: float, config: gan_config.GanConfig) -> bool:
    """Whether this iteration passes a multiple of the period."""
    images, before = iteration * config.batch_size, (iteration - 1) * config.batch_size
    return int(images / (period_kimg * 1000)) > int(before / (period_kimg * 1000))


def _share(batch_size: int) -> slice:
    """This process's part of a whole batch."""
    local = batch_size // jax.process_count()
    return slice(jax.process_index() * local, (jax.process_index() + 1) * local)


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
        self._lpips = step_inputs.load_lpips(gan)
        self._truth = truth.make(
            gan.reconstruction, self._lpips, frames=len(labels), side=options.g.img_resolution
        )
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
          frames: This process's {"image", "label25"}, "filmed" where not all of it is, and
            "number" where what is seen of them may be remembered.
          iteration: 0-based iteration.

        Returns:
          The new state, and the metrics of all phases.
        """
        options, layout = self._options, self._layout
        names = {"image_u8": "image", "label25": "label25", "filmed": "filmed"}
        shared = layout.place_batch({k: frames[v] for k, v in names.items() if v in frames})
        if self._truth is not None and "number" in frames:
            seen = self._truth.of(frames["number"], frames)
            shared |= layout.place_samples({"truth": seen})
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
        draw: dict[str, Any] = {"seed": gan.seed, "iteration": iteration, "phase": "unseen"}
        drawn = drawn_cameras.choose_frames(len(views.label25), **draw, batch_size=gan.batch_size)
        mine = drawn[_share(gan.batch_size)]
        return {"image_u8": views.image_u8[mine], "label25": views.label25[mine]}

    def _draw_cameras(self, phase: str, iteration: int) -> dict[str, np.ndarray]:
        """Draws this process's part of the cameras of generated images, and what they saw."""
        gan = self._options.gan
        draw: dict[str, Any] = {"seed": gan.seed, "iteration": iteration, "phase": phase}
        draw["batch_size"] = gan.batch_size
        chosen, rolled = drawn_cameras.generator_labels(self._labels, **draw)
        mine = _share(gan.batch_size)
        drawn = {"gen_label25": chosen[mine], "swap_label25": rolled[mine]}
        if self._read_filmed is not None:
            frames = drawn_cameras.choose_frames(len(self._labels), **draw)
            drawn["gen_filmed"] = self._read_filmed(frames[mine])
        return drawn
