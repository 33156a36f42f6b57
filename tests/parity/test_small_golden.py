"""The small golden files are true copies of the full ones."""

import jax
import numpy as np
import pytest

from helpers import golden, make_small_golden

CASES = ("eg3d_128", "eg3d_ffhq512", "ganavatar512_box")
pytestmark = pytest.mark.parity


@pytest.fixture(params=CASES)
def pair(request, golden_dir, repo_root):
    small = repo_root / "tests" / "golden"
    if golden_dir == small:
        pytest.skip("the full golden files are not here")
    name = request.param
    return golden.load(golden_dir, name), golden.load(small, name)


def test_small_tensors_are_copies(pair):
    full, small = pair
    expected = make_small_golden.shrink_arrays(full.name, full.arrays)
    assert small.arrays.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(small.arrays[name], value, err_msg=name)


def test_small_weights_are_copies_and_what_is_left_out_is_not_a_number(pair):
    full, small = pair
    assert (small.config, small.d_config) == (full.config, full.d_config)
    same = jax.tree.map(
        lambda a, b: np.isnan(b).all() or np.array_equal(a, b),
        (full.g, full.d),
        (small.g, small.d),
    )
    assert jax.tree.all(same)


def test_the_small_files_stay_small(repo_root):
    size = sum(path.stat().st_size for path in (repo_root / "tests" / "golden").iterdir())
    assert size <= 12e6
