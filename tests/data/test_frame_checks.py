import numpy as np
import pytest
from PIL import Image, ImageFilter

from ganavatar_jax.data import frame_checks
from helpers import captures


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)


def test_a_blurred_image_is_less_sharp(image):
    soft = np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(2)))
    assert frame_checks.sharpness(soft, None) < 0.3 * frame_checks.sharpness(image, None)


def test_sharpness_looks_at_the_head_only(image):
    alpha = np.zeros((32, 32), np.uint8)
    alpha[8:24, 8:24] = 255
    flat = image.copy()
    flat[7:25, 7:25] = 128
    assert frame_checks.sharpness(flat, alpha) == 0.0
    assert frame_checks.sharpness(image, np.zeros_like(alpha)) == 0.0


def test_holes_are_what_the_outside_does_not_reach():
    label = np.array(captures.LABEL, np.float32)
    alpha = np.zeros((32, 32), np.uint8)
    alpha[8:24, 8:24] = 255
    assert frame_checks.hole_share(alpha, label) == 0.0
    alpha[14:16, 14:16] = 0
    assert frame_checks.hole_share(alpha, label) == pytest.approx(4 / 252)
    alpha[14:16, 8:16] = 0  # a bay, open to the outside
    assert frame_checks.hole_share(alpha, label) == 0.0
    assert frame_checks.hole_share(np.zeros_like(alpha), label) == 0.0


def test_gaps_beside_the_head_are_no_holes():
    label = np.array(captures.LABEL, np.float32)
    alpha = np.full((64, 64), 255, np.uint8)
    alpha[0] = 0  # sky, which the head's middle does not reach
    alpha[44:60, 8:14] = 0  # between hair and neck
    assert frame_checks.hole_share(alpha, label) == 0.0
    away = label.copy()
    away[[0, 5, 10, 11]] = [-1.0, -1.0, 1.0, -2.7]  # from behind, where the same gap lies right
    alpha[28:32, 28:32] = 0
    assert frame_checks.hole_share(alpha, label) == frame_checks.hole_share(alpha, away) > 0.003
    beside = label.copy()
    beside[3] = 1.0  # the head is out of the picture
    assert frame_checks.hole_share(alpha, beside) == 0.0


@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.1, -0.05)])
def test_the_solid_part_lies_where_the_camera_shows_it(shift):
    label = np.array(captures.LABEL, np.float64)
    label[[3, 7]] = shift
    solid = frame_checks._inside_ball(
        (100, 100), label, frame_checks._SOLID_CENTER, frame_checks._SOLID_RADIUS
    )
    rows, columns = np.nonzero(solid)
    scale = 4.2647 / (2.7 - 0.05)
    expected = 50 + 100 * scale * np.array([0.0 - shift[0], 0.04 + shift[1]])
    np.testing.assert_allclose([columns.mean() + 0.5, rows.mean() + 0.5], expected, atol=0.5)
    assert np.sqrt(solid.sum() / np.pi) == pytest.approx(100 * scale * 0.12, abs=0.3)


def shifted_head(shift):
    """A head that the camera shows away from the middle, as a ball of its size; and its camera."""
    label = np.array(captures.LABEL, np.float64)
    label[[3, 7]] = shift
    alpha = frame_checks._inside_ball((64, 64), label, (0.0, 0.03, -0.02), 0.19)
    return np.where(alpha, 255, 0).astype(np.uint8), label


def test_a_head_at_the_top_or_side_is_cut_off_and_at_the_bottom_not():
    for shift in ((0.0, -0.2), (0.22, 0.0), (-0.22, 0.0)):
        assert frame_checks.cut_share(*shifted_head(shift)) > 0.25
    for shift in ((0.0, 0.0), (0.0, 0.25)):
        assert frame_checks.cut_share(*shifted_head(shift)) == 0.0


def test_a_ponytail_that_reaches_the_border_is_no_head_that_is_cut_off():
    alpha, label = shifted_head((0.0, 0.0))
    alpha[20:50, :32] = 255  # half of the left border, and a third of the upper one
    alpha[:32, 20:44] = 255
    assert frame_checks.cut_share(alpha, label) == 0.0


def test_turns_are_measured_within_a_recording():
    labels = np.array([captures.label(index) for index in (0, 1, 1, 4)], np.float32)
    turns = frame_checks.turns_deg(labels, ["a", "a", "a", "b"])
    assert turns[0] == turns[3] == 0.0
    assert turns[2] == pytest.approx(0.0, abs=1e-3)
    relative = labels[0, :16].reshape(4, 4)[:3, :3].T @ labels[1, :16].reshape(4, 4)[:3, :3]
    expected = np.degrees(np.arccos((np.trace(relative) - 1) / 2))
    assert turns[1] == pytest.approx(expected, abs=1e-2)


def test_flags_stand_out_from_the_rest():
    count = 20
    usual = {
        "sharp": np.full(count, 5.0),
        "holes": np.zeros(count),
        "cut": np.zeros(count),
        "turns": np.full(count, 1.0),
    }
    assert frame_checks.find_flags(**usual) == [()] * count
    usual["sharp"][3], usual["holes"][4] = 1.0, 0.1
    usual["cut"][5], usual["turns"][6] = 0.9, 20.0
    flags = frame_checks.find_flags(**usual)
    assert flags[3:7] == [("blur",), ("alpha holes",), ("head cut off",), ("pose jump",)]
    assert sum(map(len, flags)) == 4
