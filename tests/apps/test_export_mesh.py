"""The surface of a field is closed, one, the right size, and coloured as seen from outside."""

import numpy as np
import pytest

from ganavatar_jax.apps import export_mesh, use_config
from ganavatar_jax.core import errors

CONFIG = use_config.ExportMeshConfig(resolution=48)
CENTRE, RADIUS = np.array([0.1, 0.0, -0.05]), 0.25


def field(points):
    """A red shell around blue, with a cavity; a small ball beside it; open at no side."""
    away = np.linalg.norm(points - CENTRE, axis=-1)
    beside = np.linalg.norm(points - [-0.4, 0.4, 0.4], axis=-1)
    solid = np.where(away < 0.1, -9.0, 2000 * (RADIUS - away))
    solid = np.maximum(solid, 2000 * (0.05 - beside))
    colors = np.where(away[:, None] > RADIUS - 0.04, [1.0, 0.0, 0.0], [0.0, 0.0, 1.0])
    return colors.astype(np.float32), (11.0 + solid).astype(np.float32)


@pytest.fixture(scope="module")
def mesh():
    return export_mesh.find_surface(field, CONFIG, box_warp=1.0)


def test_the_largest_part_is_cut_out_at_its_size(mesh):
    away = np.linalg.norm(mesh.vertices - CENTRE, axis=1)
    np.testing.assert_allclose(away, RADIUS, atol=0.01)


def test_the_surface_is_closed_and_looks_outward(mesh):
    edges = np.sort(
        np.concatenate([mesh.triangles[:, [i, j]] for i, j in ((0, 1), (1, 2), (2, 0))])
    )
    edges = np.sort(edges, axis=1)
    _, counts = np.unique(edges, axis=0, return_counts=True)
    assert (counts == 2).all()
    assert len(mesh.vertices) - len(counts) + len(mesh.triangles) == 2  # of one sphere
    out = (mesh.vertices - CENTRE) / np.linalg.norm(mesh.vertices - CENTRE, axis=1, keepdims=True)
    assert np.sum(mesh.normals * out, axis=1).min() > 0.95


def test_colours_are_those_of_the_skin_not_of_what_is_beneath(mesh):
    assert np.percentile(mesh.colors[:, 0], 5) > 0.8
    assert np.percentile(mesh.colors[:, 2], 95) < 0.2


def test_a_solid_that_leaves_the_cube_is_closed_at_its_border():
    def bar(points):
        away = np.linalg.norm(points[:, :2], axis=-1)
        return np.zeros((len(points), 3), np.float32), (11.0 + 400 * (0.2 - away)).astype(
            np.float32
        )

    mesh = export_mesh.find_surface(bar, CONFIG, box_warp=1.0)
    edges = np.sort(
        np.concatenate([mesh.triangles[:, [i, j]] for i, j in ((0, 1), (1, 2), (2, 0))]), 1
    )
    assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()
    assert np.abs(mesh.vertices[:, 2]).max() == pytest.approx(0.5, abs=0.03)


def test_a_level_that_nothing_reaches_is_told():
    with pytest.raises(errors.RunError, match=r"density nowhere, highest is .*Set it lower"):
        export_mesh.find_surface(
            lambda p: (np.zeros_like(p), np.full(len(p), -5.0, np.float32)), CONFIG, box_warp=1.0
        )
