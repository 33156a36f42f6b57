"""The alignment of Deep3DFace, against positions worked out by hand."""

import numpy as np
import pytest
from PIL import Image

from ganavatar_jax.faces import deep3d_alignment as alignment

# The template as published, so that a slip in the module's own copy is noticed.
TEMPLATE = np.array(
    [
        [-0.31148657, 0.29036078, 0.13377953],
        [0.30979887, 0.28972036, 0.13179526],
        [0.0032535, -0.04617932, 0.55244243],
        [-0.25216928, -0.38133916, 0.22405732],
        [0.2484662, -0.38128236, 0.22235769],
    ]
)


@pytest.fixture
def image_u8():
    return np.random.default_rng(0).integers(0, 256, (257, 301, 3), dtype=np.uint8)


def _points(unit, shift_x, shift_y, *, height):
    """Points of a frontal template of the given size, y down."""
    y_up = unit * TEMPLATE[:, 1] + shift_y
    return np.stack([unit * TEMPLATE[:, 0] + shift_x, height - 1 - y_up], axis=1)


# Units of 100 pixels: s = 102 / 100 = 1.02. The image becomes int(301 x 1.02) = int(307.02) = 307
# by int(257 x 1.02) = int(262.14) = 262 pixels. With the template's origin at x = 150, y_up = 128:
#   left = int(307/2 - 112 + (150 - 150.5) x 1.02) = int(41.5 - 0.51) = int(40.99) = 40
#   top  = int(262/2 - 112 + (128.5 - 128) x 1.02) = int(19 + 0.51) = int(19.51) = 19
# At x = 108, y_up = 148: left = int(41.5 - 43.35) = int(-1.85) = -1 (towards zero),
#   top = int(19 - 19.89) = int(-0.89) = 0.
# At x = 250, y_up = 20: left = int(41.5 + 101.49) = 142, top = int(19 + 110.67) = 129.
@pytest.mark.parametrize(
    ("origin", "corner"),
    [((150.0, 128.0), (40, 19)), ((108.0, 148.0), (-1, 0)), ((250.0, 20.0), (142, 129))],
)
def test_crops_lie_where_they_were_worked_out(image_u8, origin, corner):
    aligned = alignment.align(image_u8, _points(100.0, *origin, height=257))
    resized = np.asarray(Image.fromarray(image_u8).resize((307, 262), Image.Resampling.BICUBIC))
    canvas = np.zeros((800, 800, 3), np.uint8)  # black outside
    canvas[200 : 200 + 262, 200 : 200 + 307] = resized
    left, top = corner
    expected = canvas[200 + top : 424 + top, 200 + left : 424 + left]
    np.testing.assert_array_equal(aligned, expected)


def test_a_face_of_half_the_size_is_enlarged_twice():
    """Units of 50.4 pixels: s = 2.0238; a 100 x 90 image becomes 202 x 182."""
    image_u8 = np.full((90, 100, 3), 200, np.uint8)
    aligned = alignment.align(image_u8, _points(50.4, 50.2, 45.3, height=90))
    # left = int(101 - 112 + 0.2 x 2.0238) = int(-10.60) = -10,
    # top = int(91 - 112 - 0.3 x 2.0238) = int(-21.61) = -21.
    inside = np.zeros((224, 224), bool)
    inside[21 : 21 + 182, 10 : 10 + 202] = True
    assert (aligned[inside] == 200).all()
    assert (aligned[~inside] == 0).all()


def test_the_two_axes_are_fitted_by_themselves():
    """Wide faces: x units of 120, y units of 80 have the mean 100."""
    points = np.stack([120 * TEMPLATE[:, 0] + 7, 80 * TEMPLATE[:, 1] - 3], axis=1)
    scale, shift_x, shift_y = alignment.fit_template(points)
    np.testing.assert_allclose((scale, shift_x, shift_y), (1.02, 7.0, -3.0), rtol=1e-9)


def test_points_that_miss_the_template_are_fitted_by_least_squares():
    points = np.stack([100 * TEMPLATE[:, 0], 100 * TEMPLATE[:, 1]], axis=1)
    points += np.array([[1.0, 0], [-1, 2], [0, 1], [2, -3], [-2, 0]])
    scale, shift_x, shift_y = alignment.fit_template(points)
    system = np.concatenate([TEMPLATE, np.ones((5, 1))], axis=1)
    solved = np.linalg.solve(system.T @ system, system.T @ points)  # normal equations
    expected = 102.0 / np.linalg.norm(solved[:3], axis=0).mean()
    np.testing.assert_allclose((scale, shift_x, shift_y), (expected, *solved[3]), rtol=1e-6)


@pytest.mark.parametrize(
    "points",
    [np.full((5, 2), 30.0), np.full((5, 2), np.nan), 1e-3 * TEMPLATE[:, :2] + 40.0],
)
def test_points_that_are_no_face_give_nothing(image_u8, points):
    assert alignment.align(image_u8, points) is None
