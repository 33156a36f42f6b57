import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganavatar_jax.core import images

LEVELS = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)


def test_every_level_survives_the_round_trip():
    assert np.array_equal(images.to_u8(images.from_u8(LEVELS)), LEVELS)


def test_black_and_white_are_minus_one_and_one():
    ends = np.array([0, 255], np.uint8).reshape(1, 2, 1)
    assert np.ravel(images.from_u8(ends)).tolist() == [-1.0, 1.0]


@pytest.mark.parametrize(
    ("value", "level"),
    # 127.5 x + 128 is truncated, not rounded: 0.0039 lies just under the next level.
    [(-1.0, 0), (0.0, 128), (0.0039, 128), (0.0079, 129), (1.0, 255), (-7.0, 0), (7.0, 255)],
)
def test_outputs_are_clamped_and_truncated(value, level):
    assert images.to_u8(np.full((1, 1, 3), value, np.float32)).tolist() == [[[level] * 3]]


def test_a_grid_is_filled_row_by_row_with_gaps():
    tiles = np.stack([np.full((2, 3, 1), i, np.uint8) for i in range(3)])
    grid = images.make_grid(tiles, columns=2, padding_px=1, fill=9)
    assert grid.shape == (5, 7, 1)
    assert grid[..., 0].tolist() == [
        [0, 0, 0, 9, 1, 1, 1],
        [0, 0, 0, 9, 1, 1, 1],
        [9, 9, 9, 9, 9, 9, 9],
        [2, 2, 2, 9, 9, 9, 9],
        [2, 2, 2, 9, 9, 9, 9],
    ]


@given(st.integers(1, 7), st.integers(1, 4), st.integers(0, 2))
def test_every_tile_can_be_cut_out_of_the_grid(count, columns, padding):
    tiles = np.random.default_rng(count).integers(0, 255, (count, 2, 2, 3), np.uint8)
    grid = images.make_grid(tiles, columns=columns, padding_px=padding)
    for index, tile in enumerate(tiles):
        top, left = (index // columns) * (2 + padding), (index % columns) * (2 + padding)
        assert np.array_equal(grid[top : top + 2, left : left + 2], tile)


@pytest.mark.parametrize(("count", "columns"), [(0, 1), (1, 0)])
def test_an_empty_grid_is_refused(count, columns):
    with pytest.raises(ValueError, match="a grid needs images and columns >= 1"):
        images.make_grid(np.zeros((count, 2, 2, 3), np.uint8), columns=columns)
