import numpy as np

from ganavatar_jax.films import rigid_parts


def face():
    """The landmarks that decide, on an upright face in 100 pixels; y grows downwards."""
    points = np.zeros((478, 3))
    points[10], points[152], points[2] = [50, 10, 0], [50, 90, 0], [50, 60, 0]
    points[33], points[133] = [30, 40, 0], [42, 40, 0]
    points[362], points[263] = [58, 40, 0], [70, 40, 0]
    return points


def test_forehead_and_nose_count_and_mouth_and_eyes_do_not():
    mask = rigid_parts.rigid_mask(face(), size_px=(100, 100))
    assert mask[20, 50]
    assert mask[55, 50]
    assert mask[40, 50]  # Between the eyes.
    assert mask[30, 36]  # Above an eye.
    assert not mask[60:].any()
    assert not mask[40, 36]
    assert not mask[40, 64]


def test_the_mask_turns_with_the_face():
    upright = rigid_parts.rigid_mask(face(), size_px=(100, 100))
    turned = face()
    turned[:, :2] = np.stack([100 - face()[:, 1], face()[:, 0]], axis=1)  # a quarter clockwise
    sideways = rigid_parts.rigid_mask(turned, size_px=(100, 100))
    np.testing.assert_array_equal(sideways, np.rot90(upright, -1))


def test_a_wide_picture_has_a_wide_mask():
    assert rigid_parts.rigid_mask(face(), size_px=(160, 90)).shape == (90, 160)
