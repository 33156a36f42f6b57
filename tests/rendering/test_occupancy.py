"""Cells are occupied where something stops rays; planes matter where occupied cells look."""

import jax.numpy as jnp
import numpy as np
import pytest

from ganavatar_jax.rendering import occupancy, triplane

CELLS, SIDE = 16, 2.0


def ball(points):
    """A ball of radius 0.3 at (0.4, 0, -0.2), raw density."""
    return np.where(np.linalg.norm(points - [0.4, 0.0, -0.2], axis=-1) < 0.3, 8.0, -12.0)


@pytest.fixture(scope="module")
def found():
    density = ball(occupancy.cell_points(CELLS, box_warp=SIDE))
    return occupancy.find(density, cells=CELLS, threshold=0.05)


def test_all_of_a_ball_is_occupied_and_most_else_is_not(found):
    occupied, empty = found
    points = np.random.default_rng(0).uniform(-1.2, 1.2, size=(20_000, 3)).astype(np.float32)
    inside = np.asarray(
        occupancy.is_occupied(jnp.asarray(points), jnp.asarray(occupied), box_warp=SIDE)
    )
    assert inside[ball(points) > 0].all()
    assert not inside[np.abs(points).max(axis=1) > SIDE / 2].any()
    away = np.linalg.norm(points - [0.4, 0.0, -0.2], axis=-1)
    assert not inside[away > 0.3 + 3 * SIDE / CELLS * np.sqrt(3)].any()
    assert empty == -12.0


@pytest.mark.parametrize("axes", ["fixed", "original"])
@pytest.mark.parametrize("side", [8, 16, 64])
def test_texels_that_occupied_points_read_are_kept(found, axes, side):
    occupied, _ = found
    used = occupancy.used_texels(occupied, axes=axes, side=side)
    planes = jnp.asarray(np.repeat(~used[None, ..., None], 2, axis=-1), jnp.float32)
    points = np.random.default_rng(0).uniform(-1, 1, size=(1, 4000, 3)).astype(np.float32)
    read = triplane.lookup(planes, jnp.asarray(points), axes=axes, box_warp=SIDE)
    inside = occupancy.is_occupied(jnp.asarray(points), jnp.asarray(occupied), box_warp=SIDE)
    assert np.asarray(inside).any()
    assert not np.asarray(read)[np.asarray(inside)].any()
    assert used.mean() < 0.8


def test_a_masked_field_is_empty_elsewhere(found):
    occupied, empty = found
    field = occupancy.mask_density(
        lambda points: (points, jnp.full(points.shape[:-1], 3.0, jnp.float32)),
        jnp.asarray(occupied),
        empty,
        box_warp=SIDE,
    )
    points = jnp.asarray([[[0.4, 0.0, -0.2], [-0.9, 0.9, 0.9]]], jnp.float32)
    np.testing.assert_array_equal(field(points)[1], [[3.0, empty]])
