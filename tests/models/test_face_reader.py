"""The linear reading of faces: where it looks, what it tells, and what it ignores."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganavatar_jax.geometry import cameras
from ganavatar_jax.models import face_reader
from helpers import compiled

SIDE = 32
FRAMES = 400


@pytest.fixture(autouse=True, scope="module")
def _quick():
    with compiled.quickly():
        yield


def _labels(yaw_deg, pitch_deg=0.0):
    yaw, pitch = np.broadcast_arrays(np.radians(yaw_deg), np.radians(pitch_deg))
    poses = cameras.look_at(
        jnp.asarray(np.pi / 2 - yaw), jnp.asarray(np.pi / 2 - pitch), radius=2.7
    )
    lens = jnp.broadcast_to(cameras.intrinsics(4.2647), (len(yaw), 3, 3))
    return np.asarray(cameras.to_label25(cameras.Camera(poses, lens)))


def _smooth(draws, count):
    """Random smooth pictures, as basis."""
    coarse = draws.normal(size=(count, 4, 4, 3))
    return np.asarray(jax.image.resize(coarse, (count, SIDE, SIDE, 3), "cubic"))


def _capture(seed=0, *, yaw_deg=0.0):
    """Frames in which three modes come and go, from cameras of these yaws."""
    draws = np.random.default_rng(seed)
    modes = draws.normal(size=(FRAMES, 3))
    basis = _smooth(np.random.default_rng(9), 3)
    yaws = draws.uniform(-yaw_deg, yaw_deg, FRAMES)
    picture = 128 + 18 * np.einsum("fm,mhwc->fhwc", modes, basis)
    return picture.clip(0, 255).astype(np.uint8), _labels(yaws), modes.astype(np.float32), yaws


def _explained(target, numbers):
    """Share of the target's variance that the numbers explain linearly."""
    design = np.column_stack([numbers, np.ones(len(numbers))])
    fitted = design @ np.linalg.lstsq(design, target, rcond=None)[0]
    return 1.0 - np.var(target - fitted, axis=0) / np.var(target, axis=0)


def _read(reader, image_u8, label25):
    return np.asarray(
        jax.jit(face_reader.read)(reader, jnp.asarray(image_u8 / 127.5 - 1, jnp.float32), label25)
    )


def test_the_patch_is_looked_up_where_its_points_project():
    label = _labels([25.0], 10.0)
    rows, columns = np.meshgrid(*2 * [(np.arange(SIDE) + 0.5) / SIDE], indexing="ij")
    image = jnp.asarray(np.stack([columns, rows, 0 * rows], axis=-1)[None], jnp.float32)
    patch = np.asarray(face_reader.unwrap(image, jnp.asarray(label)))[0]
    seen = patch[:, 3] > 0.99
    assert 0.2 < seen.mean() < 0.9
    cam2world = label[0, :16].reshape(4, 4).astype(np.float64)
    points, _ = face_reader._patch()
    local = (points - cam2world[:3, 3]) @ cam2world[:3, :3]
    expected = 0.5 + 4.2647 * local[:, :2] / local[:, 2:]
    np.testing.assert_allclose(patch[seen, :2], expected[seen], atol=2e-4)


def test_a_face_seen_from_behind_shows_nothing():
    patch = face_reader.unwrap(jnp.ones((1, SIDE, SIDE, 3)), jnp.asarray(_labels([180.0])))
    np.testing.assert_array_equal(patch, np.zeros_like(patch))


def test_a_reader_of_codes_tells_the_codes_of_other_frames():
    reader = face_reader.fit(*_capture(0)[:2], size=3, codes=_capture(0)[2])
    image_u8, label25, modes, _ = _capture(1)
    assert _explained(modes, _read(reader, image_u8, label25)).min() > 0.9


def test_a_reader_of_pixels_finds_the_modes_without_being_told():
    image_u8, label25, modes, _ = _capture(0)
    reader = face_reader.fit(image_u8, label25, size=3)
    assert _explained(modes, _read(reader, image_u8, label25)).min() > 0.9


def test_a_reader_of_pixels_does_not_tell_the_camera():
    image_u8, label25, modes, yaws = _capture(0, yaw_deg=40.0)
    numbers = _read(face_reader.fit(image_u8, label25, size=3), image_u8, label25)
    assert _explained(yaws[:, None], numbers).max() < 0.1
    assert _explained(modes, numbers).mean() > 0.5


def test_numbers_are_centred_on_the_frames_they_are_adapted_to():
    reader = face_reader.fit(*_capture(0)[:2], size=2, codes=_capture(0)[2])
    image_u8, label25, _, _ = _capture(3)
    brighter = np.clip(image_u8 + 30.0, 0, 255).astype(np.uint8)
    assert np.abs(_read(reader, brighter, label25).mean(axis=0)).max() > 0.3
    adapted = face_reader.adapt(reader, brighter, label25, size=2)
    numbers = _read(adapted, brighter, label25)
    np.testing.assert_allclose(numbers.mean(axis=0), 0.0, atol=1e-3)
    np.testing.assert_allclose(numbers.std(axis=0), 1.0, atol=1e-3)


def test_a_reader_of_others_is_made_blind_to_what_the_camera_does_to_this_person():
    reader = face_reader.fit(*_capture(0)[:2], size=3, codes=_capture(0)[2])
    image_u8, label25, modes, yaws = _capture(1, yaw_deg=40.0)
    looks = 90.0 * _smooth(np.random.default_rng(5), 1)  # lie elsewhere on the patch in each view
    image_u8 = (image_u8 + looks).clip(0, 255).astype(np.uint8)
    turned = np.column_stack([yaws, yaws**2, yaws**3])
    before = _read(reader, image_u8, label25)
    after = _read(face_reader.adapt(reader, image_u8, label25, size=3), image_u8, label25)
    assert _explained(before, turned).mean() > 0.2
    assert _explained(after, turned).mean() < 0.02
    assert _explained(modes, after).mean() > _explained(modes, before).mean() + 0.1


def test_a_longer_reader_keeps_what_it_told_and_adds_what_it_missed():
    image_u8, label25, modes, yaws = _capture(0, yaw_deg=40.0)
    reader = face_reader.fit(image_u8, label25, size=1, codes=modes[:, :1])
    longer = face_reader.extend(reader, image_u8, label25, size=4)
    numbers = _read(longer, image_u8, label25)
    np.testing.assert_allclose(numbers[:, :1], _read(reader, image_u8, label25), atol=1e-3)
    np.testing.assert_allclose(numbers.std(axis=0), 1.0, atol=1e-3)
    assert _explained(modes, numbers[:, :1])[1:].max() < 0.3
    assert _explained(modes, numbers)[1:].min() > 0.6
    assert _explained(yaws[:, None], numbers[:, 1:]).max() < 0.1


def test_more_numbers_of_a_persons_own_than_frames_are_refused():
    image_u8, label25, modes, _ = _capture(0)
    reader = face_reader.fit(image_u8, label25, size=2, codes=modes)
    with pytest.raises(ValueError, match="as many frames; got 5"):
        face_reader.extend(reader, image_u8[:5], label25[:5], size=6)


def test_what_was_another_persons_own_is_left_out():
    image_u8, label25, modes, _ = _capture(0)
    reader = face_reader.fit(image_u8, label25, size=2, codes=modes)
    longer = face_reader.extend(reader, image_u8, label25, size=3)
    again = face_reader.adapt(longer, image_u8, label25, size=2)
    for name, value in reader.items():
        np.testing.assert_allclose(again[name], value, rtol=1e-4, atol=1e-5)


def test_more_numbers_than_codes_are_refused():
    with pytest.raises(ValueError, match="needs more frames or codes"):
        face_reader.fit(*_capture(0)[:2], size=4, codes=_capture(0)[2])


def test_a_blank_reader_has_the_shapes_of_a_fitted_one():
    fitted = face_reader.fit(*_capture(0)[:2], size=2)
    shapes = {name: value.shape for name, value in face_reader.blank(2).items()}
    assert shapes == {name: value.shape for name, value in fitted.items()}


@pytest.mark.parametrize(("frames", "pixels"), [(40, 90), (90, 40)], ids=["fewer", "more"])
def test_fits_are_the_textbooks_whether_frames_are_fewer_or_more_than_pixels(frames, pixels):
    draws = np.random.default_rng(0)
    values, codes = draws.normal(size=(frames, pixels)), draws.normal(size=(frames, 3))
    targets = (codes - codes.mean(axis=0)) / (codes.std(axis=0) + face_reader._MIN_CODE_SPREAD)
    gram = values.T @ values + face_reader._RIDGE * np.eye(pixels)
    ridge = np.linalg.solve(gram, values.T @ targets)
    found = face_reader._regress(values, codes, 3)
    np.testing.assert_allclose(found @ found.T, ridge @ ridge.T, rtol=1e-6, atol=1e-9)

    still = _labels(np.zeros(frames))  # one camera explains nothing
    axes = face_reader._principal_directions(values, still, 4)
    _, _, expected = np.linalg.svd(values, full_matrices=False)
    np.testing.assert_allclose(axes @ axes.T, expected[:4].T @ expected[:4], atol=1e-6)
