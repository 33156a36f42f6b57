"""The phases of GAN training: what each moves, skips and survives."""

import dataclasses
import functools

import chex
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

from ganavatar_jax.core import images, trees
from ganavatar_jax.losses import density_config
from ganavatar_jax.models import generator, mapping
from ganavatar_jax.ops import fir, minibatch_stddev, resize
from ganavatar_jax.training import augment_config, faults, gan_step, step_inputs, step_updates
from ganavatar_jax.training import state as state_lib
from helpers import compiled, tiny_gan

_PHASES = ("g_main", "g_reg", "d_main", "d_reg")
_IDS = np.arange(tiny_gan.BATCH, dtype=np.int32)


@pytest.fixture(autouse=True)
def _quick():
    with compiled.quickly():
        yield


@functools.cache
def _after(name):
    """The state and metrics after one phase from the start."""
    return tiny_gan.run(name, tiny_gan.make_state(), tiny_gan.make_batch())


def _leaves(tree):
    return {jax.tree_util.keystr(p): x for p, x in jax.tree_util.tree_leaves_with_path(tree)}


def _batch(**changes):
    return {k: jnp.asarray(v) for k, v in (tiny_gan.make_batch() | {"sample_id": _IDS}).items()} | {
        k: jnp.asarray(v) for k, v in changes.items()
    }


# When phases run.


def test_phases_run_at_their_intervals_in_order():
    config = tiny_gan.options(g_reg_interval=4, d_reg_interval=16)
    assert gan_step.phases_due(0, config) == _PHASES
    assert gan_step.phases_due(1, config) == ("g_main", "d_main")
    assert gan_step.phases_due(4, config) == ("g_main", "g_reg", "d_main")
    assert gan_step.phases_due(16, config) == _PHASES


def test_a_regulariser_of_weight_zero_never_runs_and_rescales_nothing():
    config = tiny_gan.options(gamma=0.0, density=density_config.DensityConfig(weight=0.0))
    assert gan_step.phases_due(0, config) == ("g_main", "d_main")
    assert config.gan.g_adam.lr == config.gan.g_lr
    assert config.gan.d_adam.lr == config.gan.d_lr
    assert tiny_gan.CONFIG.gan.g_adam.lr == pytest.approx(0.0025 * 2 / 3)


# What a phase moves.


@pytest.mark.parametrize(
    ("name", "moved"),
    [
        ("g_main", (".g['params']", ".g_opt")),
        ("g_reg", (".g['params']", ".g_opt")),
        ("d_main", (".d[", ".d_opt", ".g_ema['params']", ".real_sign")),
        ("d_reg", (".d[", ".d_opt")),
    ],
)
def test_a_phase_moves_its_network_only(name, moved):
    state, metrics = _after(name)
    before, after = _leaves(tiny_gan.make_state()), _leaves(state)
    changed = {path for path in before if not np.array_equal(before[path], after[path])}
    averages = {path for path in before if path.endswith("['w_avg']")}
    if name == "d_main":
        assert averages == {path for path in changed if "buffers" in path}
        changed -= averages | {path for path in changed if path.startswith(".g_ema")}
        moved = tuple(part for part in moved if not part.startswith(".g_ema"))
    assert {part for part in moved if any(p.startswith(part) for p in changed)} == set(moved)
    assert all(path.startswith(moved) for path in changed)
    assert all(np.isfinite(value).all() for value in after.values())
    metrics = dict(metrics)
    assert not np.any(metrics.pop(f"{faults.KEY}/{name}"))
    assert all(np.isfinite(value) and np.shape(value) == () for value in metrics.values())


def test_the_first_step_is_as_long_as_the_learning_rate():
    """Without momentum Adam's first step is the rate times the gradient's sign."""
    state, _ = _after("g_main")
    old, new = tiny_gan.make_state().g["params"], state.g["params"]
    steps = jax.flatten_util.ravel_pytree(jax.tree.map(np.subtract, old, new))[0]
    lengths = np.abs(steps[steps != 0.0])
    rate = tiny_gan.CONFIG.gan.g_adam.lr
    assert lengths.max() <= rate * 1.001
    assert np.median(lengths) == pytest.approx(rate, rel=1e-2)


def test_parameters_without_gradient_sit_out():
    """Quirk Q14: they neither move nor count, while zero gradients do count."""
    counts = dict(trees.flatten_names(_after("d_reg")[0].d_opt.count))
    assert {name for name, count in counts.items() if count == 0} == {"b4.out.bias"}
    assert counts["b4.fc.bias"] == 1
    assert {int(n) for n in jax.tree.leaves(_after("d_main")[0].d_opt.count)} == {1}
    state = _after("g_main")[0]
    embed = "backbone.mapping.embed.weight"  # the camera is hidden from it: its gradient is zero
    assert dict(trees.flatten_names(state.g_opt.count))[embed] == 1
    assert not np.any(dict(trees.flatten_names(state.g_opt.square))[embed])


@pytest.mark.parametrize("name", ["g_main", "g_reg"])
def test_superresolution_sits_out_of_the_density_phase_and_its_noise_always(name):
    config = tiny_gan.options(
        g={"neural_resolution": 4, "superresolution": "2X", "superresolution_channels": (2, 2)}
    )
    program = step_inputs.Program(name, config, 4)

    def count(state, batch):
        # Everything but the counts is dead code to the compiler.
        state, _ = gan_step.take_step(
            state, batch, jax.random.key(0), tiny_gan.schedule(), program=program, axis=None
        )
        return state.g_opt.count

    counts = jax.jit(count)(tiny_gan.make_state(config), _batch())
    counts = dict(trees.flatten_names(counts))
    expected = {
        key
        for key in counts
        if key.startswith("superresolution.")
        and (name == "g_reg" or key.endswith(".noise_strength"))
    }
    assert len(expected) == {"g_main": 4, "g_reg": 28}[name]
    assert {key for key, value in counts.items() if value == 0} == expected


def test_frozen_blocks_of_the_discriminator_stay():
    config = tiny_gan.options(freeze_d=1)
    state = tiny_gan.make_state()
    ones = jax.tree.map(jnp.ones_like, state.d["params"])
    step = jax.jit(
        lambda s, g: step_updates.update(
            s, g, tiny_gan.schedule(), trained=step_updates.D, options=config
        )
    )
    moved = dict(trees.flatten_names(step(state, ones).d["params"]))
    for name, value in trees.flatten_names(state.d["params"]):
        assert np.array_equal(moved[name], value) == name.startswith("b8."), name


def test_averages_move_with_the_discriminators_step():
    state, before = _after("d_main")[0], tiny_gan.make_state()
    _, w = jax.jit(
        lambda g, batch: step_inputs.sample_ws(g, batch, tiny_gan.step(jax.random.key(0)))
    )(before.g, _batch())
    expected = mapping.update_average(jnp.zeros(8), w)
    found = state.g["buffers"]["backbone"]["mapping"]["w_avg"]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)
    assert np.abs(found).max() > 1e-4
    np.testing.assert_array_equal(state.g_ema["buffers"]["backbone"]["mapping"]["w_avg"], found)
    # Parameters of the average: decay 0.9, from an average that has run away by one.
    far = dataclasses.replace(before, g_ema=jax.tree.map(lambda x: x + 1.0, before.g_ema))
    moved = tiny_gan.run("d_main", far, tiny_gan.make_batch())[0].g_ema["params"]
    for old, new in zip(jax.tree.leaves(before.g["params"]), jax.tree.leaves(moved), strict=True):
        np.testing.assert_allclose(new, old + 0.9, atol=1e-4)


@pytest.mark.parametrize("name", ["g_main", "d_main", "d_reg"])
def test_a_broken_camera_cannot_poison_the_state(name):
    """One NaN makes every gradient NaN; they become zeros (quirk Q13)."""
    batch = tiny_gan.make_batch()
    for key in ("label25", "gen_label25"):
        batch[key] = batch[key].copy()
        batch[key][3, 5] = np.nan
    state, metrics = tiny_gan.run(name, tiny_gan.make_state(), batch)
    assert np.isnan(next(iter(metrics.values())))
    for part in ("g", "d", "g_ema", "g_opt", "d_opt"):
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(getattr(state, part))), part
    start = tiny_gan.make_state()
    for actual, expected in zip(
        jax.tree.leaves((state.g["params"], state.d)),
        jax.tree.leaves((start.g["params"], start.d)),
        strict=True,
    ):
        np.testing.assert_array_equal(actual, expected)


def test_microbatches_give_the_gradient_of_the_whole_batch():
    """Each holds whole blocks of the minibatch deviation."""

    def loss_fn(params, part):
        x = jnp.tanh(part["x"] * params[None])[:, None, None]
        x = minibatch_stddev.minibatch_stddev(x, group_size=2, block_size=4)
        loss = jnp.mean(jnp.square(x[..., 0] + 3.0 * x[..., -1]))
        return loss, {"loss": loss}

    x = jax.random.normal(jax.random.key(0), (tiny_gan.BATCH, 5))
    batch = {"x": x, "sample_id": jnp.asarray(_IDS)}
    whole, parts = (
        jax.jit(
            functools.partial(
                step_updates.gradients,
                loss_fn,
                microbatch=size,
                devices=1,
                axis=None,
            )
        )(jnp.arange(1.0, 6.0), batch)
        for size in (0, 4)
    )
    np.testing.assert_allclose(parts[0], whole[0], rtol=1e-5)
    np.testing.assert_allclose(parts[1]["loss"], whole[1]["loss"], rtol=1e-6)
    assert np.abs(whole[0]).min() > 1e-4


# What is no number.


def test_a_step_that_is_passed_over_leaves_everything_as_it_was():
    config = tiny_gan.options(skip_nonfinite=1)
    state, batch = tiny_gan.make_state(), tiny_gan.make_batch()
    sound, metrics = tiny_gan.run("d_reg", state, batch, config=config)
    assert metrics[f"{faults.KEY}/d_reg"].tolist() == [False, False]
    plain, _ = tiny_gan.run("d_reg", state, batch)
    np.testing.assert_allclose(
        sound.d["params"]["b8"]["fromrgb"]["weight"],
        plain.d["params"]["b8"]["fromrgb"]["weight"],
        rtol=1e-5,
    )
    batch["label25"] = batch["label25"] * np.float32(np.nan)
    left, metrics = tiny_gan.run("d_reg", state, batch, config=config)
    assert metrics[f"{faults.KEY}/d_reg"].all()
    chex.assert_trees_all_equal(dataclasses.asdict(left), dataclasses.asdict(jax.device_get(state)))


# What goes into a phase.


@functools.cache
def _sampler(config, one_coin=False):
    def sample(g, batch, schedule):
        step = tiny_gan.step(jax.random.key(2), config=config, numbers=schedule)
        return step_inputs.sample_ws(g, batch, step, one_coin=one_coin)

    return jax.jit(sample)


def _ws(config, *, swapping_p=0.5, one_coin=False):
    schedule = tiny_gan.schedule(swapping_p=swapping_p)
    sample = _sampler(config, one_coin)
    return jax.device_get(sample(tiny_gan.make_state().g, _batch(), schedule=schedule))


def test_style_mixing_replaces_the_last_rows():
    ws, w = _ws(tiny_gan.options(style_mixing_p=0.5))
    kept = np.all(ws == w[:, None], axis=-1)
    assert kept[:, 0].all()  # the first row always stays
    assert (np.diff(kept.astype(int), axis=1) <= 0).all()  # and no row comes back
    mixed = ~kept.all(axis=1)
    assert 0 < mixed.sum() < tiny_gan.BATCH
    for sample in np.flatnonzero(mixed):
        rows = ws[sample, ~kept[sample]]
        assert (rows == rows[0]).all()
    plain, _ = _ws(tiny_gan.CONFIG)
    np.testing.assert_array_equal(plain, np.repeat(w[:, None], ws.shape[1], axis=1))


def test_swapping_shows_the_mapping_another_camera():
    config = tiny_gan.options(g={"condition_on_camera": True})
    _, own = _ws(config, swapping_p=0.0)
    _, other = _ws(config, swapping_p=1.0)
    _, some = _ws(config)
    _, all_or_none = _ws(config, one_coin=True)
    assert (np.abs(own - other).max(axis=1) > 1e-6).all()
    close = lambda a, b: np.abs(a - b).max(axis=1) < 1e-6  # noqa: E731
    swapped = close(some, other)
    assert 0 < swapped.sum() < tiny_gan.BATCH
    assert (swapped | close(some, own)).all()
    assert close(all_or_none, own).all() != close(all_or_none, other).all()
    # The camera it is shown is the sample's swap_label25.
    rolled = _batch() | {"gen_label25": _batch()["swap_label25"]}
    expected = _sampler(config)(
        tiny_gan.make_state().g, rolled, schedule=tiny_gan.schedule(swapping_p=0.0)
    )[1]
    np.testing.assert_allclose(other, expected, atol=1e-6)


def test_real_images_come_with_their_small_copy_and_the_blur():
    batch = _batch()
    key = jax.random.key(0)
    image, raw = step_inputs.real_inputs(batch, tiny_gan.step(key, resolution=4))
    np.testing.assert_array_equal(image, images.from_u8(batch["image_u8"]))
    np.testing.assert_allclose(raw, resize.resize(image, 4), atol=1e-6)
    taps = jnp.asarray(fir.blur_taps(1.2))
    numbers = tiny_gan.schedule() | {"blur_taps": taps}
    blurred, soft = step_inputs.real_inputs(
        batch, tiny_gan.step(key, numbers=numbers, resolution=4)
    )
    np.testing.assert_allclose(blurred, fir.blur(image, taps), atol=1e-6)
    np.testing.assert_allclose(soft, fir.blur(raw, taps), atol=1e-6)


def test_only_the_final_generated_image_is_blurred(monkeypatch):
    image = jax.random.normal(jax.random.key(0), (tiny_gan.BATCH, 8, 8, 3))
    flat = image[..., 0]
    sharp = generator.GeneratorOutput(image=image, image_raw=image, depth=flat, opacity=flat)
    monkeypatch.setattr(generator, "synthesize", lambda *_, **__: sharp)
    taps = jnp.asarray(fir.blur_taps(1.2))
    soft, _ = jax.jit(
        lambda g, batch, taps: step_inputs.generate(
            g,
            batch,
            tiny_gan.step(jax.random.key(0), numbers=tiny_gan.schedule() | {"blur_taps": taps}),
            encoder_variables={},
        )
    )(tiny_gan.make_state().g, _batch(), taps)
    np.testing.assert_array_equal(soft.image_raw, sharp.image_raw)
    np.testing.assert_allclose(soft.image, fir.blur(sharp.image, taps), atol=1e-6)


# Augmentation.


def test_both_images_are_augmented_alike():
    off = {field.name: 0.0 for field in dataclasses.fields(augment_config.AugmentConfig)}
    pipe = augment_config.AugmentConfig(**(off | {"xflip": 1.0}))
    step = tiny_gan.step(
        jax.random.key(0), config=tiny_gan.options(augment="fixed", augment_pipe=pipe)
    )
    batch = _batch()
    image, raw = step_inputs.real_inputs(batch, step)

    @jax.jit
    def run(p):
        state = dataclasses.replace(tiny_gan.make_state(), augment_p=p)
        return step_inputs.augment(state, batch, step, image, raw, kind="real")

    for actual, expected in zip(run(jnp.float32(0.0)), (image, raw), strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-5)
    flipped = []
    for actual, expected in zip(run(jnp.float32(1.0)), (image, raw), strict=True):
        same = np.abs(actual - expected).max(axis=(1, 2, 3)) < 1e-3
        mirrored = np.abs(actual - expected[:, :, ::-1]).max(axis=(1, 2, 3)) < 1e-3
        assert (same != mirrored).all()
        flipped.append(mirrored)
    np.testing.assert_array_equal(*flipped)
    assert 0 < flipped[0].sum() < tiny_gan.BATCH


@pytest.mark.parametrize(
    ("signs", "start", "expected"),
    [((8.0, 8.0), 0.1, 0.1 + 0.008), ((-2.0, 8.0), 0.1, 0.1 - 0.008), ((0.0, 8.0), 0.001, 0.0)],
)
def test_augmentation_adapts_to_how_well_real_images_are_known(signs, start, expected):
    state = dataclasses.replace(
        tiny_gan.make_state(),
        augment_p=jnp.float32(start),
        real_sign=jnp.asarray(signs, jnp.float32),
    )
    options = tiny_gan.options(ada_kimg=8.0)
    new, metrics = gan_step.adapt_augmentation(state, {}, options=options, axis=None)
    assert metrics["augment/p"] == new.augment_p
    assert float(new.augment_p) == pytest.approx(expected, abs=1e-6)
    np.testing.assert_array_equal(new.real_sign, np.zeros(2))


def test_signs_of_real_logits_are_collected_for_it():
    state, metrics = _after("d_main")
    np.testing.assert_allclose(state.real_sign, [metrics["signs/real"], 1.0])
    again, _ = tiny_gan.run("d_main", state, tiny_gan.make_batch(1))
    assert again.real_sign[1] == 2.0


def test_a_fresh_state_shares_no_memory_between_the_network_and_its_average():
    config = tiny_gan.CONFIG
    state = jax.eval_shape(
        lambda: state_lib.make_state(
            jax.random.key(0),
            config.g,
            config.d,
            config.gan.g_adam,
            config.gan.d_adam,
            augment_p=0.2,
        )
    )
    made = tiny_gan.make_state()
    assert jax.tree.map(jnp.shape, state) == jax.tree.map(jnp.shape, made)
    for one, two in zip(jax.tree.leaves(made.g), jax.tree.leaves(made.g_ema), strict=True):
        assert one.unsafe_buffer_pointer() != two.unsafe_buffer_pointer()
