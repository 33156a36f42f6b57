"""The generator: its variables, its options, its randomness and its precisions."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganavatar_jax.core import trees
from ganavatar_jax.geometry import cameras
from ganavatar_jax.models import (
    generator,
    generator_config,
    generator_network,
    superresolution,
    synthesis,
)
from ganavatar_jax.rendering import render_config
from helpers import compare, compiled, full_size, tiny_gan
from weight_port import layouts

_CONFIG = dataclasses.replace(
    generator_config.GeneratorConfig.tiny(),
    img_resolution=8,
    neural_resolution=8,
    plane_resolution=8,
    superresolution="none",
)


@pytest.fixture(autouse=True)
def _quick():
    with compiled.quickly():
        yield


@functools.cache
def _variables():
    """Variables with no bias nor noise strength of zero."""
    return tiny_gan.fill(jax.eval_shape(lambda: generator.init(jax.random.key(0), _CONFIG)), 0)


@functools.cache
def _synthesize():
    return jax.jit(
        lambda v, ws, label, draws: generator.synthesize(v, ws, label, _CONFIG, draws=draws)
    )


def _labels(count):
    poses = cameras.look_at(np.linspace(1.2, 1.9, count), np.linspace(1.7, 1.4, count), radius=2.7)
    intrinsics = np.broadcast_to(np.asarray(cameras.intrinsics(3.0)), (count, 3, 3))
    return cameras.to_label25(cameras.Camera(jnp.asarray(poses), jnp.asarray(intrinsics)))


def _ws(count):
    return jax.random.normal(jax.random.key(1), (count, _CONFIG.num_ws, _CONFIG.w_dim))


def test_full_size_variables_equal_the_originals_in_name_shape_and_number():
    shapes = jax.eval_shape(
        lambda: generator.init(jax.random.key(0), generator_config.GeneratorConfig())
    )
    ours = {name: leaf.shape for name, leaf in trees.flatten_names(shapes)}
    expected = {}
    for row in full_size.rows("G_ema"):
        if full_size.is_variable(row):
            stand_in = np.broadcast_to(np.float32(0), full_size.shape_of(row))
            expected[full_size.our_name(row["key"])] = layouts.to_ours(row["key"], stand_in).shape
    assert ours == expected
    count = lambda tree: sum(leaf.size for leaf in jax.tree.leaves(tree))  # noqa: E731
    assert count(shapes["params"]) == 30_662_136
    parts = {"backbone": 29_008_301, "superresolution": 1_649_578, "decoder": 4_257}
    assert {name: count(part) for name, part in shapes["params"].items()} == parts


def _enlarge(kinds, have):
    features, ws = jnp.ones((1, have, have, 5)), _ws(1)
    return {
        kind: superresolution.SuperResolution(kind, 16, (4, 3)).init_with_output(
            jax.random.key(0), features[..., :3], features, ws
        )
        for kind in kinds
    }


def test_every_superresolution_ends_at_its_side():
    for image, variables in compiled.run(_enlarge, ("2X", "4X", "8X", "8XDC"), 4).values():
        assert image.shape == (1, 16, 16, 3)
        assert np.isfinite(image).all()
        blocks = variables["params"]
        assert blocks["block0"]["conv0"]["weight"].shape == (3, 3, 5, 4)
        assert blocks["block1"]["conv1"]["weight"].shape == (3, 3, 3, 3)
        sides = [variables["buffers"][name]["conv0"]["noise_const"].shape for name in blocks]
        assert sides == [(8, 8), (16, 16)]


def test_larger_neural_resolutions_are_shrunk_first_but_for_4x():
    shapes = jax.eval_shape(lambda: _enlarge(("2X", "4X", "8X", "8XDC"), 16))
    sides = {kind: image.shape[1] for kind, (image, _) in shapes.items()}
    assert sides == {"2X": 16, "4X": 32, "8X": 16, "8XDC": 16}


def test_without_superresolution_the_rendered_image_is_the_output():
    out = _synthesize()(_variables(), _ws(2), _labels(2), None)
    assert out.image.shape == (2, 8, 8, 3)
    np.testing.assert_array_equal(out.image, out.image_raw)
    assert "superresolution" not in _variables()["params"]
    assert ((out.opacity > 0.0) & (out.opacity <= 1.0 + 1e-5)).all()
    assert ((out.depth > 1.5) & (out.depth < 4.0)).all()


def test_the_neural_resolution_can_be_chosen_for_each_call():
    config = generator_config.GeneratorConfig.tiny()

    def make(ws, labels):
        variables = generator.init(jax.random.key(0), config)
        return generator.synthesize(variables, ws, labels, config, resolution=4)

    shapes = jax.eval_shape(make, jnp.zeros((2, config.num_ws, config.w_dim)), _labels(2))
    assert shapes.image_raw.shape == (2, 4, 4, 3)
    assert shapes.depth.shape == shapes.opacity.shape == (2, 4, 4)
    assert shapes.image.shape == (2, 32, 32, 3)


def test_a_sample_does_not_depend_on_the_batch_around_it():
    """Draws are keyed by sample id, so that a batch may be split over devices anywhere."""
    make = jax.jit(lambda ids: generator.make_draws(jax.random.key(5), ids, _CONFIG, resolution=8))
    first, second = make(jnp.array([7, 8])), make(jnp.array([8, 21]))
    for one, two in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_array_equal(one[1], two[0])
        assert np.abs(one[0] - one[1]).max() > 0.1
    ws, labels = _ws(3), _labels(3)
    images = [
        _synthesize()(_variables(), ws[part], labels[part], draws).image
        for part, draws in ((slice(0, 2), first), (slice(1, 3), second))
    ]
    np.testing.assert_allclose(images[0][1], images[1][0], atol=2e-5)
    other = _synthesize()(_variables(), ws[:2], labels[:2], second).image
    assert np.abs(other - images[0]).max() > 1e-3


def test_noise_maps_fit_the_layers_and_are_standard_normal():
    noise = synthesis.draw_noise(jax.random.key(0), jnp.arange(8), resolution=16)
    shapes = {(b, name): maps.shape for b, part in noise.items() for name, maps in part.items()}
    assert shapes == {
        ("b4", "conv1"): (8, 4, 4),
        ("b8", "conv0"): (8, 8, 8),
        ("b8", "conv1"): (8, 8, 8),
        ("b16", "conv0"): (8, 16, 16),
        ("b16", "conv1"): (8, 16, 16),
    }
    flat = np.concatenate([np.ravel(maps) for part in noise.values() for maps in part.values()])
    assert abs(flat.mean()) < 4 / np.sqrt(flat.size)
    assert abs(flat.std() - 1) < 4 / np.sqrt(2 * flat.size)
    assert len(np.unique(flat)) > 0.99 * flat.size  # no map is a copy of another


@functools.cache
def _planes(config=_CONFIG, noise="const"):
    return jax.jit(lambda v, ws: generator.make_planes(v, ws, config, noise=noise))


def test_noise_is_scaled_by_its_strength_and_can_be_left_out():
    variables, ws = _variables(), _ws(2)
    without = _planes(noise="none")(variables, ws)
    assert np.abs(_planes()(variables, ws) - without).max() > 1e-4
    silent = jax.tree_util.tree_map_with_path(
        lambda path, p: p * 0.0 if "noise_strength" in jax.tree_util.keystr(path) else p,
        variables["params"],
    )
    muted = _planes()(variables | {"params": silent}, ws)
    np.testing.assert_allclose(muted, without, atol=1e-6)


@pytest.mark.parametrize(("dtype", "limit"), [("bfloat16", 0.2), ("float16", 0.03)])
def test_low_precision_planes_are_close_to_the_exact_ones(dtype, limit):
    low = dataclasses.replace(_CONFIG, num_half_res=1, half_dtype=dtype)
    exact = _planes()(_variables(), _ws(2))
    planes = _planes(low)(_variables(), _ws(2))
    assert planes.dtype == exact.dtype == jnp.float32
    assert np.abs(planes - exact).max() > 0.0  # it is used
    compare.assert_parity(planes, exact, limit=limit, name=dtype)


def test_planes_are_cut_into_consecutive_channels():
    """Texel features of plane k are the synthesis network's channels k c ... (k + 1) c."""
    network = generator_network.synthesis_network(_CONFIG)
    own = {name: tree["backbone"]["synthesis"] for name, tree in _variables().items()}
    flat = jax.jit(lambda v, ws: network.apply(v, ws, "const"))(own, _ws(2))
    planes = _planes()(_variables(), _ws(2))
    for k in range(3):
        np.testing.assert_allclose(planes[:, k], flat[..., 4 * k : 4 * k + 4], atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"plane_resolution": 24},
            "plane_resolution must be a power of two and at least 8; got 24",
        ),
        ({"neural_resolution": 4}, "without super-resolution neural_resolution must equal"),
        (
            {"superresolution": "4X", "img_resolution": 64, "neural_resolution": 64},
            "4X only enlarges: neural_resolution must be at most half of img_resolution",
        ),
        ({"superresolution_channels": (8,)}, "must be empty or two numbers"),
        ({"mapping_layers": -1}, "mapping_layers must be at least 1; got -1"),
        ({"z_dim": 0}, "z_dim must be at least 1; got 0"),
        ({"decoder_features": 2}, "decoder_features must be at least 3; got 2"),
    ],
)
def test_impossible_sizes_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(_CONFIG, **changes)


def test_the_default_render_options_are_ganavatars():
    config = generator_config.GeneratorConfig()
    assert config.num_ws == 14
    assert config.render == render_config.RenderConfig(48, 48, "auto", "auto", 1.0)
    assert not config.condition_on_camera
