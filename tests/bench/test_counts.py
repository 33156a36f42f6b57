"""What is counted from a trace is what is computed, and exponents are those of the times."""

import pathlib
import sys

import jax
import jax.numpy as jnp
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "experiments"))
import bench_counts  # noqa: E402
import bench_growth  # noqa: E402
import bench_stages  # noqa: E402

sys.path.pop(0)

X = jnp.ones((4, 8, 8, 3))
KERNEL = jnp.ones((3, 3, 3, 5))
DIMS = ("NHWC", "HWIO", "NHWC")


def convolve(x, kernel, **options):
    pads = ((1, 1), (1, 1))
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), pads, dimension_numbers=DIMS, **options)


@pytest.mark.parametrize(
    ("function", "arguments", "products"),
    [
        (jnp.matmul, (jnp.ones((7, 11)), jnp.ones((11, 13))), 2 * 7 * 11 * 13),
        (lambda x, k: convolve(x, k), (X, KERNEL),
         2 * 4 * 64 * 5 * 27),
        (lambda x, k: convolve(x, k, lhs_dilation=(2, 2)),
         (X, KERNEL), 2 * 4 * 15 * 15 * 5 * 27 / 4),
        (lambda a: jax.lax.map(lambda row: a @ row, a), (jnp.ones((6, 6)),), 6 * 2 * 36),
        (jax.grad(lambda a, b: jnp.sum(jnp.sin(a @ b)), argnums=(0, 1)),
         (jnp.ones((7, 11)), jnp.ones((11, 13))), 3 * 2 * 7 * 11 * 13),
        (lambda a: jax.lax.cond(a[0, 0] > 0, lambda a: a @ a, lambda a: a, a),
         (jnp.ones((6, 6)),), 2 * 6**3),
    ],
)  # fmt: skip
def test_products_are_counted(function, arguments, products):
    assert bench_counts.count(function, *arguments).products == products


def test_lookups_and_additions_by_index_are_counted():
    table, index = jnp.ones((100, 8)), jnp.arange(10)
    assert bench_counts.count(lambda t: t[index], table).gathered == 10 * 8 * 4
    back = jax.grad(lambda t: jnp.sum(jnp.sin(t[index])))
    assert bench_counts.count(back, table).gathered == 2 * 10 * 8 * 4


def test_the_exponent_of_squares_is_two():
    assert bench_growth.fit([1.0, 2.0, 4.0], [3.0, 12.0, 48.0]) == pytest.approx(2.0)


@pytest.mark.slow  # half a minute, of phases
def test_every_stage_can_be_made_and_counted():
    config = bench_stages.read_config("tiny", 8, {"gan.reconstruction.encoder.identity": "face"})
    for name in (*bench_stages.PARTS, *bench_stages.PHASES, "mapping_step"):
        counts = bench_stages.make_stage(name, config, 8).count()
        assert counts.products > 0 or name == "sampling"
        assert counts.moved > 0
