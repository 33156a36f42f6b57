"""Rendering of fields that are known in closed form, and what must not change the result."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganavatar_jax.geometry import cameras, rays
from ganavatar_jax.rendering import render_config, volume
from helpers import compiled

_SMALL = render_config.RenderConfig(
    depth_resolution=5, depth_resolution_importance=4, ray_start=2.25, ray_end=3.3
)
_NO_DRAWS = volume.RenderDraws(coarse=None, fine=None)


@pytest.fixture(autouse=True)
def _quick():
    with compiled.quickly():
        yield


def _camera_rays(resolution, *, focal=2.5, radius=2.7):
    pose = cameras.look_at(1.4, 1.7, pivot=(0.0, 0.0, 0.0), radius=radius)
    return rays.pixel_rays(
        jnp.asarray(pose)[None], cameras.intrinsics(focal)[None], resolution=resolution
    )


def _wavy_field(params, points):
    """A small network: different everywhere, and with parameters."""
    hidden = jnp.tanh(points @ params["inner"])
    out = hidden @ params["outer"]
    return jax.nn.sigmoid(out[..., 1:]), 3.0 * out[..., 0]


def _wavy_params(width=8, channels=4):
    draws = np.random.default_rng(0)
    return {
        "inner": jnp.asarray(4.0 * draws.normal(size=(3, width)), jnp.float32),
        "outer": jnp.asarray(draws.normal(size=(width, channels)), jnp.float32),
    }


def _known_ray(white_back):
    """A ray with hand-picked distances; the field looks its values up by distance."""
    t = np.array([1.0, 1.5, 2.0, 3.0, 3.5, 4.0], np.float32)
    density = np.array([-1.0, 0.0, 2.0, 5.0, 1.0, -2.0], np.float32)
    colors = np.array([0.1, 0.9, 0.5, 0.3, 0.7, 0.2], np.float32)

    def field(points):
        place = points[..., 2]
        look = lambda values: jnp.interp(place, jnp.asarray(t), jnp.asarray(values))  # noqa: E731
        return look(colors)[..., None], look(density)

    config = render_config.RenderConfig(
        depth_resolution=6,
        depth_resolution_importance=0,
        ray_start=1.0,
        ray_end=3.5,
        white_back=white_back,
    )
    # Jitter that puts sample k at t[k]: steps are 0.5 apart.
    jitter = (t - 1.0 - 0.5 * np.arange(6)) / 0.5
    draws = volume.RenderDraws(coarse=jnp.asarray(jitter, jnp.float32)[None, None], fine=None)
    direction = jnp.array([[[0.0, 0.0, 1.0]]])
    return volume.render(field, jnp.zeros((1, 1, 3)), direction, draws, config)


@pytest.mark.parametrize(("white_back", "color"), [(False, -0.0275409), (True, 0.0027413)])
def test_rendering_known_answer(white_back, color):
    out = compiled.run(_known_ray, white_back)
    assert float(out.features[0, 0, 0]) == pytest.approx(color, abs=3e-7)
    assert float(out.t_expected[0, 0]) == pytest.approx(2.2029469, abs=1e-6)
    assert float(out.opacity[0, 0]) == pytest.approx(0.9848589, abs=2e-7)


def test_a_solid_sphere_renders_to_its_silhouette_and_distance():
    radius = 0.4
    config = render_config.RenderConfig(
        depth_resolution=32,
        depth_resolution_importance=32,
        ray_start=2.25,
        ray_end=3.3,
    )

    def field(points):
        inside = jnp.sum(jnp.square(points), axis=-1) < radius**2
        return jnp.full((*points.shape[:-1], 3), 0.75), jnp.where(inside, 1e4, -1e4)

    origins, directions = _camera_rays(16)
    out = jax.jit(lambda o, d: volume.render(field, o, d, _NO_DRAWS, config))(origins, directions)
    o, d = np.asarray(origins[0], np.float64), np.asarray(directions[0], np.float64)
    along = -np.sum(o * d, axis=-1)
    closest = np.linalg.norm(o + along[:, None] * d, axis=-1)
    entry = along - np.sqrt(np.maximum(radius**2 - closest**2, 0.0))
    opacity = np.asarray(out.opacity[0])
    covered, clear = closest < radius - 0.02, closest > radius
    assert covered.sum() > 40
    assert clear.sum() > 40
    np.testing.assert_allclose(opacity[covered], 1.0, atol=1e-6)
    # Raw density just outside is far below zero, so not even rounding is left.
    np.testing.assert_array_equal(opacity[clear], 0.0)
    np.testing.assert_allclose(out.features[0][covered], 0.5, atol=1e-6)
    np.testing.assert_array_equal(out.features[0][clear], -1.0)
    # The first wholly solid interval starts at most one coarse step behind the surface.
    step = 2.0 * (3.3 - 2.25) / 31
    late = np.asarray(out.t_expected[0])[covered] - entry[covered]
    assert (late > 0.0).all()
    assert (late < step).all()
    assert late.mean() < step / 2


def test_importance_samples_sharpen_the_surface():
    def field(points):
        return jnp.ones((*points.shape[:-1], 1)), jnp.where(points[..., 2] < 0.1, 1e4, -1e4)

    origins = jnp.array([[[0.0, 0.0, 3.0]]])
    directions = jnp.array([[[0.0, 0.0, -1.0]]])
    errors = []
    for fine in (0, 32):
        config = render_config.RenderConfig(
            depth_resolution=16,
            depth_resolution_importance=fine,
            ray_start=2.0,
            ray_end=4.0,
        )
        out = jax.jit(lambda o, d, c=config: volume.render(field, o, d, _NO_DRAWS, c))
        errors.append(abs(float(out(origins, directions).t_expected[0, 0]) - 2.9))
    assert errors[1] < 0.3 * errors[0]


def test_an_empty_volume_is_black_or_white():
    def field(points):
        return jnp.full((*points.shape[:-1], 5), 0.3), jnp.full(points.shape[:-1], -1e4)

    origins, directions = _camera_rays(2)
    for white_back, level in ((False, -1.0), (True, 1.0)):
        config = dataclasses.replace(_SMALL, white_back=white_back)
        out = compiled.run(volume.render, field, origins, directions, _NO_DRAWS, config)
        np.testing.assert_array_equal(out.features, np.full((1, 4, 5), level))  # all channels (Q5)
        np.testing.assert_array_equal(out.opacity, np.zeros((1, 4)))
        # With nothing hit the distance is the farthest of all samples (quirk Q4).
        assert np.isfinite(out.t_expected).all()
        assert len(np.unique(out.t_expected)) == 1
        assert float(out.t_expected[0, 0]) > 3.0


def _render_and_gradient(config, params, origins, directions, draws):
    def total(params):
        field = functools.partial(_wavy_field, params)
        out = volume.render(field, origins, directions, draws, config)
        return jnp.sum(jnp.square(out.features)) + jnp.sum(out.t_expected), out

    (_, out), gradients = jax.value_and_grad(total, has_aux=True)(params)
    return out, gradients


def test_blocks_of_rays_change_neither_images_nor_gradients():
    config = dataclasses.replace(_SMALL, ray_start="auto", ray_end="auto")
    origins, directions = _camera_rays(4, focal=2.0)  # wide: some rays miss the cube
    draws = volume.make_draws(jax.random.key(1), jnp.arange(1), config, rays=16)
    arrays = _wavy_params(), origins, directions, draws
    whole, blocks = (
        jax.jit(functools.partial(_render_and_gradient, dataclasses.replace(config, ray_chunk=n)))(
            *arrays
        )
        for n in (0, 4)
    )
    for actual, expected in zip(jax.tree.leaves(blocks), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=2e-5, atol=2e-5)
    assert all(float(jnp.abs(g).max()) > 1e-3 for g in jax.tree.leaves(whole[1]))


def test_blocks_of_rays_bound_the_memory():
    params = _wavy_params(width=16, channels=8)

    def temporary_bytes(count, chunk):
        config = dataclasses.replace(
            _SMALL, depth_resolution=8, depth_resolution_importance=8, ray_chunk=chunk
        )
        shape = jax.ShapeDtypeStruct((1, count, 3), jnp.float32)
        function = functools.partial(_render_and_gradient, config)
        lowered = jax.jit(lambda p, o, d: function(p, o, d, _NO_DRAWS)).lower(params, shape, shape)
        return lowered.compile().memory_analysis().temp_size_in_bytes

    whole, blocks = temporary_bytes(4096, 0), temporary_bytes(16384, 256)
    print(f"temporary MB: {whole / 2**20:.1f}; in blocks, for four times the rays: "
          f"{blocks / 2**20:.1f}")  # fmt: skip
    assert blocks < whole / 2


def test_rendering_without_draws_is_deterministic_and_equals_midpoints():
    origins, directions = _camera_rays(2)
    field = functools.partial(_wavy_field, _wavy_params())
    render = jax.jit(lambda draws: volume.render(field, origins, directions, draws, _SMALL))
    middle = (jnp.arange(4.0) + 0.5)[None, None] / 4.0
    midpoints = volume.RenderDraws(
        coarse=jnp.full((1, 4, 5), 0.5), fine=jnp.broadcast_to(middle, (1, 4, 4))
    )
    free, explicit = render(_NO_DRAWS), render(midpoints)
    np.testing.assert_allclose(free.features, explicit.features, atol=1e-6)
    np.testing.assert_array_equal(free.features, render(_NO_DRAWS).features)


def test_draws_depend_on_sample_ids_not_on_the_batch_they_are_in():
    key = jax.random.key(3)
    make = jax.jit(lambda ids: volume.make_draws(key, ids, _SMALL, rays=6))
    whole = make(jnp.arange(10, 14))
    parts = [make(jnp.array(ids)) for ids in ([10, 11], [12, 13])]
    for name in ("coarse", "fine"):
        joined = jnp.concatenate([getattr(part, name) for part in parts])
        np.testing.assert_array_equal(getattr(whole, name), joined)
        assert len(np.unique(joined)) == joined.size
    assert whole.coarse.shape == (4, 6, 5)
    assert whole.fine.shape == (4, 6, 4)
    assert volume.make_draws(None, jnp.arange(2), _SMALL, rays=6).coarse is None


@pytest.mark.parametrize("level", [-1e30, 0.0, 1e30])
def test_images_and_gradients_are_finite_at_extremes(level):
    rays_ = {
        "through the cube": ((0, 0, 3), (0, 0, -1)),
        "from inside": ((0, 0, 0), (0, 1, 0)),
        "along a face": ((0.5, 0, 3), (0, 0, -1)),
        "past the cube": ((2, 0, 3), (0, 0, -1)),
    }
    origins, directions = (
        jnp.array([list(part)], jnp.float32) for part in zip(*rays_.values(), strict=True)
    )
    values = jax.tree.leaves(_extreme(jnp.float32(level), origins, directions))
    assert all(np.isfinite(value).all() for value in values)


@jax.jit
def _extreme(level, origins, directions):
    config = dataclasses.replace(_SMALL, ray_start="auto", ray_end="auto")

    def total(level):
        def field(points):
            return jnp.tanh(points * level), level * (1.0 + points[..., 0])

        out = volume.render(field, origins, directions, _NO_DRAWS, config)
        return jnp.sum(out.features), out

    return jax.value_and_grad(total, has_aux=True)(level)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ray_start": "auto"}, "must both be distances or both be 'auto'"),
        ({"depth_resolution": 3}, "depth_resolution must be at least 4; got 3"),
        ({"box_warp": 0.0}, "box_warp must be positive; got 0.0"),
    ],
)
def test_impossible_options_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(_SMALL, **changes)


def test_blocks_that_do_not_divide_the_rays_are_refused():
    origins, directions = _camera_rays(2)
    config = dataclasses.replace(_SMALL, ray_chunk=3)
    with pytest.raises(ValueError, match="ray_chunk must divide the 4 rays of an image; got 3"):
        volume.render(lambda p: (p, p[..., 0]), origins, directions, _NO_DRAWS, config)
