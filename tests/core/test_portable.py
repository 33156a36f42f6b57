"""Portable weights come back bit for bit, and nothing else is accepted as weights."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from ganavatar_jax.core import errors, portable

METADATA = {"source": "test", "config": {"channels": [1, 2]}}


def variables():
    draws = np.random.default_rng(0)
    return {
        "params": {
            "layer": {"kernel": draws.normal(size=(3, 5)).astype(np.float32).T, "bias": jnp.ones(3)}
        },
        "buffers": {"w_avg": np.float32(2.5), "empty": np.zeros((0, 2), np.int32)},
    }


@pytest.fixture
def weight_file(tmp_path):
    path = tmp_path / "weights.safetensors"
    portable.save_params(path, variables(), METADATA)
    return path


def test_weights_and_metadata_come_back_bit_for_bit(weight_file):
    loaded, metadata = portable.load_params(weight_file)
    expected = variables()
    assert metadata == METADATA
    assert loaded["buffers"]["w_avg"].shape == ()
    for collection, name in (("buffers", "w_avg"), ("buffers", "empty")):
        np.testing.assert_array_equal(loaded[collection][name], expected[collection][name])
        assert loaded[collection][name].dtype == expected[collection][name].dtype
    for name in ("kernel", "bias"):
        np.testing.assert_array_equal(
            loaded["params"]["layer"][name], expected["params"]["layer"][name]
        )


def test_names_in_the_file_are_flat(weight_file):
    assert set(safetensors.numpy.load_file(weight_file)) == {
        "params.layer.kernel",
        "params.layer.bias",
        "buffers.w_avg",
        "buffers.empty",
    }


def test_the_same_weights_make_the_same_file(weight_file, tmp_path):
    portable.save_params(tmp_path / "again", variables(), METADATA)
    assert (tmp_path / "again").read_bytes() == weight_file.read_bytes()


def test_names_with_dots_are_refused(tmp_path):
    with pytest.raises(ValueError, match="without a dot"):
        portable.save_params(tmp_path / "x", {"params": {"a.b": np.zeros(1)}}, {})


def _edit(path, *, tensors=None, **changes):
    with safetensors.safe_open(path, framework="numpy") as file:
        header = json.loads(file.metadata()["ganavatar_jax"]) | changes
        kept = {name: file.get_tensor(name) for name in file.keys()}
    safetensors.numpy.save_file(
        kept | (tensors or {}), path, metadata={"ganavatar_jax": json.dumps(header)}
    )


@pytest.mark.attack
def test_a_changed_tensor_is_named(weight_file):
    _edit(weight_file, tensors={"params.layer.bias": np.full(3, 9.0, np.float32)})
    with pytest.raises(errors.WeightError, match=r'sha256 of 1 .*"params\.layer\.bias"'):
        portable.load_params(weight_file)


@pytest.mark.attack
@pytest.mark.parametrize(
    "header",
    [
        {"sha256": "text"},
        {"sha256": []},
        {"sha256": {}},
        {"sha256": {"params.layer.bias": 3}},
        {"metadata": None},
        {"format": None},
        {"format": "ganavatar_jax.params/99"},
    ],
    ids=str,
)
def test_an_edited_header_is_refused_in_one_line(weight_file, header):
    _edit(weight_file, **header)
    with pytest.raises(errors.WeightError) as caught:
        portable.load_params(weight_file)
    assert "\n" not in str(caught.value)
    assert str(weight_file) in str(caught.value)


@pytest.mark.attack
def test_names_that_are_both_leaf_and_branch_are_refused(weight_file):
    _edit(weight_file, tensors={"params.layer": np.zeros(1, np.float32)})
    with pytest.raises(errors.WeightError, match=r'"params\.layer" is both'):
        portable.load_params(weight_file)


@pytest.mark.attack
@pytest.mark.parametrize("text", ["not json", "[]", "3", "{}", "null"])
def test_a_header_that_is_not_an_object_is_refused(weight_file, text):
    safetensors.numpy.save_file({"a": np.zeros(1)}, weight_file, metadata={"ganavatar_jax": text})
    with pytest.raises(errors.WeightError, match="expected a header in the format"):
        portable.load_params(weight_file)


@pytest.mark.attack
@pytest.mark.parametrize("size", [0, 5, 40, -1])
def test_a_cut_file_is_refused(weight_file, size):
    weight_file.write_bytes(weight_file.read_bytes()[:size])
    with pytest.raises(errors.WeightError, match="expected a safetensors file"):
        portable.load_params(weight_file)


@pytest.mark.attack
def test_a_pickle_is_refused_unread(tmp_path):
    path = tmp_path / "weights.pkl"
    path.write_bytes(b"\x80\x04cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(errors.WeightError, match="expected a safetensors file"):
        portable.load_params(path)


def test_weights_of_another_program_are_refused_with_the_fix(tmp_path):
    path = tmp_path / "other.safetensors"
    safetensors.numpy.save_file({"a": np.zeros(1)}, path)
    with pytest.raises(errors.WeightError, match="Convert the file with weight_port"):
        portable.load_params(path)


@pytest.mark.parametrize("name", ["missing.safetensors", "."])
def test_a_missing_file_or_a_folder_is_refused(tmp_path, name):
    with pytest.raises(errors.WeightError, match="weight file cannot be read"):
        portable.load_params(tmp_path / name)


def test_a_misfit_lists_missing_unexpected_and_mismatching_names():
    expected = {"a": np.zeros(3), "b": np.zeros((2, 2)), "c": np.float32(0)}
    found = {"b": np.zeros((2, 3)), "c": np.float32(0), **{f"x{i}": np.zeros(1) for i in range(6)}}
    with pytest.raises(errors.WeightError) as caught:
        portable.check_fit(expected, found, what="net.safetensors")
    message = str(caught.value)
    assert "1 missing: a (3 float64)" in message
    assert (
        "6 unexpected: x0 (1 float64), x1 (1 float64), x2 (1 float64), x3 (1 float64), ..."
        in message
    )
    assert "b (expected 2x2 float64, found 2x3 float64)" in message
    assert "c (" not in message


def test_a_fit_passes_and_dtypes_may_be_ignored():
    portable.check_fit({"a": np.zeros(3)}, {"a": np.ones(3)}, what="x")
    narrow = {"a": np.zeros(3, np.float16)}
    portable.check_fit({"a": np.zeros(3)}, narrow, what="x", compare_dtypes=False)
    with pytest.raises(errors.WeightError, match="float16"):
        portable.check_fit({"a": np.zeros(3)}, narrow, what="x")


def test_equal_weights_are_told_from_others_wherever_they_come_from(tmp_path):
    def identify(name, value, *, thorough=True, **metadata):
        path = tmp_path / f"{name}.safetensors"
        portable.save_params(path, {"w": np.full(3, value, np.float32)}, metadata)
        return portable.identify(path, thorough=thorough)

    known = identify("a", 1.0, kind="x", provenance={"commit": "1"}, architecture={"chunk": 0})
    assert known is not None
    assert known == identify("b", 1.0, kind="x", provenance={"commit": "2"}, architecture={})
    assert known == identify("b", 1.0, kind="x", thorough=False)
    assert known != identify("b", 2.0, kind="x")
    assert known != identify("b", 1.0, kind="y")


def test_missing_and_damaged_weights_have_no_identity(tmp_path):
    path = tmp_path / "a.safetensors"
    assert portable.identify(path, thorough=True) is None
    portable.save_params(path, {"w": np.ones(64, np.float32)}, {"kind": "x"})
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert portable.identify(path, thorough=True) is None
    path.write_bytes(content[:40])
    assert portable.identify(path, thorough=False) is None
