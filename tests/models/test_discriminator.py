"""The dual discriminator: its variables, both of its inputs, groups, precisions."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganavatar_jax.core import trees
from ganavatar_jax.models import discriminator, discriminator_config
from helpers import compare, compiled, full_size, tiny_gan
from weight_port import layouts

_CONFIG = discriminator_config.DiscriminatorConfig(
    img_resolution=8,
    channel_base=32,
    channel_max=8,
    mapping_layers=1,
    mbstd_group_size=2,
    mbstd_block_size=0,
)


@pytest.fixture(autouse=True)
def _quick():
    with compiled.quickly():
        yield


@functools.cache
def _variables():
    return tiny_gan.fill(jax.eval_shape(lambda: discriminator.init(jax.random.key(0), _CONFIG)), 0)


@functools.cache
def _apply(config=_CONFIG):
    return jax.jit(lambda v, *inputs: discriminator.apply(v, *inputs, config))


def _inputs(count=4):
    keys = jax.random.split(jax.random.key(1), 3)
    return (
        jax.random.normal(keys[0], (count, 8, 8, 3)),
        jax.random.normal(keys[1], (count, 4, 4, 3)),
        jax.random.normal(keys[2], (count, 25)),
    )


def test_full_size_variables_equal_the_originals_in_name_shape_and_number():
    shapes = jax.eval_shape(
        lambda: discriminator.init(jax.random.key(0), discriminator_config.DiscriminatorConfig())
    )
    ours = {name: leaf.shape for name, leaf in trees.flatten_names(shapes)}
    expected = {}
    for row in full_size.rows("D"):
        if full_size.is_variable(row):
            stand_in = np.broadcast_to(np.float32(0), full_size.shape_of(row))
            expected[full_size.our_name(row["key"])] = layouts.to_ours(row["key"], stand_in).shape
    assert ours == expected
    counts = {
        name: sum(leaf.size for leaf in jax.tree.leaves(part))
        for name, part in shapes["params"].items()
    }
    assert sum(counts.values()) == 31_359_744
    deep = dict.fromkeys(("b64", "b32", "b16", "b8"), 4_981_760)
    wide = {"b512": 119_424, "b256": 475_520, "b128": 1_901_312}
    assert counts == wide | deep | {"mapping": 2_114_560, "b4": 6_821_888}


def test_every_input_matters():
    image, raw, label = _inputs()
    logits = _apply()(_variables(), image, raw, label)
    assert logits.shape == (4, 1)
    for changed in ((-image, raw, label), (image, -raw, label), (image, raw, -label)):
        other = _apply()(_variables(), *changed)
        assert (np.abs(other - logits) > 1e-4).all()


def test_logits_come_from_groups_within_a_block_only():
    """A block is what one device holds: samples of other blocks must not matter."""
    config = dataclasses.replace(_CONFIG, mbstd_block_size=2)
    inputs = _inputs()
    logits = _apply(config)(_variables(), *inputs)
    changed = tuple(x.at[2:].set(-x[2:]) for x in inputs)
    np.testing.assert_array_equal(_apply(config)(_variables(), *changed)[:2], logits[:2])
    parts = [_apply()(_variables(), *(x[k : k + 2] for x in inputs)) for k in (0, 2)]
    np.testing.assert_allclose(logits, jnp.concatenate(parts), atol=1e-5)
    # Without blocks, groups of two span the whole batch: 0 with 2, and 1 with 3.
    whole = _apply()(_variables(), *inputs)
    moved = _apply()(_variables(), *changed)
    assert (np.abs(moved[:2] - whole[:2]) > 1e-5).all()


def test_activations_are_limited():
    config = dataclasses.replace(_CONFIG, conv_clamp=0.1)
    logits = _apply(config)(_variables(), *_inputs())
    assert (np.abs(logits - _apply()(_variables(), *_inputs())) > 1e-5).any()


@pytest.mark.parametrize(("dtype", "limit"), [("bfloat16", 0.2), ("float16", 0.03)])
def test_low_precision_logits_are_close_to_the_exact_ones(dtype, limit):
    config = dataclasses.replace(_CONFIG, half_dtype=dtype, num_half_res=1)
    exact = _apply()(_variables(), *_inputs())
    logits = _apply(config)(_variables(), *_inputs())
    assert logits.dtype == jnp.float32
    assert np.abs(logits - exact).max() > 0.0
    compare.assert_parity(logits, exact, limit=limit, name=dtype)
