"""The reconstruction phase: what it moves, and what keeps its latents even and blind."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganavatar_jax.core import trees
from ganavatar_jax.geometry import cameras
from ganavatar_jax.models import encoder
from ganavatar_jax.training import phase_config, recon_step
from ganavatar_jax.training import state as state_lib
from helpers import compiled, tiny_gan

_OPTIONS = phase_config.ReconstructionConfig(
    encoder=encoder.EncoderConfig(channel_base=32, channel_max=4, face_dim=3),
    lpips_weight=0.0,
    random_p=0.25,
    uniformity_weight=0.1,
    camera_weight=0.1,
)


def _config(**changes):
    return dataclasses.replace(
        tiny_gan.CONFIG, reconstruction=dataclasses.replace(_OPTIONS, **changes)
    )


@functools.cache
def _state(config):
    plain = tiny_gan.make_state()
    probes = recon_step.probe_sizes(config.reconstruction)
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
        plain.g, plain.d, plain.g, config.g_adam, config.d_adam, e=e, recon_adam=_OPTIONS.adam
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


def test_probes_exist_only_where_they_have_a_weight():
    assert recon_step.probe_sizes(_OPTIONS) == {"camera": 3}
    assert recon_step.probe_sizes(dataclasses.replace(_OPTIONS, camera_weight=0.0)) == {}


def test_two_devices_judge_latents_as_one_does():
    """The evenness is that of the whole batch, wherever its parts lie."""
    config = _config(random_p=0.0)
    results = {}
    for backend, devices in (("jit", 1), ("shard_map", 2)):
        layout = tiny_gan.make_layout(backend, devices)
        placed = layout.place_state(_state(config)), layout.place_batch(tiny_gan.make_batch())
        with compiled.quickly():
            step = tiny_gan.phase("recon", backend, devices, config)
            state, metrics = step(*placed, jax.random.key(0), tiny_gan.schedule())
        results[devices] = layout.unplace_state(state).e, float(metrics["loss/uniformity"])
    assert results[1][1] == pytest.approx(results[2][1], rel=1e-5)
    one, two = (dict(trees.flatten_names(results[n][0])) for n in (1, 2))
    for name, value in one.items():
        np.testing.assert_allclose(two[name], value, atol=2e-5, err_msg=name)


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
