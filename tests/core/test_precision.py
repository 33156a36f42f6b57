"""What places cameras, rays, points and pixels multiplies in full float32, whatever the default is.

Whether an accelerator's fewer bits would harm cannot be seen on a CPU, which always multiplies in
full. What can be seen is what is asked for: the precision of every product in the jaxpr.
"""

import ast
import inspect
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganavatar_jax.geometry import boxes, cameras, rays, rotations, trajectories
from ganavatar_jax.metrics import image as image_metrics
from ganavatar_jax.metrics import inception, lpips
from ganavatar_jax.models import face_reader
from ganavatar_jax.ops import affine_warp, resize
from ganavatar_jax.rendering import render_config, triplane, volume
from ganavatar_jax.training import augment, augment_config, recon_step
from helpers import precisions

ROOT = pathlib.Path(__file__).parents[2] / "ganavatar_jax"
LENS = np.asarray([[4.2, 0.1, 0.5], [0.0, 4.3, 0.5], [0.0, 0.0, 1.0]], np.float32)
POSES = np.asarray(cameras.look_at(np.asarray([1.4, 1.7]), np.asarray([1.5, 1.6]), radius=2.7))
CAMERA = cameras.Camera(jnp.asarray(POSES[0]), jnp.asarray(LENS))
CAMERAS = cameras.Camera(jnp.asarray(POSES), jnp.asarray(np.stack([LENS, LENS])))
LABELS = cameras.to_label25(CAMERAS)
ORIGINS, DIRECTIONS = rays.pixel_rays(CAMERAS.cam2world, CAMERAS.intrinsics, resolution=4)
POINTS = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
ANGLES = jnp.asarray([10.0, 20.0])
AROUND = {"radius": 2.7, "intrinsics": LENS}

# Every public function of the geometry that JAX computes.
GEOMETRY = {
    boxes.intersect_cube: lambda: boxes.intersect_cube(ORIGINS, DIRECTIONS, side=1.0),
    boxes.ray_bounds: lambda: boxes.ray_bounds(ORIGINS, DIRECTIONS, side=1.0),
    cameras.to_label25: lambda: cameras.to_label25(CAMERAS),
    cameras.from_label25: lambda: cameras.from_label25(LABELS),
    cameras.mirror_label25: lambda: cameras.mirror_label25(LABELS),
    cameras.look_at: lambda: cameras.look_at(ANGLES, ANGLES, radius=2.7),
    cameras.look_at_from: lambda: cameras.look_at_from(POINTS[:, 0], POINTS[:, 1]),
    cameras.intrinsics: lambda: cameras.intrinsics(ANGLES),
    cameras.yaw_pitch_deg: lambda: cameras.yaw_pitch_deg(POSES),
    cameras.project: lambda: cameras.project(CAMERAS, POINTS),
    rays.pixel_rays: lambda: rays.pixel_rays(CAMERAS.cam2world, CAMERAS.intrinsics, resolution=4),
    rotations.from_axis_angle: lambda: rotations.from_axis_angle(POINTS),
    trajectories.orbit: lambda: trajectories.orbit(3, radius=2.7, intrinsics=LENS),
    trajectories.around: lambda: trajectories.around(CAMERA, ANGLES, ANGLES),
}
MULTIPLY = {cameras.project, rays.pixel_rays, rotations.from_axis_angle, trajectories.around}

IMAGES = np.zeros((2, 64, 64, 3), np.float32)
TURNS = jnp.broadcast_to(jnp.eye(3), (2, 3, 3))


def field(points):
    """An analytic field: whatever is multiplied is multiplied by the renderer."""
    return jnp.sin(points), jnp.cos(points[..., 0])


def render(directions):
    config = render_config.RenderConfig(depth_resolution=4, depth_resolution_importance=4)
    draws = volume.RenderDraws(coarse=None, fine=None)
    return volume.render(field, ORIGINS, directions, draws, config).features


def augmented(images):
    config = augment_config.AugmentConfig()
    return augment.augment(jax.random.key(0), images, 0.8, config=config)


# What else places something, and what measures: (a function of one array, whether it multiplies).
PLACING = {
    "render": (render, DIRECTIONS, True),
    "render's gradient": (jax.grad(lambda d: jnp.sum(render(d))), DIRECTIONS, True),
    "points of planes": (
        lambda p: triplane.project(p, axes="fixed", box_warp=1.0),
        POINTS,
        False,
    ),
    "face patch": (lambda i: face_reader.unwrap(i, LABELS), IMAGES, True),
    "face reading": (lambda i: face_reader.read(face_reader.blank(3), i, LABELS), IMAGES, True),
    "emphasised place": (
        lambda c: recon_step.project_place(c, (0.0, -0.1, 0.2), radius=0.1),
        LABELS,
        True,
    ),
    "augmentation": (augmented, IMAGES, True),
    "warp": (lambda i: affine_warp.warp(i, TURNS), IMAGES, False),
    "resizing": (lambda i: resize.resize(i, 24), IMAGES, True),
    "SSIM": (lambda i: image_metrics.ssim(i, i), IMAGES, False),
    "LPIPS": (
        lambda i: lpips.lpips(lpips.load_params("alex"), i, i, net="alex"),
        IMAGES,
        True,
    ),
}


@pytest.mark.parametrize("function", GEOMETRY, ids=lambda function: function.__name__)
def test_geometry_multiplies_in_full_precision(function):
    made = precisions.products(GEOMETRY[function])
    assert bool(made) == (function in MULTIPLY)
    assert all(highest for _, highest in made), made


def test_no_function_of_the_geometry_is_left_out():
    modules = (boxes, cameras, rays, rotations, trajectories)
    of_jax = {ROOT / "geometry" / f"{m.__name__.rpartition('.')[2]}.py" for m in modules}
    assert of_jax == {p for p in (ROOT / "geometry").glob("*.py") if "jax.numpy" in p.read_text()}
    public = {
        function
        for module in modules
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and not name.startswith("_")
    }
    assert public == set(GEOMETRY)


@pytest.mark.parametrize("name", PLACING)
def test_what_places_or_measures_multiplies_in_full_precision(name):
    function, argument, multiplies = PLACING[name]
    made = precisions.products(function, argument)
    assert bool(made) == multiplies
    assert all(highest for _, highest in made), made


def test_inception_multiplies_in_full_precision():
    shapes = inception.expected_shapes().items()  # of files, whose kernels are OIHW
    params = {name: jnp.ones([s[2], s[3], s[1], s[0]] if len(s) == 4 else s) for name, s in shapes}
    image = np.zeros((1, 299, 299, 3), np.float32)
    made = precisions.products(lambda i: inception.features(params, i), image)
    assert made
    assert all(highest for _, highest in made)


def test_a_bare_product_is_noticed():
    bare = precisions.products(lambda a: jax.jit(lambda b: b @ b)(a), jnp.eye(3))
    assert bare == [("dot_general", False)]


# NumPy multiplies in full by itself; `@` in a module that mixes both is told apart above.
_MIXED = {"models/face_reader.py", "apps/train_mapping.py", "apps/novel_view.py"}
_MIXED |= {"apps/export_folder.py"}
_BARE = {"dot", "vdot", "matmul", "einsum", "tensordot", "inner", "vecdot", "matvec", "vecmat"}
_BARE |= {"dot_general", "conv", "conv_general_dilated", "convolve", "correlate"}


def bare_products(path):
    """Lines of a module that multiply by way of JAX without core.precision."""
    tree = ast.parse(path.read_text())
    mixed = str(path.relative_to(ROOT)) in _MIXED
    return [
        f"{path.name}:{node.lineno}"
        for node in ast.walk(tree)
        if (isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult) and not mixed)
        or (
            isinstance(node, ast.Attribute)
            and node.attr in _BARE
            and ast.unparse(node.value) in ("jnp", "jax.numpy", "jax.lax", "lax")
        )
    ]


def test_modules_that_place_things_multiply_in_one_place():
    named = ["ops/affine_warp.py", "ops/grid_sample.py", "ops/resize.py", "losses/density.py"]
    named += ["models/face_reader.py", "models/generator.py", "training/augment.py"]
    named += ["training/recon_step.py", "training/step_inputs.py"]
    paths = [ROOT / name for name in named]
    for folder in ("geometry", "rendering", "apps"):
        found = (ROOT / folder).glob("*.py")
        paths += [path for path in found if "jax.numpy" in path.read_text()]
    assert len(paths) > 20
    assert [line for path in paths for line in bare_products(path)] == []
