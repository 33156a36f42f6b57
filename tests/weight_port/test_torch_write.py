"""Archives written without torch."""

import numpy as np
import pytest

from ganavatar_jax.core import errors
from weight_port import outputs, torch_pickle, torch_write

TENSORS = {
    "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a.strided": np.arange(12, dtype=np.float64).reshape(3, 4)[:, ::2],
    "scalar": np.asarray(0.5, np.float16),
    "count": np.asarray(-3, np.int64),
    "empty": np.zeros((0, 4), np.int32),
    "bytes": np.array([0, 255], np.uint8),
}


def test_the_restricted_reader_reads_them(tmp_path):
    path = tmp_path / "x.pth"
    torch_write.write_archive(path, TENSORS)
    found = torch_pickle.read_checkpoint(path)
    assert list(found) == list(TENSORS)
    for name, array in TENSORS.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_torch_reads_them(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "x.pth"
    torch_write.write_archive(path, TENSORS)
    found = torch.load(path, weights_only=True)
    assert list(found) == list(TENSORS)
    for name, array in TENSORS.items():
        np.testing.assert_array_equal(found[name].numpy(), array)
        assert found[name].shape == array.shape


def test_the_restricted_reader_reads_what_torch_writes(tmp_path):
    torch = pytest.importorskip("torch")
    for zipped in (True, False):
        path = tmp_path / f"{zipped}.pth"
        stored = {name: torch.from_numpy(np.array(array)) for name, array in TENSORS.items()}
        torch.save({"net": stored}, path, _use_new_zipfile_serialization=zipped)
        found = torch_pickle.read_checkpoint(path)["net"]
        for name, array in TENSORS.items():
            np.testing.assert_array_equal(found[name], array)


def test_types_and_suffixes_that_have_no_form_are_refused(tmp_path):
    with pytest.raises(errors.WeightError, match="x has type complex64"):
        torch_write.write_archive(tmp_path / "x.pth", {"x": np.zeros(2, np.complex64)})
    with pytest.raises(errors.WeightError, match="expected a name in .safetensors, .npz, .pth"):
        outputs.write_named(tmp_path / "x.txt", {})
