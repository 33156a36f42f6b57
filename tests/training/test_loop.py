"""The training loop: schedule, cameras, resuming, stopping, and what goes to the devices."""

import dataclasses
import functools
import json
import pathlib
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganavatar_jax.core import errors, rng, trees
from ganavatar_jax.runs import progress
from ganavatar_jax.training import (
    drawn_cameras,
    faults,
    gan_config,
    gan_step,
    loop,
    parallel,
    step_inputs,
)
from helpers import compiled, tiny_gan

_LABELS = tiny_gan.make_batch(7)["label25"]
_KIMG = tiny_gan.BATCH / 1000  # one iteration


_UNCOMPILED = {"total_kimg", "snapshot_kimg", "sample_kimg", "log_iterations", "profile_iterations"}
_STEPS = {}


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Compiles quickly, and what no option of a test changes only once."""
    make = parallel.make_step

    def cached(step, *, layout):
        what = dict(step.keywords)
        options = what.pop("program").options if "program" in what else what["options"]
        gan = dataclasses.asdict(options.gan)
        fixed = repr({k: v for k, v in gan.items() if k not in _UNCOMPILED})
        phase = step.keywords["program"].phase if "program" in step.keywords else None
        known = (step.func, phase, fixed, layout)
        if known not in _STEPS:
            _STEPS[known] = make(step, layout=layout)
        return _STEPS[known]

    iterate = loop.Runner.iterate

    def guarded(*args):
        with jax.transfer_guard("disallow"):
            return iterate(*args)

    monkeypatch.setattr(parallel, "make_step", cached)
    monkeypatch.setattr(loop.Runner, "iterate", guarded)
    with compiled.quickly():
        yield


def _toy_step(state, batch, key, schedule, *, program, axis):
    """Stands in for the phases where only the loop around them is looked at."""
    coin = jax.vmap(jax.random.uniform)(rng.per_sample(key, batch["sample_id"]))
    shown = jnp.mean(batch["gen_label25"]) + jnp.mean(batch["label25"]) + jnp.mean(coin)
    shown = shown + jnp.mean(batch["image_u8"].astype(jnp.float32))
    loss = parallel.pmean_if(shown, axis) * schedule["lr_scale"]
    sign = jnp.stack([jnp.ones(()), jnp.ones(())])
    state = dataclasses.replace(state, real_sign=state.real_sign + sign)
    return state, {"loss/d": loss}


@pytest.fixture
def toy(monkeypatch):
    """Phases that compile at once."""
    monkeypatch.setattr(gan_step, "take_step", _toy_step)


class _Batches:
    """A stream whose n-th batch is a function of n."""

    def __init__(self):
        self.position = 0
        self.after = {}  # position -> what to do once that batch is taken

    def __next__(self):
        batch = tiny_gan.make_batch(self.position)
        self.position += 1
        self.after.get(self.position, lambda: None)()
        return {"image": batch["image_u8"], "label25": batch["label25"]}

    def get_state(self):
        return {"position": self.position}

    def set_state(self, state):
        self.position = state["position"]


@dataclasses.dataclass
class _Run:
    """What became of a training."""

    state: object
    drawn: list
    rows: list


def _options(iterations, **changes):
    changes = {"snapshot_kimg": 2 * _KIMG, "sample_kimg": 2 * _KIMG, "log_iterations": 1} | changes
    return tiny_gan.options(total_kimg=iterations * _KIMG, seed=3, **changes)


def _train(folder, options, *, batches=None, devices=1, backend="jit", **outputs):
    drawn = []
    start = tiny_gan.make_state()
    state = loop.train(
        lambda: start,
        batches or _Batches(),
        _LABELS,
        options=options,
        layout=parallel.make_layout(backend, jax.devices()[:devices]),
        outputs=loop.Outputs(
            checkpoints=folder / "checkpoints",
            writer_options={"path": folder / "metrics.jsonl"},
            draw_samples=lambda state, kimg: drawn.append(kimg) or {},
            **outputs,
        ),
    )
    return _Run(jax.device_get(state), drawn, _rows(folder))


def _rows(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@functools.cache
def _four():
    """Four iterations in one go."""
    with tempfile.TemporaryDirectory() as folder:
        return _train(pathlib.Path(folder), _options(4))


# Numbers that change over a run.


def test_the_schedule_holds_what_a_step_needs_and_the_blur_while_it_lasts():
    config = gan_config.GanConfig(
        batch_size=32, blur_init_sigma=10.0, blur_fade_kimg=1.0, lr_warmup_kimg=0.064
    )
    first = loop.schedule_at(config, current_images=0, condition_on_camera=True)
    assert {"ema_decay", "lr_scale", "recon_lr_scale", "swapping_p", "blur_taps"} == set(first)
    assert first["ema_decay"] == np.float32(0.5 ** (32 / 10_000))
    assert first["lr_scale"] == 0.5  # the first of two warm-up steps
    assert first["swapping_p"] == 0.5
    late = loop.schedule_at(config, current_images=1000, condition_on_camera=False)
    assert "blur_taps" not in late
    assert late["lr_scale"] == 1.0
    assert late["swapping_p"] < 0.0  # below every coin
    assert all(np.asarray(value).dtype == np.float32 for value in (*first.values(), *late.values()))


def test_a_fade_of_the_blur_is_two_programs():
    config = gan_config.GanConfig(batch_size=32, blur_init_sigma=10.0, blur_fade_kimg=10.0)
    kinds = {
        tuple((name, np.shape(value)) for name, value in sorted(schedule.items()))
        for images in range(0, 12_000, 32)
        for schedule in [loop.schedule_at(config, current_images=images, condition_on_camera=True)]
    }
    assert len(kinds) == 2


def test_the_rate_of_the_reconstruction_rises_and_falls_to_its_last_part():
    config = gan_config.GanConfig(batch_size=32, total_kimg=3.2)
    rates = [
        float(
            loop.schedule_at(config, current_images=n, condition_on_camera=False)["recon_lr_scale"]
        )
        for n in (0, 128, 1600, 2400, 3200)
    ]
    assert rates == pytest.approx([0.2, 1.0, 1.0, 0.55, 0.1])


def test_cameras_of_generated_images_are_drawn_anew_by_phase_and_iteration():
    def draw(phase="g_main", iteration=5, seed=1):
        return drawn_cameras.generator_labels(
            _LABELS, seed=seed, iteration=iteration, phase=phase, batch_size=64
        )

    chosen, rolled = draw()
    np.testing.assert_array_equal(chosen, draw()[0])
    np.testing.assert_array_equal(rolled, np.roll(chosen, 1, axis=0))
    assert {row.tobytes() for row in chosen} <= {row.tobytes() for row in _LABELS}
    others = [draw(phase) for phase in gan_step.PHASES if phase != "g_main"]
    others += [draw(iteration=6), draw(seed=2)]
    assert len({other[0].tobytes() for other in [(chosen,), *others]}) == len(others) + 1


# Iterations.


def test_due_phases_are_logged_and_samples_drawn_when_their_time_comes():
    four = _four()
    assert [row["step"] for row in four.rows] == [1, 2, 3, 4]
    assert [row["kimg"] for row in four.rows] == pytest.approx([n * _KIMG for n in (1, 2, 3, 4)])
    assert {row["stage"] for row in four.rows} == {"train_gan"}
    lazy = [("loss/density" in row, "loss/r1" in row) for row in four.rows]
    assert lazy == [(True, True), (False, False)] * 2
    always = {"loss/g", "loss/d", "signs/real", "time/s_per_kimg"}
    assert all(always <= set(row) and "w_mean" not in row for row in four.rows)
    assert four.drawn == pytest.approx([0.0, 2 * _KIMG, 4 * _KIMG])


def test_an_iteration_is_its_phases_in_order_with_keys_of_their_own():
    """The loop written out."""
    options, state = _options(4), tiny_gan.make_state()
    layout = tiny_gan.make_layout()
    for iteration in range(2):
        frames = tiny_gan.make_batch(iteration)
        numbers = loop.schedule_at(
            options.gan, current_images=iteration * tiny_gan.BATCH, condition_on_camera=False
        )
        for name in gan_step.phases_due(iteration, options):
            chosen, rolled = drawn_cameras.generator_labels(
                _LABELS, seed=3, iteration=iteration, phase=name, batch_size=tiny_gan.BATCH
            )
            batch = layout.place_batch(
                {
                    "image_u8": frames["image_u8"],
                    "label25": frames["label25"],
                    "gen_label25": chosen,
                    "swap_label25": rolled,
                }
            )
            key = rng.stream(jax.random.key(3), name, iteration)
            program = step_inputs.Program(name, options, tiny_gan.SIDE)
            step = functools.partial(gan_step.take_step, program=program)
            step = parallel.make_step(step, layout=layout)
            state, metrics = step(layout.place_state(state), batch, key, numbers)
            for value in metrics.keys() - {f"{faults.KEY}/{name}"}:
                assert _four().rows[iteration][value] == pytest.approx(
                    float(metrics[value]), rel=1e-6
                )


def test_a_run_continued_from_a_checkpoint_ends_in_the_same_bits(tmp_path):
    four = _four()
    _train(tmp_path, _options(2))
    again = _train(tmp_path, _options(4))
    _assert_same_bits(again.state, four.state)
    assert [row["step"] for row in again.rows] == [1, 2, 3, 4]
    for row, expected in zip(again.rows, four.rows, strict=True):
        assert {**row, "time/s_per_kimg": 0} == {**expected, "time/s_per_kimg": 0}
    assert again.drawn == pytest.approx([4 * _KIMG])  # none at its start


def test_a_stop_is_answered_with_a_checkpoint_of_that_iteration(tmp_path, monkeypatch):
    request = progress.StopRequest()
    monkeypatch.setattr(progress, "StopRequest", lambda: request)
    batches = _Batches()
    batches.after[3] = lambda: setattr(request, "requested", True)
    options = _options(4, snapshot_kimg=100.0, sample_kimg=100.0)
    with pytest.raises(progress.Stopped, match=r"stopped at 0\.048 kimg; checkpoint saved in"):
        _train(tmp_path, options, batches=batches)
    assert [int(path.name) for path in (tmp_path / "checkpoints").iterdir()] == [3]
    request.requested = False
    _assert_same_bits(_train(tmp_path, options).state, _four().state)


# Faults.


class _Broken(_Batches):
    """Spoils one batch."""

    def __init__(self, number, name="label25"):
        super().__init__()
        self.number, self.name = number, name

    def __next__(self):
        batch = super().__next__() | {"index": np.arange(100, 100 + tiny_gan.BATCH)}
        if self.position == self.number:
            spoiled = batch[self.name].copy()
            spoiled[1] = np.nan
            batch[self.name] = spoiled
        return batch


def test_a_camera_that_is_no_number_ends_the_run_by_its_frame(toy, tmp_path):
    with pytest.raises(errors.RunError, match=r"batch of step 2 .* training frames 101 \(counted"):
        _train(tmp_path, _options(2), batches=_Broken(2))


def test_weights_that_are_no_numbers_are_named_and_nothing_is_saved(tmp_path, monkeypatch):
    state = tiny_gan.make_state()
    flat = dict(trees.flatten_names(state.d))
    flat["params.b4.out.bias"] = jnp.full_like(flat["params.b4.out.bias"], jnp.nan)
    spoiled = dataclasses.replace(state, d=trees.unflatten_names(flat))
    monkeypatch.setattr(tiny_gan, "make_state", lambda: spoiled)
    with pytest.raises(errors.RunError) as caught:
        _train(tmp_path, _options(2))
    assert "in step 1; the training has diverged, nothing of it is saved" in str(caught.value)
    assert "Likely cause: weights that were no numbers when it began (d.params." in str(
        caught.value
    )
    assert not list((tmp_path / "checkpoints").iterdir())
    assert _rows(tmp_path) == []


def _spoiled_gradient(number, monkeypatch):
    """The gradient of one iteration is no number; the loss that is logged is."""

    def step(state, batch, key, schedule, *, program, axis):
        new, metrics = _toy_step(state, batch, key, schedule, program=program, axis=axis)
        bad = (state.real_sign[1] == number - 1) & (program.phase == "d_main")
        flags = jnp.stack([jnp.zeros((), bool), bad])
        sign = new.real_sign if program.phase == "d_main" else state.real_sign
        state = dataclasses.replace(new, real_sign=sign)
        return state, {**metrics, f"{faults.KEY}/{program.phase}": flags}

    monkeypatch.setattr(gan_step, "take_step", step)


def test_a_gradient_that_is_no_number_stops_before_a_save_and_a_rerun_goes_on(
    tmp_path, monkeypatch
):
    options = _options(6, log_iterations=100)  # looked at before each save
    _spoiled_gradient(3, monkeypatch)
    with pytest.raises(errors.RunError) as caught:
        _train(tmp_path, options)
    message = str(caught.value)
    assert "the gradient of phase d_main holds NaN or infinity in step 3;" in message
    assert "--config.gan.skip_nonfinite=N" in message
    assert "\n" not in message
    assert [int(path.name) for path in (tmp_path / "checkpoints").iterdir()] == [2]
    _spoiled_gradient(100, monkeypatch)
    again = _train(tmp_path, options)
    through = _train(tmp_path / "through", options)
    _assert_same_bits(again.state, through.state)


def test_steps_that_are_no_numbers_are_passed_over_and_counted_up_to_a_limit(
    tmp_path, monkeypatch, caplog
):
    _spoiled_gradient(3, monkeypatch)
    run = _train(tmp_path, _options(4, skip_nonfinite=1))
    assert "passed over (1 of at most 1)" in caplog.text
    assert run.rows[-1]["nonfinite/skipped"] == 1
    _spoiled_gradient(5, monkeypatch)  # the count goes on after a resume
    with pytest.raises(errors.RunError, match=r"in step 5 after 1 that were passed over; "):
        _train(tmp_path, _options(6, skip_nonfinite=1))


# What goes to the devices.


@pytest.mark.parametrize(("backend", "devices"), [("jit", 2), ("shard_map", 2), ("pmap", 2)])
def test_images_are_placed_once_an_iteration_and_cameras_for_each_phase(
    toy, backend, devices, monkeypatch, tmp_path
):
    """No iteration of this file makes hidden transfers: all run under a guard."""
    placed = []
    place = parallel.Layout.place_samples

    def counted(self, values):
        placed.append("image_u8" in values)
        return place(self, values)

    monkeypatch.setattr(parallel.Layout, "place_samples", counted)
    options = _options(2, augment="ada", ada_interval=2, ada_kimg=1.0, augment_p=0.0)
    run = _train(tmp_path, options, devices=devices, backend=backend)
    assert sum(placed) == 2
    assert len(placed) == 2 + 6
    # Six steps saw real images only, all signs 1: the probability rises by two batches of 1000.
    assert run.rows[1]["augment/p"] == pytest.approx(2 * tiny_gan.BATCH / 1000)
    assert float(run.state.augment_p) == pytest.approx(2 * tiny_gan.BATCH / 1000)
    np.testing.assert_array_equal(run.state.real_sign, np.zeros(2))


def test_a_trace_of_early_iterations_is_written_where_it_is_asked_for(toy, tmp_path):
    _train(tmp_path, _options(3, profile_iterations=1), profile=tmp_path / "trace")
    assert [path.suffix for path in (tmp_path / "trace").rglob("*.pb")] == [".pb"]


def test_no_trace_is_written_otherwise(toy, tmp_path):
    _train(tmp_path, _options(1), profile=tmp_path / "trace")
    assert not (tmp_path / "trace").exists()


def test_all_processes_meet_before_the_first_iteration(toy, tmp_path, monkeypatch):
    happened = []
    iterate = loop.Runner.iterate
    monkeypatch.setattr(loop.together, "meet", happened.append)
    monkeypatch.setattr(
        loop.Runner, "iterate", lambda *args: happened.append("iterate") or iterate(*args)
    )
    _train(tmp_path, _options(2))
    saved, last = "train_gan: saved", "train_gan: last iteration"
    assert happened == ["train_gan: first iteration", "iterate", "iterate", saved, last]


def test_a_batch_that_does_not_fit_the_devices_is_refused_before_anything_is_made(tmp_path):
    with pytest.raises(errors.ConfigError, match=r"gan\.batch_size must be a multiple of the 3"):
        _train(tmp_path, _options(1), devices=3)
    assert not list(tmp_path.iterdir())


def _assert_same_bits(state, expected):
    found = dict(trees.flatten_names(dataclasses.asdict(state)))
    for name, value in trees.flatten_names(dataclasses.asdict(expected)):
        np.testing.assert_array_equal(found[name], value, err_msg=name)
