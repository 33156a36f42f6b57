"""The reconstruction phase: what it moves, and what keeps its latents even and blind."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganavatar_jax.core import errors, trees
from ganavatar_jax.geometry import cameras
from ganavatar_jax.models import encoder, encoder_config
from ganavatar_jax.training import (
    gan_step,
    parallel,
    recon_step,
    reconstruction_config,
)
from ganavatar_jax.training import state as state_lib
from helpers import compiled, tiny_gan

_OPTIONS = reconstruction_config.ReconstructionConfig(
    encoder=encoder_config.EncoderConfig(channel_base=32, channel_max=4, face_dim=3),
    lpips_weight=0.0,
    random_p=0.25,
    uniformity_weight=0.1,
    camera_weight=0.1,
)


def _config(**changes):
    return tiny_gan.options(
        reconstruct=True, reconstruction=dataclasses.replace(_OPTIONS, **changes)
    )


@functools.cache
def _state(config):
    plain = tiny_gan.make_state()
    probes = recon_step.probe_sizes(config.gan.reconstruction)
    key = jax.random.key(0)
    shapes = jax.eval_shape(
        lambda: state_lib.make_encoder(key, _OPTIONS.encoder, config.g, probes=probes)
    )
    e = {"probes": {}} | tiny_gan.fill(shapes, 2)  # an empty branch has no names to fill
    batch = tiny_gan.make_batch()
    e = encoder.settle(
        e, _OPTIONS.encoder, batch["image_u8"], batch["label25"], z_dim=config.g.z_dim
    )
    return state_lib.from_networks(
        plain.g,
        plain.d,
        plain.g,
        config.gan.g_adam,
        config.gan.d_adam,
        e=e,
        recon_adam=_OPTIONS.adam,
    )


@functools.cache
def _after():
    config = _config()
    with compiled.quickly():
        return tiny_gan.run("recon", _state(config), tiny_gan.make_batch(), config=config)


def _moved(before, after):
    old, new = dict(trees.flatten_names(before)), dict(trees.flatten_names(after))
    return {name for name in old if not np.array_equal(old[name], new[name])}


def test_reconstruction_moves_generator_encoder_and_probes_but_not_the_critic():
    before = _state(_config())
    after, metrics = _after()
    assert _moved(before.g["params"], after.g["params"])
    names = {name for name, _ in trees.flatten_names(before.e)}
    assert _moved(before.e, after.e) == {n for n in names if not n.startswith("buffers.")}
    assert not _moved(before.d, after.d)
    assert {"loss/recon_l1", "loss/uniformity", "loss/camera_probe"} <= set(metrics)


@pytest.mark.parametrize(("warmup", "alone"), [(0, []), (2, [0, 1]), (-1, [0, 1, 2, 999])])
def test_reconstruction_is_alone_while_it_warms_up_or_all_of_the_run(warmup, alone):
    config = _config(warmup_iterations=warmup)
    found = [i for i in (0, 1, 2, 999) if gan_step.phases_due(i, config) == ("recon",)]
    assert found == alone
    assert "d_main" in gan_step.phases_due(2, _config(warmup_iterations=2))


def test_a_warm_up_of_less_than_nothing_is_refused():
    with pytest.raises(ValueError, match="-1 .all. or at least 0; got -2"):
        _config(warmup_iterations=-2)


def test_probes_exist_only_where_they_have_a_weight():
    assert recon_step.probe_sizes(_OPTIONS) == {"camera": 3}
    assert recon_step.probe_sizes(dataclasses.replace(_OPTIONS, camera_weight=0.0)) == {}


def test_evenness_is_that_of_the_whole_batch_wherever_its_parts_lie():
    batch = {"x": np.random.default_rng(0).normal(size=(16, 6)).astype(np.float32)}
    start = jnp.asarray(np.random.default_rng(1).normal(size=(6, 4)), jnp.float32)

    def step(state, batch, *, axis):
        def loss(weight):
            return recon_step.uniformity(parallel.all_gather_if(batch["x"] @ weight, axis))

        value, gradient = jax.value_and_grad(loss)(state)
        return parallel.pmean_if((gradient, {"evenness": value}), axis)

    def result(backend, devices):
        layout = tiny_gan.make_layout(backend, devices)
        placed = layout.place_state(start), layout.place_batch(batch)
        gradient, metrics = parallel.make_step(step, layout=layout, donate=False)(*placed)
        return np.asarray(layout.unplace_state(gradient)), float(np.mean(metrics["evenness"]))

    one, many = result("jit", 1), result("shard_map", 8)
    assert many[1] == pytest.approx(one[1], rel=1e-5)
    np.testing.assert_allclose(many[0], one[0], atol=1e-5)


def test_a_place_on_the_head_is_found_in_the_image():
    pose = cameras.look_at(np.pi / 2, np.pi / 2, radius=2.7)
    label = cameras.to_label25(cameras.Camera(pose, cameras.intrinsics(4.2647)))[None]
    (found,) = np.asarray(recon_step.project_place(label, (0.1, -0.2, 0.2), radius=0.05))
    scale = 4.2647 / (2.7 - 0.2)
    expected = (0.5 + 0.1 * scale, 0.5 + 0.2 * scale, 0.05 * scale)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_evenness_of_latents_is_known_for_two():
    z = jnp.asarray([[1.0, 0.0], [-1.0, 0.0]])
    assert float(recon_step.uniformity(z)) == pytest.approx(-8.0, abs=1e-5)
    assert float(recon_step.uniformity(z * 0.0 + 1.0)) == pytest.approx(0.0, abs=1e-5)


def test_evenness_does_not_depend_on_length_and_grows_with_clustering(key):
    z = jax.random.normal(key, (16, 8))
    value = float(recon_step.uniformity(z))
    assert float(recon_step.uniformity(5.0 * z)) == pytest.approx(value, rel=1e-4)
    assert float(recon_step.uniformity(z + 3.0)) > value + 0.5


def test_the_evenness_of_a_single_latent_is_refused_by_its_option():
    with pytest.raises(errors.ConfigError, match=r"uniformity_weight.*got 1"):
        recon_step.uniformity(jnp.ones((1, 4)))


def test_what_was_not_filmed_is_not_reconstructed():
    """Where nothing was filmed nothing differs, whatever is rendered there."""
    config = _config(random_p=0.0, uniformity_weight=0.0, camera_weight=0.0)
    white = np.full_like(tiny_gan.make_batch()["image_u8"], 255)

    def run(level):
        filmed = np.full(white.shape[:3], level, np.uint8)
        batch = tiny_gan.make_batch() | {"image_u8": white, "filmed": filmed}
        with compiled.quickly():
            return tiny_gan.run("recon", _state(config), batch, config=config)

    (_, everywhere), (state, nowhere) = run(255), run(0)
    assert everywhere["loss/recon_l1"] > 0.1
    assert nowhere["loss/recon_l1"] == 0.0
    assert not _moved(_state(config).g["params"], state.g["params"])
