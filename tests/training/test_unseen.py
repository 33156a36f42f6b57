"""What the camera never saw: where it is looked for, who is found, and what it moves."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganavatar_jax.apps import command_line, experiment, train_gan
from ganavatar_jax.core import images, trees
from ganavatar_jax.data import frame_table
from ganavatar_jax.geometry import cameras
from ganavatar_jax.models import encoder_config, generator
from ganavatar_jax.runs import run_dir
from ganavatar_jax.training import gan_step, loop, reconstruction_config, unseen
from ganavatar_jax.training import state as state_lib
from helpers import compiled, tiny_gan

_OPTIONS = reconstruction_config.ReconstructionConfig(
    encoder=encoder_config.EncoderConfig(channel_base=32, channel_max=4, face_dim=3),
    lpips_weight=0.0,
    unseen_interval=4,
)
_CONFIG = tiny_gan.options(reconstruct=True, reconstruction=_OPTIONS)


def _directions(label25):
    centre = np.asarray(label25)[:, 3:12:4]
    return centre / np.linalg.norm(centre, axis=-1, keepdims=True)


def _around(yaw_deg, pitch_deg=0.0):
    poses = cameras.look_at(
        np.pi / 2 + np.radians(np.asarray(yaw_deg)), np.pi / 2 - np.radians(pitch_deg), radius=2.7
    )
    lens = np.broadcast_to(np.asarray(cameras.intrinsics(4.2647)), (len(poses), 3, 3))
    return np.asarray(cameras.to_label25(cameras.Camera(poses, jnp.asarray(lens))))


def test_cameras_go_where_the_capture_has_none():
    seen = _around(np.linspace(-20.0, 30.0, 40))
    found = unseen.choose_cameras(seen, count=200, seed=0)
    assert found.shape == (200, 25)
    away = np.degrees(np.arccos(np.clip(_directions(found) @ _directions(seen).T, -1.0, 1.0)))
    assert away.min() >= 24.9
    yaw = np.degrees(np.arctan2(found[:, 3], found[:, 11]))
    counts = np.histogram(np.abs(yaw), [60.0, 90.0, 120.0, 150.0, 180.0])[0]
    assert counts.min() > 20  # sides and back alike
    np.testing.assert_allclose(np.linalg.norm(found[:, 3:12:4], axis=1), 2.7, rtol=1e-5)
    np.testing.assert_allclose(found[:, 16:], np.broadcast_to(seen[:1, 16:], (200, 9)))
    assert np.array_equal(found, unseen.choose_cameras(seen, count=200, seed=0))
    assert not np.array_equal(found, unseen.choose_cameras(seen, count=200, seed=1))


def test_a_capture_that_has_seen_all_leaves_nothing_to_fill_in():
    yaw, pitch = np.meshgrid(np.arange(0.0, 360.0, 15.0), np.arange(-60.0, 61.0, 15.0))
    seen = np.concatenate([_around(y, p) for y, p in zip(yaw, pitch[:, :1], strict=True)])
    assert len(unseen.choose_cameras(seen, count=50, seed=0)) == 0
    assert len(unseen.choose_cameras(_around(np.linspace(-50.0, 50.0, 40)), count=50, seed=0)) == 0
    assert "unseen" in gan_step.phases_due(0, _CONFIG)
    assert "unseen" not in gan_step.phases_due(0, _CONFIG, seen_all=True)


def test_a_person_is_found_again_in_the_generator():
    config, g = _CONFIG.g, tiny_gan.make_state().g
    label = _around(np.linspace(-30.0, 30.0, 12))
    z = jax.random.normal(jax.random.key(3), (2, config.z_dim))
    w = generator.map_latent(g, z, jnp.asarray(label[:2]), config)
    real = unseen.imagine(g, w[0], label, config)
    assert real.image_u8.shape == (12, tiny_gan.SIDE, tiny_gan.SIDE, 3)
    with compiled.quickly():
        found = unseen.find_person(g, z[1], real.image_u8, label, config, seed=0, lpips_params=None)
    again = unseen.imagine(g, found, label, config).image_u8.astype(float)
    other = unseen.imagine(g, w[1], label, config).image_u8.astype(float)
    truth = real.image_u8.astype(float)
    assert np.abs(again - truth).mean() < 0.5 * np.abs(other - truth).mean()


def test_every_so_many_iterations_and_never_as_the_last_phase():
    due = [gan_step.phases_due(i, _CONFIG) for i in range(8)]
    assert [i for i, names in enumerate(due) if "unseen" in names] == [0, 4]
    assert due[0][:2] == ("unseen", "recon")
    never = dataclasses.replace(_OPTIONS, unseen_interval=0)
    config = tiny_gan.options(reconstruct=True, reconstruction=never)
    assert "unseen" not in gan_step.phases_due(0, config)
    with pytest.raises(ValueError, match="unseen_interval must be at least 0"):
        dataclasses.replace(_OPTIONS, unseen_interval=-1)


def _state():
    plain = tiny_gan.make_state()
    shapes = jax.eval_shape(
        lambda: state_lib.make_encoder(jax.random.key(0), _OPTIONS.encoder, _CONFIG.g)
    )
    e = {"probes": {}} | tiny_gan.fill(shapes, 2)
    gan = _CONFIG.gan
    return state_lib.from_networks(
        plain.g, plain.d, plain.g, gan.g_adam, gan.d_adam, e=e, recon_adam=_OPTIONS.adam
    )


def test_the_phase_moves_the_generator_towards_the_pictures_and_nothing_else():
    state, batch = _state(), tiny_gan.make_batch()
    with compiled.quickly():
        after, metrics = tiny_gan.run("unseen", state, batch, config=_CONFIG)
        again = tiny_gan.run("unseen", after, batch, config=_CONFIG)[1]
    before = dict(trees.flatten_names(state.g["params"]))
    moved = dict(trees.flatten_names(after.g["params"]))
    assert any(not np.array_equal(before[name], moved[name]) for name in before)
    for name in ("e", "d"):
        old, new = (dict(trees.flatten_names(getattr(s, name))) for s in (state, after))
        assert all(np.array_equal(old[key], new[key]) for key in old)
    assert float(again["loss/unseen_l1"]) < float(metrics["loss/unseen_l1"])


def test_pictures_are_drawn_by_seed_and_iteration():
    image = np.arange(20, dtype=np.uint8)[:, None, None, None] + np.zeros((1, 8, 8, 3), np.uint8)
    views = unseen.Views(image, np.arange(500, dtype=np.float32).reshape(20, 25))
    layout = tiny_gan.make_layout("jit", 1)
    runner = loop.Runner(_CONFIG, layout, views.label25, None, views)
    first, same, other = (runner.draw_views(i) for i in (4, 4, 8))
    assert np.array_equal(first["image_u8"], same["image_u8"])
    assert not np.array_equal(first["image_u8"], other["image_u8"])
    assert np.array_equal(first["label25"], views.label25[first["image_u8"][:, 0, 0, 0]])
    assert images.from_u8(jnp.asarray(first["image_u8"])).shape == (tiny_gan.BATCH, 8, 8, 3)


def test_the_back_of_a_head_has_the_colour_of_its_crown():
    label = _around([180.0, 90.0, 0.0])
    image = np.full((3, 64, 64, 3), (200, 150, 120), np.uint8)
    image[:, :22] = (60, 40, 30)  # hair, down to the crown
    image[:, :, :4] = 255  # what is empty stays so
    covered = unseen._cover_backs(image, label)
    assert np.abs(covered[0, 28, 32].astype(int) - (60, 40, 30)).max() < 25
    assert np.array_equal(covered[0, 55], image[0, 55])  # the neck
    assert np.array_equal(covered[:, :, :4], image[:, :, :4])
    assert np.array_equal(covered[1:], image[1:])


def test_without_a_start_that_reads_faces_nothing_is_filled_in_and_a_line_says_so(capsys, tmp_path):
    config = command_line.load_config("configs/monocular.py:small")
    config.data.source, config.gan.init = "me.zip", ""
    resolved = experiment.resolve(config)
    assert resolved.gan.reconstruction.unseen_interval > 0
    label = _around([0.0])
    table = frame_table.FrameTable(
        image=np.zeros((1, 8, 8, 3), np.uint8),
        alpha=None,
        label25=label,
        expression=None,
        has_expression=np.zeros(1, bool),
        frame_id=("0",),
        sequence=("",),
        expression_names=(),
        background="white",
    )
    assert train_gan._views(resolved, run_dir.RunDir(tmp_path), None, {}, table) is None
    assert "gan.init names no start that reads faces" in capsys.readouterr().out
