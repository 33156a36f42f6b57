"""The full-size networks against numbers that the PyTorch original printed for the same weights.

Errors are divided by the standard deviation of the quantity over the whole array, which the
reference printed too. Every stage is compiled by itself (see test_golden.py).
"""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganavatar_jax.geometry import rays
from ganavatar_jax.models import (
    discriminator,
    discriminator_config,
    generator,
    generator_config,
    mapping,
)
from ganavatar_jax.rendering import render_config, volume
from helpers import full_size

pytestmark = pytest.mark.parity_full

_POINTS = ((0.1, -0.2, 0.3), (0.45, 0.45, -0.45), (0.9, 0.2, 0.1), (2.0, 2.0, 2.0))
# Indices are [sample, row, column] or [sample, plane, row, column, channel]: channels come last.
_RENDERED = {
    "original": {
        "config": {"plane_axes": "original", "ray_start": 2.25, "ray_end": 3.3},
        "raw_mean_std": (-0.5288811, 0.2644563),
        "raw_0_5_9": (-0.7379676, -0.6405874, -0.3166925),
        "raw_1_15_0": (-0.8544794, -0.5313899, -0.0654725),
        "depth": (2.6839674, 2.6700330, 2.6882915),
        "image_mean_std": (-1.1235557, 0.7865143),
        "image_0_100_200": (-0.7106343, -1.9475366, -0.3577312),
        "image_1_511_0": (-0.3808371, -0.1745352, -0.1635259),
    },
    "fixed": {
        "config": {"plane_axes": "fixed", "ray_start": 2.25, "ray_end": 3.3},
        "raw_mean_std": (-0.5275601, 0.2650999),
        "raw_0_5_9": (-0.7408859, -0.6378486, -0.3084213),
        "raw_1_15_0": (-0.8450373, -0.5688322, -0.1497504),
        "depth": (2.6863799, 2.6693876, 2.6906424),
        "image_0_100_200": (-0.6238291, -2.0746593, -0.4723163),
        "image_1_511_0": (-0.3436942, -0.1703213, -0.1939114),
    },
    "box": {
        "config": {"plane_axes": "fixed", "ray_start": "auto", "ray_end": "auto"},
        "raw_mean_std": (-0.5296319, 0.2693126),
        "raw_0_5_9": (-0.7392527, -0.6280735, -0.3028293),
        "raw_1_15_0": (-0.8394724, -0.5596824, -0.1384836),
        "depth": (2.6422834, 2.6173973, 2.5463564),
        "image_0_100_200": (-0.6383495, -2.0556705, -0.4550202),
    },
}


def _assert_close(actual, expected, *, spread, limit, name):
    error = float(np.max(np.abs(np.asarray(actual, np.float64) - np.asarray(expected)))) / spread
    print(f"{name}: max error {error:.2e} of the spread {spread:.3g} (limit {limit:.0e})")
    assert error <= limit, f"{name}: {np.asarray(actual)} instead of {expected}"


def _config(**render):
    return generator_config.GeneratorConfig(
        neural_resolution=16, condition_on_camera=True, render=render_config.RenderConfig(**render)
    )


@functools.cache
def _network():
    return full_size.variables("G_ema")


def _w(label25):
    z = np.random.RandomState(7).randn(2, 512).astype(np.float32)
    config = _config()
    return jax.jit(lambda v, z, c: generator.map_latent(v, z, c, config))(_network(), z, label25)


@functools.cache
def _ws():
    w = _w(full_size.labels())
    w_avg = _network()["buffers"]["backbone"]["mapping"]["w_avg"]
    return mapping.truncate(generator.broadcast(w, _config()), w_avg, psi=0.7, cutoff=14)


@functools.cache
def _planes(noise="const"):
    config = _config()
    make = jax.jit(lambda v, ws: generator.make_planes(v, ws, config, noise=noise))
    return make(_network(), _ws())


@functools.cache
def _render(variant):
    """Renders without super-resolution: features [b h w c] and distance [b h w]."""
    config = _config(**_RENDERED[variant]["config"])

    @jax.jit
    def render(variables, planes, label25):
        origins, directions = rays.pixel_rays(
            label25[:, :16].reshape(2, 4, 4), label25[:, 16:].reshape(2, 3, 3), resolution=16
        )
        midpoints = volume.RenderDraws(coarse=None, fine=None)
        return volume.render(
            lambda points: generator.query(variables, planes, points, config),
            origins,
            directions,
            midpoints,
            config.render,
        )

    out = render(_network(), _planes(), full_size.labels())
    return types.SimpleNamespace(
        features=out.features.reshape(2, 16, 16, -1), depth=out.t_expected.reshape(2, 16, 16)
    )


@functools.cache
def _enlarge():
    return jax.jit(
        lambda v, features, ws: generator.enlarge(v, features[..., :3], features, ws, _config())
    )


def test_mapping():
    ws = np.asarray(_ws())
    first = (-0.1321729, 2.0403931, -0.1211312, -0.2123757)
    last = (0.7139595, 0.9901529, 0.2907926, -0.1375631)
    spread = 0.7
    _assert_close(ws[0, 0, :4], first, spread=spread, limit=1e-5, name="ws of sample 0")
    _assert_close(ws[1, 13, :4], last, spread=spread, limit=1e-5, name="ws of sample 1")
    _assert_close(np.mean(ws**2), 0.5144268, spread=0.5, limit=1e-5, name="mean square of ws")
    free = _w(np.zeros((2, 25), np.float32))
    expected = (0.8700631, 1.0219147, -0.2247309, -0.1387340)
    _assert_close(free[0, :4], expected, spread=1.0, limit=1e-5, name="w without camera")
    _assert_close(np.mean(np.square(free)), 1.0978960, spread=1.0, limit=1e-5, name="mean square")


def test_planes():
    planes = np.asarray(_planes())
    spread = 2.0480294
    stats = (planes.mean(dtype=np.float64), planes.std(ddof=1, dtype=np.float64))
    _assert_close(stats, (-0.3110777, spread), spread=spread, limit=1e-5, name="plane statistics")
    # Channel 37 is channel 5 of plane 1, channel 95 the last of plane 2.
    values = (planes[0, 0, 0, 0, 0], planes[0, 1, 100, 200, 5], planes[1, 2, 255, 255, 31])
    expected = (0.3059482, 0.6092476, 0.7799026)
    _assert_close(values, expected, spread=spread, limit=3e-5, name="plane values")


def test_planes_without_noise():
    planes = np.asarray(_planes("none"))
    spread = 1.8376755
    std = planes.std(ddof=1, dtype=np.float64)
    _assert_close(std, spread, spread=spread, limit=1e-5, name="plane spread")
    value = planes[0, 1, 100, 200, 5]
    _assert_close(value, -0.0491980, spread=spread, limit=3e-5, name="plane value")


def test_density_and_colours():
    config = _config(**_RENDERED["fixed"]["config"])
    points = jnp.broadcast_to(jnp.asarray(_POINTS, jnp.float32), (2, 4, 3))
    query = jax.jit(lambda v, planes, p: generator.query(v, planes, p, config))
    colors, density = query(_network(), _planes(), points)
    expected = (1.6210107, 0.9009190, 1.0691922, 0.6397621)
    _assert_close(density[0], expected, spread=1.0, limit=1e-4, name="density")
    expected = (0.1686745, 0.2533854, 0.5159441)
    _assert_close(colors[0, 0, :3], expected, spread=0.26, limit=1e-4, name="colours")


@pytest.mark.parametrize("variant", list(_RENDERED))
def test_rendering(variant):
    expected = _RENDERED[variant]
    out = _render(variant)
    raw = np.asarray(out.features[..., :3])
    spread = expected["raw_mean_std"][1]
    stats = (raw.mean(dtype=np.float64), raw.std(ddof=1, dtype=np.float64))
    check = functools.partial(_assert_close, spread=spread, limit=1e-4)
    check(stats, expected["raw_mean_std"], name=f"{variant} raw statistics")
    check(raw[0, 5, 9], expected["raw_0_5_9"], name=f"{variant} raw pixel")
    check(raw[1, 15, 0], expected["raw_1_15_0"], name=f"{variant} raw corner")
    depth = np.asarray(out.depth)
    values = (depth.mean(dtype=np.float64), depth[0, 5, 9], depth[1, 15, 0])
    _assert_close(values, expected["depth"], spread=0.1, limit=1e-4, name=f"{variant} depth")


@pytest.mark.parametrize("variant", list(_RENDERED))
def test_image(variant):
    expected = _RENDERED[variant]
    image = np.asarray(_enlarge()(_network(), _render(variant).features, _ws()))
    assert image.shape == (2, 512, 512, 3)
    check = functools.partial(_assert_close, spread=0.7865143, limit=1e-4)
    check(image[0, 100, 200], expected["image_0_100_200"], name=f"{variant} image pixel")
    if "image_1_511_0" in expected:
        check(image[1, 511, 0], expected["image_1_511_0"], name=f"{variant} image corner")
    if "image_mean_std" in expected:
        stats = (image.mean(dtype=np.float64), image.std(ddof=1, dtype=np.float64))
        check(stats, expected["image_mean_std"], name=f"{variant} image statistics")


def test_discriminator_and_its_gradient():
    config = discriminator_config.DiscriminatorConfig(mbstd_block_size=0)  # as on one device
    variables = full_size.variables("D")
    image = np.random.RandomState(11).randn(4, 3, 512, 512).astype(np.float32)
    raw = np.random.RandomState(12).randn(4, 3, 128, 128).astype(np.float32)
    label = jnp.asarray(np.tile(full_size.labels(), (2, 1)))

    def total(variables, pair):
        logits = discriminator.apply(variables, *pair, label, config)
        return jnp.sum(logits), logits

    pair = tuple(jnp.asarray(np.moveaxis(x, 1, -1)) for x in (image, raw))
    gradient_fn = jax.jit(jax.grad(total, argnums=1, has_aux=True))
    gradients, logits = gradient_fn(variables, pair)
    expected = np.array([-0.1850373, -0.1270881, -0.1902077, -0.1250529])
    _assert_close(logits[:, 0], expected, spread=float(expected.std()), limit=1e-4, name="logits")
    squares = [np.sum(np.square(np.asarray(g, np.float64)), axis=(1, 2, 3)) for g in gradients]
    for name, square, expected in (
        ("image", squares[0], np.array([6.70836e-6, 6.31536e-6, 6.50629e-6, 6.38512e-6])),
        ("raw image", squares[1], np.array([5.67650e-5, 6.48194e-5, 5.68436e-5, 6.43424e-5])),
    ):
        ratio = square / expected
        _assert_close(ratio, np.ones(4), spread=1.0, limit=1e-3, name=f"gradient norm of {name}")
