"""Which cells of the volume hold something, so that samples elsewhere need not be decoded."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from ganavatar_jax.core.arrays import Array, Bool, Float
from ganavatar_jax.rendering import render_config, triplane

_POINTS_A_SIDE = 2  # Points looked at along each side of a cell.


def cell_points(cells: int, *, box_warp: float) -> Float[np.ndarray, "n 3"]:
    """Places points in all cells of the cube.

    Args:
      cells: Cells along each side of the cube.
      box_warp: Side of the cube, world units.

    Returns:
      Points in world units, (2 cells)^3 of them; z slowest, x fastest.
    """
    count = cells * _POINTS_A_SIDE
    places = ((np.arange(count) + 0.5) / count - 0.5) * box_warp
    z, y, x = np.meshgrid(places, places, places, indexing="ij")
    return np.stack([x, y, z], axis=-1).reshape(-1, 3).astype(np.float32)


def find(
    density: Float[np.ndarray, " n"], *, cells: int, threshold: float
) -> tuple[Bool[np.ndarray, "z y x"], float]:
    """Finds the cells in which rays are stopped, and their neighbours.

    Args:
      density: Raw density at `cell_points`, the highest over all that is to be shown.
      cells: Cells along each side of the cube.
      threshold: Activated density above which a point counts, 1 / world unit.

    Returns:
      occupied: Whether a cell or one beside it holds such a point; indexed [z, y, x].
      empty_density: Raw density that is usual elsewhere.
    """
    raw = density.reshape((cells, _POINTS_A_SIDE) * 3)
    highest = raw.max(axis=(1, 3, 5))
    stops = np.logaddexp(0.0, highest - 1.0) > threshold
    occupied = np.asarray(ndimage.binary_dilation(stops, np.ones((3, 3, 3), bool)))
    elsewhere = highest[np.logical_not(occupied)]
    return occupied, float(np.median(elsewhere)) if elsewhere.size else -10.0


def is_occupied(
    points: Float[Array, "*b 3"], occupied: Bool[Array, "z y x"], *, box_warp: float
) -> Bool[Array, "*b"]:
    """Looks points up.

    Args:
      points: World units.
      occupied: What `find` returned.
      box_warp: Side of the cube, world units.

    Returns:
      Whether a point lies in an occupied cell of the cube.
    """
    cells = occupied.shape[0]
    place = points / box_warp + 0.5
    inside = jnp.all((place >= 0.0) & (place <= 1.0), axis=-1)
    index = jnp.clip(jnp.floor(place * cells).astype(jnp.int32), 0, cells - 1)
    return inside & occupied[index[..., 2], index[..., 1], index[..., 0]]


def used_texels(
    occupied: Bool[np.ndarray, "z y x"], *, axes: render_config.PlaneAxes, side: int
) -> Bool[np.ndarray, "p h w"]:
    """Finds the texels that points of occupied cells look at.

    Args:
      occupied: What `find` returned.
      axes: Which world axes each plane spans.
      side: Side of the planes, texels; a power of two, as the number of cells.

    Returns:
      Whether a texel matters, for each of the three planes.
    """
    cells = occupied.shape[0]
    z, y, x = np.nonzero(occupied)
    centres = ((np.stack([x, y, z], axis=-1) + 0.5) / cells - 0.5).astype(np.float32)
    coordinates = np.asarray(triplane.project(jnp.asarray(centres[None]), axes=axes, box_warp=1.0))
    columns, rows = np.moveaxis(np.floor((coordinates[0] + 1.0) / 2.0 * cells).astype(int), -1, 0)
    seen = np.zeros((len(columns), cells, cells), bool)
    for plane in range(len(columns)):
        seen[plane, rows[plane], columns[plane]] = True
    if side >= cells:
        shown = seen.repeat(side // cells, axis=1).repeat(side // cells, axis=2)
    else:
        step = cells // side
        shown = seen.reshape(-1, side, step, side, step).any(axis=(2, 4))
    # Interpolation reaches one texel further.
    return np.asarray(ndimage.binary_dilation(shown, np.ones((1, 3, 3), bool)))


def mask_density(
    field_fn: Callable[[Array], tuple[Array, Array]],
    occupied: Bool[Array, "z y x"],
    empty_density: float,
    *,
    box_warp: float,
) -> Callable[[Array], tuple[Array, Array]]:
    """Makes a field that is empty outside of the occupied cells.

    Args:
      field_fn: Maps points [b n 3] to (features [b n c], raw density [b n]).
      occupied: What `find` returned.
      empty_density: Raw density outside.
      box_warp: Side of the cube, world units.

    Returns:
      The masked field.
    """

    def masked(points: Array) -> tuple[Array, Array]:
        features, density = field_fn(points)
        inside = is_occupied(points, occupied, box_warp=box_warp)
        return features, jnp.where(inside, density, empty_density)

    return masked
