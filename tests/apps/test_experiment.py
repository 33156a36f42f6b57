"""What the tasks refuse before they begin, and what an avatar takes as codes."""

import numpy as np
import pytest

from ganavatar_jax.apps import avatar, command_line, experiment
from ganavatar_jax.core import errors
from ganavatar_jax.faces import estimator_config
from ganavatar_jax.training import mapping_step
from helpers import captures, tiny_gan

_CODES = np.array([[0.0, 1.0], [0.5, 3.0], [1.0, 2.0]], np.float32)
_CAMERA, _W = np.array(captures.LABEL, np.float32), tiny_gan.GENERATOR.w_dim


def test_coefficients_an_estimator_does_not_read_are_refused_with_the_option():
    config = estimator_config.EstimatorConfig(name="deep3dface")
    experiment.refuse_unread(("a", "b"), ("b", "a", "c"), config)
    experiment.refuse_unread((), ("b",), config)
    with pytest.raises(errors.ConfigError, match=r"'deep3dface'.*got jawOpen.*coefficients="):
        experiment.refuse_unread(("jawOpen",), ("expression_0", "expression_1"), config)


@pytest.fixture(scope="module")
def person():
    return tiny_gan.make_avatar(_CODES, ("jawOpen", "eyeBlinkLeft"))


def test_codes_far_from_what_an_avatar_knows_are_cut_off(person):
    mean, std = person.normalizer.mean, person.normalizer.std
    near, edge, far = (person.encode((mean + k * std)[None]) for k in (1.0, 3.0, 30.0))
    np.testing.assert_allclose(far, edge, rtol=1e-5, atol=1e-6)
    assert np.abs(near - edge).max() > 1e-3
    assert np.abs(person.encode((mean + 30 * std)[None], limit=None) - edge).max() > 1e-2


def test_codes_of_many_lengths_and_avatars_share_a_program(person, monkeypatch):
    traces = []
    predict_w = mapping_step.predict_w

    def counted(*args):
        traces.append(args)
        return predict_w(*args)

    monkeypatch.setattr(mapping_step, "predict_w", counted)
    other = tiny_gan.make_avatar(_CODES + 1.0, ("jawOpen", "eyeBlinkLeft"))
    codes = np.random.default_rng(0).uniform(size=(128, 2)).astype(np.float32)
    whole = person.encode(codes)
    for count in (65, 66, 90, 127, 128):
        np.testing.assert_allclose(person.encode(codes[:count]), whole[:count], atol=1e-6)
        other.encode(codes[:count])
    assert len(traces) <= 1
    assert person.encode(codes[:0]).shape == (0, _W)
    np.testing.assert_allclose(person.encode(codes[:1]), whole[:1], atol=1e-6)


def test_codes_of_frames_without_a_face_are_refused(person):
    codes = _CODES.copy()
    codes[1, 0] = np.nan
    with pytest.raises(ValueError, match="those of 1 frames are not, the first is frame 1"):
        person.encode(codes)


def test_codes_of_another_width_are_refused_by_name(person):
    with pytest.raises(ValueError, match=r"jawOpen, eyeBlinkLeft; got \(1, 52\)"):
        person.encode(np.zeros((1, 52), np.float32))


@pytest.mark.parametrize("shape", [(1,), (2, 3), (52,)])
def test_statistics_of_another_width_are_refused(shape, person):
    statistics = np.zeros(shape, np.float32), np.ones(shape, np.float32)
    with pytest.raises(ValueError, match=r"statistics must be .* \[2\] each; got \[\("):
        person.encode(_CODES, statistics=statistics)


def test_one_camera_serves_all_frames(person):
    w = person.encode(_CODES)
    frames = person.render(w, _CAMERA).image
    np.testing.assert_array_equal(frames, person.render(w, np.tile(_CAMERA, (3, 1))).image)
    assert len(frames) == 3


@pytest.mark.parametrize("shape", [(4, 4), (16,), (2, 25), (1, 25), (3, 24), (3, 1, 25)])
def test_cameras_of_another_shape_are_refused_with_the_right_one(shape, person):
    w = np.zeros((3, _W), np.float32)
    with pytest.raises(ValueError, match=r"label25 must be \[3, 25\].*got \(.*to_label25"):
        person.render(w, np.zeros(shape, np.float32))


@pytest.mark.parametrize("shape", [(3, 5), (_W,), (0, _W), (3, 1, _W)])
def test_latents_of_another_shape_are_refused_with_the_right_one(shape, person):
    with pytest.raises(ValueError, match=r"w must be \[frames, \d+\].*got \(.*encode"):
        person.render(np.zeros(shape, np.float32), _CAMERA)


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(errors.RunError, match="expected a run folder with config.json"):
        avatar.Avatar.load(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(errors.RunError, match=r"config\.json: expected JSON"):
        avatar.Avatar.load(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("frontal.batch_size", 0),
        ("gan.g_reg_interval", 0),
        ("gan.d_reg_interval", 0),
        ("gan.ada_interval", -1),
        ("discriminator.mbstd_block_size", -4),
        ("discriminator.mbstd_group_size", 0),
    ],
)
def test_sizes_that_cannot_be_are_refused_before_anything_is_made(key, value):
    config = command_line.load_config("configs/quickstart.py:smoke")
    section, name = key.split(".")
    config[section][name] = value
    with pytest.raises(errors.ConfigError, match=f"{name}.*{value}"):
        experiment.resolve(config)
