import jax
import numpy as np
import pytest

from ganavatar_jax.core import chunks


@pytest.mark.parametrize("count", [1, 3, 4, 7, 8])
def test_chunks_give_what_the_whole_batch_gives(count):
    values = np.arange(count * 2, dtype=np.float32).reshape(count, 2)
    result = chunks.map_in_chunks(
        lambda tree: {"sum": tree["x"].sum(axis=1), "twice": 2 * tree["x"]}, {"x": values}, chunk=4
    )
    np.testing.assert_array_equal(result["sum"], values.sum(axis=1))
    np.testing.assert_array_equal(result["twice"], 2 * values)


def test_a_short_last_chunk_does_not_retrace():
    traces = []

    @jax.jit
    def double(x):
        traces.append(x.shape)
        return 2 * x

    chunks.map_in_chunks(double, np.arange(11.0, dtype=np.float32), chunk=4)
    assert traces == [(4,)]


def test_disagreeing_or_empty_inputs_are_refused():
    with pytest.raises(ValueError, match=r"common, non-zero leading axis.*\[2, 3\]"):
        chunks.map_in_chunks(lambda x: x, (np.zeros(2), np.zeros(3)), chunk=2)
    with pytest.raises(ValueError, match="non-zero"):
        chunks.map_in_chunks(lambda x: x, np.zeros((0, 2)), chunk=2)
