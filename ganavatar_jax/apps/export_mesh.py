"""Task export_mesh: the avatar's surface with its colours, for modelling programs and engines.

samples/mesh/avatar.ply, avatar.glb   one closed component, world units, y up, the face along +z

The surface is where the density reaches a level; colours are what a ray sees that comes straight
from outside. Needs the extra `mesh`.
"""

import logging
import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from scipy import ndimage, sparse

from ganavatar_jax.apps import avatar, experiment, films_out, use_config
from ganavatar_jax.core import errors, files
from ganavatar_jax.core.arrays import Array, Float
from ganavatar_jax.models import generator
from ganavatar_jax.rendering import compositing
from ganavatar_jax.reports import mesh_files

_LOG = logging.getLogger(__name__)
_CHUNK = 1 << 16
_DEEP, _LAYERS = 0.08, 12  # How far into the surface colours are looked for, world units.

Field = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Writes samples/mesh of a run folder.

    Args:
      config: What a file in configs/ returns.
      workdir: The run folder.

    Raises:
      RunError: the mapping has not been trained, or there is no surface.
      DataFormatError: the codes cannot be used.
      ConfigError: the extra is missing.
    """
    resolved, opened = experiment.read_run(config, workdir)
    person, options = avatar.load(resolved, opened), resolved.export_mesh
    code = films_out.read_codes(options.codes, person)[:1]
    field = make_field(person, person.encode(code))
    mesh = find_surface(field, options, box_warp=person.g_config.render.box_warp)
    folder = opened.folder("samples", "mesh")
    files.write_atomic(folder / "avatar.ply", mesh_files.to_ply(mesh))
    files.write_atomic(folder / "avatar.glb", mesh_files.to_glb(mesh, name=opened.path.name))
    size = np.ptp(mesh.vertices, axis=0).round(2)
    _LOG.info(
        "%d triangles, %.2f x %.2f x %.2f world units: %s",
        len(mesh.triangles), *size, folder / "avatar.glb",
    )  # fmt: skip


def make_field(person: avatar.Avatar, w: Float[np.ndarray, "1 d"]) -> Field:
    """Makes the field of one face.

    Args:
      person: The avatar.
      w: Its latent.

    Returns:
      Maps points [n 3] to colours [n 3], 0..1, and raw density [n].
    """
    config = person.g_config

    @jax.jit
    def look(g: dict, planes: Array, points: Array) -> tuple[Array, Array]:
        colors, density = generator.query(g, planes, points[None], config)
        return colors[0, :, :3], density[0]

    g = dict(person.g)
    with jax.default_matmul_precision(person.matmul_precision):
        planes = generator.make_planes(g, generator.broadcast(jnp.asarray(w), config), config)

    def field(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        parts = []
        for start in range(0, len(points), _CHUNK):
            part = points[start : start + _CHUNK]
            short = _CHUNK - len(part)
            found = look(g, planes, np.pad(part, ((0, short), (0, 0))).astype(np.float32))
            parts.append([np.asarray(value)[: len(part)] for value in found])
        return tuple(np.concatenate(values) for values in zip(*parts, strict=True))  # pyright: ignore[reportReturnType]

    return field


def find_surface(
    field: Field, config: use_config.ExportMeshConfig, *, box_warp: float
) -> mesh_files.Mesh:
    """Cuts the surface out of a field.

    Args:
      field: Maps points to colours and raw density.
      config: Level and resolution.
      box_warp: Side of the volume's cube, world units.

    Returns:
      One closed component, the largest.

    Raises:
      RunError: the density reaches the level nowhere.
      ConfigError: the extra is missing.

    Source: Lewiner et al. 2003 (marching cubes), by scikit-image.
    """
    try:
        from skimage import measure
    except ImportError as error:
        raise errors.ConfigError(
            "export_mesh needs scikit-image: pip install 'ganavatar_jax[mesh]'"
        ) from error
    count, level = config.resolution, float(np.log(np.expm1(config.density)) + 1.0)
    places = np.linspace(-box_warp / 2, box_warp / 2, count, dtype=np.float32)
    grid = np.stack(np.meshgrid(places, places, places, indexing="ij"), axis=-1).reshape(-1, 3)
    density = field(grid)[1].reshape(count, count, count)
    volume = _largest_part(density, level)
    step = box_warp / (count - 1)
    vertices, triangles, _, _ = measure.marching_cubes(volume, level, spacing=(step,) * 3)
    vertices = (vertices - step - box_warp / 2).astype(np.float32)  # of the border
    vertices, triangles = _face_outward(*_largest_surface(vertices, triangles))
    normals = _vertex_normals(vertices, triangles)
    return mesh_files.Mesh(vertices, normals, _surface_colors(field, vertices, normals), triangles)


def _largest_part(density: np.ndarray, level: float) -> np.ndarray:
    """Keeps the largest solid, without cavities, in a border of nothing: its surface is closed."""
    solid = np.pad(density > level, 1)
    parts, count = ndimage.label(solid)  # pyright: ignore[reportGeneralTypeIssues]
    if not count:
        raise errors.RunError(
            "the density reaches export_mesh.density nowhere, highest is "
            f"{np.logaddexp(0.0, density.max() - 1.0):.3g}. Set it lower."
        )
    sizes = np.bincount(parts.ravel())
    largest = parts == 1 + int(np.argmax(sizes[1:]))
    filled = ndimage.binary_fill_holes(largest)
    outside = level - 1.0
    volume = np.pad(density, 1, constant_values=outside)
    others = solid & ~largest
    volume = np.where(others, outside, volume)
    return np.where(filled & ~largest, np.maximum(volume, level + 1.0), volume).astype(np.float32)


def _largest_surface(vertices: np.ndarray, triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keeps the connected surface with most triangles: solids may touch by a corner."""
    pairs = np.concatenate([triangles[:, :2], triangles[:, 1:]])
    joined = sparse.coo_matrix(
        (np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(vertices),) * 2
    )
    _, part = sparse.csgraph.connected_components(joined, directed=False)
    kept = part == np.bincount(part[triangles[:, 0]]).argmax()
    number = np.cumsum(kept) - 1
    return vertices[kept], number[triangles[kept[triangles[:, 0]]]].astype(np.int32)


def _face_outward(vertices: np.ndarray, triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turns triangles over if they enclose a negative volume."""
    a, b, c = (vertices[triangles[:, corner]].astype(np.float64) for corner in range(3))
    volume = np.sum(a * np.cross(b, c))
    return vertices, triangles if volume > 0 else triangles[:, ::-1].copy()


def _vertex_normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Averages the normals of the triangles around each vertex by their area."""
    a, b, c = (vertices[triangles[:, corner]] for corner in range(3))
    across = np.cross(b - a, c - a)
    normals = np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(normals, triangles[:, corner], across)
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    return (normals / np.maximum(lengths, 1e-12)).astype(np.float32)


def _surface_colors(field: Field, vertices: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Composites colours along a ray that comes straight from outside."""
    depths = np.linspace(-_DEEP / 4, _DEEP, _LAYERS, dtype=np.float32)
    points = vertices[:, None] - depths[:, None] * normals[:, None]
    colors, density = field(points.reshape(-1, 3))
    t = np.broadcast_to(depths, (len(vertices), _LAYERS))
    weights = compositing.sample_weights(
        compositing.interval_weights(jnp.asarray(density.reshape(t.shape)), jnp.asarray(t))
    )
    share = np.asarray(weights)[..., None] + 1e-6
    mixed = (colors.reshape(*t.shape, 3) * share).sum(axis=1) / share.sum(axis=1)
    return np.clip(mixed, 0.0, 1.0).astype(np.float32)
