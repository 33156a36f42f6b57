"""The head is cut from the torso by the camera alone, at the same height from every side."""

import numpy as np

from ganavatar_jax.metrics import head_masks
from helpers import tiny_runs

SIDE = 64


def test_the_cut_is_a_line_below_the_chin_from_every_side():
    # 2.7 away a unit is 4.2647 / 2.7 of the image: the cut lies 0.46 of it below the centre.
    row = (0.5 + 0.29 * 4.2647 / 2.65) * SIDE
    front = head_masks.above_cut(tiny_runs.labels(np.zeros(1))[0], (SIDE, SIDE))
    heights = front.sum(axis=0)
    assert np.ptp(heights) == 0
    assert abs(heights[0] - row) <= 0.5
    for label in tiny_runs.labels(np.radians([-70.0, 40.0, 180.0])):
        across = head_masks.above_cut(label, (SIDE, SIDE))[:, SIDE // 2 - 4 : SIDE // 2 + 4]
        assert np.abs(across.sum(axis=0) - row).max() <= 1.5


def test_masks_are_mattes_above_the_cut_where_something_was_filmed():
    labels = tiny_runs.labels(np.zeros(3))
    alpha = np.zeros((3, SIDE, SIDE), np.uint8)
    alpha[:, :, 10:20], alpha[:, :, 20:24] = 255, 100
    filmed = np.full_like(alpha, 255)
    filmed[1, :5] = 0
    masks = head_masks.HeadMasks(alpha, labels, filmed=filmed)
    assert masks.shape == (3, SIDE, SIDE)
    every = masks[:]
    np.testing.assert_array_equal(np.stack(list(masks)), every)
    np.testing.assert_array_equal(masks[1], every[1])
    assert set(np.unique(every)) == {0, 255}
    assert not every[:, :, 20:].any()
    assert not every[0, -2:].any()
    assert every[0, :5, 10:20].all()
    assert not every[1, :5].any()
