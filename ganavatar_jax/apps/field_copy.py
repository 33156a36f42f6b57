"""A copy of an avatar's field that needs no network for its planes, and how near it is.

What `export_web` ships: planes as mean and principal components, and the cells worth sampling.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ganavatar_jax.apps import avatar
from ganavatar_jax.core import chunks, errors
from ganavatar_jax.core.arrays import Array, Bool, Float
from ganavatar_jax.geometry import cameras, rays, trajectories
from ganavatar_jax.models import generator, generator_config, plane_basis
from ganavatar_jax.rendering import occupancy, volume

_CELLS = 32
_THRESHOLD = 0.05  # A ray through the whole cube loses 5 % there.
_OCCUPANCY_CODES = 12
_DIRECTIONS = 16
_BATCH = 8
_TURNS_DEG = (0.0, 25.0, -25.0, 60.0)


class Copy(NamedTuple):
    """The part of an avatar that makes pictures, as the page has it.

    Attributes:
      basis: Planes as mean and components.
      occupied: Cells in which rays are sampled, [z, y, x].
      empty_density: Raw density elsewhere.
    """

    basis: plane_basis.PlaneBasis
    occupied: Bool[np.ndarray, "z y x"]
    empty_density: float


def copy_field(person: avatar.Avatar, w: Float[np.ndarray, "n d"], *, components: int) -> Copy:
    """Copies the field of an avatar.

    Args:
      person: The avatar.
      w: Latents of all that is to be shown.
      components: Most components.

    Returns:
      The copy.

    Raises:
      RunError: there is nothing to be seen.
    """
    config = person.g_config
    make = plane_maker(person)
    cells = min(_CELLS, config.plane_resolution)
    points = jnp.asarray(occupancy.cell_points(cells, box_warp=config.render.box_warp))[None]

    @jax.jit
    def density_of(g: dict[str, Any], planes: Array) -> Array:
        return generator.query(g, planes, points, config)[1]

    chosen = w[np.linspace(0, len(w) - 1, min(_OCCUPANCY_CODES, len(w))).round().astype(int)]
    highest = functools.reduce(
        np.maximum, (np.asarray(density_of(dict(person.g), make(row[None])))[0] for row in chosen)
    )
    occupied, empty = occupancy.find(highest, cells=cells, threshold=_THRESHOLD)
    if not occupied.any():
        raise errors.RunError(
            "the avatar's volume is empty: no ray is stopped anywhere. Train it further "
            "(--task=train_gan), then export it again."
        )
    used = occupancy.used_texels(
        occupied, axes=config.render.plane_axes, side=config.plane_resolution
    )
    basis = plane_basis.fit(
        w, make, components=components, directions=_DIRECTIONS, batch_size=_BATCH, used=used
    )
    return Copy(basis, occupied, empty)


def plane_maker(person: avatar.Avatar) -> Callable[[np.ndarray], np.ndarray]:
    """Makes what makes planes of any number of latents by few programs.

    Args:
      person: The avatar.

    Returns:
      Maps latents [b d] to planes [b p h w c].
    """

    @jax.jit
    def make(g: dict[str, Any], w: Array) -> Array:
        return generator.make_planes(g, generator.broadcast(w, person.g_config), person.g_config)

    return lambda w: chunks.map_in_chunks(
        lambda part: make(dict(person.g), part), w, chunk=len(w) if len(w) == 1 else _BATCH
    )


def measure(person: avatar.Avatar, copy: Copy, w: Float[np.ndarray, "n d"]) -> dict[str, float]:
    """Compares images of the copy with the avatar's.

    Args:
      person: The avatar.
      copy: Its copy.
      w: Latents, none of which the copy was made of.

    Returns:
      Mean and lowest PSNR of raw images, dB, over several cameras; the variance kept.
    """
    config, g = person.g_config, dict(person.g)
    front = cameras.from_label25(person.frontal_label25)
    turns = np.array(_TURNS_DEG, np.float32)
    views = np.asarray(cameras.to_label25(trajectories.around(front, turns, np.zeros(len(turns)))))
    make = plane_maker(person)

    @jax.jit
    def apart(g: dict[str, Any], planes: Array, copied: Array, w: Array, label25: Array) -> Array:
        ws = generator.broadcast(w, config)
        whole = generator.render_planes(g, planes, ws, label25, config).image_raw
        near = render_copy(g, config, copy, copied, label25)
        return jnp.mean(jnp.square(whole - near), axis=(1, 2, 3))

    squares = []
    for index, row in enumerate(w):
        label25 = views[index % len(views)][None]
        copied = copy.basis.planes(row[None]).astype(np.float32)
        squares.append(float(apart(g, make(row[None]), copied, row[None], label25)[0]))
    psnr = [10.0 * math.log10(4.0 / max(square, 1e-10)) for square in squares]
    return {
        "psnr_db": float(np.mean(psnr)),
        "worst_psnr_db": min(psnr),
        "variance_kept": copy.basis.kept,
    }


def render_copy(
    g: dict[str, Any],
    config: generator_config.GeneratorConfig,
    copy: Copy,
    planes: Float[Array, "b p h w c"],
    label25: Float[Array, "b 25"],
) -> Float[Array, "b r r 3"]:
    """Renders as the page does, at the neural resolution.

    Args:
      g: Generator variables, for the decoder.
      config: Options of the generator.
      copy: Where the field is empty.
      planes: Planes of the copy.
      label25: Cameras.

    Returns:
      Raw images, nominally in [-1, 1].
    """
    side, batch = config.neural_resolution, len(planes)
    origins, directions = rays.pixel_rays(
        label25[:, :16].reshape(batch, 4, 4), label25[:, 16:].reshape(batch, 3, 3), resolution=side
    )
    field = occupancy.mask_density(
        lambda points: generator.query(g, planes, points, config),
        jnp.asarray(copy.occupied),
        copy.empty_density,
        box_warp=config.render.box_warp,
    )
    draws = volume.RenderDraws(coarse=None, fine=None)
    out = volume.render(field, origins, directions, draws, config.render)
    return out.features[..., :3].reshape(batch, side, side, 3)
