"""The same training on one device and on eight, spread in three ways."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganavatar_jax.core import errors
from ganavatar_jax.geometry import boxes, rays
from ganavatar_jax.ops import minibatch_stddev
from ganavatar_jax.training import parallel, step_updates
from helpers import compiled, tiny_gan

# From here a good part of the rays misses the cube and borrows bounds from the whole batch.
_RADIUS = 5.0


@pytest.mark.slow  # compiles four layouts of four phases
def test_eight_devices_train_the_parameters_of_one_however_they_share_the_work(tmp_path):
    trained = tiny_gan.train_everywhere(tmp_path, radius=_RADIUS)
    reference = trained.pop("jit on 1")
    start = tiny_gan.networks(tiny_gan.make_state())
    assert list(trained) == ["jit on 8", "shard_map on 8", "pmap on 8"]
    phases = {name.split(".")[2] for name in reference if name.startswith("metrics.")}
    assert phases == {"g_main", "g_reg", "d_main", "d_reg"}
    for layout, values in trained.items():
        assert values.keys() == reference.keys()
        for network in ("g.", "d.", "g_ema."):
            names = [name for name in start if name.startswith(network)]
            apart = max(np.abs(values[name] - reference[name]).max() for name in names)
            moved = max(np.abs(values[name] - start[name]).max() for name in names)
            print(f"{layout}, {network} max difference {apart:.2e}, moved {moved:.2e}")
            assert apart <= 1e-5
            assert moved > 1e-3
        for name in values:
            if name.startswith("metrics."):
                np.testing.assert_allclose(
                    values[name], reference[name], rtol=1e-4, atol=1e-5, err_msg=name
                )


def test_some_rays_of_that_training_miss_the_cube():
    label = jnp.asarray(tiny_gan.make_batch(radius=_RADIUS)["label25"])
    origins, directions = rays.pixel_rays(
        label[:, :16].reshape(-1, 4, 4), label[:, 16:].reshape(-1, 3, 3), resolution=tiny_gan.SIDE
    )
    _, _, hit = boxes.intersect_cube(origins, directions, side=1.0)
    assert 0.05 < 1.0 - float(hit.mean()) < 0.95


# Microbatches.


def _deviation_loss(params, part):
    """A loss in which samples of one block see each other."""
    x = jnp.tanh(part["x"] * params[None])[:, None, None]
    x = minibatch_stddev.minibatch_stddev(x, group_size=2, block_size=2)
    loss = jnp.mean(jnp.square(x[..., 0] + 3.0 * x[..., -1]))
    return loss, {"loss": loss, "samples": jnp.float32(len(part["x"]))}


def _gradients(backend, devices, microbatch):
    layout = tiny_gan.make_layout(backend, devices)

    def step(state, batch, *, axis):
        return step_updates.gradients(
            _deviation_loss,
            state,
            batch,
            microbatch=microbatch,
            devices=devices if axis is None else 1,
            axis=axis,
        )

    x = np.random.default_rng(0).normal(size=(32, 5)).astype(np.float32)
    placed = layout.place_state(jnp.arange(1.0, 6.0)), layout.place_batch({"x": x})
    grads, metrics = parallel.make_step(step, layout=layout, donate=False)(*placed)
    return np.asarray(layout.unplace_state(grads)), jax.device_get(metrics)


@pytest.mark.parametrize("backend", ["jit", "shard_map", "pmap"])
@pytest.mark.parametrize("devices", [1, 8])
def test_microbatches_give_the_gradient_of_the_whole_batch_however_the_work_is_shared(
    backend, devices
):
    whole, expected = _gradients("jit", 1, 0)
    grads, metrics = _gradients(backend, devices, 2)
    np.testing.assert_allclose(grads, whole, rtol=1e-5)
    assert metrics["loss"] == pytest.approx(float(expected["loss"]), rel=1e-6)
    assert np.abs(whole).min() > 1e-4
    assert metrics["samples"] == (2 * devices if backend == "jit" else 2)


def test_a_pass_holds_the_same_number_of_every_devices_own_samples():
    layout = tiny_gan.make_layout("jit", 8)
    batch = layout.place_batch({"x": np.zeros((32, 3), np.float32)})
    cut = jax.jit(lambda b: step_updates.split(b, 2, devices=8))
    assert not {"all-to-all", "all-gather", "collective-permute"} & {
        word
        for line in cut.lower(batch).compile().as_text().splitlines()
        for word in line.replace("(", " ").split()
    }
    parts = cut(batch)["sample_id"]
    assert parts.shape == (2, 16)
    for number, shard in enumerate(sorted(parts.addressable_shards, key=lambda s: s.index[1])):
        first = 4 * number  # each device holds four consecutive samples
        assert np.asarray(shard.data).tolist() == [[first, first + 1], [first + 2, first + 3]]


def test_a_microbatch_that_does_not_divide_is_refused():
    with pytest.raises(errors.ConfigError, match="must divide the 4 samples that a device holds"):
        _gradients("jit", 8, 3)


def test_microbatches_train_the_critic_as_the_whole_batch_does():
    """The real phase, in whose discriminator samples of a block see each other."""
    options = tiny_gan.options(microbatch=2)
    state, batch = tiny_gan.make_state(), tiny_gan.make_batch()
    found = []
    with compiled.quickly():
        for config, devices in ((tiny_gan.CONFIG, 1), (options, 4)):
            layout = tiny_gan.make_layout("jit", devices)
            placed = layout.place_state(state), layout.place_batch(batch)
            step = tiny_gan.phase("d_main", "jit", devices, config)
            found.append(jax.device_get(step(*placed, jax.random.key(0), tiny_gan.schedule())))
    (whole, numbers), (cut, same) = found
    for name in numbers:
        np.testing.assert_allclose(same[name], numbers[name], rtol=1e-4, err_msg=name)
    # Without momentum the second moment after one step is the squared gradient.
    for one, two in zip(
        jax.tree.leaves(whole.d_opt.square), jax.tree.leaves(cut.d_opt.square), strict=True
    ):
        np.testing.assert_allclose(np.sqrt(two), np.sqrt(one), rtol=1e-3, atol=1e-6)
