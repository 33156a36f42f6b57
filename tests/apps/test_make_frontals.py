"""Latents are drawn as promised, rendered from the capture's camera, read, and held out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganavatar_jax.apps import avatar, experiment_config, make_frontals
from ganavatar_jax.core import errors, images
from ganavatar_jax.data.builders import expression_pairs
from ganavatar_jax.faces import turned_readings
from ganavatar_jax.models import generator
from ganavatar_jax.runs import run_dir
from helpers import compiled, tiny_gan, tiny_runs

NAMES = ("brightness", "contrast")
LENS = np.array([[2.0, 0.0, 0.48], [0.0, 2.2, 0.53], [0.0, 0.0, 1.0]], np.float32)
CONFIG = tiny_gan.GENERATOR


@pytest.fixture(scope="module", autouse=True)
def quickly():
    with compiled.quickly():
        yield


@pytest.fixture
def variables():
    g = tiny_gan.make_state().g
    mapping = dict(g["buffers"]["backbone"]["mapping"], w_avg=jnp.linspace(-1, 1, CONFIG.w_dim))
    backbone = dict(g["buffers"]["backbone"], mapping=mapping)
    return dict(g, buffers=dict(g["buffers"], backbone=backbone))


@pytest.fixture
def make(monkeypatch, tmp_path, variables):
    """Runs the stage; returns what it noted, the pairs and the frames the estimator saw."""
    label25 = tiny_runs.labels(np.linspace(-0.5, 0.5, 9), radius=3.4, lens=LENS)
    table = tiny_runs.make_table(
        np.arange(9, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 3), np.uint8),
        label25,
    )
    tiny_runs.without_earlier_stages(monkeypatch, make_frontals)
    monkeypatch.setattr(avatar, "load_generator", lambda *_: variables)
    monkeypatch.setattr(make_frontals.frame_table, "load_label25", lambda *_: label25)
    monkeypatch.setattr(make_frontals.frame_table, "load_split", lambda *_, **__: table)

    def run(unread=(), **options):
        def read(image_u8, frame):
            if int(frame) in unread:
                return None
            return np.array([image_u8.mean() / 255, image_u8.std() / 255])

        estimator = tiny_runs.FakeEstimator(NAMES, read)
        monkeypatch.setattr(make_frontals.estimators, "make_estimator", lambda _: estimator)
        resolved = tiny_runs.resolve(
            frontal={"latents": "prior", "rare": 0, "turned": 0} | options,
            mapping={"coefficients": ()},
        )
        opened = run_dir.RunDir(tmp_path / "run")
        make_frontals.make(resolved, opened)
        pairs = {
            split: expression_pairs.load_pairs(tmp_path / "run" / "dataset", split)
            for split in ("train", "validation")
        }
        return opened.stage_done(make_frontals.STAGE), pairs, estimator.asked

    return run


def joined(pairs, key):
    return np.concatenate([pairs["train"][key], pairs["validation"][key]])


def test_pairs_are_truncated_latents_of_their_seeds_and_w_gives_the_image(make, variables):
    info, pairs, asked = make(count=12, first_seed=5, psi=0.7, batch_size=4)
    assert asked == [f"{seed:05d}" for seed in range(5, 17)]
    np.testing.assert_array_equal(joined(pairs, "seed"), np.arange(5, 17))
    label25 = jnp.asarray(pairs["train"]["metadata"]["label25"], jnp.float32)
    z = np.stack([np.random.RandomState(s).randn(CONFIG.z_dim) for s in range(5, 17)])
    label = jnp.tile(label25[None], (12, 1))
    w = jax.jit(lambda: generator.map_latent(variables, jnp.float32(z), label, CONFIG))()
    w_avg = np.linspace(-1, 1, CONFIG.w_dim)
    expected = w_avg + 0.7 * (np.asarray(w) - w_avg)
    np.testing.assert_allclose(joined(pairs, "w"), expected, rtol=1e-4, atol=1e-5)
    ws = generator.broadcast(jnp.asarray(joined(pairs, "w")), CONFIG)
    out = jax.jit(lambda: generator.synthesize(variables, ws, label, CONFIG))()
    again = images.to_u8(np.asarray(out.image)).astype(int)
    assert np.abs(again - joined(pairs, "image")).max() <= 1
    brightness = joined(pairs, "image").mean(axis=(1, 2, 3)) / 255
    np.testing.assert_allclose(joined(pairs, "code")[:, 0], brightness, rtol=1e-5)
    assert info["code_std"]["brightness"] == pytest.approx(brightness.std(), rel=1e-4)


def test_the_camera_is_the_captures_and_stored_with_the_pairs(make):
    _, pairs, _ = make(count=8, batch_size=8)
    label25 = np.asarray(pairs["train"]["metadata"]["label25"])
    np.testing.assert_allclose(label25[16:].reshape(3, 3), LENS, atol=1e-6)
    np.testing.assert_allclose(label25[[3, 7, 11]], [0.0, 0.0, 3.4], atol=1e-5)


def test_renders_that_cannot_be_read_are_left_out_and_counted(make):
    info, pairs, asked = make(unread={1, 4}, count=12, validation_fraction=0.3, batch_size=4)
    assert len(asked) == 12
    assert (info["sampled"], info["read"], info["skipped"]) == (12, 10, 2)
    assert joined(pairs, "seed").tolist() == [0, 2, 3, 5, 6, 7, 8, 9, 10, 11]
    assert pairs["validation"]["seed"].tolist() == [9, 10, 11]
    assert np.isfinite(joined(pairs, "code")).all()


def test_rare_pairs_are_rendered_from_w_and_only_trained_on(make, variables):
    plain, pairs, _ = make(count=20, batch_size=4)
    info, more, asked = make(count=20, batch_size=4, rare=6, unread={22})
    assert (plain["rare"], info["rare"]) == (0, 5)
    assert asked[20:] == [f"{seed:05d}" for seed in range(20, 26)]
    np.testing.assert_array_equal(more["validation"]["w"], pairs["validation"]["w"])
    rare = {k: v[-5:] for k, v in more["train"].items() if isinstance(v, np.ndarray)}
    assert rare["seed"].tolist() == [20, 21, 23, 24, 25]
    label = jnp.tile(jnp.asarray(more["train"]["metadata"]["label25"], jnp.float32)[None], (5, 1))
    ws = generator.broadcast(jnp.asarray(rare["w"]), CONFIG)
    out = jax.jit(lambda: generator.synthesize(variables, ws, label, CONFIG))()
    again = images.to_u8(np.asarray(out.image)).astype(int)
    assert np.abs(again - rare["image"]).max() <= 1
    assert np.abs(rare["w"][:, None] - pairs["train"]["w"][None]).max(axis=-1).min() > 1e-5


def test_what_turning_does_is_learnt_from_the_capture_s_own_views(make, monkeypatch, caplog):
    monkeypatch.setattr(make_frontals, "_MIN_TURNED", 4)
    _, pairs, asked = make(count=12, batch_size=4, turned=6)
    assert len(asked) == 18
    found = turned_readings.from_dict(pairs["train"]["metadata"]["turned"])
    assert found.names == NAMES
    assert np.abs(found.offset).max() > 0
    monkeypatch.setattr(make_frontals, "_MIN_TURNED", 50)
    _, pairs, _ = make(count=12, batch_size=4, turned=6)
    assert "turned" not in pairs["train"]["metadata"]
    assert "too few to learn from" in caplog.text


def test_too_few_readable_renders_are_told_in_one_line(make, tmp_path):
    with pytest.raises(errors.EstimatorError, match=r"read 7 of 12 frontal renders.* at least 8"):
        make(unread=set(range(5)), count=12, batch_size=4)
    assert not list((tmp_path / "run").rglob("*.*"))


def test_a_large_part_held_out_leaves_something_to_train_on(make):
    _, pairs, _ = make(count=8, validation_fraction=0.97, batch_size=8)
    assert (len(pairs["train"]["seed"]), len(pairs["validation"]["seed"])) == (1, 7)


def test_no_training_image_gives_two_pairs(make, monkeypatch, caplog):
    def encode(e, image, label25, config, *, z_dim):
        return jnp.tile(image[:, 0, 0, :1], (1, z_dim)) + jnp.arange(z_dim)[None] ** 2.0

    monkeypatch.setattr(make_frontals.weights, "load_network", lambda *_: {})
    monkeypatch.setattr(make_frontals.weights, "abstract_encoder", lambda *_: None)
    monkeypatch.setattr(make_frontals.encoder, "apply", encode)
    info, pairs, _ = make(count=20, latents="encoder", validation_fraction=0.3, batch_size=4)
    assert info["sampled"] == 9
    w = joined(pairs, "w")
    apart = np.abs(w[:, None] - w[None]).max(axis=-1) + np.eye(len(w))
    assert apart.min() > 1e-6  # held-out pairs are not among those trained on
    assert "20 pairs; 9 training images" in caplog.text


def test_a_fixed_camera_is_the_originals_or_what_the_config_says(make):
    label25 = avatar.frontal_label25(experiment_config.FrontalConfig())
    np.testing.assert_allclose(label25[11], 2.7, atol=1e-6)
    np.testing.assert_allclose(label25[16:], [4.2647, 0, 0.5, 0, 4.2647, 0.5, 0, 0, 1], atol=1e-6)
    _, pairs, _ = make(count=8, batch_size=8, camera="fixed", radius=2.0, focal=4.0)
    label25 = np.asarray(pairs["train"]["metadata"]["label25"])
    np.testing.assert_allclose(label25[11], 2.0, atol=1e-6)
    np.testing.assert_allclose(label25[16:], [4, 0, 0.5, 0, 4, 0.5, 0, 0, 1], atol=1e-6)


def test_options_of_a_camera_that_is_not_used_are_told(make, caplog):
    make(count=8, batch_size=8)
    assert "not used" not in caplog.text
    make(count=8, batch_size=8, radius=2.0)
    assert "frontal.radius: not used, the camera is the capture's" in caplog.text


def test_shipped_captures_stand_where_the_original_stood():
    capture = tiny_runs.labels(np.linspace(-1, 1, 5))
    ours = avatar.frontal_label25(experiment_config.FrontalConfig(), capture)
    fixed = avatar.frontal_label25(experiment_config.FrontalConfig())
    np.testing.assert_allclose(ours, fixed, atol=1e-6)


@pytest.mark.parametrize("cutoff", [1, CONFIG.num_ws - 1])
def test_a_truncation_that_one_w_cannot_tell_is_refused(cutoff):
    with pytest.raises(
        errors.ConfigError, match=rf"frontal.cutoff must be 0 .* at least .*got {cutoff}"
    ):
        tiny_runs.resolve(frontal={"cutoff": cutoff})
    tiny_runs.resolve(frontal={"cutoff": 14})
